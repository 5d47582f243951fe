//! ContainerStatus, from memory, and the events that carry it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::signal;
use crate::node::{Container, Node};
use crate::record::ContainerStage;
use crate::{api, bounds};

/// The state that clients see.
pub fn state(container: &Container) -> api::ContainerState {
    match container.stage() {
        ContainerStage::Making | ContainerStage::Created => api::ContainerState::ContainerCreated,
        ContainerStage::Running => api::ContainerState::ContainerRunning,
        ContainerStage::Exited => api::ContainerState::ContainerExited,
        ContainerStage::Unknown => api::ContainerState::ContainerUnknown,
    }
}

/// The status message.
pub fn status(container: &Container) -> api::ContainerStatus {
    let (config, now) = (&container.config, container.status.get());
    // A status that is not as asked for says so, in words.
    let message = match (now.message.as_str(), now.degraded.join("; ")) {
        (message, degraded) if degraded.is_empty() => message.to_owned(),
        ("", degraded) => degraded,
        (message, degraded) => format!("{message}; {degraded}"),
    };
    api::ContainerStatus {
        id: container.id.clone(),
        metadata: config.metadata.clone(),
        state: state(container) as i32,
        created_at: container.created_at,
        started_at: now.started_at,
        finished_at: now.finished_at,
        exit_code: now.exit_code,
        image: config.image.clone(),
        image_ref: container.image_ref.clone(),
        reason: now.reason,
        message,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: mounts(container),
        log_path: container.log_path.clone(),
        resources: Some(api::ContainerResources { linux: Some(now.resources), windows: None }),
        image_id: container.image_id.clone(),
        user: Some(api::ContainerUser { linux: Some(now.user) }),
        stop_signal: signal::number(&container.stop_signal),
    }
}

/// As asked for; an image's id is added, which is what the kubelet shows as the volume's.
fn mounts(container: &Container) -> Vec<api::Mount> {
    let mut mounts = container.config.mounts.clone();
    for (at, id) in &container.mounted_images {
        if let Some(image) = mounts.get_mut(*at).and_then(|mount| mount.image.as_mut()) {
            image.image_ref.clone_from(id);
        }
    }
    mounts
}

/// What `--verbose` shows.
pub fn verbose(node: &Node, container: &Container) -> HashMap<String, String> {
    let now = container.status.get();
    let spec = std::fs::read_to_string(node.paths.bundle(&container.id).join("config.json")).ok();
    let spec = spec.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let info = json!({
        "sandboxID": container.sandbox,
        "pid": now.pid,
        "removing": now.removing,
        "cgroup": now.cgroup,
        "bundle": node.paths.bundle(&container.id),
        "degraded": now.degraded,
        "timeline": now.timeline,
        "runtimeSpec": spec,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

/// Tells those who listen to container events.
pub fn tell(node: &Arc<Node>, container: &Container, what: api::ContainerEventType) {
    let was_started = container.status.look(|status| status.started_at != 0);
    node.events.tell(&container.id, what, was_started, || event(node, &container.sandbox));
}

/// An event's statuses: those of a sandbox and of all its containers.
pub fn event(node: &Node, sandbox: &str) -> api::ContainerEventResponse {
    let found = node.sandboxes.find(sandbox).ok().flatten();
    let mut event = api::ContainerEventResponse {
        pod_sandbox_status: found.map(|sandbox| crate::sandbox::status::status(&sandbox)),
        containers_statuses: node
            .containers_of(sandbox)
            .iter()
            .filter(|container| container.is_listed())
            .map(|container| status(container))
            .collect(),
        ..Default::default()
    };
    bounds::fit("tell of a container event", std::slice::from_mut(&mut event), bounds::EVENT);
    event
}

/// The whole answer.
pub fn answer(
    node: &Node,
    request: &api::ContainerStatusRequest,
) -> crate::error::Result<api::ContainerStatusResponse> {
    let container = node.container(&request.container_id)?;
    let mut status = status(&container);
    bounds::fit("tell a container's status", std::slice::from_mut(&mut status), bounds::ANSWER);
    let info = if request.verbose { verbose(node, &container) } else { HashMap::new() };
    let info = bounds::info(info, bounds::room_beside(&status));
    Ok(api::ContainerStatusResponse { status: Some(status), info })
}
