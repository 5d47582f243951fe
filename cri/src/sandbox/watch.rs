//! Following a pod's shim: what it says of its containers becomes their status in memory and on disk. It starts and ends nothing.

use std::sync::Arc;
use std::time::Duration;

use shim::api::pod;
use shim::client::Client;

use super::shimless;

use crate::container::exit;
use crate::error::{Kind, Result};
use crate::node::{Node, Sandbox};
use crate::record::{ContainerStage, SandboxStage};

/// How long one question waits for news.
const WAIT: Duration = Duration::from_secs(60);
/// Between questions to a shim that does not answer in time.
const PAUSE: Duration = Duration::from_secs(2);

/// Follows the sandbox's shim until the sandbox is stopped or the shim is dead.
pub fn start(node: &Arc<Node>, sandbox: &Arc<Sandbox>) {
    tokio::spawn(follow(Arc::clone(node), Arc::clone(sandbox)));
}

async fn follow(node: Arc<Node>, sandbox: Arc<Sandbox>) {
    let mut seen = 0;
    while !sandbox.status.look(|status| status.stop_is_complete) {
        match ask(&node, &sandbox, seen).await {
            Ok(version) => seen = version,
            Err(error) if error.kind() == Kind::Unavailable => {
                node.shims.reap();
                // Being stopped: then its end is wanted, and recorded there.
                if sandbox.stage() == SandboxStage::Ready {
                    shimless::died(&node, &sandbox).await;
                }
                return;
            }
            Err(error) => {
                tracing::warn!(sandbox = sandbox.id, "the shim does not answer: {error}");
                unknown(&node, &sandbox);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn ask(node: &Arc<Node>, sandbox: &Arc<Sandbox>, seen: u64) -> Result<u64> {
    let client = sandbox.shim().await?;
    let answer = client.watch(seen, WAIT).await?;
    apply(node, sandbox, &client, &answer).await;
    Ok(answer.version)
}

/// Takes over what a shim says.
pub async fn apply(node: &Arc<Node>, sandbox: &Sandbox, client: &Client, answer: &pod::WatchResponse) {
    for said in &answer.containers {
        let result = if said.id == sandbox.id {
            pause(sandbox, said).await
        } else {
            container(node, sandbox, client, said).await
        };
        if let Err(error) = result {
            tracing::error!(container = said.id, "record what the shim says: {error}");
        }
    }
}

async fn pause(sandbox: &Sandbox, said: &pod::Container) -> Result<()> {
    if said.status() == pod::Status::Stopped && sandbox.stage() == SandboxStage::Ready {
        tracing::warn!(
            sandbox = sandbox.id,
            "the pause process has ended: the sandbox is not ready any more"
        );
        sandbox.status.set(|status| status.stage = SandboxStage::Stopped).await?;
    }
    Ok(())
}

async fn container(
    node: &Arc<Node>,
    sandbox: &Sandbox,
    client: &Client,
    said: &pod::Container,
) -> Result<()> {
    let Some(container) = node.containers.find(&said.id)?.filter(|container| container.sandbox == sandbox.id)
    else {
        return Ok(());
    };
    if !container.is_listed() {
        return Ok(());
    }
    match said.status() {
        pod::Status::Stopped => {
            let ended = said.ended.clone().unwrap_or_default();
            // A brief one has ended before its start was answered; that it was started is told all the same.
            container.status.change(|status| {
                let is_news = status.started_at == 0 && said.started_at != 0;
                if is_news {
                    status.started_at = said.started_at;
                }
                is_news
            });
            if exit::record(node, &container, &ended).await? {
                acknowledge(client.clone(), said.id.clone());
            }
            Ok(())
        }
        pod::Status::Running | pod::Status::Paused => {
            let is_new = container.stage() != ContainerStage::Running;
            container.status.change(|status| {
                if status.stage != ContainerStage::Exited {
                    status.stage = ContainerStage::Running;
                    status.pid = said.pid;
                    status.started_at = said.started_at;
                    status.cgroup.clone_from(&said.cgroup);
                }
            });
            if is_new { container.status.save().await } else { Ok(()) }
        }
        pod::Status::Created | pod::Status::Unknown => {
            container.status.change(|status| {
                if status.stage == ContainerStage::Unknown {
                    status.stage = ContainerStage::Created;
                }
                status.cgroup.clone_from(&said.cgroup);
            });
            Ok(())
        }
    }
}

/// The exit is on our disk: the shim may forget it, and what the runtime keeps of the container goes.
fn acknowledge(client: Client, id: String) {
    tokio::spawn(async move {
        let remove = pod::RemoveRequest { id, exec_id: String::new(), force: false };
        if let Err(error) = client.remove(&remove).await {
            tracing::debug!(container = remove.id, "what is left stays until its removal: {error}");
        }
    });
}

/// A silent shim's containers are listed as unknown: saying that they run could be a lie.
fn unknown(node: &Node, sandbox: &Sandbox) {
    for container in node.containers_of(&sandbox.id) {
        container.status.change(|status| {
            if matches!(status.stage, ContainerStage::Created | ContainerStage::Running) {
                status.stage = ContainerStage::Unknown;
            }
        });
    }
}
