//! ExecSync: a command's output and exit code. What is beyond 16 MiB of a stream is read and thrown away; a background process that keeps
//! the streams open does not hold the answer up (the shim closes them some time after the command's end).

use std::sync::Arc;
use std::time::Duration;

use shim::api::pod;
use shim::client::{Client, StreamName};
use shim::pod::TIMED_OUT;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::api;
use crate::error::{Error, Kind, Result};
use crate::node::{Container, Node};
use crate::paths;
use crate::record::ContainerStage;

/// What is kept of each stream.
const KEPT: usize = 16 << 20;
/// No command outlives this if the request names no limit: a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// From the limit to the answer: the shim kills the process and says so.
const KILL: Duration = Duration::from_secs(10);

/// KERNEL: MAX_ARG_STRLEN.
const LONGEST_WORD: usize = 128 << 10;

/// Runs a command in a container.
pub async fn sync(node: &Arc<Node>, request: api::ExecSyncRequest) -> Result<api::ExecSyncResponse> {
    let container = running(node, &request.container_id)?;
    check(&request.cmd)?;
    let client = node.sandbox_of(&container)?.shim().await?;
    let limit = u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let call = Call { client, container: container.id.clone(), exec: paths::new_id()?, limit };
    let command = request.cmd;
    // A task of its own, so that a client that goes away leaves no exec behind.
    let work = async move {
        let result = call.run(command).await;
        call.forget().await;
        result
    };
    let result =
        shim::client::spawn(work).await.map_err(|error| Error::internal(format!("exec: {error}")))?;
    result.map_err(|error| error.during(format!("exec in container {}", container.name())))
}

/// Refuses what can't be executed, whatever the container has.
pub fn check(command: &[String]) -> Result<()> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("the command is empty"));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid("the command has a NUL"));
    }
    if let Some(long) = command.iter().find(|word| word.len() >= LONGEST_WORD) {
        let bytes = long.len();
        return Err(Error::invalid(format!(
            "a word of the command has {bytes} bytes, {LONGEST_WORD} are too many"
        )));
    }
    Ok(())
}

/// The container, if it runs.
pub fn running(node: &Node, id: &str) -> Result<Arc<Container>> {
    let container = node.container(id)?;
    match container.stage() {
        ContainerStage::Running => Ok(container),
        stage => Err(Error::new(
            Kind::WrongStatus,
            format!("container {} is {}, not running", container.id, format!("{stage:?}").to_lowercase()),
        )),
    }
}

struct Call {
    client: Client,
    container: String,
    exec: String,
    limit: Option<Duration>,
}

impl Call {
    async fn run(&self, args: Vec<String>) -> Result<api::ExecSyncResponse> {
        let request = pod::ExecRequest {
            id: self.container.clone(),
            exec_id: self.exec.clone(),
            args,
            stdout: true,
            stderr: true,
            timeout_ms: self.limit.map_or(0, |limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)),
            ..Default::default()
        };
        let started = self.client.exec(&request).await?;
        let stdout = self.client.stream(&started.token, StreamName::Stdout).await?;
        let stderr = self.client.stream(&started.token, StreamName::Stderr).await?;
        let wait = self.limit.map_or(FOREVER, |limit| limit.saturating_add(KILL));
        let ended = self.client.wait(&self.container, &self.exec, wait);
        let (stdout, stderr, ended) = tokio::join!(read(stdout), read(stderr), ended);
        let ended = ended?;
        match ended {
            Some(ended) if ended.reason != TIMED_OUT => {
                Ok(api::ExecSyncResponse { stdout, stderr, exit_code: ended.exit_code })
            }
            _ => {
                let seconds = self.limit.unwrap_or(FOREVER).as_secs();
                Err(Error::new(
                    Kind::Timeout,
                    format!("the command ran longer than {seconds} s and was killed"),
                ))
            }
        }
    }

    async fn forget(&self) {
        let remove =
            pod::RemoveRequest { id: self.container.clone(), exec_id: self.exec.clone(), force: true };
        if let Err(error) = self.client.remove(&remove).await {
            tracing::debug!(container = self.container, "forget exec {}: {error}", self.exec);
        }
    }
}

async fn read(mut stream: UnixStream) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = vec![0; 32 << 10];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return kept,
            Ok(count) => {
                let room = KEPT.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&piece[..room]);
            }
        }
    }
}
