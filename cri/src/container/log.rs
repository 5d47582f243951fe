//! ReopenContainerLog, and the directory that a log lies in. The shim writes the log.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Context, Error, Kind, Result};
use crate::node::Node;
use crate::paths;
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

/// Makes the directory of a log; a kubelet has made it already.
pub fn create_directory(log: &str) -> Result<()> {
    match Path::new(log).parent() {
        Some(directory) if !log.is_empty() => paths::create_dir(directory),
        _ => Ok(()),
    }
}
