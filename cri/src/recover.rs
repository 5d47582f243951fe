//! Records and live shims become the truth, before the first answer: what ran on is followed, what died is said to have ended, what was
//! half made is undone, what was half removed is removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::container::{self, exit};
use crate::error::{Context, Error, Kind, Result};
use crate::node::{Container, Node, Sandbox};
use crate::paths;
use crate::record::file::{self, Read};
use crate::record::{
    ContainerMeta, ContainerStage, ContainerStatus, Kept, SandboxMeta, SandboxStage, SandboxStatus, Versioned,
};
use crate::sandbox::shimless::{self, note};
use crate::sandbox::{self, watch};

/// What one shim is given to answer, and all together nearly are.
const ANSWER: Duration = Duration::from_secs(2);

/// Reads all records and brings them in line with what lives.
pub async fn recover(node: &Arc<Node>) -> Result<()> {
    let sandboxes = load_sandboxes(node)?;
    let containers = load_containers(node)?;
    tracing::info!(sandboxes = sandboxes.len(), containers = containers.len(), "records read");
    let mut tasks = tokio::task::JoinSet::new();
    for sandbox in sandboxes {
        let node = Arc::clone(node);
        tasks.spawn(async move { one(&node, &sandbox).await });
    }
    while let Some(result) = tasks.join_next().await {
        if let Err(error) = result {
            tracing::error!("recover: {error}");
        }
    }
    for container in containers.iter().filter(|container| node.sandboxes.get(&container.sandbox).is_err()) {
        tracing::warn!(container = container.id, "its sandbox's record is gone: removed");
        if let Err(error) = container::remove::join(node, container).await {
            tracing::error!(container = container.id, "{error}");
        }
    }
    let live: BTreeSet<String> = node.sandboxes.all().iter().map(|sandbox| sandbox.id.clone()).collect();
    if let Err(error) = node.network.gc(&live).await {
        tracing::warn!("collect networks that no sandbox has: {error}");
    }
    // A plugin that is slow to say so must not hold up the answers: until then the network is not ready.
    if tokio::time::timeout(Duration::from_secs(5), node.network.first_look()).await.is_err() {
        tracing::warn!("CNI plugins have not said within 5 s whether they can serve pods");
    }
    strays(node, &live);
    node.collect_images();
    Ok(())
}

async fn one(node: &Arc<Node>, sandbox: &Arc<Sandbox>) {
    let containers = node.containers_of(&sandbox.id);
    match sandbox.stage() {
        SandboxStage::Making => {
            tracing::info!(sandbox = sandbox.id, "was never finished: undone");
            if let Err(error) = sandbox::remove::undo(node, sandbox).await {
                tracing::error!(sandbox = sandbox.id, "{error}");
            }
            return;
        }
        SandboxStage::Ready | SandboxStage::Stopped => meet(node, sandbox).await,
    }
    for container in containers.iter().filter(|container| !container.is_listed()) {
        tracing::info!(container = container.id, "was never finished: undone");
        if let Err(error) = container::remove::undo(node, container).await {
            tracing::error!(container = container.id, "{error}");
        }
    }
}

/// Asks the sandbox's shim, or finds that it is dead.
async fn meet(node: &Arc<Node>, sandbox: &Arc<Sandbox>) {
    if sandbox.status.look(|status| status.stop_is_complete) {
        shimless::lost(node, sandbox, "the sandbox was stopped while the server was down").await;
        return;
    }
    let asked = async {
        let client = sandbox.shim().await?;
        let answer = client.watch(0, Duration::from_millis(100)).await?;
        Ok::<_, Error>((client, answer))
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok((client, answer))) => {
            watch::apply(node, sandbox, &client, &answer).await;
            let known: BTreeSet<&str> = answer.containers.iter().map(|said| said.id.as_str()).collect();
            for container in node.containers_of(&sandbox.id) {
                if !known.contains(container.id.as_str()) && container.is_listed() {
                    note(exit::record_lost(node, &container, "the shim does not know it").await.map(drop));
                }
            }
            if !known.contains(sandbox.id.as_str()) {
                note(sandbox.status.set(|status| status.stage = SandboxStage::Stopped).await);
            }
            watch::start(node, sandbox);
        }
        Ok(Err(error)) if error.kind() == Kind::Unavailable => shimless::died(node, sandbox).await,
        // Silent: listed as it was last known, and asked again.
        _ => watch::start(node, sandbox),
    }
}

fn load_sandboxes(node: &Arc<Node>) -> Result<Vec<Arc<Sandbox>>> {
    let mut found = Vec::new();
    for id in entries(&node.paths.sandbox_records())? {
        let dir = node.paths.sandbox_record(&id);
        paths::shut_record(&dir)?;
        let Some(meta) = file::read::<SandboxMeta>(&dir.join("meta")).filter(|meta| meta.content.id == id)
        else {
            tracing::warn!(sandbox = id, "its record is torn: dropped");
            paths::remove_dir(&dir)?;
            continue;
        };
        let status = file::read::<Versioned<SandboxStatus>>(&dir.join("status"));
        let now = sandbox_now(node, status);
        let status = Kept::new(dir.join("status"), &node.boot, now, node.sandboxes.changes());
        let sandbox = Arc::new(Sandbox::new(meta.content, status, node.paths.pod(&id)));
        node.sandboxes.insert(&sandbox.name(), &id, Arc::clone(&sandbox));
        found.push(sandbox);
    }
    Ok(found)
}

/// A sandbox of another boot can't have survived: its namespaces, mounts and processes are gone.
fn sandbox_now(node: &Node, read: Option<Read<Versioned<SandboxStatus>>>) -> Versioned<SandboxStatus> {
    let Some(Read { mut content, boot }) = read else {
        return Versioned { version: 1, status: SandboxStatus::new() };
    };
    if boot != node.boot && content.status.stage == SandboxStage::Ready {
        content.status.stage = SandboxStage::Stopped;
    }
    content
}

fn load_containers(node: &Arc<Node>) -> Result<Vec<Arc<Container>>> {
    let mut found = Vec::new();
    for id in entries(&node.paths.container_records())? {
        let dir = node.paths.container_record(&id);
        paths::shut_record(&dir)?;
        let Some(meta) = file::read::<ContainerMeta>(&dir.join("meta")).filter(|meta| meta.content.id == id)
        else {
            tracing::warn!(container = id, "its record is torn: dropped");
            paths::remove_dir(&dir)?;
            continue;
        };
        let status = file::read::<Versioned<ContainerStatus>>(&dir.join("status"));
        let now = container_now(node, status);
        let status = Kept::new(dir.join("status"), &node.boot, now, node.containers.changes());
        let container = Arc::new(Container::new(meta.content, status));
        node.containers.insert(&container.name(), &id, Arc::clone(&container));
        found.push(container);
    }
    Ok(found)
}

fn container_now(node: &Node, read: Option<Read<Versioned<ContainerStatus>>>) -> Versioned<ContainerStatus> {
    let Some(Read { mut content, boot }) = read else {
        return Versioned { version: 1, status: ContainerStatus::new() };
    };
    let status = &mut content.status;
    status.removing = false;
    if boot != node.boot
        && matches!(status.stage, ContainerStage::Created | ContainerStage::Running | ContainerStage::Unknown)
    {
        status.stage = ContainerStage::Exited;
        status.pid = 0;
        status.exit_code = 255;
        status.finished_at = paths::now();
        status.reason = "Unknown".to_owned();
        status.message = "the host was restarted".to_owned();
    }
    content
}

fn entries(dir: &Path) -> Result<Vec<String>> {
    paths::own_dir(dir)?;
    let entries = std::fs::read_dir(dir).what(|| format!("read {}", dir.display()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Directories on the state's tmpfs that no record has: of records that were dropped as torn.
fn strays(node: &Node, live: &BTreeSet<String>) {
    let Ok(pods) = entries(&node.paths.state.join("pods")) else { return };
    for id in pods.iter().filter(|id| !live.contains(*id)) {
        tracing::warn!(sandbox = id, "a pod's directory without a record: removed");
        note(sandbox::files::unmount(node, id));
        note(paths::remove_dir(&node.paths.pod(id)));
        note(paths::remove_dir(&node.paths.bundle(id)));
    }
}
