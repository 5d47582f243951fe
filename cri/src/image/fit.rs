//! Directories that a layer's archive implied without an entry get owner, mode and times of the same directory in the layers below,
//! so that a layer which adds one file doesn't change the directories it lies in. It makes and removes none.

use super::store::Store;
use super::unpack::{Cancel, Fare, IMPLIED, open_in_root};
use crate::error::{Context, Error, Result};
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::Path;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The most look-ups for one image: those of a directory in a layer, and each part of a path that symlinks lead through. Ten seconds of
/// a core; images need some hundreds.
const LOOKUPS: u64 = 2_000_000;

/// Fits the layers of one image, lowest first. Done twice it changes nothing.
pub fn implied(store: &Store, layers: &[u64], cancel: &Cancel) -> Result<()> {
    let lookups = Cell::new(0);
    let look = |count: u64| {
        cancel.check()?;
        lookups.set(lookups.get() + count);
        if lookups.get() <= LOOKUPS {
            return Ok(());
        }
        let why = format!(
            "more than {LOOKUPS} look-ups of directories without an entry in {} layers, and of parts of their paths",
            layers.len()
        );
        Err(Error::invalid(why).cure("build the image with entries for directories, or with fewer layers"))
    };
    for (index, number) in layers.iter().enumerate() {
        let Some(layer) = store.layer(*number).filter(|layer| layer.chain.is_some()) else { continue };
        let what = || format!("fit layer {number} to those below it");
        let list = store.disk.layer(*number).join(IMPLIED);
        let listed = match std::fs::read(&list) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.what(|| format!("read {}", list.display())).what(what)?,
        };
        let listed = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        let own = open(&store.layer_root(*number)).what(what)?;
        for path in listed.chain(layer.implied.iter().map(Vec::as_slice)) {
            for below in layers[..index].iter().rev() {
                look(1).what(what)?;
                let below = open(&store.layer_root(*below)).what(what)?;
                if fitted(&own, &below, path, &look).what(what)? {
                    break;
                }
            }
        }
        rustix::fs::syncfs(&own).what(what)?;
    }
    Ok(())
}

/// Whether the search ends at this layer: it has the directory, whose attributes were taken, or it has something else there.
fn fitted(own: &OwnedFd, below: &OwnedFd, path: &[u8], look: Fare<'_>) -> Result<bool> {
    let what = || format!("open {:?}", String::from_utf8_lossy(path));
    let from = match open_in_root(below, path, DIRECTORY, look)? {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(false),
        // A file or a whiteout: what is further below is hidden.
        Err(Errno::NOTDIR) => return Ok(true),
        Err(errno) => return Err(errno).what(what),
    };
    let to = open_in_root(own, path, DIRECTORY, look)?.what(what)?;
    take(&from, &to).what(|| format!("give {:?} what it has below", String::from_utf8_lossy(path)))?;
    Ok(true)
}

/// The attributes of a directory for another one.
fn take(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(to, &Timestamps { last_access: modified, last_modification: modified })
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let length = rustix::fs::flistxattr(from, &mut names[..])?;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Forty links of 4 kB each on the way were 3 ms of a core, and counted as one look-up.
    #[test]
    fn what_symlinks_of_a_layer_below_lead_through_counts_as_looked_up() {
        let dir = std::env::temp_dir().join(format!("rt-fit.{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let root = |name: &str, directory: &str| {
            std::fs::create_dir_all(dir.join(name).join(directory)).expect("directories");
            open(&dir.join(name)).expect("a layer")
        };
        let (own, below, far) = (root("own", "a/b"), root("below", "d/b"), root("far", "d/b"));
        for number in 0..40 {
            let next = if number == 39 { "d".to_owned() } else { format!("L{}", number + 1) };
            let name = if number == 0 { "a".to_owned() } else { format!("L{number}") };
            symlink("d/../".repeat(5) + &next, dir.join("below").join(&name)).expect("a link");
            symlink("d/../".repeat(800) + &next, dir.join("far").join(&name)).expect("a link");
        }
        let looked = Cell::new(0);
        let look = |count| {
            looked.set(looked.get() + count);
            Ok(())
        };
        assert!(fitted(&own, &below, b"a/b", &look).expect("fitted"));
        assert_eq!(looked.get(), 442);
        let error = fitted(&own, &far, b"a/b", &look).expect_err("too far").to_string();
        assert!(error.contains("follow \"a/b\"") && error.contains("at most 512 are taken"), "{error}");
        assert_eq!(looked.get(), 443);
        let refuse = |_| Err(Error::invalid("enough"));
        assert!(fitted(&own, &below, b"a/b", &refuse).expect_err("enough").to_string().contains("enough"));
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
