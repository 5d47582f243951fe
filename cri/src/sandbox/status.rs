//! PodSandboxStatus, from memory.

use std::collections::HashMap;
use std::sync::PoisonError;

use serde_json::json;

use crate::node::{Node, Sandbox};
use crate::record::{ContainerStage, SandboxStage};
use crate::{api, bounds};

/// The state that clients see.
pub fn state(sandbox: &Sandbox) -> api::PodSandboxState {
    match sandbox.stage() {
        SandboxStage::Ready => api::PodSandboxState::SandboxReady,
        SandboxStage::Making | SandboxStage::Stopped => api::PodSandboxState::SandboxNotready,
    }
}

/// The status message.
pub fn status(sandbox: &Sandbox) -> api::PodSandboxStatus {
    let mut ips = sandbox.status.look(|status| status.ips.clone()).into_iter();
    let network = api::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| api::PodIp { ip }).collect(),
    };
    let context = sandbox.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
    api::PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: state(sandbox) as i32,
        created_at: sandbox.created_at,
        network: Some(network),
        linux: Some(api::LinuxPodSandboxStatus {
            namespaces: Some(api::Namespace { options: Some(options) }),
        }),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.handler_asked.clone(),
    }
}

/// Tells those who listen to container events: a sandbox has them too, under its own id.
pub fn tell(node: &Node, sandbox: &Sandbox, what: api::ContainerEventType) {
    node.events.tell(&sandbox.id, what, true, || {
        let mut event = api::ContainerEventResponse {
            pod_sandbox_status: Some(status(sandbox)), // the one that goes is in no table any more
            ..crate::container::status::event(node, &sandbox.id)
        };
        bounds::fit("tell of a sandbox event", std::slice::from_mut(&mut event), bounds::EVENT);
        event
    });
}

/// An event for each sandbox and container that clients see, of the type that was its last.
pub fn standing(node: &Node) -> Vec<api::ContainerEventResponse> {
    use api::ContainerEventType as What;
    let mut all = Vec::new();
    for sandbox in node.sandboxes.all().iter().filter(|sandbox| sandbox.is_listed()) {
        let event = crate::container::status::event(node, &sandbox.id);
        let what = match sandbox.stage() {
            SandboxStage::Ready => What::ContainerStartedEvent,
            SandboxStage::Making | SandboxStage::Stopped => What::ContainerStoppedEvent,
        };
        let containers = node.containers_of(&sandbox.id);
        let containers = containers.iter().filter_map(|container| {
            let what = match container.stage() {
                ContainerStage::Making => return None,
                ContainerStage::Created => What::ContainerCreatedEvent,
                ContainerStage::Running | ContainerStage::Unknown => What::ContainerStartedEvent,
                ContainerStage::Exited => What::ContainerStoppedEvent,
            };
            Some((container.id.clone(), what))
        });
        for (id, what) in std::iter::once((sandbox.id.clone(), what)).chain(containers) {
            all.push(api::ContainerEventResponse {
                container_id: id,
                container_event_type: what as i32,
                ..event.clone()
            });
        }
    }
    all
}

/// What `--verbose` shows.
pub fn verbose(node: &Node, sandbox: &Sandbox) -> HashMap<String, String> {
    let status = sandbox.status.get();
    let info = json!({
        "pid": status.pause_pid,
        "shimPid": status.shim_pid,
        "runtimeHandler": sandbox.handler,
        "cgroupParent": sandbox.cgroup_parent,
        "netns": (!sandbox.is_on_host_network()).then(|| format!("/run/netns/rt-{}", sandbox.id)),
        "directory": sandbox.dir(),
        "bundle": node.paths.bundle(&sandbox.id),
        "degraded": status.degraded,
        "networkFault": *sandbox.network_fault.lock().unwrap_or_else(PoisonError::into_inner),
        "timeline": status.timeline,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

/// The whole answer.
pub fn answer(
    node: &Node,
    request: &api::PodSandboxStatusRequest,
) -> crate::error::Result<api::PodSandboxStatusResponse> {
    let sandbox = node.sandbox(&request.pod_sandbox_id)?;
    let containers = node.containers_of(&sandbox.id);
    let mut answer = api::PodSandboxStatusResponse {
        status: Some(status(&sandbox)),
        info: HashMap::new(),
        containers_statuses: containers
            .iter()
            .filter(|container| container.is_listed())
            .map(|container| crate::container::status::status(container))
            .collect(),
        timestamp: crate::paths::now(),
    };
    bounds::fit("tell a sandbox's status", std::slice::from_mut(&mut answer), bounds::ANSWER);
    if request.verbose {
        answer.info = bounds::info(verbose(node, &sandbox), bounds::room_beside(&answer));
    }
    Ok(answer)
}
