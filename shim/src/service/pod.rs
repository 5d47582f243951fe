//! The pod service (proto/pod.proto): its methods, each one call to the pod.

use std::path::PathBuf;

use prost::Message;

use super::convert::{millis, nanos};
use super::{Services, decode, named, unknown};
use crate::api::pod as api;
use crate::error::{Error, Result};
use crate::pod::{
    Attach, Create, Ended, Exec, ExecWhat, IfRunning, Kill, LogStdio, ProcessState, Reach, RuntimeChoice,
    Size, Status, Stdin, Stdio, Stop, Streams, Target,
};

/// What the version of this service is.
const API: u32 = 1;

/// Each stream of a container may have one that is not complete, in memory.
const LONGEST_LINE: u32 = 1 << 20;

impl Services {
    /// Answers one method.
    pub(super) async fn pod(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let empty = api::Empty {}.encode_to_vec();
        Ok(match method {
            "Version" => version().encode_to_vec(),
            "Create" => self.pod_create(decode(payload)?).await?.encode_to_vec(),
            "Start" => self.pod_start(decode(payload)?).await?.encode_to_vec(),
            "Stop" => self.pod_stop(decode(payload)?).await?.encode_to_vec(),
            "Exec" => self.pod_exec(decode(payload)?).await?.encode_to_vec(),
            "Wait" => self.pod_wait(decode(payload)?).await?.encode_to_vec(),
            "Attach" => self.pod_attach(decode(payload)?).await?.encode_to_vec(),
            "Watch" => self.pod_watch(decode(payload)?).await?.encode_to_vec(),
            "Kill" => self.pod_kill(decode(payload)?).await.map(|()| empty)?,
            "Remove" => self.pod_remove(decode(payload)?).await.map(|()| empty)?,
            "LetGo" => self.pod_let_go(decode(payload)?).await.map(|()| empty)?,
            "Update" => self.pod_update(decode(payload)?).await.map(|()| empty)?,
            "Resize" => self.pod_resize(decode(payload)?).await.map(|()| empty)?,
            "ReopenLog" => {
                self.pod.reopen_log(&decode::<api::ReopenLogRequest>(payload)?.id).await.map(|()| empty)?
            }
            "Shutdown" => self.pod_shutdown(decode(payload)?).await.map(|()| empty)?,
            other => return Err(unknown(other)),
        })
    }

    async fn pod_create(&self, request: api::CreateRequest) -> Result<api::CreateResponse> {
        if !request.cgroup.is_empty() {
            return Err(Error::unsupported("create a container in a cgroup other than its config's"));
        }
        let create = Create {
            id: named(request.id, "id")?,
            bundle: request.bundle.into(),
            stdio: Stdio::Log(log_stdio(request.stdio.unwrap_or_default())?),
            rootfs_mounts: Vec::new(),
            runtime: RuntimeChoice::default(),
        };
        Ok(api::CreateResponse { pid: self.pod.create(create).await? })
    }

    async fn pod_start(&self, request: api::StartRequest) -> Result<api::StartResponse> {
        let started = self.pod.start(Target::container(request.id)).await?;
        Ok(api::StartResponse { pid: started.pid, started_at: nanos(started.at) })
    }

    async fn pod_stop(&self, request: api::StopRequest) -> Result<api::StopResponse> {
        let signal = signal(&request.signal)?;
        let stop = Stop { id: request.id, signal, grace: millis(request.grace_ms) };
        Ok(api::StopResponse { ended: Some(ended(self.pod.stop(stop).await?)) })
    }

    async fn pod_kill(&self, request: api::KillRequest) -> Result<()> {
        let signal = signal(&request.signal)?;
        let reach = if request.all { Reach::All } else { Reach::One };
        self.pod.kill(Kill { target: Target::of(request.id, request.exec_id), signal, reach }).await
    }

    async fn pod_remove(&self, request: api::RemoveRequest) -> Result<()> {
        let running = if request.force { IfRunning::Kill } else { IfRunning::Refuse };
        match self.pod.remove(Target::of(request.id, request.exec_id), running).await {
            Err(error) if error.kind() == crate::error::Kind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    async fn pod_let_go(&self, request: api::LetGoRequest) -> Result<()> {
        let exec = named(request.exec_id, "exec_id")?;
        match self.pod.let_go(Target::of(request.id, exec)).await {
            Err(error) if error.kind() == crate::error::Kind::NotFound => Ok(()),
            other => other,
        }
    }

    async fn pod_update(&self, request: api::UpdateRequest) -> Result<()> {
        self.pod.update(&request.id, request.resources).await
    }

    async fn pod_exec(&self, request: api::ExecRequest) -> Result<api::ExecResponse> {
        let what = match (request.process.is_empty(), request.args.is_empty()) {
            (false, true) => ExecWhat::Process(request.process),
            (true, false) => ExecWhat::Args(request.args),
            (true, true) => return Err(Error::invalid("exec: neither a process nor arguments")),
            (false, false) => return Err(Error::invalid("exec: a process and arguments")),
        };
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal.then(|| size(request.size)).transpose()?,
            drain: millis(request.drain_ms),
        };
        let exec = Exec {
            target: Target::of(named(request.id, "id")?, named(request.exec_id, "exec id")?),
            what,
            stdio: Stdio::Streams(streams),
            timeout: (request.timeout_ms > 0).then(|| millis(request.timeout_ms)),
        };
        let started = self.pod.exec(exec).await?;
        Ok(api::ExecResponse { pid: started.pid, token: started.token, started_at: nanos(started.at) })
    }

    async fn pod_wait(&self, request: api::WaitRequest) -> Result<api::WaitResponse> {
        let ended = ended(self.pod.wait(Target::of(request.id, request.exec_id)).await?);
        let timed_out = ended.reason == crate::pod::TIMED_OUT;
        Ok(api::WaitResponse { ended: Some(ended), timed_out })
    }

    async fn pod_attach(&self, request: api::AttachRequest) -> Result<api::AttachResponse> {
        let api::AttachRequest { id, exec_id, stdin, stdout, stderr } = request;
        let attach = Attach { target: Target::of(id, exec_id), stdin, stdout, stderr };
        let attached = self.pod.attach(attach).await?;
        Ok(api::AttachResponse { token: attached.token, terminal: attached.terminal })
    }

    async fn pod_resize(&self, request: api::ResizeRequest) -> Result<()> {
        self.pod.resize(Target::of(request.id, request.exec_id), size(request.size)?).await
    }

    async fn pod_watch(&self, request: api::WatchRequest) -> Result<api::WatchResponse> {
        let snapshot = self.pod.watch(request.after, millis(request.wait_ms)).await?;
        let containers = snapshot.containers.into_iter().map(container).collect();
        Ok(api::WatchResponse { version: snapshot.version, containers })
    }

    async fn pod_shutdown(&self, request: api::ShutdownRequest) -> Result<()> {
        let running = if request.force { IfRunning::Kill } else { IfRunning::Refuse };
        self.pod.shutdown(running).await?;
        self.leave();
        Ok(())
    }
}

fn version() -> api::VersionResponse {
    api::VersionResponse { api: API, version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
}

/// A signal's name or number; empty is SIGTERM.
fn signal(text: &str) -> Result<i32> {
    if text.is_empty() {
        return Ok(libc::SIGTERM);
    }
    let number = runtime::cli::signal(text)?;
    if number == 0 { Err(Error::invalid("send signal 0: 1 to 64")) } else { Ok(number) }
}

fn size(size: Option<api::Size>) -> Result<Size> {
    let size = size.unwrap_or_default();
    let cells = |cells: u32| {
        u16::try_from(cells)
            .map_err(|_| Error::invalid(format!("set a terminal's size to {cells}: at most 65535")))
    };
    Ok(Size { width: cells(size.width)?, height: cells(size.height)? })
}

fn log_stdio(stdio: api::Stdio) -> Result<LogStdio> {
    let stdin = match (stdio.stdin, stdio.stdin_once) {
        (false, _) => Stdin::Null,
        (true, false) => Stdin::Kept,
        (true, true) => Stdin::Once,
    };
    if stdio.log_line_max > LONGEST_LINE {
        let what = format!("cut lines of a log at {} bytes: at most {LONGEST_LINE}", stdio.log_line_max);
        return Err(Error::invalid(what));
    }
    Ok(LogStdio {
        path: (!stdio.log_path.is_empty()).then(|| PathBuf::from(stdio.log_path)),
        directory: (!stdio.log_directory.is_empty()).then(|| PathBuf::from(stdio.log_directory)),
        max_bytes: stdio.log_max_bytes,
        line_max: stdio.log_line_max as usize,
        stdin,
        terminal: stdio.terminal.then(|| size(stdio.size)).transpose()?,
    })
}

fn ended(ended: Ended) -> api::Ended {
    api::Ended {
        exit_code: ended.exit_code,
        at: nanos(ended.at),
        oom_killed: ended.oom_cgroup.is_some(),
        oom_cgroup: ended.oom_cgroup.unwrap_or_default(),
        reason: ended.reason,
    }
}

fn container(state: ProcessState) -> api::Container {
    api::Container {
        id: state.target.container,
        status: match state.status {
            Status::Created => api::Status::Created,
            Status::Running => api::Status::Running,
            Status::Paused => api::Status::Paused,
            Status::Stopped => api::Status::Stopped,
        } as i32,
        pid: state.pid,
        created_at: nanos(state.created_at),
        started_at: state.started_at.map_or(0, nanos),
        ended: state.ended.map(ended),
        cgroup: state.cgroup.map(|path| below_mount(&path)).unwrap_or_default(),
        log_bytes_lost: state.log_bytes_lost,
        stuck: state.stuck,
    }
}

/// The protocol has cgroups relative to where cgroup2 is mounted, which another mount namespace may see elsewhere.
fn below_mount(path: &std::path::Path) -> String {
    let mount = super::stats::cgroup_mount(path);
    let below = path.strip_prefix(mount).unwrap_or(path);
    format!("/{}", below.to_string_lossy().trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal("").ok(), Some(15));
        assert_eq!(signal("SIGKILL").ok(), Some(9));
        assert_eq!(signal("hup").ok(), Some(1));
        assert!(signal("0").is_err() && signal("65").is_err() && signal("NONE").is_err());
    }

    #[test]
    fn stdin_is_kept_once_or_not_at_all() {
        let stdin = |stdin, stdin_once| {
            log_stdio(api::Stdio { stdin, stdin_once, ..api::Stdio::default() }).map(|stdio| stdio.stdin).ok()
        };
        assert_eq!(stdin(false, true), Some(Stdin::Null));
        assert_eq!(stdin(true, false), Some(Stdin::Kept));
        assert_eq!(stdin(true, true), Some(Stdin::Once));
    }
}
