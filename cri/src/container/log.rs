//! ReopenContainerLog. The shim opens and writes the log.

use std::sync::Arc;

use crate::error::{Context, Error, Kind, Result};
use crate::node::Node;
use crate::record::ContainerStage;

/// Opens the log anew after its rotation.
pub async fn reopen(node: &Arc<Node>, id: &str) -> Result<()> {
    let container = node.container(id)?;
    if container.stage() != ContainerStage::Running {
        return Err(Error::new(Kind::WrongStatus, format!("container {} is not running", container.id)));
    }
    let client = node.sandbox_of(&container)?.shim().await?;
    client
        .reopen_log(&container.id)
        .await
        .what(|| format!("reopen the log of container {}", container.name()))
}
