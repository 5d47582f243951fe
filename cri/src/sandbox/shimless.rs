//! A pod whose shim is dead, found so by a running server or by one that starts: its containers are ended by the runtime itself, and said
//! to have ended. It does not find out that a shim is dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use crate::container::exit;
use crate::error::{Context, Error, Kind, Result};
use crate::node::{Node, Sandbox};
use crate::record::SandboxStage;

/// Ends what a dead shim left, and says so: containers 137, the sandbox not ready.
pub async fn died(node: &Arc<Node>, sandbox: &Arc<Sandbox>) {
    tracing::error!(sandbox = sandbox.id, "the shim is dead: its containers are ended");
    note(sandbox.status.set(|status| status.stage = SandboxStage::Stopped).await);
    note(end(node, sandbox).await);
}

/// Ends the pod's containers without a shim: SIGKILL by the runtime (and the cgroup), then `delete -f`.
pub async fn end(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    let mut first = Ok(());
    for container in node.containers_of(&sandbox.id) {
        let deleted = delete(node, &container.id, &sandbox.handler).await;
        first = first.and(deleted);
    }
    first = first.and(delete(node, &sandbox.id, &sandbox.handler).await);
    lost(node, sandbox, "the pod's shim died, and with it all that it ran").await;
    first
}

/// `rt delete -f`: kills what runs, all of its cgroup, and removes what is kept of it. Unknown is fine.
pub async fn delete(node: &Node, id: &str, handler: &str) -> Result<()> {
    let runtime = node.runtime(handler)?;
    if !node.paths.runtime_root().join(id).exists() {
        return Ok(());
    }
    let mut command = Command::new(runtime);
    command.arg("--root").arg(node.paths.runtime_root()).args(["delete", "--force", id]);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output
        .map_err(|_| Error::new(Kind::Timeout, format!("delete container {id}: not done after 60 s")))?
        .what(|| format!("execute {}", runtime.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || text.contains("does not exist") {
        return Ok(());
    }
    Err(Error::internal(format!("delete container {id}: {}", text.trim())))
}

/// Records that the pod's containers have ended, nobody knows how: 137 and `why`.
pub async fn lost(node: &Arc<Node>, sandbox: &Sandbox, why: &str) {
    for container in node.containers_of(&sandbox.id).iter().filter(|container| container.is_listed()) {
        note(exit::record_lost(node, container, why).await.map(drop));
    }
}

/// Says what failed, where nobody waits for an answer.
pub fn note(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!("{error}");
    }
}
