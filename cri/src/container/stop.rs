//! StopContainer: signal, grace, SIGKILL, all in the shim. Idempotent; not joined, since a second call with a shorter grace shortens the
//! first.

use std::sync::Arc;
use std::time::Duration;

use super::{exit, signal};
use crate::error::{Error, Kind, Result};
use crate::node::{Container, Node, Sandbox};
use crate::record::ContainerStage;
use crate::sandbox::shimless;
use crate::stage::fail_point;

/// Stops a container; one that does not exist, or that has ended, is stopped. `seconds`: 0 or less is SIGKILL at once.
pub async fn stop(node: &Arc<Node>, id: &str, seconds: i64) -> Result<()> {
    let Some(container) = node.containers.find(id)?.filter(|container| container.is_listed()) else {
        return Ok(());
    };
    let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let node = Arc::clone(node);
    // A task of its own: a client that goes away does not stop it.
    let work = async move { one(&node, &container, grace).await };
    shim::client::spawn(work).await.map_err(|error| Error::internal(format!("stop a container: {error}")))?
}

/// Stops one, and records how it ended before it answers.
pub async fn one(node: &Arc<Node>, container: &Arc<Container>, grace: Duration) -> Result<()> {
    if container.stage() == ContainerStage::Exited {
        return Ok(());
    }
    let stopping = async {
        fail_point("stop-container", "begin")?;
        let sandbox = node.sandbox_of(container)?;
        let client = match sandbox.shim().await {
            Ok(client) => client,
            Err(error) if error.kind() == Kind::Unavailable => {
                shimless::died(node, &sandbox).await;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match client
            .stop(&container.id, signal::of_record(&container.stop_signal), grace)
            .await
            .map_err(Error::from)
        {
            Ok(ended) => {
                fail_point("stop-container", "record")?;
                exit::record(node, container, &ended).await.map(drop)
            }
            // The shim may have been told to forget it the moment before: then its end is recorded.
            Err(error) if error.kind() == Kind::NotFound => {
                exit::record_lost(node, container, "the shim does not know it").await.map(drop)
            }
            Err(error) => Err(error),
        }
    };
    stopping.await.map_err(|error| error.during(format!("stop container {}", container.name())))
}

/// Ends all containers of a sandbox at once; those in the making are waited for, since they fail now.
pub async fn all_of(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for container in node.containers_of(&sandbox.id) {
        let node = Arc::clone(node);
        tasks.spawn(async move {
            if !container.is_listed() {
                // How it ended, whoever makes it says.
                let _ = node.jobs.end_of(&format!("create {}", container.id)).await;
                return Ok(());
            }
            one(&node, &container, Duration::ZERO).await
        });
    }
    let mut first = Ok(());
    while let Some(result) = tasks.join_next().await {
        let result = result.map_err(|error| Error::internal(error.to_string())).and_then(|result| result);
        if let Err(error) = result {
            tracing::warn!(sandbox = sandbox.id, "{error}");
            first = first.and(Err(error));
        }
    }
    first
}
