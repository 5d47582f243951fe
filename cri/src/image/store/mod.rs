//! The store of images: what is there, in memory; what changes, durably.
//!
//! It asks no registry (`pull` does), extracts nothing (`unpack` does), and knows files only through `disk`.

mod check;
pub mod disk;
mod flush;
mod garbage;
pub mod given;
mod names;
pub mod partial;

pub use super::registry::Credentials;
pub use check::Flaw;

use crate::error::{Error, Result};
use crate::image::config::RegistryConfig;
use crate::image::digest::{Digest, Verified};
use crate::image::registry::Registries;
use crate::image::{Image, Reference, manifest};
use disk::{Disk, Index, Layer, Record};
use names::View;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Space that the store takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// A directory of the filesystem that holds it.
    pub mountpoint: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// The images of one root directory. One process at a time has it.
pub struct Store {
    pub(super) config: RegistryConfig,
    pub(super) registries: Registries,
    pub(super) disk: Disk,
    /// Layers on their way here, by content, place, and who sends them.
    pub(super) flights: super::flights::Flights<super::layer::Source, Arc<Held>>,
    /// Whose turn it is to download.
    pub(super) slots: super::slots::Slots,
    /// What readers see; replaced as a whole.
    view: RwLock<Arc<View>>,
    /// What writers change, one at a time.
    books: Mutex<Books>,
}

/// Everything that changes, in the memory of whoever changes it.
struct Books {
    index: Index,
    records: BTreeMap<String, Record>,
    layers: BTreeMap<u64, Layer>,
    /// Layers that pulls are using: how many.
    held: HashMap<u64, usize>,
}

/// A layer that garbage collection leaves alone while this lives.
pub struct Held {
    store: Arc<Store>,
    /// Its number.
    pub number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut books = self.store.books();
        if let Some(count) = books.held.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                books.held.remove(&self.number);
            }
        }
    }
}

/// What a pull brought, to be made an image.
pub struct Arrived {
    /// The image, with its layers' numbers.
    pub record: Record,
    /// What it was asked for by; None: it gets no name.
    pub reference: Option<Reference>,
    /// What the reference names; None where no manifest came with it.
    pub top: Option<Top>,
    /// Whether the reference's repository gave all of it, or showed that it has it.
    pub is_given: bool,
}

/// The digest of a manifest or index that was hashed when it came, now or before. Nothing that a registry says is one.
#[derive(Debug, Clone)]
pub struct Top(Digest);

impl Top {
    /// Of content that has just come.
    pub fn of(content: &Verified) -> Self {
        Self(content.digest().clone())
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl Arrived {
    /// Its names by tag and by digest. A reference with a digest names nothing else than what has it.
    fn names(&self) -> Result<(Option<String>, Option<String>)> {
        let Some(reference) = &self.reference else { return Ok((None, None)) };
        let top = self.top.as_ref().map(Top::digest);
        match &reference.digest {
            Some(asked) if top != Some(asked) => {
                let is =
                    top.map_or_else(|| "no manifest came with it".to_owned(), |top| format!("it is {top}"));
                Err(Error::invalid(format!("name image {reference}: {is}")).cure("name it by a tag"))
            }
            _ => Ok((reference.repo_tag(), top.map(|top| reference.repo_digest(top)))),
        }
    }
}

impl Store {
    /// Opens or makes the store in `root`, takes its lock and removes what a crash left behind.
    pub fn open(root: &Path, config: &RegistryConfig) -> Result<Arc<Self>> {
        let open = || {
            let disk = Disk::open(root)?;
            disk.clean()?;
            let layers = disk.layers()?;
            let index = disk.index()?;
            let mut books = Books { index, records: BTreeMap::new(), layers, held: HashMap::new() };
            books.read_records(&disk)?;
            let view = Arc::new(books.view(&disk, config)?);
            Ok::<_, Error>(Arc::new(Self {
                config: config.clone(),
                registries: Registries::new(config.clone()),
                disk,
                flights: super::flights::Flights::default(),
                slots: super::slots::Slots::new(
                    config.concurrent_layers,
                    config.concurrent_layers_in_all,
                    super::slots::PATIENCE,
                ),
                view: RwLock::new(view),
                books: Mutex::new(books),
            }))
        };
        let store =
            open().map_err(|error: Error| error.during(format!("open image store {}", root.display())))?;
        store.collect_old()?;
        Ok(store)
    }

    /// The image that a reference, an id or the beginning of an id (3 digits at least, of one image only) names.
    pub fn find(&self, name: &str) -> Option<Arc<Image>> {
        self.view().find(name)
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.view().list()
    }

    /// Bytes that are left free on the filesystem of the root directory.
    pub fn free_bytes(&self) -> u64 {
        self.config.limits.free_bytes
    }

    /// Space taken by all layers.
    pub fn fs_usage(&self) -> Usage {
        let view = self.view();
        Usage { mountpoint: self.disk.root().to_owned(), bytes: view.bytes, inodes: view.inodes }
    }

    /// Takes note of a layer that was just committed.
    pub(super) fn add_layer(self: &Arc<Self>, number: u64, layer: Layer) -> Held {
        let mut books = self.books();
        books.layers.insert(number, layer);
        *books.held.entry(number).or_default() += 1;
        Held { store: self.clone(), number }
    }

    /// The directory of a layer that overlayfs takes.
    pub(super) fn layer_root(&self, number: u64) -> PathBuf {
        self.disk.layer(number).join("fs")
    }

    /// What is known of a layer.
    pub(super) fn layer(&self, number: u64) -> Option<Layer> {
        self.books().layers.get(&number).cloned()
    }

    /// Manifest and config of an image as they were sent.
    pub(super) fn record(&self, id: &str) -> Option<Record> {
        self.books().records.get(id).cloned()
    }

    /// Makes an image of what arrived, or adds its names to the one that is there. Blocks until that is on disk.
    pub(super) fn add(&self, arrived: Arrived) -> Result<Arc<Image>> {
        let (tag, digest) = arrived.names()?;
        let given = digest.clone().filter(|_| arrived.is_given);
        let id = arrived.record.id.to_string();
        let mut books = self.books();
        if !books.records.contains_key(&id) {
            self.disk.sync_layers()?;
            self.disk.write_record(&arrived.record)?;
            books.records.insert(id.clone(), arrived.record);
        }
        let before = books.index.clone();
        books.index.add(&id, tag, digest);
        books.index.images.entry(id.clone()).or_default().given.extend(given);
        if books.index.images != before.images
            && let Err(error) = self.disk.write_index(&books.index)
        {
            books.index = before;
            return Err(error);
        }
        self.publish(&books)?;
        drop(books);
        self.find(&id).ok_or_else(|| Error::internal(format!("find image {id} that was just added")))
    }

    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers see what the books say.
    fn publish(&self, books: &Books) -> Result<()> {
        let view = Arc::new(books.view(&self.disk, &self.config)?);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        Ok(())
    }
}

impl Books {
    /// Reads the images that have names. One whose record or layers are gone is forgotten: it will be pulled again.
    fn read_records(&mut self, disk: &Disk) -> Result<()> {
        let mut broken = Vec::new();
        for id in self.index.images.keys() {
            let parsed = Digest::parse(id)?;
            let whole = |record: &Record| record.layers.iter().all(|number| self.layers.contains_key(number));
            match disk.record(&parsed)?.filter(whole) {
                Some(record) => {
                    self.records.insert(id.clone(), record);
                }
                None => broken.push(id.clone()),
            }
        }
        if !broken.is_empty() {
            tracing::warn!(images = ?broken, "forgetting images whose layers are gone; they will be pulled again");
            self.index.images.retain(|id, _| !broken.contains(id));
            disk.write_index(&self.index)?;
        }
        for id in disk.records()? {
            if !self.index.images.contains_key(id.as_str()) {
                disk.remove_record(&id)?;
            }
        }
        Ok(())
    }

    fn view(&self, disk: &Disk, config: &RegistryConfig) -> Result<View> {
        let mut images = Vec::new();
        for (id, names) in self.index.images.iter().filter(|(_, names)| !names.removed) {
            let Some(record) = self.records.get(id) else { continue };
            images.push(Arc::new(self.image(disk, (record, names), config)?));
        }
        Ok(View::new(images, &self.layers))
    }

    fn image(
        &self,
        disk: &Disk,
        (record, names): (&Record, &disk::Names),
        config: &RegistryConfig,
    ) -> Result<Image> {
        let (parsed, _) = manifest::config(record.config.as_bytes(), record.layers.len())?;
        // A layer that hides all below it at the root: overlayfs doesn't look for that mark there.
        let opaque = |number: &u64| self.layers.get(number).is_some_and(|layer| layer.opaque_root);
        let first = record.layers.iter().rposition(opaque).unwrap_or(0);
        // One that comes twice hides itself, and overlayfs takes none twice.
        let mut seen = HashSet::new();
        let seen_from = record.layers[first..].iter().rev().filter(|number| seen.insert(**number));
        let mut layers: Vec<_> = seen_from.map(|number| disk.layer(*number).join("fs")).collect();
        layers.reverse();
        let pinned = config.pinned.iter().any(|pinned| {
            let full = Reference::parse(pinned).map(|reference| reference.to_string());
            full.is_ok_and(|full| names.tags.contains(&full) || names.digests.contains(&full))
        });
        Ok(Image {
            id: record.id.to_string(),
            repo_tags: names.tags.iter().cloned().collect(),
            repo_digests: names.digests.iter().cloned().collect(),
            size: record.size,
            config: parsed,
            config_json: record.config.clone(),
            layers,
            pinned,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_with_a_digest_names_nothing_but_what_has_it() {
        let (asked, other) = (Verified::unasked(b"a".to_vec()), Verified::unasked(b"b".to_vec()));
        let record = Record {
            id: other.digest().clone(),
            manifest: String::new(),
            media_type: String::new(),
            config: String::new(),
            layers: Vec::new(),
            size: 0,
        };
        let names = |reference: &str, top: Option<&Verified>| {
            let reference = Some(Reference::parse(reference).expect("a reference"));
            let top = top.map(Top::of);
            Arrived { record: record.clone(), reference, top, is_given: true }.names()
        };
        let by_digest = format!("q.io/a@{}", asked.digest());
        assert_eq!(names(&by_digest, Some(&asked)).expect("names"), (None, Some(by_digest.clone())));
        let both = format!("q.io/a:1@{}", asked.digest());
        assert_eq!(names(&both, Some(&asked)).expect("names"), (None, Some(by_digest.clone())));
        for reference in [&by_digest, &both] {
            for top in [Some(&other), None] {
                assert!(names(reference, top).is_err(), "{reference}");
            }
        }
        let tagged = (Some("q.io/a:1".to_owned()), Some(format!("q.io/a@{}", other.digest())));
        assert_eq!(names("q.io/a:1", Some(&other)).expect("names"), tagged);
    }
}
