//! How much a container has written: bytes and inodes of its writable layer. Where the file system counts projects, it is asked; else by
//! a walk that is at most ten seconds old and that no answer waits long for.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
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
/// So many directories from the top down are held open while what is below them is walked.
const DESCRIPTORS: usize = 64;
/// So many names of directories are taken from one at a time, and one where so many are held in all.
const AT_A_TIME: usize = 4096;
const HELD: usize = 1 << 16;

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
    let mut count = Count { size: Size { at: super::now(), bytes: 0, inodes: 0 }, seen: HashSet::new() };
    count.walk(top);
    Some(count.size)
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Which file it is.
type Identity = (u64, u64);

/// A directory that is being walked.
struct Level {
    identity: Identity,
    /// Directories in it that were not walked yet, and how many were taken from it so far.
    left: Vec<CString>,
    taken: usize,
    /// Whether it may have more of them.
    more: bool,
    /// Kept of those near the top.
    descriptor: Option<OwnedFd>,
}

struct Count {
    size: Size,
    /// Files of several names that were counted.
    seen: HashSet<Identity>,
}

impl Count {
    /// A tree of any depth: no level costs stack, and few a descriptor.
    fn walk(&mut self, top: OwnedFd) {
        let mut at = top;
        let mut level = self.enter(&at);
        let mut above: Vec<Level> = Vec::new();
        let mut held = 0;
        loop {
            if let Some(name) = level.left.pop() {
                let Ok(below) = openat(&at, &name, directory(), Mode::empty()) else { continue };
                let mut next = self.enter(&below);
                std::mem::swap(&mut next, &mut level);
                held += next.left.len();
                let upper = std::mem::replace(&mut at, below);
                next.descriptor = (above.len() < DESCRIPTORS).then_some(upper);
                above.push(next);
            } else if level.more {
                let most = if held < HELD { AT_A_TIME } else { 1 };
                (level.left, level.more) = directories(&at, level.taken, most);
                level.taken += level.left.len();
            } else {
                loop {
                    let Some(upper) = above.pop() else { return };
                    held -= upper.left.len();
                    let up = match upper.descriptor {
                        Some(_) => None,
                        None => match openat(&at, c"..", directory(), Mode::empty()) {
                            Ok(up) if identity(&up) == upper.identity => Some(up),
                            // Moved away meanwhile: what is left of it is for the next walk.
                            _ => continue,
                        },
                    };
                    level = upper;
                    if let Some(up) = up.or_else(|| level.descriptor.take()) {
                        at = up;
                    }
                    break;
                }
            }
        }
    }

    /// Counts what a directory has.
    fn enter(&mut self, folder: &OwnedFd) -> Level {
        let (mut left, mut more) = (Vec::new(), false);
        for entry in Dir::read_from(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            // A file of several names counts once.
            if !is_directory && stat.st_nlink > 1 && !self.seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            self.size.inodes += 1;
            self.size.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if is_directory && left.len() < AT_A_TIME {
                left.push(name.to_owned());
            } else {
                more |= is_directory;
            }
        }
        Level { identity: identity(folder), taken: left.len(), left, more, descriptor: None }
    }
}

/// The names of so many directories in it after the first `skipped`, and whether it has more.
fn directories(folder: &OwnedFd, skipped: usize, most: usize) -> (Vec<CString>, bool) {
    let is_directory = |name: &CStr| {
        name != c"."
            && name != c".."
            && statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    let entries = Dir::read_from(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_owned()).filter(|name| is_directory(name));
    let mut names: Vec<CString> = names.skip(skipped).take(most + 1).collect();
    let more = names.len() > most;
    names.truncate(most);
    (names, more)
}

fn identity(folder: &OwnedFd) -> Identity {
    rustix::fs::fstat(folder).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container hides nothing by depth, or by the number of directories.
    #[test]
    fn all_is_counted_however_deep_and_wide() {
        let folder = std::env::temp_dir().join(format!("rt-cri-deep-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let top = openat(CWD, &folder, directory(), Mode::empty()).unwrap();
        let mut at = top;
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, c"d", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::mkdirat(&at, c"e", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, c"d", directory(), Mode::empty()).unwrap();
        }
        let file = openat(&at, c"file", OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o600)).unwrap();
        rustix::io::write(&file, &[1; 100_000]).unwrap();
        drop((at, file));
        for number in 0..AT_A_TIME + 10 {
            std::fs::create_dir(folder.join(number.to_string())).unwrap();
        }
        std::fs::write(folder.join(format!("{}/f", AT_A_TIME + 9)), [1; 1000]).unwrap();
        let size = size(&folder).unwrap();
        assert_eq!(size.inodes, 2 * 2000 + 1 + AT_A_TIME as u64 + 10 + 1);
        assert!(size.bytes >= 100_000, "{size:?}");
        crate::removal::remove_all(&folder).unwrap();
    }

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
