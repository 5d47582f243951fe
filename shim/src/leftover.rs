//! `delete`: what a shim that died left of a container is removed, and how the container ended is said.
//!
//! Also removes what a start that failed half-way left, and ends a living shim that has no container. A shim that lives removes the
//! container itself: it may be making it at this very moment, and would keep what was taken away behind its back for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::api::containerd::task::v3::DeleteResponse;
use crate::api::pod::{RemoveRequest, ShutdownRequest, WatchResponse};
use crate::cli::Caller;
use crate::client::{self, Client};
use crate::error::{Context, Error, Kind, Result};
use crate::place::{self, Place};
use crate::pod::{Create, Ended};
use crate::record;
use crate::service::{exit_status, timestamp};

/// Beside config.json: how the container's runtime is run, where that is not as usual.
const NOTE: &str = "rt-shim.json";
/// As a process that was killed: its shim's death was its own.
const KILLED: u32 = 128 + 9;
/// How long a living shim may take for each thing that it is asked. containerd gives five seconds to all of `delete`; a shim whose create
/// hangs in a hook removes what it makes when it is made.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    program: Option<PathBuf>,
    root: Option<PathBuf>,
}

/// Keeps what a later `delete` could not find out otherwise.
///
/// # Errors
/// The bundle can't be written to.
pub fn note(create: &Create) -> Result<()> {
    let note = Note { program: create.runtime.program.clone(), root: create.runtime.root.clone() };
    if note.program.is_none() && note.root.is_none() {
        return Ok(());
    }
    let path = create.bundle.join(NOTE);
    let text = serde_json::to_vec(&note).map_err(|error| Error::invalid(format!("write {NOTE}: {error}")))?;
    fs::write(&path, text).what(|| format!("write {}", path.display()))
}

/// Does what `delete` asks for, and gives what is to be printed.
///
/// # Errors
/// The container could not be ended or removed.
pub fn run(caller: &Caller) -> Result<Vec<u8>> {
    if !place::plain(&caller.id) || !place::plain(&caller.namespace) {
        return Err(Error::invalid(format!("delete {:?} in namespace {:?}", caller.id, caller.namespace)));
    }
    let bundle = if caller.bundle.as_os_str().is_empty() {
        std::env::current_dir().what(|| "find the bundle")?
    } else {
        caller.bundle.clone()
    };
    // A bundle that is damaged has to go as well.
    let place = Place::of(&bundle, &caller.namespace, &caller.id, None)
        .unwrap_or_else(|_| Place::of_lone(&bundle, &caller.namespace, &caller.id));
    let note: Note = fs::read(bundle.join(NOTE))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let program = place::runtime_program(note.program.as_deref().unwrap_or(Path::new("")))?;
    let root = note.root.unwrap_or(place.rt_root);
    let pid = pid(&program, &root, &caller.id);
    // It may have ended by itself while its shim still lived, and nobody was told.
    let recorded = record::read(&place.dir, &caller.id);
    let ended = match by_its_shim(&place.socket, &caller.id)? {
        Removal::Done(ended) => ended.or(recorded),
        Removal::UnderWay => {
            if place.group == caller.id {
                end_if_empty(&place.socket, &caller.id)?;
            }
            let why = format!(
                "its shim was still at it after {PATIENCE:?}, and goes on (is a hook of its create stuck?)"
            );
            return Err(Error::new(Kind::Timeout, why).during(format!("remove container {:?}", caller.id)));
        }
    };
    remove(&program, &root, &caller.id)?;
    // A runtime other than ours had mounts made for it.
    crate::pod::unmount_rootfs(&bundle)?;
    if place.group == caller.id {
        end_if_empty(&place.socket, &caller.id)?;
        if std::os::unix::net::UnixStream::connect(&place.socket).is_err() {
            // The pod's own shim is dead, and this was its pod.
            let _ = fs::remove_dir_all(&place.dir);
            let _ = fs::remove_file(&place.socket);
        }
    }
    record::forget(&place.dir, &caller.id);
    let response = DeleteResponse {
        pid,
        exit_status: ended.as_ref().map_or(KILLED, |ended| exit_status(ended.exit_code)),
        exited_at: Some(timestamp(ended.map_or_else(SystemTime::now, |ended| ended.at))),
    };
    Ok(response.encode_to_vec())
}

/// What a living shim was asked for.
enum Removal {
    /// It has nothing of the container, or there is none that lives; and how the container ended, if the shim knew.
    Done(Option<Ended>),
    /// The runtime works for it: another one would only wait for that.
    UnderWay,
}

/// Has a living shim end and remove the container. What a dead one left is for the runtime.
fn by_its_shim(socket: &Path, id: &str) -> Result<Removal> {
    let removal = with_shim(socket, async |shim| {
        // One that is not there, or is being made, has nothing to stop.
        let ended = within(shim.stop(id, "SIGKILL", Duration::ZERO)).await.and_then(std::result::Result::ok);
        let request = RemoveRequest { id: id.to_owned(), force: true, ..Default::default() };
        match within(shim.remove(&request)).await {
            None => return Removal::UnderWay,
            Some(Err(status)) => {
                eprintln!("have the shim at {} remove container {id:?}: {status}", socket.display());
            }
            Some(Ok(())) => {}
        }
        Removal::Done(ended.map(|ended| Ended {
            exit_code: ended.exit_code,
            at: SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(ended.at).unwrap_or(0)),
            oom_cgroup: (!ended.oom_cgroup.is_empty()).then_some(ended.oom_cgroup),
            reason: ended.reason,
        }))
    });
    Ok(removal?.unwrap_or(Removal::Done(None)))
}

/// A shim that was started and then never told of a container, because its containerd died, lives and has nothing to live for; no more
/// has one whose only container is still being made, and goes when it is. One with containers of its pod lives on.
fn end_if_empty(socket: &Path, id: &str) -> Result<()> {
    with_shim(socket, async |shim| {
        let known = within(shim.watch(0, Duration::ZERO)).await;
        let others = |known: &WatchResponse| known.containers.iter().any(|container| container.id != id);
        let ended = match known {
            Some(Ok(known)) if others(&known) => return,
            Some(Ok(_)) => within(shim.shutdown(ShutdownRequest { force: true })).await,
            Some(Err(status)) => Some(Err(status)),
            None => None,
        };
        match ended {
            Some(Ok(())) => {}
            Some(Err(status)) => eprintln!("end the shim at {}: {status}", socket.display()),
            None => eprintln!("end the shim at {}: it has not answered for {PATIENCE:?}", socket.display()),
        }
    })
    .map(drop)
}

/// Work with the shim that listens at a socket, if one does.
fn with_shim<T>(socket: &Path, work: impl AsyncFnOnce(Client) -> T) -> Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.what(|| "make the event loop")?.block_on(async {
        match Client::connect(socket).await {
            Ok(shim) => Ok(Some(work(shim).await)),
            Err(_) => Ok(None),
        }
    })
}

/// One call, for as long as `delete` has. The shim goes on with it after that.
async fn within<T>(call: impl Future<Output = client::Result<T>>) -> Option<client::Result<T>> {
    tokio::time::timeout(PATIENCE, call).await.ok()
}

/// The container's pid as the runtime knows it; 0: it knows none.
fn pid(program: &Path, root: &Path, id: &str) -> u32 {
    let output =
        Command::new(program).arg("--root").arg(root).args(["state", id]).stdin(Stdio::null()).output();
    let state =
        output.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
    state.and_then(|state| state.get("pid")?.as_u64()).and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

/// Kills and removes; a container that is not there is removed already.
fn remove(program: &Path, root: &Path, id: &str) -> Result<()> {
    let output = Command::new(program)
        .arg("--root")
        .arg(root)
        .args(["delete", "--force", id])
        .stdin(Stdio::null())
        .output()
        .what(|| format!("run {}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::invalid(said.trim().to_owned()).during(format!("remove container {id:?}")))
}
