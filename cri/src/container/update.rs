//! UpdateContainerResources: limits of a created or running container change in place, and its status says what is in force.

use std::sync::Arc;

use crate::api;
use crate::error::{Context, Error, Kind, Result};
use crate::node::Node;
use crate::oci::resources;
use crate::record::ContainerStage;

/// Changes the limits that the request names.
pub async fn update(node: &Arc<Node>, request: api::UpdateContainerResourcesRequest) -> Result<()> {
    let container = node.container(&request.container_id)?;
    let Some(asked) = request.linux else {
        return Err(Error::invalid("the resources to set are missing"));
    };
    crate::sandbox::check::resources("container", &asked)?;
    if !matches!(container.stage(), ContainerStage::Created | ContainerStage::Running) {
        return Err(Error::new(
            Kind::WrongStatus,
            format!("container {} is neither created nor running", container.id),
        ));
    }
    let (spec, degraded) = resources::linux(&asked, &node.host())?;
    let text = serde_json::to_vec(&spec).what(|| "serialize resources")?;
    let sandbox = node.sandbox_of(&container)?;
    let client = sandbox.shim().await?;
    client.update(&container.id, text).await.what(|| format!("update container {}", container.name()))?;
    container
        .status
        .set(|status| {
            status.resources = resources::merged(&status.resources, &asked);
            status.degraded.extend(degraded.iter().map(ToString::to_string));
            status.degraded.sort();
            status.degraded.dedup();
        })
        .await
}
