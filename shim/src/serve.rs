//! `serve`: is a pod's shim. Takes the listening socket, opens the pod, answers until the pod has ended, and leaves nothing.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Serve;
use crate::error::{Context, Error, Result};
use crate::pod::{IfRunning, Options, Pod};
use crate::service::{Place, Services, Socket};
use crate::{events, place, trace, ttrpc};

/// How long the last events may take to reach containerd.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// A shim of containerd's that has no container any more is told to end at once. One that is not told belongs to nobody: its
/// containerd died in between.
const AFTER_THE_LAST: Duration = Duration::from_secs(10);
/// Who starts a shim asks for its first container at once. One that is killed in between has never heard of the shim.
const BEFORE_THE_FIRST: Duration = Duration::from_secs(30);
/// As good as for ever, and within what timers can do.
const LONG: Duration = Duration::from_secs(365 * 86400);

/// Serves until the pod has ended.
///
/// # Errors
/// The socket, the directory or the runtime is not as it has to be.
pub fn run(serve: &Serve) -> Result<()> {
    // What is in its memory (environments, what clients type) and its descriptors is nobody's who is not root and may trace.
    nix::sys::prctl::set_dumpable(false).what(|| "make the process undumpable")?;
    trace::to_stderr(&serve.log_level)?;
    let listener = detached(serve.listen.unwrap_or(3))?;
    make_dir(&serve.dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .what(|| "make the event loop")?;
    let outcome = runtime.block_on(main(listener, serve));
    leave(&serve.dir);
    outcome
}

async fn main(listener: UnixListener, serve: &Serve) -> Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener).what(|| "use the listening socket")?;
    let place = Place { namespace: serve.namespace.clone(), socket: socket(&serve.socket)? };
    let pod = Pod::open(Options {
        id: serve.id.clone(),
        dir: serve.dir.clone(),
        rt: place::runtime_program(&serve.rt)?,
        rt_root: serve.rt_root.clone(),
        systemd_cgroup: serve.systemd_cgroup,
    })?;
    let stop = ttrpc::Stop::new();
    let publisher = if serve.events.as_os_str().is_empty() {
        None
    } else {
        let events = pod.subscribe_events().await?;
        let to = events::Receiver::new(serve.events.clone(), serve.namespace.clone());
        Some(tokio::spawn(events::forward(events, to, stop.clone())))
    };
    if !serve.namespace.is_empty() {
        tokio::spawn(end_when_forgotten(pod.clone()));
    }
    let mut terminate = signal(SignalKind::terminate()).what(|| "wait for SIGTERM")?;
    let services = Services::new(pod.clone(), place);
    let ended = async {
        loop {
            tokio::select! {
                () = pod.closed() => break,
                // The machine is going down, or someone wants this pod gone: its containers have no life without the shim.
                _ = terminate.recv() => {
                    tracing::warn!("SIGTERM: ending the pod's containers");
                    if let Err(error) = pod.shutdown(IfRunning::Kill).await {
                        tracing::error!("end the pod: {error}");
                    }
                }
            }
        }
        stop.now();
    };
    tokio::join!(ttrpc::serve(listener, services.clone(), &stop), ended);
    services.leave();
    if let Some(publisher) = publisher {
        let _ = tokio::time::timeout(LAST_EVENTS, publisher).await;
    }
    Ok(())
}

/// Ends a pod that has been empty for too long.
async fn end_when_forgotten(pod: Pod) {
    let (mut version, mut wait, mut patience) = (0, Duration::ZERO, BEFORE_THE_FIRST);
    while let Ok(seen) = pod.watch(version, wait).await {
        let unchanged = seen.version == version;
        version = seen.version;
        if !seen.containers.is_empty() {
            (wait, patience) = (LONG, AFTER_THE_LAST);
        } else if unchanged && wait == patience && pod.shutdown(IfRunning::Refuse).await.is_ok() {
            tracing::warn!("nobody wanted anything of an empty pod for {} s: ended it", patience.as_secs());
            return;
        } else {
            wait = patience;
        }
    }
}

/// A session of its own, away from any directory, with the listening socket as its only inheritance.
fn detached(fd: u32) -> Result<UnixListener> {
    // Started as /proc/self/exe it would be called `exe` in lists of processes.
    nix::sys::prctl::set_name(c"containerd-shim").what(|| "name the process")?;
    // Fails for a process group's leader, which is as well detached.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").what(|| "change to /")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let seen = fs::read_link(format!("/proc/self/fd/{fd}")).what(|| format!("look at descriptor {fd}"))?;
    if !seen.to_string_lossy().starts_with("socket:") {
        return Err(Error::invalid(format!("serve on descriptor {fd}: it is {}, no socket", seen.display())));
    }
    let listener = UnixListener::from(taken(fd)?);
    let listens = nix::sys::socket::getsockopt(&listener, nix::sys::socket::sockopt::AcceptConn);
    if !listens.what(|| format!("look at descriptor {fd}"))? {
        return Err(Error::invalid(format!("serve on descriptor {fd}: the socket does not listen")));
    }
    listener.set_nonblocking(true).what(|| "use the listening socket")?;
    Ok(listener)
}

/// The inherited descriptor, closed on exec from here on.
fn taken(fd: u32) -> Result<OwnedFd> {
    if fd != 0 {
        let number = i32::try_from(fd).unwrap_or(i32::MAX);
        return runtime::sys::process::inherited(number).what(|| format!("take descriptor {fd}"));
    }
    let owned = std::io::stdin().as_fd().try_clone_to_owned().what(|| "duplicate descriptor 0")?;
    let null = fs::File::open("/dev/null").what(|| "open /dev/null")?;
    nix::unistd::dup2_stdin(&null).what(|| "replace descriptor 0")?;
    Ok(owned)
}

fn make_dir(dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).what(|| format!("make {}", dir.display()))
}

fn socket(path: &Path) -> Result<Option<Socket>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let found = fs::symlink_metadata(path).what(|| format!("look at {}", path.display()))?;
    Ok(Some(Socket { path: path.to_owned(), file: (found.dev(), found.ino()) }))
}

/// The shim's directory goes with it, unless its owner has put something there.
fn leave(dir: &Path) {
    match fs::remove_dir(dir) {
        Err(error) if ![ErrorKind::DirectoryNotEmpty, ErrorKind::NotFound].contains(&error.kind()) => {
            tracing::warn!("remove {}: {error}", dir.display());
        }
        _ => {}
    }
}
