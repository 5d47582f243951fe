//! RemoveContainer: ends it if need be, then removes all that is left, its record last. Idempotent. Log files are the kubelet's.

use std::sync::Arc;
use std::time::Duration;

use shim::api::pod;

use super::{image_mount, stop};
use crate::api;
use crate::error::{Error, Kind, Result};
use crate::node::{Container, Node};
use crate::paths;
use crate::record::ContainerStage;
use crate::sandbox::shimless;
use crate::stage::fail_point;

/// Removes a container; one that does not exist is removed.
pub async fn remove(node: &Arc<Node>, id: &str) -> Result<()> {
    let Some(container) = node.containers.find(id)?.filter(|container| container.is_listed()) else {
        return Ok(());
    };
    join(node, &container).await
}

/// Removes, or joins who does.
pub async fn join(node: &Arc<Node>, container: &Arc<Container>) -> Result<()> {
    let (job, work) = (Arc::clone(node), Arc::clone(container));
    node.jobs.join(format!("remove {}", container.id), || async move { all(&job, &work).await }).await
}

async fn all(node: &Arc<Node>, container: &Arc<Container>) -> Result<()> {
    container.status.change(|status| status.removing = true);
    let result = async {
        // A sandbox is being removed while it is made: it fails, and undoes itself.
        if let Some(made) = node.jobs.end_of(&format!("create {}", container.id)).await
            && made.is_err()
            && node.containers.find(&container.id)?.is_none()
        {
            return Ok(());
        }
        if container.is_listed() {
            stop::one(node, container, Duration::ZERO).await?;
        }
        rest(node, container).await
    }
    .await;
    if result.is_err() {
        container.status.change(|status| status.removing = false);
    }
    result.map_err(|error| error.during(format!("remove container {}", container.name())))
}

/// Undoes a container whose making failed. What can't be undone is listed as exited, so that a kubelet asks for its removal, and its name
/// is free.
pub async fn undo(node: &Arc<Node>, container: &Arc<Container>) -> Result<()> {
    let result = rest(node, container).await;
    if result.is_err() {
        node.containers.release(&container.name(), &container.id);
        container
            .status
            .set(|status| {
                status.stage = ContainerStage::Exited;
                status.reason = "Error".to_owned();
                status.message = "could not be created, and not all of it could be undone".to_owned();
                status.exit_code = super::exit::START_FAILED;
                status.finished_at = paths::now();
            })
            .await?;
    }
    result
}

async fn rest(node: &Arc<Node>, container: &Arc<Container>) -> Result<()> {
    fail_point("remove-container", "shim")?;
    forget(node, container).await?;
    fail_point("remove-container", "files")?;
    image_mount::remove(node, &container.id)?;
    paths::remove_dir(&node.paths.bundle(&container.id))?;
    fail_point("remove-container", "record")?;
    let (dir, was_listed) = (node.paths.container_record(&container.id), container.is_listed());
    // A writable layer may be large.
    let removed = tokio::task::spawn_blocking(move || {
        // ORDER: the metadata goes last, so that a crash before it leaves something to find the rest by.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name() != "meta" && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                paths::remove_dir(&entry.path())?;
            }
        }
        paths::remove_dir(&dir)
    });
    removed.await.map_err(|error| Error::internal(error.to_string()))??;
    node.containers.remove(&container.name(), &container.id);
    node.collect_images();
    if was_listed {
        super::status::tell(node, container, api::ContainerEventType::ContainerDeletedEvent);
    }
    Ok(())
}

/// Makes the shim and the runtime forget it. A dead shim's containers were ended and deleted when its death was found.
async fn forget(node: &Arc<Node>, container: &Arc<Container>) -> Result<()> {
    let Ok(sandbox) = node.sandbox_of(container) else { return Ok(()) };
    if sandbox.status.look(|status| status.stop_is_complete || status.shim_pid == 0) {
        return Ok(());
    }
    let request = pod::RemoveRequest { id: container.id.clone(), exec_id: String::new(), force: true };
    let removed = match sandbox.shim().await {
        Ok(client) => client.remove(&request).await.map_err(Error::from),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == Kind::Unavailable => {
            shimless::delete(node, &container.id, &sandbox.handler).await
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        other => other,
    }
}
