//! Names of images: which image a name stands for, and which names an image has. Memory only.

use super::disk::{Index, Layer};
use crate::image::{Image, Reference};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The fewest digits of an id that name an image.
const SHORT: usize = 3;

/// What readers see.
#[derive(Default)]
pub struct View {
    /// By the digits of their ids.
    images: BTreeMap<String, Arc<Image>>,
    names: HashMap<String, Arc<Image>>,
    /// Of all layers.
    pub bytes: u64,
    /// Of all layers.
    pub inodes: u64,
}

impl View {
    /// Of these images; space is that of all layers.
    pub fn new(images: Vec<Arc<Image>>, layers: &BTreeMap<u64, Layer>) -> Self {
        let mut view = Self {
            bytes: layers.values().map(|layer| layer.bytes).sum(),
            inodes: layers.values().map(|layer| layer.inodes).sum(),
            ..Self::default()
        };
        for image in images {
            for name in image.repo_tags.iter().chain(&image.repo_digests) {
                view.names.insert(name.clone(), image.clone());
            }
            let digits = image.id.rsplit(':').next().unwrap_or_default().to_owned();
            view.images.insert(digits, image);
        }
        view
    }

    /// By id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.images.values().cloned().collect()
    }

    /// By tag or digest reference, id, or the only id that begins so; ids first where they are whole.
    pub fn find(&self, name: &str) -> Option<Arc<Image>> {
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if let Some(image) = self.images.get(digits) {
            return Some(image.clone());
        }
        self.named(name).or_else(|| self.beginning(digits))
    }

    fn named(&self, name: &str) -> Option<Arc<Image>> {
        if let Some(image) = self.names.get(name) {
            return Some(image.clone());
        }
        let reference = Reference::parse(name).ok()?;
        let full = match &reference.digest {
            Some(digest) => reference.repo_digest(digest),
            None => reference.to_string(),
        };
        self.names.get(&full).cloned()
    }

    fn beginning(&self, digits: &str) -> Option<Arc<Image>> {
        if digits.len() < SHORT || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut found = self.images.range(digits.to_owned()..).take_while(|(id, _)| id.starts_with(digits));
        match (found.next(), found.next()) {
            (Some((_, image)), None) => Some(image.clone()),
            _ => None,
        }
    }
}

impl Index {
    /// Gives an image names; a tag leaves the image that had it. One without any name is kept by its digests, or goes when it has none.
    pub fn add(&mut self, id: &str, tag: Option<String>, digest: Option<String>) {
        for (other, names) in &mut self.images {
            if other != id {
                tag.iter().for_each(|tag| _ = names.tags.remove(tag));
            }
        }
        let names = self.images.entry(id.to_owned()).or_default();
        names.removed = false;
        names.tags.extend(tag);
        names.digests.extend(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str], digests: &[&str]) -> Arc<Image> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Image {
            id: format!("sha256:{id}"),
            repo_tags: owned(tags),
            repo_digests: owned(digests),
            size: 1,
            config: oci_spec::image::ImageConfiguration::default(),
            config_json: String::new(),
            layers: Vec::new(),
            pinned: false,
        })
    }

    #[test]
    fn an_image_is_found_by_tag_digest_id_and_the_beginning_of_its_id() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = format!("docker.io/library/a@sha256:{hex}");
        let one = image(&format!("abc{}", "0".repeat(61)), &["docker.io/library/a:latest"], &[&digest]);
        let two = image(&format!("abd{}", "0".repeat(61)), &["docker.io/library/abd:1"], &[]);
        let view = View::new(vec![one.clone(), two.clone()], &BTreeMap::new());
        let id = |name: &str| view.find(name).map(|image| image.id.clone());
        for name in [
            "a",
            "a:latest",
            "docker.io/library/a",
            &digest,
            &format!("a@sha256:{hex}"),
            &format!("a:whatever@sha256:{hex}"),
            "abc",
            &one.id,
            &one.id[7..],
            "sha256:abc0",
        ] {
            assert_eq!(id(name).as_ref(), Some(&one.id), "{name}");
        }
        assert_eq!(id("abd:1"), Some(two.id.clone()));
        for name in ["ab", "abe", "b", "", "a:1", "sha256:", "abcg", &format!("b@sha256:{hex}")] {
            assert_eq!(id(name), None, "{name}");
        }
    }

    #[test]
    fn a_tag_that_moves_leaves_the_image_that_had_it() {
        let mut index = Index::default();
        index.add("one", Some("t".into()), Some("d1".into()));
        index.add("two", Some("t".into()), Some("d2".into()));
        assert!(index.images["one"].tags.is_empty() && index.images["one"].digests.contains("d1"));
        assert!(index.images["two"].tags.contains("t"));
    }
}
