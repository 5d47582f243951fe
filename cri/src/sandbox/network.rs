//! A sandbox's network as steps of its making and unmaking. What a network is, `crate::network` knows.

use std::path::{Path, PathBuf};

use super::spec;
use crate::error::Result;
use crate::network::PodNetwork;
use crate::node::{Node, Sandbox};

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
    let netns = PathBuf::from(format!("/run/netns/rt-{}", sandbox.id));
    let pod = PodNetwork::new(&sandbox.id, &sandbox.config, netns)?;
    node.network.detach(&pod).await?;
    node.network.remove_netns(&sandbox.id).await
}
