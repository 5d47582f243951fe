//! containerd's task service: its seventeen methods, each one call to the pod.
//!
//! Where containerd expects another code than the pod's own, that is said here.

use prost::Message;

use super::convert::{any, fifos, rootfs_mounts, timestamp};
use super::{Services, decode, named, stats, unknown};
use crate::api::containerd::runc::v1::ProcessDetails;
use crate::api::containerd::task::v3 as api;
use crate::api::containerd::v1::types::{ProcessInfo, Status as TaskStatus};
use crate::error::{Error, Kind, Result};
use crate::options::RuntimeOptions;
use crate::pod::{Create, Exec, ExecWhat, Fifos, IfRunning, Kill, Reach, Size, Status, Stdio, Target};

impl Services {
    /// Answers one method.
    pub(super) async fn task(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let done = ().encode_to_vec();
        Ok(match method {
            "State" => self.state(decode(payload)?).await?.encode_to_vec(),
            "Create" => self.create(decode(payload)?).await?.encode_to_vec(),
            "Start" => self.start(decode(payload)?).await?.encode_to_vec(),
            "Delete" => self.delete(decode(payload)?).await?.encode_to_vec(),
            "Pids" => self.pids(decode(payload)?).await?.encode_to_vec(),
            "Wait" => self.wait(decode(payload)?).await?.encode_to_vec(),
            "Stats" => self.stats(decode(payload)?).await?.encode_to_vec(),
            "Connect" => self.connect(decode(payload)?).await?.encode_to_vec(),
            "Pause" => self.pod.pause(&decode::<api::PauseRequest>(payload)?.id).await.map(|()| done)?,
            "Resume" => self.pod.resume(&decode::<api::ResumeRequest>(payload)?.id).await.map(|()| done)?,
            "Kill" => self.kill(decode(payload)?).await.map(|()| done)?,
            "Exec" => self.exec(decode(payload)?).await.map(|()| done)?,
            "ResizePty" => self.resize(decode(payload)?).await.map(|()| done)?,
            "CloseIO" => self.close_io(decode(payload)?).await.map(|()| done)?,
            "Update" => self.update(decode(payload)?).await.map(|()| done)?,
            "Shutdown" => self.shutdown(decode(payload)?).await.map(|()| done)?,
            "Checkpoint" => return Err(Error::unsupported("write a checkpoint of a container")),
            other => return Err(unknown(other)),
        })
    }

    async fn create(&self, request: api::CreateTaskRequest) -> Result<api::CreateTaskResponse> {
        if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
            return Err(Error::unsupported("restore a container from a checkpoint"));
        }
        let options = RuntimeOptions::read(request.options.as_ref())?;
        let create = Create {
            id: named(request.id, "id")?,
            bundle: request.bundle.into(),
            stdio: Stdio::Fifos(Fifos {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            }),
            rootfs_mounts: rootfs_mounts(request.rootfs)?,
            runtime: options.choice(&self.place.namespace)?,
        };
        crate::leftover::note(&create)?;
        Ok(api::CreateTaskResponse { pid: self.pod.create(create).await? })
    }

    async fn start(&self, request: api::StartRequest) -> Result<api::StartResponse> {
        let started = self.pod.start(Target::of(request.id, request.exec_id)).await?;
        Ok(api::StartResponse { pid: started.pid })
    }

    async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse> {
        let removed = self.pod.remove(Target::of(request.id, request.exec_id), IfRunning::Refuse).await?;
        Ok(api::DeleteResponse {
            pid: removed.pid,
            exit_status: exit_status(removed.ended.exit_code),
            exited_at: Some(timestamp(removed.ended.at)),
        })
    }

    async fn state(&self, request: api::StateRequest) -> Result<api::StateResponse> {
        let state = self.pod.state(Target::of(request.id, request.exec_id)).await?;
        let Fifos { stdin, stdout, stderr, terminal } = fifos(&state.stdio);
        let ended = state.ended.as_ref();
        Ok(api::StateResponse {
            id: state.target.container,
            exec_id: state.target.exec.unwrap_or_default(),
            bundle: state.bundle.to_string_lossy().into_owned(),
            pid: state.pid,
            status: match state.status {
                Status::Created => TaskStatus::Created,
                Status::Running => TaskStatus::Running,
                Status::Paused => TaskStatus::Paused,
                Status::Stopped => TaskStatus::Stopped,
            } as i32,
            stdin,
            stdout,
            stderr,
            terminal,
            exit_status: ended.map_or(0, |ended| exit_status(ended.exit_code)),
            exited_at: ended.map(|ended| timestamp(ended.at)),
        })
    }

    async fn pids(&self, request: api::PidsRequest) -> Result<api::PidsResponse> {
        let mut pids = self.pod.pids(&request.id).await?;
        if pids.is_empty() {
            // A containerd that starts again takes a shim without processes for one whose task was never made, and forgets how
            // the task ended. Until it is deleted it has the process that it was.
            pids.push((self.pod.state(Target::container(request.id)).await?.pid, None));
        }
        let process = |(pid, exec): (u32, Option<String>)| ProcessInfo {
            pid,
            info: exec.map(|exec_id| any("containerd.runc.v1.ProcessDetails", &ProcessDetails { exec_id })),
        };
        Ok(api::PidsResponse { processes: pids.into_iter().map(process).collect() })
    }

    async fn kill(&self, request: api::KillRequest) -> Result<()> {
        let signal = i32::try_from(request.signal).ok().filter(|signal| (1..=64).contains(signal));
        let signal =
            signal.ok_or_else(|| Error::invalid(format!("send signal {}: 1 to 64", request.signal)))?;
        let target = Target::of(request.id, request.exec_id);
        let reach = if request.all { Reach::All } else { Reach::One };
        self.pod.kill(Kill { target, signal, reach }).await.map_err(|error| match error.kind() {
            // What callers of containerd look for when a process has ended by itself just before.
            Kind::WrongStatus => error.with_kind(Kind::NotFound).during("process already finished"),
            _ => error,
        })
    }

    async fn exec(&self, request: api::ExecProcessRequest) -> Result<()> {
        let process = request.spec.ok_or_else(|| Error::invalid("add an exec: no process"))?.value;
        let target = Target::of(named(request.id, "id")?, named(request.exec_id, "exec id")?);
        let stdio = Stdio::Fifos(Fifos {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        });
        self.pod.add_exec(Exec { target, what: ExecWhat::Process(process), stdio, timeout: None }).await
    }

    async fn resize(&self, request: api::ResizePtyRequest) -> Result<()> {
        let fits = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
        let size = Size { width: fits(request.width), height: fits(request.height) };
        self.pod.resize(Target::of(request.id, request.exec_id), size).await
    }

    async fn close_io(&self, request: api::CloseIoRequest) -> Result<()> {
        if !request.stdin {
            return Ok(()); // the only stream that can be closed
        }
        self.pod.close_stdin(Target::of(request.id, request.exec_id)).await
    }

    async fn update(&self, request: api::UpdateTaskRequest) -> Result<()> {
        let resources = request.resources.ok_or_else(|| Error::invalid("update limits: no resources"))?;
        self.pod.update(&request.id, resources.value).await
    }

    async fn wait(&self, request: api::WaitRequest) -> Result<api::WaitResponse> {
        let ended = self.pod.wait(Target::of(request.id, request.exec_id)).await?;
        Ok(api::WaitResponse {
            exit_status: exit_status(ended.exit_code),
            exited_at: Some(timestamp(ended.at)),
        })
    }

    async fn stats(&self, request: api::StatsRequest) -> Result<api::StatsResponse> {
        let state = self.pod.state(Target::container(request.id)).await?;
        let cgroup = state.cgroup.ok_or_else(|| {
            Error::new(Kind::WrongStatus, format!("read the metrics of {}: it has no cgroup", state.target))
        })?;
        let metrics = stats::read(&cgroup)?;
        Ok(api::StatsResponse { stats: Some(any("io.containerd.cgroups.v2.Metrics", &metrics)) })
    }

    async fn connect(&self, request: api::ConnectRequest) -> Result<api::ConnectResponse> {
        // Asked before a task is there, too.
        let task_pid = match self.pod.state(Target::container(request.id)).await {
            Ok(state) => state.pid,
            Err(error) if error.kind() == Kind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(api::ConnectResponse { shim_pid: std::process::id(), task_pid, version })
    }

    /// Said after each deletion: the shim ends only with its last container.
    async fn shutdown(&self, request: api::ShutdownRequest) -> Result<()> {
        let running = if request.now { IfRunning::Kill } else { IfRunning::Refuse };
        match self.pod.shutdown(running).await {
            Ok(()) => self.leave(),
            Err(error) if error.kind() == Kind::WrongStatus => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// containerd's exit status is unsigned.
pub(crate) fn exit_status(code: i32) -> u32 {
    u32::try_from(code).unwrap_or(255)
}
