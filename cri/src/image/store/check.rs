//! Proof and repair of a store: what is there against what the records say. It asks no registry.

use super::Store;
use super::disk::Layer;
use crate::error::Result;
use crate::image::unpack::{SEALS, seal};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// A layer that a record names has no directory.
    Missing {
        /// Its number.
        layer: u64,
        /// The images that have it.
        images: Vec<String>,
    },
    /// A layer's tree has fewer or other files than were unpacked.
    Changed {
        /// Its number.
        layer: u64,
        /// What is seen.
        why: String,
        /// The images that have it.
        images: Vec<String>,
    },
    /// A record's config does not have the digest that is its name.
    Record(String),
    /// A layer that nothing has: an unfinished pull's.
    Unused(u64),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { layer, images } => {
                write!(f, "layer {layer} is missing; needed by {}", images.join(", "))
            }
            Self::Changed { layer, why, images } => {
                write!(f, "layer {layer} is not as it was unpacked: {why}; needed by {}", images.join(", "))
            }
            Self::Record(id) => write!(f, "the config of image {id} has another digest"),
            Self::Unused(layer) => write!(f, "layer {layer} is of an unfinished pull"),
        }
    }
}

impl Store {
    /// Looks at everything. Blocks; reads all files.
    pub fn check(&self) -> Result<Vec<Flaw>> {
        let books = self.books();
        let mut flaws = Vec::new();
        let mut used = BTreeSet::new();
        for (id, record) in &books.records {
            used.extend(record.layers.iter().copied());
            if !record.id.matches(record.config.as_bytes()) {
                flaws.push(Flaw::Record(id.clone()));
            }
        }
        let users = |number: u64| {
            let having = books.records.iter().filter(|(_, record)| record.layers.contains(&number));
            having.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        for number in used.iter().filter(|number| !books.layers.contains_key(*number)) {
            flaws.push(Flaw::Missing { layer: *number, images: users(*number) });
        }
        for (number, layer) in &books.layers {
            if !used.contains(number) && !books.held.contains_key(number) {
                flaws.push(Flaw::Unused(*number));
            } else if let Err(why) = self.sound(*number, layer) {
                flaws.push(Flaw::Changed { layer: *number, why, images: users(*number) });
            }
        }
        Ok(flaws)
    }

    /// Compares a layer with what was noted when it was unpacked: the content of all files, and how many bytes they are.
    fn sound(&self, number: u64, layer: &Layer) -> Result<(), String> {
        let (directory, root) = (self.disk.layer(number), self.layer_root(number));
        whole(&root, layer)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&root, flags, Mode::empty());
        let opened = opened.map_err(|error| format!("{}: {error}", root.display()))?;
        seal::verify(&opened, &directory.join(SEALS)).map_err(|error| error.to_string())
    }

    /// Forgets what is broken, so that it is pulled again, and what nothing has.
    pub fn repair(&self, flaws: &[Flaw]) -> Result<()> {
        let mut broken = BTreeSet::new();
        for flaw in flaws {
            match flaw {
                Flaw::Missing { images, .. } | Flaw::Changed { images, .. } => {
                    broken.extend(images.iter().cloned());
                }
                Flaw::Record(id) => _ = broken.insert(id.clone()),
                Flaw::Unused(_) => {}
            }
        }
        let mut books = self.books();
        books.index.images.retain(|id, _| !broken.contains(id));
        self.disk.write_index(&books.index)?;
        self.drop_unreachable(&mut books, None)?;
        drop(books);
        self.make_room()?;
        self.disk.sweep()
    }
}

/// Counts the bytes of files, each file once: holes and links apart it is what was unpacked.
fn whole(root: &Path, layer: &Layer) -> Result<(), String> {
    let mut waiting = vec![root.to_owned()];
    let mut seen = BTreeSet::new();
    let mut bytes = 0u64;
    while let Some(directory) = waiting.pop() {
        let entries =
            std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{}: {error}", directory.display()))?;
            let stat = entry.metadata().map_err(|error| format!("{}: {error}", entry.path().display()))?;
            if stat.is_dir() {
                waiting.push(entry.path());
            } else if stat.is_file() && seen.insert(stat.ino()) {
                bytes += stat.len();
            }
        }
    }
    // Content that a later entry replaced was counted, and holes were not: only less can be told for sure without them.
    if bytes != layer.bytes && layer.exact {
        return Err(format!("{bytes} bytes instead of {}", layer.bytes));
    }
    Ok(())
}
