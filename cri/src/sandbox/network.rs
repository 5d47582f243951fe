//! A sandbox's network as steps of its making and unmaking. What a network is, `crate::network` knows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::spec;
use crate::error::Result;
use crate::network::PodNetwork;
use crate::node::{Node, Sandbox};
use crate::record::SandboxStage;

/// When what was found missing is looked for once more: a pod that is being stopped has less and less.
const ONCE_MORE: Duration = Duration::from_secs(2);

/// Makes the pod's network namespace; none on the host's network, nor where a user namespace shall own it: that pod's pause process
/// makes both.
pub async fn namespace(node: &Node, sandbox: &Sandbox) -> Result<Option<PathBuf>> {
    if sandbox.is_on_host_network() || spec::has_user_namespace(&sandbox.config) {
        return Ok(None);
    }
    node.network.make_netns(&sandbox.id, None).await.map(Some)
}

/// Binds what the pause process `pid` made together with its user namespace.
pub async fn adopt(node: &Node, sandbox: &Sandbox, pid: u32) -> Result<Option<PathBuf>> {
    if sandbox.is_on_host_network() || !spec::has_user_namespace(&sandbox.config) {
        return Ok(None);
    }
    node.network.adopt_netns(&sandbox.id, Path::new(&format!("/proc/{pid}/ns/net"))).await.map(Some)
}

/// Gives the pod its addresses.
pub async fn attach(node: &Node, sandbox: &Sandbox, netns: Option<&Path>) -> Result<()> {
    let Some(netns) = netns else { return Ok(()) };
    let pod = PodNetwork::new(&sandbox.id, &sandbox.config, netns.to_owned())?;
    let attachment = node.network.attach(&pod).await?;
    let ips = attachment.ips.iter().map(ToString::to_string).collect();
    sandbox.status.set(|status| status.ips = ips).await
}

/// Takes all back; what was never given is fine.
pub async fn detach(node: &Node, sandbox: &Sandbox) -> Result<()> {
    if sandbox.is_on_host_network() {
        return Ok(());
    }
    node.network.detach(&pod(sandbox)?).await?;
    node.network.remove_netns(&sandbox.id).await
}

/// Asks, one pod after the other, whether those that run still have what they were given (CNI's CHECK, and the same of the built-in
/// network). What is missing is in the log and in `crictl inspectp`. No pod ends for it: plugins err (portmap 1.1.1 misses rules for
/// IPv6 in pods that have none), and whether a pod is reachable its probes know better.
pub async fn check_all(node: Arc<Node>) {
    let mut doubtful = Vec::new();
    for sandbox in node.sandboxes.all() {
        if check(&node, &sandbox).await.is_err() {
            doubtful.push(sandbox);
        }
    }
    if !doubtful.is_empty() {
        tokio::time::sleep(ONCE_MORE).await;
    }
    for sandbox in doubtful {
        let Err(fault) = check(&node, &sandbox).await else { continue };
        tracing::warn!(sandbox = sandbox.id, "{fault}");
        *sandbox.network_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault.to_string();
    }
}

async fn check(node: &Node, sandbox: &Sandbox) -> Result<()> {
    if sandbox.stage() != SandboxStage::Ready || sandbox.is_on_host_network() {
        return Ok(());
    }
    node.network.check(&pod(sandbox)?).await
}

fn pod(sandbox: &Sandbox) -> Result<PodNetwork> {
    let netns = PathBuf::from(format!("/run/netns/rt-{}", sandbox.id));
    PodNetwork::new(&sandbox.id, &sandbox.config, netns)
}
