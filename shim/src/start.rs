//! `start`: makes sure that a shim serves the container's pod, and says where.
//!
//! The socket is made here and handed to the shim that is started, so that the first call can come at once.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};

use crate::bootstrap::Asked;
use crate::cli::Caller;
use crate::error::{Context, Error, Result};
use crate::open;
use crate::options::RuntimeOptions;
use crate::place::{self, Place};

/// What containerd sends is far below this.
const INPUT: u64 = 4 << 20;
/// A socket's path may have 107 bytes.
const SOCKET_PATH: usize = 107;

/// Does what `start` asks for, and gives what is to be printed.
///
/// # Errors
/// Nothing was started then.
pub fn run(caller: &Caller) -> Result<Vec<u8>> {
    if !place::plain(&caller.id) || !place::plain(&caller.namespace) {
        return Err(Error::invalid(format!("start {:?} in namespace {:?}", caller.id, caller.namespace)));
    }
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        return Err(Error::unsupported("start a shim in a core scheduling domain (SCHED_CORE)"));
    }
    let mut input = Vec::new();
    std::io::stdin().take(INPUT).read_to_end(&mut input).what(|| "read what containerd sends")?;
    let asked = Asked::read(&input, caller)?;
    let options = RuntimeOptions::read(asked.options.as_ref())?;
    let bundle = std::env::current_dir().what(|| "find the bundle")?;
    let place = Place::of(&bundle, &caller.namespace, &caller.id, asked.socket_dir.as_deref())?;
    let answer = asked.answer(&format!("unix://{}", place.socket.display()));
    asked.keep(&answer, &bundle)?;
    let Some(listener) = listen(&place.socket)? else { return Ok(answer) };
    let started = start(listener, caller, &asked, &place).and_then(|pid| settle(pid, options.shim_cgroup()));
    if let Err(error) = started {
        // Nobody serves it.
        let _ = fs::remove_file(&place.socket);
        return Err(error);
    }
    Ok(answer)
}

/// The socket, if no shim listens there yet.
fn listen(path: &Path) -> Result<Option<UnixListener>> {
    if path.as_os_str().len() > SOCKET_PATH {
        return Err(Error::invalid(format!(
            "make {}: a socket's path has {SOCKET_PATH} bytes at most",
            path.display()
        )));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    // Whoever can come to the socket is looked at by user; nobody else needs to.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .what(|| format!("make {}", dir.display()))?;
    // Two at once may find the same dead socket: one removes it, the other would remove the new one.
    let opened = File::open(dir).what(|| format!("open {}", dir.display()))?;
    let _lock = Flock::lock(opened, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::os(errno as i32, format!("lock {}", dir.display())))?;
    if UnixStream::connect(path).is_ok() {
        return Ok(None);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).what(|| format!("remove the dead socket {}", path.display()));
        }
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener.map(Some).what(|| format!("make the socket {}", path.display()))
}

/// Starts `serve`, the socket on its stdin, its messages where containerd reads them.
fn start(listener: UnixListener, caller: &Caller, asked: &Asked, place: &Place) -> Result<u32> {
    let program = place::runtime_program(Path::new(""))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("serve").args(["--id", &place.group, "--listen", "0"]);
    command.arg("--dir").arg(&place.dir).arg("--rt").arg(program).arg("--rt-root").arg(&place.rt_root);
    command.arg("--socket").arg(&place.socket).args(["--namespace", &caller.namespace]);
    if let Some(events) = asked.events.clone().or_else(|| std::env::var("TTRPC_ADDRESS").ok()) {
        command.args(["--events", events.strip_prefix("unix://").unwrap_or(&events)]);
    }
    if caller.debug || asked.debug {
        command.args(["--log-level", "debug"]);
    }
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(messages()).current_dir("/");
    // What a list of processes shows.
    std::os::unix::process::CommandExt::arg0(&mut command, "containerd-shim-rt-v2");
    let child = command.spawn().what(|| "start the shim")?;
    Ok(child.id())
}

/// containerd's pipe for a shim's messages, if it made one. Opened for both directions, so that neither opening nor writing ever
/// waits for it or fails because it is away.
fn messages() -> Stdio {
    let pipe = open::fifo(Path::new("log"), rustix::fs::OFlags::RDWR);
    pipe.map_or_else(|_| Stdio::null(), Stdio::from)
}

/// What is the same in every shim of containerd's: less worth to the OOM killer's protection than containerd, and in a cgroup
/// of its own if the options name one.
fn settle(pid: u32, cgroup: &str) -> Result<()> {
    if !cgroup.is_empty() {
        let dir = Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
        fs::write(dir.join("cgroup.procs"), pid.to_string())
            .what(|| format!("put the shim into the cgroup {}", dir.display()))?;
    }
    let parent = std::os::unix::process::parent_id();
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj"));
    if let Some(score) = score.ok().and_then(|text| text.trim().parse::<i32>().ok()) {
        // Raising it needs no privilege; a shim that is gone already is noticed by its first caller.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), (score + 1).min(1000).to_string());
    }
    Ok(())
}
