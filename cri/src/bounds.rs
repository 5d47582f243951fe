//! What fits into an answer. A client takes 16 MiB, and a kubelet that can't list its pods can't remove them either: so a list is always
//! answered. Where its objects have more than that, those that have most lose what a client can do without, the longest first: notes
//! (annotations, labels), then what the type says. Their ids, names and states stay, and a look at one of them alone still has all.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use prost::Message;

use crate::api;
use crate::paths;

/// The most that an answer has; a client takes 16 MiB, with everything around it.
pub const ANSWER: usize = 15 << 20;

/// The most that one container event has: `events.buffer` of them are kept for readers that are slow.
pub const EVENT: usize = 128 << 10;

/// The annotation by which an object says that it has lost some.
pub const LEFT_OUT: &str = "run.rt.left-out";

/// By these labels a kubelet knows its own.
const KEPT: [&str; 4] = [
    "io.kubernetes.container.name",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
];
/// Annotations that a kubelet writes: others go before.
const LATER: &str = "io.kubernetes.";
/// What one of them has, with its key: no name of Kubernetes' is longer than 253 bytes.
const KEPT_BYTES: usize = 320;

type Notes = HashMap<String, String>;

/// A message that can do with less.
pub trait Shrink: Message {
    /// Leaves out what it must so that it has at most `most` bytes, as far as that goes.
    fn shrink(&mut self, most: usize);
}

/// Makes all of them fit into `room` bytes: those with more than their share have that afterwards.
pub fn fit<T: Shrink>(what: &str, items: &mut [T], room: usize) {
    // Each has a tag and a length in front.
    let sizes: Vec<usize> = items.iter().map(|item| item.encoded_len() + 8).collect();
    if sizes.iter().sum::<usize>() <= room {
        return;
    }
    let share = share(sizes.clone(), room);
    let mut count = 0_usize;
    for (item, _) in items.iter_mut().zip(sizes).filter(|(_, size)| *size > share) {
        item.shrink(share.saturating_sub(8));
        count += 1;
    }
    warn(what, count, share);
}

/// The largest size that all may have, so that those that are smaller leave their room to the others.
fn share(mut sizes: Vec<usize>, room: usize) -> usize {
    sizes.sort_unstable();
    let mut left = room;
    for (at, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - at);
        if *size > share {
            return share;
        }
        left -= size;
    }
    room
}

/// Once a minute: a kubelet lists each second.
fn warn(what: &str, count: usize, share: usize) {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let (now, last) = (paths::now() / 60_000_000_000, LAST.load(Ordering::Relaxed));
    if now != last && LAST.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        tracing::warn!(
            "{what}: {count} of them have more than {share} bytes, which is what fits into an answer: annotations and labels are left out \
             of it (a status has them; fewer annotations are the cure)"
        );
    }
}

/// Takes the longest notes away until they have `over` bytes less; gives what is still too much. Annotations go first.
fn drop_notes(over: usize, annotations: &mut Notes, labels: &mut Notes) -> usize {
    let of = |notes: &Notes, is_label: bool| {
        let entry = |(key, value): (&String, &String)| {
            let bytes = key.len() + value.len();
            let is_known = if is_label { KEPT.contains(&key.as_str()) } else { key.starts_with(LATER) };
            let is_known = is_known && bytes <= KEPT_BYTES;
            ((is_known, is_label), Reverse(bytes), key.clone())
        };
        notes.iter().map(entry).collect::<Vec<_>>()
    };
    let mut all = of(annotations, false);
    all.extend(of(labels, true));
    all.sort();
    let (mut left, mut count) = (over.saturating_add(LEFT_OUT.len() + 16), 0_usize);
    for ((is_known, is_label), Reverse(bytes), key) in all {
        if left == 0 || is_known && is_label {
            break;
        }
        let notes = if is_label { &mut *labels } else { &mut *annotations };
        notes.remove(&key);
        // With the tag and the lengths of an entry.
        left = left.saturating_sub(bytes + 4);
        count += 1;
    }
    if count > 0 {
        annotations.insert(LEFT_OUT.to_owned(), count.to_string());
    }
    left
}

fn over(message: &impl Message, most: usize) -> usize {
    message.encoded_len().saturating_sub(most)
}

/// What is said of an image besides its name, and a name that is none.
fn shorten_image(image: &mut Option<api::ImageSpec>) {
    if let Some(image) = image {
        let name = std::mem::take(&mut image.image);
        *image = api::ImageSpec { image: name, ..Default::default() };
        shorten(&mut image.image);
    }
}

/// No name and no reason is that long.
fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(512));
}

impl Shrink for api::PodSandbox {
    fn shrink(&mut self, most: usize) {
        drop_notes(over(self, most), &mut self.annotations, &mut self.labels);
    }
}

impl Shrink for api::Container {
    fn shrink(&mut self, most: usize) {
        if drop_notes(over(self, most), &mut self.annotations, &mut self.labels) > 0 {
            shorten_image(&mut self.image);
        }
    }
}

impl Shrink for api::ContainerStatus {
    fn shrink(&mut self, most: usize) {
        if drop_notes(over(self, most), &mut self.annotations, &mut self.labels) > 0 {
            shorten_image(&mut self.image);
            shorten(&mut self.message);
            (self.resources, self.user) = (None, None);
        }
        if over(self, most) > 0 {
            self.mounts.clear();
        }
    }
}

impl Shrink for api::ContainerEventResponse {
    fn shrink(&mut self, most: usize) {
        if let Some(sandbox) = &mut self.pod_sandbox_status {
            drop_notes(over(sandbox, most / 4), &mut sandbox.annotations, &mut sandbox.labels);
        }
        let sandbox = self.pod_sandbox_status.as_ref().map_or(0, Message::encoded_len);
        fit(
            "statuses of a container event",
            &mut self.containers_statuses,
            most.saturating_sub(sandbox + 256),
        );
    }
}

impl Shrink for api::PodSandboxStatusResponse {
    fn shrink(&mut self, most: usize) {
        if let Some(sandbox) = &mut self.status {
            drop_notes(over(sandbox, most / 4), &mut sandbox.annotations, &mut sandbox.labels);
        }
        let own =
            self.encoded_len() - self.containers_statuses.iter().map(Message::encoded_len).sum::<usize>();
        let room = most.saturating_sub(own + 256);
        fit("statuses of a pod's containers", &mut self.containers_statuses, room);
    }
}

impl Shrink for api::PodSandboxStats {
    fn shrink(&mut self, most: usize) {
        if let Some(linux) = &mut self.linux {
            let share = most / 2 / linux.containers.len().max(1);
            linux.containers.iter_mut().for_each(|container| container.shrink(share));
        }
        let over = over(self, most);
        if let Some(of) = &mut self.attributes {
            drop_notes(over, &mut of.annotations, &mut of.labels);
        }
    }
}

impl Shrink for api::ContainerStats {
    fn shrink(&mut self, most: usize) {
        let attributes = self.attributes.as_ref().map_or(0, Message::encoded_len);
        let own = self.encoded_len() - attributes;
        if let Some(of) = &mut self.attributes {
            *of = crate::stats::shorter(of, most.saturating_sub(own));
        }
    }
}

impl Shrink for crate::stats::Fields {
    fn shrink(&mut self, most: usize) {
        drop_notes(over(self, most), &mut self.annotations, &mut self.labels);
    }
}

impl Shrink for api::PodSandboxMetrics {
    fn shrink(&mut self, most: usize) {
        // The pod's own first, then as many containers' as fit.
        while over(self, most) > 0 && self.container_metrics.pop().is_some() {}
        if over(self, most) > 0 {
            self.metrics.clear();
        }
    }
}

impl Shrink for api::Image {
    fn shrink(&mut self, most: usize) {
        shorten(&mut self.username);
        for names in [&mut self.repo_digests, &mut self.repo_tags] {
            let mut left = most / 3;
            names.retain(|name| {
                let fits = left >= name.len() + 4;
                left = left.saturating_sub(name.len() + 4);
                fits
            });
        }
        shorten_image(&mut self.spec);
    }
}

/// For people: words in place of what is too long to be answered with the rest.
pub fn info(info: HashMap<String, String>, room: usize) -> HashMap<String, String> {
    let bytes: usize = info.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes <= room {
        return info;
    }
    let words = serde_json::json!({ "leftOut": format!("{bytes} bytes, more than the {room} that fit into an answer") });
    HashMap::from([("info".to_owned(), words.to_string())])
}

/// A message with `info` as far as that fits.
pub fn room_beside(message: &impl Message) -> usize {
    ANSWER.saturating_sub(message.encoded_len())
}

/// Cuts a list into messages of at most `count` items and a few MiB each.
pub fn pieces<T: Message>(items: Vec<T>, count: usize) -> Vec<Vec<T>> {
    const PIECE: usize = 4 << 20;
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let more = item.encoded_len() + 8;
        match pieces.last_mut().filter(|piece| piece.len() < count && bytes + more <= PIECE) {
            Some(piece) => piece.push(item),
            None => {
                bytes = 0;
                pieces.push(vec![item]);
            }
        }
        bytes += more;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: usize, bytes: usize) -> api::PodSandbox {
        api::PodSandbox {
            id: format!("{number:064}"),
            labels: [("io.kubernetes.pod.uid".to_owned(), number.to_string())].into(),
            annotations: [
                ("long".to_owned(), "x".repeat(bytes)),
                ("io.kubernetes.container.hash".to_owned(), "1".to_owned()),
                ("short".to_owned(), "y".to_owned()),
            ]
            .into(),
            ..Default::default()
        }
    }

    fn answer(items: Vec<api::PodSandbox>) -> usize {
        api::ListPodSandboxResponse { items }.encoded_len()
    }

    #[test]
    fn a_list_fits_whatever_its_objects_have_and_small_ones_stay_whole() {
        for (count, bytes) in [(40, 500_000), (4096, 20_000), (2, 16 << 20), (100, 10)] {
            let mut items: Vec<_> = (0..count).map(|number| pod(number, bytes)).collect();
            items.push(pod(count, 10));
            fit("pods", &mut items, ANSWER);
            assert_eq!(items.last(), Some(&pod(count, 10)), "{count} of {bytes} bytes");
            let kept = |item: &api::PodSandbox| {
                item.id.len() == 64
                    && item.labels.contains_key("io.kubernetes.pod.uid")
                    && item.annotations.contains_key("io.kubernetes.container.hash")
                    && item.annotations.contains_key("short")
            };
            assert!(items.iter().all(kept), "{count} of {bytes} bytes");
            let had = items.iter().any(|item| item.annotations.contains_key(LEFT_OUT));
            assert_eq!(had, count * bytes > ANSWER);
            assert!(answer(items) <= ANSWER, "{count} of {bytes} bytes");
        }
    }

    #[test]
    fn labels_that_are_no_labels_go_too() {
        let strange = |key: &str| {
            let mut item = pod(1, 10);
            item.labels.extend((0..3_000).map(|number| (format!("{key}{number}"), "z".repeat(100))));
            item
        };
        let mut items: Vec<_> = ["a", "io.kubernetes."].repeat(30).into_iter().map(strange).collect();
        items.push(api::PodSandbox {
            labels: [("io.kubernetes.pod.name".to_owned(), "x".repeat(20 << 20))].into(),
            ..pod(2, 1)
        });
        fit("pods", &mut items, ANSWER);
        assert!(answer(items.clone()) <= ANSWER, "{}", answer(items));
        items.pop();
        assert!(items.iter().step_by(2).all(|item| item.labels.contains_key("io.kubernetes.pod.uid")));
    }

    #[test]
    fn an_event_is_bounded_whatever_its_pod_has() {
        let status = |bytes: usize| api::ContainerStatus {
            id: "c".repeat(64),
            annotations: [("long".to_owned(), "x".repeat(bytes))].into(),
            mounts: vec![api::Mount { host_path: "/".repeat(bytes), ..Default::default() }],
            ..Default::default()
        };
        let mut event = api::ContainerEventResponse {
            containers_statuses: (0..60).map(|_| status(300_000)).collect(),
            pod_sandbox_status: Some(api::PodSandboxStatus {
                annotations: [("long".to_owned(), "x".repeat(300_000))].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        event.shrink(EVENT);
        assert!(event.encoded_len() <= EVENT, "{}", event.encoded_len());
        assert_eq!(event.containers_statuses.len(), 60);
    }

    #[test]
    fn an_image_with_a_user_and_names_without_end_is_listed() {
        let mut images = vec![
            api::Image {
                id: "sha256:1".to_owned(),
                username: "u".repeat(8 << 20),
                repo_tags: (0..100_000).map(|number| format!("registry.example/name:{number}")).collect(),
                ..Default::default()
            };
            3
        ];
        fit("images", &mut images, ANSWER);
        let response = api::ListImagesResponse { images };
        assert!(response.encoded_len() <= ANSWER);
        assert!(response.images.iter().all(|image| image.id == "sha256:1" && image.repo_tags.len() > 1000));
    }

    #[test]
    fn a_stream_has_messages_that_a_client_takes() {
        let items: Vec<_> =
            (0..600).map(|number| pod(number, if number < 40 { 500_000 } else { 10 })).collect();
        let pieces = pieces(items.clone(), 200);
        assert_eq!(pieces.concat(), items);
        assert!(pieces.iter().all(|piece| piece.len() <= 200));
        assert!(pieces.into_iter().map(answer).max() < Some(5 << 20));
    }

    #[test]
    fn what_is_shown_to_people_is_words_where_it_is_too_long() {
        let long = HashMap::from([("info".to_owned(), "x".repeat(100))]);
        assert_eq!(info(long.clone(), 104), long);
        assert!(info(long, 103)["info"].contains("104 bytes"));
    }
}
