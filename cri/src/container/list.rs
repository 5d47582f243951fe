//! ListContainers, from memory.

use super::status::state;
use crate::api;
use crate::node::{Container, Node};
use crate::sandbox::list::has_labels;

/// The containers that a filter lets through.
pub fn list(node: &Node, filter: Option<&api::ContainerFilter>) -> Vec<api::Container> {
    let all = node.containers.all();
    all.iter().filter(|container| container.is_listed() && fits(container, filter)).map(|c| item(c)).collect()
}

fn fits(container: &Container, filter: Option<&api::ContainerFilter>) -> bool {
    let Some(filter) = filter else { return true };
    container.id.starts_with(&filter.id)
        && container.sandbox.starts_with(&filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|wanted| wanted.state == state(container) as i32)
        && has_labels(&container.config.labels, &filter.label_selector)
}

fn item(container: &Container) -> api::Container {
    api::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox.clone(),
        metadata: container.config.metadata.clone(),
        image: container.config.image.clone(),
        image_ref: container.image_ref.clone(),
        state: state(container) as i32,
        created_at: container.created_at,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}
