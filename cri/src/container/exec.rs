//! ExecSync: a command's output and exit code. What is beyond an answer's bounds is read and thrown away; a background process that keeps
//! the streams open does not hold the answer up (the shim closes them some time after the command's end). A command ends with its client:
//! nobody else would ever end one without a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shim::api::pod;
use shim::client::{Client, StreamName};
use shim::pod::TIMED_OUT;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::api;
use crate::error::{Error, Kind, Result};
use crate::node::{Container, Node};
use crate::paths;
use crate::record::ContainerStage;

/// What is kept of both streams together.
const KEPT: usize = crate::bounds::ANSWER;
/// What is kept of the streams of all commands together: it is containers that say how much they print.
const KEPT_OF_ALL: usize = 128 << 20;
/// No command outlives this if the request names no limit: a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// From the limit to the answer: the shim kills the process and says so.
const KILL: Duration = Duration::from_secs(10);

/// KERNEL: three quarters of `_STK_LIM`, with the environment and eight bytes a word.
const ALL_WORDS: usize = 6 << 20;

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
    let (here, gone) = oneshot::channel::<()>();
    // A task of its own, so that a client that goes away leaves no exec behind: then this future is dropped, and `here` with it.
    let work = async move {
        let result = call.run(command, gone).await;
        call.forget().await;
        result
    };
    let result =
        shim::client::spawn(work).await.map_err(|error| Error::internal(format!("exec: {error}")))?;
    drop(here);
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
    let bytes: usize = command.iter().map(|word| word.len() + 9).sum();
    if bytes >= ALL_WORDS {
        return Err(Error::invalid(format!("the command has {bytes} bytes, {ALL_WORDS} are too many")));
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
    async fn run(&self, args: Vec<String>, gone: oneshot::Receiver<()>) -> Result<api::ExecSyncResponse> {
        let request = pod::ExecRequest {
            id: self.container.clone(),
            exec_id: self.exec.clone(),
            args,
            stdout: true,
            stderr: true,
            timeout_ms: self.limit.map_or(0, |limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)),
            ..Default::default()
        };
        // Not given up half-way: what is begun can be ended by its id.
        let started = self.client.exec(&request).await?;
        tokio::select! {
            ended = self.follow(&started.token) => ended,
            _ = gone => Err(Error::new(Kind::Unavailable, "the client went away: the command was killed")),
        }
    }

    async fn follow(&self, token: &str) -> Result<api::ExecSyncResponse> {
        let kept = Kept::default();
        let stdout = self.client.stream(token, StreamName::Stdout).await?;
        let stderr = self.client.stream(token, StreamName::Stderr).await?;
        let wait = self.limit.map_or(FOREVER, |limit| limit.saturating_add(KILL));
        let ended = self.client.wait(&self.container, &self.exec, wait);
        let (stdout, stderr, ended) = tokio::join!(kept.read(stdout), kept.read(stderr), ended);
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

/// What is kept of one command's output.
#[derive(Default)]
struct Kept(AtomicUsize);

/// Of all commands.
static KEPT_NOW: AtomicUsize = AtomicUsize::new(0);

impl Kept {
    /// As many of `wanted` bytes as there is room for.
    fn room(&self, wanted: usize) -> usize {
        let room = KEPT.saturating_sub(self.0.load(Ordering::Relaxed)).min(wanted);
        let before = KEPT_NOW.fetch_add(room, Ordering::Relaxed);
        let given = KEPT_OF_ALL.saturating_sub(before).min(room);
        KEPT_NOW.fetch_sub(room - given, Ordering::Relaxed);
        self.0.fetch_add(given, Ordering::Relaxed);
        given
    }

    async fn read(&self, mut stream: UnixStream) -> Vec<u8> {
        let mut kept = Vec::new();
        let mut piece = vec![0; 32 << 10];
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return kept,
                Ok(count) => kept.extend_from_slice(&piece[..self.room(count)]),
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT_NOW.fetch_sub(*self.0.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_for_one_command_and_for_all() {
        let one = Kept::default();
        let given: usize = (0..KEPT / 1000 + 5).map(|_| one.room(1000)).sum();
        assert_eq!(given, KEPT);
        assert_eq!(one.room(1), 0);
        let others: Vec<Kept> = (0..20).map(|_| Kept::default()).collect();
        let all: usize = others.iter().map(|kept| kept.room(KEPT)).sum();
        assert_eq!(given + all, KEPT_OF_ALL);
        drop(one);
        assert_eq!(Kept::default().room(7), 7, "there is room again");
        drop(others);
        assert_eq!(KEPT_NOW.load(Ordering::Relaxed), 0);
    }
}
