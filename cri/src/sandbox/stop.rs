//! StopPodSandbox: containers, network, pause process, in that order. Idempotent; each part is tried even where another failed, and what
//! failed is tried again by the next call.

use std::sync::Arc;
use std::time::Duration;

use shim::api::pod;

use super::{files, network, shimless};
use crate::container;
use crate::error::{Error, Result};
use crate::node::{Node, Sandbox};
use crate::record::SandboxStage;
use crate::stage::fail_point;

/// Stops a sandbox; one that does not exist is stopped.
pub async fn stop(node: &Arc<Node>, id: &str) -> Result<()> {
    let Some(sandbox) = node.sandboxes.find(id)? else { return Ok(()) };
    // Being made: whoever makes it undoes it when it fails. Its id has been told to nobody.
    if !sandbox.is_listed() {
        return Ok(());
    }
    join(node, &sandbox).await
}

/// Stops, or joins who does.
pub async fn join(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    let (job, work) = (Arc::clone(node), Arc::clone(sandbox));
    node.jobs.join(format!("stop {}", sandbox.id), || async move { all(&job, &work).await }).await
}

/// Does it. Also what undoes a sandbox that was never finished.
pub async fn all(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    if sandbox.status.look(|status| status.stop_is_complete) {
        return Ok(());
    }
    // Not ready from here on: no container can be made any more, whatever happens below.
    if sandbox.stage() == SandboxStage::Ready {
        sandbox.status.set(|status| status.stage = SandboxStage::Stopped).await?;
    }
    fail_point("stop", "containers")?;
    let mut first = container::stop::all_of(node, sandbox).await.err();
    fail_point("stop", "network")?;
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            tracing::warn!(sandbox = sandbox.id, "stop: {error}");
            first.get_or_insert(error);
        }
    };
    note(network::detach(node, sandbox).await.map_err(|error| error.during("take the network back")));
    note(fail_point("stop", "shim"));
    note(end_shim(node, sandbox).await);
    note(fail_point("stop", "files"));
    note(files::unmount(node, &sandbox.id));
    note(fail_point("stop", "record"));
    match first {
        None => {
            sandbox
                .status
                .set(|status| {
                    status.stop_is_complete = true;
                    status.pause_pid = 0;
                    status.shim_pid = 0;
                })
                .await?;
            if sandbox.is_listed() {
                super::status::tell(node, sandbox, crate::api::ContainerEventType::ContainerStoppedEvent);
            }
            Ok(())
        }
        Some(error) => Err(error.during(format!("stop sandbox {}", sandbox.name()))),
    }
}

/// Ends the pause process and the shim, which ends whatever else it has.
async fn end_shim(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    let Ok(client) = sandbox.shim().await else {
        return shimless::end(node, sandbox).await;
    };
    let stopped = client.stop(&sandbox.id, "SIGKILL", Duration::ZERO).await.map_err(Error::from);
    let remove = pod::RemoveRequest { id: sandbox.id.clone(), exec_id: String::new(), force: true };
    let removed = client.remove(&remove).await.map_err(Error::from);
    let ended = client.shutdown(pod::ShutdownRequest { force: true }).await.map_err(Error::from);
    node.shims.reap();
    if ended.is_ok() {
        return Ok(());
    }
    // It went away in the middle of an answer, or it is stuck: look once more.
    let gone = tokio::time::timeout(Duration::from_secs(2), crate::shims::reach(sandbox.dir())).await;
    if matches!(gone, Ok(Err(_))) {
        return shimless::end(node, sandbox).await;
    }
    stopped.map(drop).and(removed).and(ended).map_err(|error| error.during("end the shim"))
}
