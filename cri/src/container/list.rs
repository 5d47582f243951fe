//! ListContainers, from memory. A kubelet asks every second for all of them: what never changes of a container is encoded once.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use prost::Message;

use super::status::state;
use crate::encoded::{Encoded, Listed};
use crate::node::{Container, Node};
use crate::sandbox::list::has_labels;
use crate::{api, bounds};

/// The answer that has all containers, with the number of changes that had led to it.
#[derive(Debug, Default)]
pub struct Whole(Mutex<Option<(u64, Encoded)>>);

/// A container's `Container` as it was last encoded, and its state then.
#[derive(Debug, Default)]
pub struct Line(Mutex<Option<(api::ContainerState, Bytes)>>);

impl Line {
    fn of(container: &Container) -> Bytes {
        let now = state(container);
        let mut kept = container.line.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((then, bytes)) if *then == now => bytes.clone(),
            _ => {
                let bytes =
                    Bytes::from(api::Container { state: now as i32, ..item(container) }.encode_to_vec());
                *kept = Some((now, bytes.clone()));
                bytes
            }
        }
    }
}

/// The containers that a filter lets through.
pub fn list(node: &Node, filter: Option<&api::ContainerFilter>) -> Vec<api::Container> {
    let all = node.containers.all();
    all.iter().filter(|container| container.is_listed() && fits(container, filter)).map(|c| item(c)).collect()
}

/// The same, encoded. While nothing changes the answer without a filter is the last one: a thousand containers are not looked at.
pub fn encoded(node: &Node, filter: Option<&api::ContainerFilter>) -> Encoded {
    if filter.is_some_and(|filter| *filter != api::ContainerFilter::default()) {
        return lines(node, filter);
    }
    // ORDER: counted before they are looked at: what changes meanwhile makes this one old.
    let now = node.containers.changes().count();
    let mut kept = node.list.0.lock().unwrap_or_else(PoisonError::into_inner);
    match &*kept {
        Some((then, whole)) if *then == now => whole.clone(),
        _ => kept.insert((now, lines(node, None))).1.clone(),
    }
}

fn lines(node: &Node, filter: Option<&api::ContainerFilter>) -> Encoded {
    let all = node.containers.all();
    let listed = all.iter().filter(|container| container.is_listed() && fits(container, filter));
    let items: Vec<Bytes> = listed.map(|container| Line::of(container)).collect();
    if items.iter().map(|item| item.len() + 8).sum::<usize>() <= bounds::ANSWER {
        return Encoded::of(&Listed { items });
    }
    drop(items);
    let mut items = list(node, filter);
    bounds::fit("list containers", &mut items, bounds::ANSWER);
    Encoded::of(&Listed { items: items.iter().map(|item| item.encode_to_vec().into()).collect() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Changes, ContainerMeta, ContainerStage, ContainerStatus, Kept, Versioned};

    #[test]
    fn a_line_says_what_the_container_is_and_follows_its_state() {
        let status = Versioned { version: 1, status: ContainerStatus::new() };
        let status = Kept::new("/nonexistent/status".into(), "boot", status, &Changes::default());
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let meta = ContainerMeta {
            id: "c1".to_owned(),
            sandbox: "s1".to_owned(),
            config: api::ContainerConfig { labels, ..Default::default() },
            image_id: "sha256:1".to_owned(),
            image_ref: "sha256:1".to_owned(),
            mounted_images: Default::default(),
            created_at: 7,
            log_path: String::new(),
            stop_signal: "SIGTERM".to_owned(),
        };
        let container = Container::new(meta, status);
        for stage in [ContainerStage::Created, ContainerStage::Running, ContainerStage::Exited] {
            container.status.change(|status| status.stage = stage);
            let whole = Listed { items: vec![Line::of(&container), Line::of(&container)] };
            let read = Listed::decode(whole.encode_to_vec().as_slice()).expect("an answer");
            assert_eq!(read.items.len(), 2);
            for line in read.items {
                assert_eq!(api::Container::decode(line).expect("a container"), item(&container), "{stage:?}");
            }
        }
    }
}
