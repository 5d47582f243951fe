//! The store's files: where they are, written so that power loss leaves the old or the new. It keeps nothing in memory.
//!
//! ```text
//! ROOT/lock            one process at a time
//! ROOT/index.json      which names which image has: the truth
//! ROOT/images/HEX.json one image: manifest, config, its layers' numbers
//! ROOT/layers/N/       layer.json, files (what fsck compares with), implied (directories without an entry), fs/ for overlayfs (numbers keep lists of lower directories short)
//! ROOT/layers/N.part/  a layer that is being unpacked; rubbish after a crash
//! ROOT/partial/HEX.HEX what has come of a compressed layer from a repository, so that its download goes on where it broke off
//! ROOT/blobs/HEX       compressed layers, where they are kept
//! ROOT/trash/          on its way out; rubbish after a crash
//! ```

use super::flush::Flushes;
use super::given::Given;
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Raised when an older program could no longer read the files.
const VERSION: u32 = 2;

/// `index.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Index {
    version: u32,
    /// By image id.
    pub images: BTreeMap<String, Names>,
}

/// The names of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// `docker.io/library/busybox:1.36`
    pub tags: BTreeSet<String>,
    /// `docker.io/library/busybox@sha256:…`
    pub digests: BTreeSet<String>,
    /// Those of `digests` that the repository gave, where an archive only says so. Not known of what older programs brought.
    #[serde(default)]
    pub given: BTreeSet<String>,
    /// Not listed: kept for containers only.
    #[serde(default)]
    pub removed: bool,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new() }
    }
}

/// `images/HEX.json`, never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// `sha256:…` of the config.
    pub id: Digest,
    /// As sent.
    pub manifest: String,
    /// Its media type.
    pub media_type: String,
    /// As sent.
    pub config: String,
    /// Lowest first.
    pub layers: Vec<u64>,
    /// What a registry would send.
    pub size: u64,
}

/// `layers/N/layer.json`, changed only in who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of the archive.
    pub diff: Digest,
    /// Set where the tree depends on the layers below: then it is for images with this chain only.
    pub chain: Option<Digest>,
    /// Of the compressed stream it was made from.
    pub blob: Digest,
    /// Of that stream.
    pub blob_bytes: u64,
    /// On disk.
    pub bytes: u64,
    /// On disk.
    pub inodes: u64,
    /// Whether it hides all below it.
    pub opaque_root: bool,
    /// Whether `bytes` is the sum of the files' sizes: nothing was replaced, and nothing has holes.
    #[serde(default)]
    pub exact: bool,
    /// Who gave it; nobody where it is of an archive, or of an older program.
    #[serde(default)]
    pub given: Vec<Given>,
    /// Directories that had no entry, in layers made before these had a file: their attributes are those of the layers below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<Vec<u8>>,
}

/// The directory of a store, locked.
pub struct Disk {
    root: PathBuf,
    trashed: AtomicU64,
    next: AtomicU64,
    flushes: Flushes,
    _lock: OwnedFd,
}

impl Disk {
    /// Makes what is missing and takes the lock.
    pub fn open(root: &Path) -> Result<Self> {
        for part in ["images", "layers", "partial", "blobs", "trash"] {
            crate::paths::own_dir(&root.join(part))?;
        }
        let path = root.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .what(|| format!("open {}", path.display()))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::new(
                Kind::Unavailable,
                format!("lock image store {}: another process has it", root.display()),
            )
            .cure("stop it, or ask it by --address")
        })?;
        let root = root.canonicalize().what(|| format!("open {}", root.display()))?;
        Ok(Self {
            root,
            trashed: AtomicU64::new(0),
            next: AtomicU64::new(1),
            flushes: Flushes::default(),
            _lock: lock,
        })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names; an empty store has none.
    pub fn index(&self) -> Result<Index> {
        let index: Option<Index> = read(&self.root.join("index.json"))?;
        let mut index = index.unwrap_or_default();
        if index.version > VERSION {
            let text =
                format!("read image store {}: it is of version {}", self.root.display(), index.version);
            return Err(Error::unsupported(text).cure("use the newer program that wrote it"));
        }
        index.version = VERSION;
        Ok(index)
    }

    /// Replaces the names.
    pub fn write_index(&self, index: &Index) -> Result<()> {
        self.write(Path::new("index.json"), index)
    }

    /// An image's record.
    pub fn record(&self, id: &Digest) -> Result<Option<Record>> {
        read(&self.root.join("images").join(format!("{}.json", id.hex())))
    }

    /// Writes an image's record.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        self.write(&Path::new("images").join(format!("{}.json", record.id.hex())), record)
    }

    /// Ids of all records, named or not.
    pub fn records(&self) -> Result<Vec<Digest>> {
        let names = names_in(&self.root.join("images"))?;
        Ok(names
            .iter()
            .filter_map(|name| Digest::parse(&format!("sha256:{}", name.strip_suffix(".json")?)).ok())
            .collect())
    }

    /// Removes an image's record.
    pub fn remove_record(&self, id: &Digest) -> Result<()> {
        let path = self.root.join("images").join(format!("{}.json", id.hex()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).what(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// All whole layers. Also learns which numbers are taken.
    pub fn layers(&self) -> Result<BTreeMap<u64, Layer>> {
        let mut found = BTreeMap::new();
        for name in names_in(&self.root.join("layers"))? {
            let number = name.strip_suffix(".part").unwrap_or(&name).parse::<u64>();
            let Ok(number) = number else { continue };
            self.next.fetch_max(number + 1, Ordering::Relaxed);
            if name.ends_with(".part") {
                continue;
            }
            if let Some(layer) = read(&self.layer(number).join("layer.json"))? {
                found.insert(number, layer);
            }
        }
        Ok(found)
    }

    /// A layer's directory.
    pub fn layer(&self, number: u64) -> PathBuf {
        self.root.join("layers").join(number.to_string())
    }

    /// Replaces what is said of a layer.
    pub fn rewrite_layer(&self, number: u64, layer: &Layer) -> Result<()> {
        self.write(&self.layer(number).join("layer.json"), layer)
    }

    /// How long ago a layer was made, or given anew.
    pub fn age(&self, number: u64) -> std::time::Duration {
        let modified =
            std::fs::metadata(self.layer(number).join("layer.json")).and_then(|stat| stat.modified());
        modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default()
    }

    /// A new directory for a layer that is being made; removed on drop unless it was committed.
    pub fn begin_layer(&self) -> Result<Part<'_>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("layers").join(format!("{number}.part"));
        let made = rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700));
        made.what(|| format!("make {}", path.display()))?;
        Ok(Part { disk: self, path, number })
    }

    /// Makes the names of all layers last.
    pub fn sync_layers(&self) -> Result<()> {
        sync_directory(&self.root.join("layers"))
    }

    /// Where a kept compressed layer is.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// Kept compressed layers' digits.
    pub fn blobs(&self) -> Result<Vec<String>> {
        names_in(&self.root.join("blobs"))
    }

    /// Takes something out of the store at once; `sweep` frees its space.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let number = self.trashed.fetch_add(1, Ordering::Relaxed);
        let trash = self.root.join("trash").join(format!("{}.{number}", std::process::id()));
        match std::fs::rename(path, &trash) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).what(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Frees the space of what was discarded. Blocks; may take long.
    pub fn sweep(&self) -> Result<()> {
        let trash = self.root.join("trash");
        for name in names_in(&trash)? {
            crate::paths::remove_dir(&trash.join(name))?;
        }
        Ok(())
    }

    /// Removes what a crash left: parts of layers, layers without a description, temporary files, trash.
    pub fn clean(&self) -> Result<()> {
        for part in ["layers", "images", "blobs", "."] {
            let directory = self.root.join(part);
            for name in names_in(&directory)? {
                let path = directory.join(&name);
                let torn = part == "layers" && !path.join("layer.json").exists();
                if name.ends_with(".part") || name.ends_with(".new") || torn {
                    tracing::info!(path = %path.display(), "removing what an interrupted pull left");
                    self.discard(&path)?;
                }
            }
        }
        self.sweep()
    }

    /// Writes a file so that after power loss it is whole: the old one or the new one.
    fn write(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        let path = self.root.join(path);
        let what = || format!("write {}", path.display());
        let bytes = serde_json::to_vec(value).what(what)?;
        let new = path.with_extension("json.new");
        let mut file = crate::paths::own_file(&new).what(what)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).what(what)?;
        std::fs::rename(&new, &path).what(what)?;
        sync_directory(path.parent().unwrap_or(&self.root))
    }
}

/// A layer that is being made.
pub struct Part<'a> {
    disk: &'a Disk,
    /// Its directory.
    pub path: PathBuf,
    number: u64,
}

impl Part<'_> {
    /// Makes it a layer of the store: first all of it is on disk, then it gets its name.
    pub fn commit(self, layer: &Layer) -> Result<u64> {
        let what = || format!("commit {}", self.path.display());
        let _ = crate::paths::remove_dir(&self.path.join("old"));
        let bytes = serde_json::to_vec(layer).what(what)?;
        std::fs::write(self.path.join("layer.json"), bytes).what(what)?;
        let directory = std::fs::File::open(&self.path).what(what)?;
        // ORDER: data before the name; one call for all files, where a call for each would wait for the disk each time.
        self.disk.flushes.flush(|| rustix::fs::syncfs(&directory)).what(what)?;
        // The name itself is made last before an image needs it: `sync_layers`.
        std::fs::rename(&self.path, self.disk.layer(self.number)).what(what)?;
        Ok(self.number)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if self.path.exists() {
            let gone = self.disk.discard(&self.path).and_then(|()| self.disk.sweep());
            if let Err(error) = gone {
                tracing::warn!(%error, "a layer's remains stay until the next start");
            }
        }
    }
}

/// Makes a rename or removal in the directory last.
pub fn sync_directory(path: &Path) -> Result<()> {
    let synced = std::fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.what(|| format!("sync {}", path.display()))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let what = || format!("read {}", path.display());
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).what(what)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).what(what),
    }
}

pub(super) fn names_in(directory: &Path) -> Result<Vec<String>> {
    let what = || format!("list {}", directory.display());
    let entries = std::fs::read_dir(directory).what(what)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    Ok(names.collect::<std::io::Result<Vec<_>>>().what(what)?.into_iter().flatten().collect())
}
