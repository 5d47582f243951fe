//! How much a container has written: bytes and inodes of its writable layer. Where the file system counts projects, it is asked; else by
//! a walk that is at most ten seconds old and that no answer waits long for.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use tokio::task::JoinHandle;

use super::quota::Quotas;

/// How long a walk's result counts.
const FRESH: Duration = Duration::from_secs(10);
/// How long the first question about a layer waits for its walk.
const PATIENCE: Duration = Duration::from_millis(20);
/// Threads that walk for one question: a layer that is large holds up a part of the others only.
const WALKERS: usize = 2;
/// Directories deeper than this are not counted: each costs a descriptor while it is walked.
const DEPTH: u32 = 128;

/// A layer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// When it was looked at, nanoseconds since the epoch.
    pub at: i64,
    /// On disk.
    pub bytes: u64,
    /// Files of all kinds.
    pub inodes: u64,
}

/// A container, and where its layer is.
type Place = (String, PathBuf);

/// The sizes of all containers' layers.
#[derive(Debug, Default, Clone)]
pub struct Layers {
    all: Arc<Mutex<HashMap<String, Layer>>>,
    pub quotas: Arc<Quotas>,
}

#[derive(Debug, Default)]
struct Layer {
    size: Option<Size>,
    walked: Option<Instant>,
    walking: bool,
}

impl Layers {
    /// Of layers below `root`.
    pub fn open(root: &Path) -> Self {
        Self { quotas: Arc::new(Quotas::open(root)), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Layer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sizes of layers, by container; those never walked before are waited for a little. What is old is walked anew behind
    /// the answer. A few threads do it, however many layers there are.
    pub async fn sizes(&self, layers: Vec<Place>) -> HashMap<String, Size> {
        let (mut counted, layers) = self.counted(layers).await;
        let (unknown, old) = self.due(&layers);
        let first = self.walk(&unknown);
        let _ = tokio::time::timeout(PATIENCE, futures_util::future::join_all(first)).await;
        drop(self.walk(&old));
        let all = self.lock();
        counted.extend(layers.into_iter().filter_map(|(id, _)| all.get(&id)?.size.map(|size| (id, size))));
        counted
    }

    /// What the file system counts itself, and those layers that it doesn't.
    async fn counted(&self, layers: Vec<Place>) -> (HashMap<String, Size>, Vec<Place>) {
        if !self.quotas.are_counted() {
            return (HashMap::new(), layers);
        }
        let (quotas, at) = (Arc::clone(&self.quotas), super::now());
        let ask = move || {
            let (mut counted, mut rest) = (HashMap::new(), Vec::new());
            for (id, path) in layers {
                match quotas.used(&path) {
                    Some(used) => {
                        counted.insert(id, Size { at, bytes: used.bytes, inodes: used.inodes });
                    }
                    None => rest.push((id, path)),
                }
            }
            (counted, rest)
        };
        tokio::task::spawn_blocking(ask).await.unwrap_or_default()
    }

    /// Those to be walked, which are the caller's to walk from here on: those never walked before, and the others.
    fn due(&self, layers: &[Place]) -> (Vec<Place>, Vec<Place>) {
        let mut all = self.lock();
        let due = layers.iter().filter(|(id, _)| {
            let layer = all.entry(id.clone()).or_default();
            let fresh = layer.walked.is_some_and(|walked| walked.elapsed() < FRESH);
            !fresh && !std::mem::replace(&mut layer.walking, true)
        });
        let due: Vec<_> = due.cloned().collect();
        due.into_iter().partition(|(id, _)| all.get(id).is_none_or(|layer| layer.size.is_none()))
    }

    /// Forgets all but these containers.
    pub fn keep(&self, kept: impl Fn(&str) -> bool) {
        self.lock().retain(|id, _| kept(id));
    }

    fn walk(&self, layers: &[Place]) -> Vec<JoinHandle<()>> {
        let part = layers.len().div_ceil(WALKERS).max(1);
        let walk = |part: &[Place]| {
            let (all, part) = (self.clone(), part.to_vec());
            tokio::task::spawn_blocking(move || part.iter().for_each(|(id, path)| all.walk_one(id, path)))
        };
        layers.chunks(part).map(walk).collect()
    }

    fn walk_one(&self, id: &str, path: &Path) {
        let size = size(path);
        if let Some(layer) = self.lock().get_mut(id) {
            *layer = Layer { size: size.or(layer.size), walked: Some(Instant::now()), walking: false };
        }
    }
}

/// Walks a folder without following links out of it, however its owner moves things about meanwhile.
fn size(folder: &Path) -> Option<Size> {
    let top = openat(CWD, folder, directory(), Mode::empty()).ok()?;
    let mut size = Size { at: super::now(), bytes: 0, inodes: 0 };
    let mut seen = HashSet::new();
    walk(&top, DEPTH, &mut size, &mut seen);
    Some(size)
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn walk(folder: &OwnedFd, depth: u32, size: &mut Size, seen: &mut HashSet<(u64, u64)>) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        // A file of several names counts once.
        if stat.st_nlink > 1
            && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            && !seen.insert((stat.st_dev, stat.st_ino))
        {
            continue;
        }
        size.inodes += 1;
        size.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && depth > 0
            && let Ok(inner) = openat(folder, name, directory(), Mode::empty())
        {
            walk(&inner, depth - 1, size, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_several_names_count_once_and_links_are_not_followed() {
        let folder = std::env::temp_dir().join(format!("rt-cri-layer-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("a/b")).unwrap();
        std::fs::write(folder.join("a/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(folder.join("a/file"), folder.join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/", folder.join("root")).unwrap();
        let size = size(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(size.inodes, 4);
        assert!((100_000..200_000).contains(&size.bytes), "{size:?}");
    }
}
