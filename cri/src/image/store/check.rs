//! Proof and repair of a store: what is there against what the records say. It asks no registry.

use super::disk::{Layer, Record};
use super::{Held, Store};
use crate::error::{Context, Error, Result};
use crate::image::unpack::{Cancel, SEALS, seal, walk};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

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
    /// A download that was broken off: its blob's digits, and bytes that came.
    Unfinished(String, u64),
}

impl Flaw {
    /// Whether something that is needed is not as it should be; else it is only space.
    pub fn breaks(&self) -> bool {
        !matches!(self, Self::Unused(_) | Self::Unfinished(..))
    }
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
            Self::Unfinished(blob, bytes) => {
                write!(f, "download of {blob} is unfinished, {bytes} bytes came")
            }
            Self::Unused(layer) => write!(f, "layer {layer} is of an unfinished pull"),
        }
    }
}

/// What is looked at: images, their layers, which stay meanwhile, and layers that nothing has.
struct Standing {
    records: BTreeMap<String, Record>,
    layers: BTreeMap<u64, (Layer, Held)>,
    unused: Vec<u64>,
}

impl Store {
    /// Looks at everything, for as long as somebody waits. Blocks; reads all files, while the store goes on.
    pub fn check(self: &Arc<Self>, cancel: &Cancel) -> Result<Vec<Flaw>> {
        let Standing { records, layers, unused } = self.standing();
        let mut flaws: Vec<_> = unused.into_iter().map(Flaw::Unused).collect();
        let users = |number: u64| {
            let having = records.iter().filter(|(_, record)| record.layers.contains(&number));
            having.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        let mut used = BTreeSet::new();
        for (id, record) in &records {
            used.extend(record.layers.iter().copied());
            if !record.id.matches(record.config.as_bytes()) {
                flaws.push(Flaw::Record(id.clone()));
            }
        }
        for number in used.iter().filter(|number| !layers.contains_key(*number)) {
            flaws.push(Flaw::Missing { layer: *number, images: users(*number) });
        }
        for (number, (layer, _held)) in &layers {
            let sound = self.sound(*number, layer, cancel);
            // ORDER: a layer that was not read to its end has no flaw for that.
            cancel.check().what(|| "check layers")?;
            if let Err(why) = sound {
                flaws.push(Flaw::Changed { layer: *number, why, images: users(*number) });
            }
        }
        let unfinished = self.disk.unfinished()?;
        flaws.extend(unfinished.into_iter().map(|(blob, bytes)| Flaw::Unfinished(blob, bytes)));
        Ok(flaws)
    }

    /// As it is now.
    fn standing(self: &Arc<Self>) -> Standing {
        let mut books = self.books();
        let unused: Vec<u64> = books.unreachable().collect();
        let records = books.records.clone();
        let all: Vec<_> = books.layers.iter().map(|(number, layer)| (*number, layer.clone())).collect();
        let mut layers = BTreeMap::new();
        for (number, layer) in all.into_iter().filter(|(number, _)| !unused.contains(number)) {
            *books.held.entry(number).or_default() += 1;
            layers.insert(number, (layer, Held { store: self.clone(), number }));
        }
        Standing { records, layers, unused }
    }

    /// Compares a layer with what was noted when it was unpacked: the content of all files, and how many bytes they are.
    fn sound(&self, number: u64, layer: &Layer, cancel: &Cancel) -> Result<(), String> {
        let (directory, root) = (self.disk.layer(number), self.layer_root(number));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&root, flags, Mode::empty());
        let opened = opened.map_err(|error| format!("{}: {error}", root.display()))?;
        let sound = whole(&opened, layer, cancel);
        let sound = sound.and_then(|()| seal::verify(&opened, &directory.join(SEALS), cancel));
        sound.map_err(|error| error.to_string())
    }

    /// Forgets what is broken, so that it is pulled again, and what nothing has. Broken images in `in_use` are left: what is said of them.
    pub fn repair(&self, flaws: &[Flaw], in_use: &HashSet<String>) -> Result<Vec<String>> {
        let mut broken = BTreeSet::new();
        for flaw in flaws {
            match flaw {
                Flaw::Missing { images, .. } | Flaw::Changed { images, .. } => {
                    broken.extend(images.iter().cloned());
                }
                Flaw::Record(id) => _ = broken.insert(id.clone()),
                Flaw::Unused(_) | Flaw::Unfinished(..) => {}
            }
        }
        let kept: Vec<_> = broken.iter().filter(|id| in_use.contains(*id)).cloned().collect();
        let mut books = self.books();
        books.index.images.retain(|id, _| !broken.contains(id) || in_use.contains(id));
        self.disk.write_index(&books.index)?;
        self.drop_unreachable(&mut books, None)?;
        drop(books);
        self.make_room()?;
        self.disk.sweep()?;
        Ok(kept
            .iter()
            .map(|id| format!("image {id} is used by containers: remove them, then repair again"))
            .collect())
    }
}

/// Counts the bytes of files, each file once: holes and links apart it is what was unpacked.
fn whole(root: &OwnedFd, layer: &Layer, cancel: &Cancel) -> Result<()> {
    // Of files with several names.
    let mut seen = BTreeSet::new();
    let mut bytes = 0u64;
    walk(root, |found| {
        cancel.check()?;
        let stat = rustix::fs::statat(found.parent, found.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.what(|| format!("look at {:?}", String::from_utf8_lossy(found.path)))?;
        let is_new = stat.st_nlink == 1 || seen.insert(stat.st_ino);
        if found.kind == FileType::RegularFile && is_new {
            bytes += u64::try_from(stat.st_size).unwrap_or_default();
        }
        Ok(())
    })?;
    // Content that a later entry replaced was counted, and holes were not: only less can be told for sure without them.
    if bytes != layer.bytes && layer.exact {
        return Err(Error::invalid(format!("{bytes} bytes instead of {}", layer.bytes)));
    }
    Ok(())
}
