//! ListPodSandbox, from memory.

use std::collections::HashMap;

use super::status::state;
use crate::node::{Node, Sandbox};
use crate::{api, bounds};

/// The answer's: what a filter lets through, as far as it fits.
pub fn fitting(node: &Node, filter: Option<&api::PodSandboxFilter>) -> Vec<api::PodSandbox> {
    let mut items = list(node, filter);
    bounds::fit("list sandboxes", &mut items, bounds::ANSWER);
    items
}

/// The sandboxes that a filter lets through.
pub fn list(node: &Node, filter: Option<&api::PodSandboxFilter>) -> Vec<api::PodSandbox> {
    let all = node.sandboxes.all();
    all.iter()
        .filter(|sandbox| sandbox.is_listed() && fits(sandbox, filter))
        .map(|sandbox| item(sandbox))
        .collect()
}

fn fits(sandbox: &Sandbox, filter: Option<&api::PodSandboxFilter>) -> bool {
    let Some(filter) = filter else { return true };
    sandbox.id.starts_with(&filter.id)
        && filter.state.as_ref().is_none_or(|wanted| wanted.state == state(sandbox) as i32)
        && has_labels(&sandbox.config.labels, &filter.label_selector)
}

/// Whether all of `wanted` are among `labels`.
pub fn has_labels(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn item(sandbox: &Sandbox) -> api::PodSandbox {
    api::PodSandbox {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: state(sandbox) as i32,
        created_at: sandbox.created_at,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.handler_asked.clone(),
    }
}
