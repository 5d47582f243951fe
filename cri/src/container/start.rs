//! StartContainer: the waiting process executes its program. What can't be started is exited, with 128 and the reason StartError.

use std::sync::Arc;

use shim::api::pod;

use super::exit;
use crate::api;
use crate::error::{Error, Kind, Result};
use crate::node::{Container, Node};
use crate::record::{ContainerStage, SandboxStage};

/// Starts a created container.
pub async fn start(node: &Arc<Node>, id: &str) -> Result<()> {
    let container = node.container(id)?;
    let (job, work) = (Arc::clone(node), Arc::clone(&container));
    node.jobs.join(format!("start {}", container.id), || async move { one(&job, &work).await }).await
}

async fn one(node: &Arc<Node>, container: &Arc<Container>) -> Result<()> {
    let stage = container.stage();
    if stage != ContainerStage::Created {
        let what =
            format!("container {} is {}, not created", container.id, format!("{stage:?}").to_lowercase());
        return Err(Error::new(Kind::WrongStatus, what));
    }
    let sandbox = node.sandbox_of(container)?;
    if sandbox.stage() != SandboxStage::Ready {
        return Err(Error::new(Kind::WrongStatus, format!("sandbox {} is not ready", sandbox.id)));
    }
    crate::stage::fail_point("start", "begin")?;
    let client = sandbox.shim().await?;
    match client.start(&container.id).await {
        Ok(started) => {
            crate::stage::fail_point("start", "started")?;
            container
                .status
                .set(|status| {
                    status.started_at = started.started_at;
                    // It may have ended already, and the watch may have been faster than this answer.
                    if status.stage == ContainerStage::Created {
                        status.stage = ContainerStage::Running;
                        status.pid = started.pid;
                    }
                })
                .await?;
            super::status::tell(node, container, api::ContainerEventType::ContainerStartedEvent);
            Ok(())
        }
        Err(status) => {
            let error = Error::from(status).during(format!("start container {}", container.name()));
            exit::record_start_error(node, container, &error.to_string()).await?;
            let remove = pod::RemoveRequest { id: container.id.clone(), exec_id: String::new(), force: true };
            if let Err(left) = client.remove(&remove).await {
                tracing::warn!(container = container.id, "what is left stays until its removal: {left}");
            }
            Err(error)
        }
    }
}
