//! RemovePodSandbox: stops, removes the containers, then all that is left of the pod, its record last. Idempotent.

use std::sync::Arc;

use super::{cgroup, stop};
use crate::container;
use crate::error::Result;
use crate::node::{Node, Sandbox};
use crate::paths;
use crate::record::SandboxStage;
use crate::stage::fail_point;

/// Removes a sandbox; one that does not exist is removed.
pub async fn remove(node: &Arc<Node>, id: &str) -> Result<()> {
    let Some(sandbox) = node.sandboxes.find(id)? else { return Ok(()) };
    if !sandbox.is_listed() {
        return Ok(());
    }
    let (job, work) = (Arc::clone(node), Arc::clone(&sandbox));
    node.jobs
        .join(format!("remove {}", sandbox.id), || async move {
            stop::join(&job, &work).await?;
            rest(&job, &work).await
        })
        .await
}

/// Undoes a sandbox whose making failed. What can't be undone is listed as not ready, so that a kubelet asks for its removal, and
/// its name is free.
pub async fn undo(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    let result = match stop::all(node, sandbox).await {
        Ok(()) => rest(node, sandbox).await,
        Err(error) => Err(error),
    };
    if result.is_err() {
        node.sandboxes.release(&sandbox.name(), &sandbox.id);
        let saved = sandbox.status.set(|status| status.stage = SandboxStage::Stopped).await;
        if let Err(error) = saved {
            tracing::error!(sandbox = sandbox.id, "{error}");
        }
    }
    result
}

async fn rest(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    for container in node.containers_of(&sandbox.id) {
        container::remove::join(node, &container).await?;
    }
    fail_point("remove", "files")?;
    cgroup::remove(node, sandbox);
    paths::remove_dir(&node.paths.bundle(&sandbox.id))?;
    paths::remove_dir(sandbox.dir())?;
    fail_point("remove", "record")?;
    // ORDER: the record goes last, so that a crash before it leaves something to find the rest by.
    paths::remove_dir(&node.paths.sandbox_record(&sandbox.id))?;
    node.sandboxes.remove(&sandbox.name(), &sandbox.id);
    if sandbox.is_listed() {
        super::status::tell(node, sandbox, crate::api::ContainerEventType::ContainerDeletedEvent);
    }
    Ok(())
}
