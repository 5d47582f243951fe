//! Directories that a layer's archive implied without an entry get owner, mode and times of the same directory in the layers below,
//! so that a layer which adds one file doesn't change the directories it lies in. It makes and removes none.

use super::store::Store;
use super::unpack::{Cancel, IMPLIED, open_in_root};
use crate::error::{Context, Error, Result};
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The most look-ups for one image: those of a directory in a layer. Ten seconds of a core; images need some hundreds.
const LOOKUPS: u64 = 2_000_000;

/// Fits the layers of one image, lowest first. Done twice it changes nothing.
pub fn implied(store: &Store, layers: &[u64], cancel: &Cancel) -> Result<()> {
    let mut lookups = 0;
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
                cancel.check().what(what)?;
                lookups += 1;
                if lookups > LOOKUPS {
                    let why = format!(
                        "more than {LOOKUPS} look-ups of directories without an entry in {} layers",
                        layers.len()
                    );
                    let error = Error::invalid(why)
                        .cure("build the image with entries for directories, or with fewer layers");
                    return Err(error).what(what);
                }
                let below = open(&store.layer_root(*below)).what(what)?;
                if fitted(&own, &below, path).what(what)? {
                    break;
                }
            }
        }
        rustix::fs::syncfs(&own).what(what)?;
    }
    Ok(())
}

/// Whether the search ends at this layer: it has the directory, whose attributes were taken, or it has something else there.
fn fitted(own: &OwnedFd, below: &OwnedFd, path: &[u8]) -> rustix::io::Result<bool> {
    let from = match open_in_root(below, path, DIRECTORY) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(false),
        // A file or a whiteout: what is further below is hidden.
        Err(Errno::NOTDIR) => return Ok(true),
        Err(errno) => return Err(errno),
    };
    let to = open_in_root(own, path, DIRECTORY)?;
    let stat = rustix::fs::fstat(&from)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(&from, &to)?;
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(&to, &Timestamps { last_access: modified, last_modification: modified })?;
    Ok(true)
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
