//! Compressed layers on their way, on disk, so that a download which was broken off goes on where it was, after a crash or power loss too.
//!
//! What lies in one is proved only by unpacking it to its end: whoever finds it wrong removes it.

use super::disk::{Disk, names_in};
use crate::error::{Context, Result};
use crate::image::digest::Digest;
use crate::image::unpack::keeps_room;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Free space is looked at each time that so much was added.
const STEP: u64 = 4 << 20;
/// What may lie here of downloads that nobody is at, or a tenth of the filesystem where that is less.
const MOST: u64 = 10 << 30;
const PART: u64 = 10;

/// The first part of a compressed layer. Nobody else has it while this lives.
pub struct Partial {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Disk {
    /// What a repository sent of a blob of `size` bytes, or an empty one; None where another download of the same has it. What one sent is
    /// for no other: it would be given to who only knows its digest.
    pub fn partial(&self, (digest, size): (&Digest, u64), repository: &str) -> Result<Option<Partial>> {
        let repository = Digest::of(repository.as_bytes());
        let name = format!("{}.{}", digest.hex(), &repository.hex()[..32]);
        let partial = lock(self.partial_path(&name), open().create(true).mode(0o600))?;
        // ORDER: not this one, which is somebody's now.
        self.bound_unfinished(MOST)?;
        Ok(match partial {
            Some(partial) if partial.length > size => Some(partial.emptied()?),
            partial => partial,
        })
    }

    /// Digits and bytes of downloads that nobody is at.
    pub fn unfinished(&self) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for name in names_in(&self.partial_path(""))? {
            if let Some(partial) = lock(self.partial_path(&name), &open())? {
                let digits = name.split('.').next().unwrap_or_default();
                found.push((digits.to_owned(), partial.length));
            }
        }
        Ok(found)
    }

    /// Removes unfinished downloads that nobody is at and that nobody went on with for so long.
    pub fn drop_unfinished(&self, idle: Duration) -> Result<()> {
        for name in names_in(&self.partial_path(""))? {
            let Some(partial) = lock(self.partial_path(&name), &open())? else { continue };
            let changed = partial.file.metadata().and_then(|stat| stat.modified());
            let age = changed.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if age >= idle {
                partial.remove()?;
            }
        }
        Ok(())
    }

    /// Removes downloads that nobody is at, the oldest first, until all together have at most so many bytes.
    fn bound_unfinished(&self, most: u64) -> Result<()> {
        let directory = self.partial_path("");
        let stat = rustix::fs::statvfs(&directory).what(|| format!("look at {}", directory.display()))?;
        let most = most.min(stat.f_blocks.saturating_mul(stat.f_frsize) / PART);
        let sized = |name: String| {
            let stat = std::fs::symlink_metadata(self.partial_path(&name)).ok()?;
            Some((stat.modified().ok()?, stat.len(), name))
        };
        let mut all: Vec<_> = names_in(&directory)?.into_iter().filter_map(sized).collect();
        all.sort();
        let mut sum = all.iter().fold(0u64, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
        for (_, bytes, name) in all {
            if sum <= most {
                break;
            }
            if let Some(partial) = lock(self.partial_path(&name), &open())? {
                partial.remove()?;
                sum -= bytes;
            }
        }
        Ok(())
    }

    fn partial_path(&self, name: &str) -> PathBuf {
        self.root().join("partial").join(name)
    }
}

/// None where another has it, or where it is gone.
fn lock(path: PathBuf, open: &OpenOptions) -> Result<Option<Partial>> {
    let what = || format!("open {}", path.display());
    loop {
        let file = match open.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.what(what)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).what(what),
        }
        let stat = file.metadata().what(what)?;
        // Removed or renamed by whoever had it between the two calls: another file has its name now, or none.
        if std::fs::metadata(&path).is_ok_and(|named| named.ino() == stat.ino()) {
            return Ok(Some(Partial { file, path, length: stat.len() }));
        }
    }
}

fn open() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    options
}

impl Partial {
    /// Bytes that had come before.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads from what had come before.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        self.file.read_at(&mut buffer[..most], offset)
    }

    /// Adds what comes; so many bytes of the filesystem are left for others.
    pub fn write_at(&self, bytes: &[u8], offset: u64, free_bytes: u64) -> std::io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        match offset / STEP == (offset + bytes.len() as u64) / STEP {
            true => Ok(()),
            false => keeps_room(&self.file, free_bytes).map_err(std::io::Error::other),
        }
    }

    /// It becomes another file.
    pub fn keep(&self, as_path: &Path) -> Result<()> {
        std::fs::rename(&self.path, as_path).what(|| format!("keep {}", as_path.display()))
    }

    /// Its space is given back.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).what(|| format!("remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Its space is given back, its name stays.
    pub fn empty(&self) -> std::io::Result<()> {
        self.file.set_len(0)
    }

    fn emptied(mut self) -> Result<Self> {
        self.empty().what(|| format!("empty {}", self.path.display()))?;
        self.length = 0;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn what_is_kept_has_a_bound_and_the_oldest_that_nobody_is_at_goes_first() {
        let root = std::env::temp_dir().join(format!("rt-partial-{}", std::process::id()));
        let disk = Disk::open(&root).expect("a store");
        let blobs = [b"a", b"b", b"c", b"d"].map(|bytes| Digest::of(bytes));
        let kept = |at: usize| disk.partial((&blobs[at], 100), "q.io/a").expect("a file").expect("nobody's");
        for (at, age) in [(0, 40), (1, 30), (2, 20), (3, 10)] {
            let partial = kept(at);
            partial.write_at(&[0; 100], 0, 0).expect("write");
            let then = SystemTime::now() - Duration::from_secs(age);
            partial.file.set_modified(then).expect("a time");
        }
        let there = || -> Vec<_> {
            blobs
                .iter()
                .map(|blob| {
                    names_in(&disk.partial_path(""))
                        .expect("names")
                        .iter()
                        .any(|name| name.starts_with(blob.hex()))
                })
                .collect()
        };
        disk.bound_unfinished(400).expect("a bound");
        assert_eq!(there(), [true; 4]);
        let busy = kept(0);
        disk.bound_unfinished(250).expect("a bound");
        assert_eq!(there(), [true, false, false, true], "the oldest is being gone on with");
        // A filesystem that has no more than it should keep is as good as full.
        let stat = rustix::fs::fstatvfs(&busy.file).expect("a filesystem");
        let full = busy.write_at(&[0; 8], STEP - 4, u64::MAX);
        assert_eq!(full.is_err(), stat.f_bavail < stat.f_blocks / 20);
        drop(disk);
        std::fs::remove_dir_all(&root).expect("remove");
    }
}
