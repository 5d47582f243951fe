//! What goes, and when: reachability from images, containers and pulls. It decides nothing about what is used; callers say it.

use super::{Books, Store};
use crate::error::{Context, Result};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Layers of an unfinished pull wait so long to be taken up again.
const RESUMABLE: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Forgets all tags and digests of the image that `name` names, and removes it with its layers; what is not there is no error.
    /// Layers of images in `in_use` (ids) stay until `collect` is told that they are free.
    pub fn remove(&self, name: &str, in_use: &HashSet<String>) -> Result<()> {
        let Some(image) = self.find(name) else { return Ok(()) };
        let mut books = self.books();
        let before = books.index.clone();
        match books.index.images.get_mut(&image.id) {
            Some(names) if in_use.contains(&image.id) => {
                names.tags.clear();
                names.digests.clear();
                names.given.clear();
                names.removed = true;
            }
            _ => {
                books.index.images.remove(&image.id);
            }
        }
        if let Err(error) = self.disk.write_index(&books.index) {
            books.index = before;
            return Err(error).what(|| format!("remove image {}", image.id));
        }
        self.drop_unreachable(&mut books, Some(&image.id))
    }

    /// Removes what was kept only for containers that are gone, and layers of pulls that nobody took up again.
    pub fn collect(&self, in_use: &HashSet<String>) -> Result<()> {
        let mut books = self.books();
        let before = books.index.images.len();
        books.index.images.retain(|id, names| !names.removed || in_use.contains(id));
        if books.index.images.len() != before {
            self.disk.write_index(&books.index)?;
        }
        self.drop_unreachable(&mut books, None)?;
        self.disk.drop_unfinished(RESUMABLE)
    }

    /// At the start, when containers are not known yet.
    pub(super) fn collect_old(&self) -> Result<()> {
        self.drop_unreachable(&mut self.books(), None)?;
        self.disk.drop_unfinished(RESUMABLE)
    }

    /// Gives back at once the space of layers that no image has and of downloads that nobody is at: the disk is full.
    pub(in crate::image) fn make_room(&self) -> Result<()> {
        let mut books = self.books();
        let free: BTreeSet<u64> = books.unreachable().collect();
        self.drop_layers(&mut books, &free)?;
        self.disk.drop_unfinished(Duration::ZERO)
    }

    /// Drops records without a name, and their layers; of other layers without an image those that are old.
    pub(super) fn drop_unreachable(&self, books: &mut Books, removed: Option<&str>) -> Result<()> {
        let mut freed: BTreeSet<u64> = BTreeSet::new();
        let gone: Vec<_> =
            books.records.keys().filter(|id| !books.index.images.contains_key(*id)).cloned().collect();
        for id in gone {
            if let Some(record) = books.records.remove(&id) {
                self.disk.remove_record(&record.id)?;
                freed.extend(record.layers);
            }
        }
        let unreachable: BTreeSet<u64> = books.unreachable().collect();
        let old =
            |number: &u64| freed.contains(number) || removed.is_none() && self.disk.age(*number) > RESUMABLE;
        let free = unreachable.into_iter().filter(old).collect();
        self.drop_layers(books, &free)
    }

    fn drop_layers(&self, books: &mut Books, free: &BTreeSet<u64>) -> Result<()> {
        // ORDER: readers first, so that nobody is given a directory that is going.
        for number in free {
            books.layers.remove(number);
        }
        self.publish(books)?;
        for number in free {
            self.disk.discard(&self.disk.layer(*number))?;
        }
        let kept: HashSet<String> = books.layers.values().map(|layer| layer.blob.hex().to_owned()).collect();
        for digits in self.disk.blobs()?.iter().filter(|digits| !kept.contains(*digits)) {
            self.disk.discard(&self.disk.root().join("blobs").join(digits))?;
        }
        Ok(())
    }

    /// Frees the space of what was removed, on a thread of its own: trees of a hundred thousand files take a while.
    pub fn sweep_soon(self: &Arc<Self>) {
        let store = self.clone();
        let swept = std::thread::Builder::new().name("image-sweep".into()).spawn(move || {
            if let Err(error) = store.disk.sweep() {
                tracing::warn!(%error, "space of removed images is given back at the next start");
            }
        });
        if let Err(error) = swept {
            tracing::warn!(%error, "space of removed images is given back later");
        }
    }
}

impl Books {
    /// Layers that neither an image nor a pull has.
    pub(super) fn unreachable(&self) -> impl Iterator<Item = u64> {
        let used: HashSet<u64> =
            self.records.values().flat_map(|record| record.layers.iter().copied()).collect();
        let free = |number: &&u64| !used.contains(number) && !self.held.contains_key(number);
        self.layers.keys().filter(free).copied().collect::<Vec<_>>().into_iter()
    }
}
