//! UpdatePodSandboxResources: the kubelet has resized the pod's cgroup and says so; it is recorded.

use crate::api;
use crate::error::Result;
use crate::node::Node;

/// Records what is said.
pub async fn update(node: &Node, request: api::UpdatePodSandboxResourcesRequest) -> Result<()> {
    for resources in [&request.overhead, &request.resources].into_iter().flatten() {
        super::check::resources("sandbox", resources)?;
    }
    let sandbox = node.sandbox(&request.pod_sandbox_id)?;
    sandbox
        .status
        .set(|status| {
            status.overhead = request.overhead.unwrap_or_default();
            status.resources = request.resources.unwrap_or_default();
        })
        .await
}
