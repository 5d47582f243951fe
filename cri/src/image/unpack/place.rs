//! Directories of a layer by handle: every path is resolved below the layer's root, so that no `..`, absolute path or symlink of an
//! archive leads out of it. It sets no attributes of entries.

use super::budget::{Account, BLOCK};
use super::field::{bad, beyond};
use super::resolve::{Found, open_in_root, open_plain};
use crate::error::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Directories kept open.
const OPEN: usize = 64;
/// The deepest path, as written and where it leads by symlinks.
const DEPTH: usize = 256;
/// The longest path where symlinks lead to. KERNEL: PATH_MAX
const LENGTH: usize = 4096;
/// The most directories without an entry, and bytes of their paths, which are kept in memory while the layer is made: a path of
/// 4000 bytes declares 2000 of them. Archivers leave out a few hundred.
const IMPLIED: usize = 1 << 16;
const IMPLIED_BYTES: usize = 8 << 20;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The path's components, without `.` and empty ones; the path of the root is empty.
pub fn clean(path: &[u8], most: usize) -> Result<Vec<u8>> {
    let shown = || String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
    if path.len() > most {
        return Err(bad(&format!(
            "a path of {} bytes, at most {most} are allowed: {:?}…",
            path.len(),
            shown()
        )));
    }
    let mut clean = Vec::with_capacity(path.len());
    let mut depth = 0;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err(bad(&format!("{:?} has `..` in its path", shown())));
        }
        if part.len() > 255 || part.contains(&0) {
            return Err(bad(&format!("{:?} is no path", shown())));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend(part);
        depth += 1;
    }
    if depth > DEPTH {
        return Err(bad(&format!("a path of {depth} parts, at most {DEPTH} are allowed: {:?}…", shown())));
    }
    Ok(clean)
}

/// Parent and last component of a clean path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// The directories of one layer.
pub struct Directories<'a> {
    root: OwnedFd,
    account: &'a Account,
    open: HashMap<Vec<u8>, Arc<OwnedFd>>,
    /// Directories that entries lay in without an entry of their own before, and the bytes of their paths.
    implied: BTreeSet<Vec<u8>>,
    implied_bytes: usize,
    /// All that were ever made so: each counts as an entry.
    made: u64,
    aliased: bool,
}

impl<'a> Directories<'a> {
    /// Below `root`.
    pub fn new(root: OwnedFd, account: &'a Account) -> Self {
        Self {
            root,
            account,
            open: HashMap::new(),
            implied: BTreeSet::new(),
            implied_bytes: 0,
            made: 0,
            aliased: false,
        }
    }

    /// What was made without being asked for, in order.
    pub fn into_implied(self) -> BTreeSet<Vec<u8>> {
        self.implied
    }

    /// How many were made without being asked for.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// The directory at a clean path, with symlinks of this layer followed inside it; made where it is missing.
    pub fn at(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>> {
        if let Some(open) = self.open.get(path) {
            return Ok(open.clone());
        }
        let before = std::mem::take(&mut self.aliased);
        let found = match self.look(path)? {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(path)?,
            Err(errno) => {
                return Err(errno).what(|| format!("open {:?} in layer", String::from_utf8_lossy(path)));
            }
        };
        if self.aliased {
            self.check_depth(&found)?;
        }
        self.aliased |= before;
        let found = Arc::new(found);
        if self.open.len() == OPEN {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), found.clone());
        Ok(found)
    }

    /// Forgets open directories: one of them was renamed or removed.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Whether a path led through a symlink, so that two paths may be one place.
    pub fn aliased(&self) -> bool {
        self.aliased
    }

    /// An entry for a directory came after the entries in it.
    pub fn named(&mut self, path: &[u8]) {
        if self.implied.remove(path) {
            self.implied_bytes -= path.len();
        }
    }

    fn look(&mut self, path: &[u8]) -> Found {
        match open_plain(&self.root, path, DIRECTORY) {
            Err(Errno::LOOP) => {
                self.aliased = true;
                open_in_root(&self.root, path, DIRECTORY, &|parts| self.account.walk(parts, &self.root))
            }
            other => Ok(other),
        }
    }

    /// Makes what is missing of the path, from its first part on.
    fn make(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let shown = || format!("make directory {:?} in layer", String::from_utf8_lossy(path));
        let mut parent = self.look(b"")?.what(shown)?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (here, name) = (&path[..end], split(&path[..end]).1);
            self.account.walk(1, &self.root)?;
            // From the one above, so that a deep path is not walked anew for each of its parts.
            let step = match open_plain(&parent, name, DIRECTORY) {
                Err(Errno::LOOP) => self.look(here)?,
                step => step,
            };
            parent = match step {
                Ok(found) => found,
                Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                    let hides = remove_whiteout(&parent, name).what(shown)?;
                    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) => self.imply(here)?,
                        Err(Errno::EXIST) => {
                            let part = String::from_utf8_lossy(here).into_owned();
                            return Err(errno).what(shown).what(|| format!("use {part:?} as a directory"));
                        }
                        Err(errno) => return Err(errno).what(shown),
                    }
                    let made = open_plain(&parent, name, DIRECTORY).what(shown)?;
                    if hides {
                        make_opaque(&made).what(shown)?;
                    }
                    made
                }
                Err(errno) => return Err(errno).what(shown),
            };
        }
        Ok(parent)
    }

    /// One more without an entry.
    fn imply(&mut self, path: &[u8]) -> Result<()> {
        const CURE: &str = "build the image with an archiver that writes entries for directories";
        self.account.spend(BLOCK, &self.root)?;
        self.made += 1;
        self.implied_bytes += path.len();
        self.implied.insert(path.to_vec());
        if self.implied.len() > IMPLIED {
            return Err(beyond("more directories without an entry of their own", IMPLIED, CURE));
        }
        if self.implied_bytes > IMPLIED_BYTES {
            let what = format!("directories without an entry whose paths have {} bytes", self.implied_bytes);
            return Err(beyond(what, IMPLIED_BYTES, CURE));
        }
        Ok(())
    }

    /// Symlinks may lead a short path deep.
    fn check_depth(&self, found: &OwnedFd) -> Result<()> {
        let place = |directory: &OwnedFd| {
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            rustix::fs::readlink(path, Vec::new()).what(|| "look where a symlink leads")
        };
        let (root, there) = (place(&self.root)?, place(found)?);
        let below = there.as_bytes().get(root.as_bytes().len()..).unwrap_or_default();
        let depth = below.iter().filter(|byte| **byte == b'/').count();
        if depth > DEPTH || below.len() > LENGTH {
            return Err(beyond(
                format!("a path that by symlinks is {depth} parts deep"),
                DEPTH,
                "nothing reaches it by name",
            ));
        }
        Ok(())
    }
}

/// Hides what lower layers have in the directory.
pub fn make_opaque(directory: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(directory, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
}

/// Whether the name was a whiteout, which is removed then.
pub fn remove_whiteout(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<bool> {
    let whiteout = is_whiteout(parent, name);
    if whiteout {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    }
    Ok(whiteout)
}

/// Whether the name is overlayfs's mark of what is deleted: a character device 0/0.
pub fn is_whiteout(parent: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_those_that_lead_out_refused() {
        for (path, wanted) in [
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("./", ""),
            ("/", ""),
            ("a/./b", "a/b"),
            ("a/..b", "a/..b"),
        ] {
            assert_eq!(clean(path.as_bytes(), 100).unwrap(), wanted.as_bytes(), "{path}");
        }
        for path in ["..", "a/../../b", "/..", "a/..", &"x".repeat(101), &"y".repeat(256), "a\0b"] {
            assert!(clean(path.as_bytes(), if path.len() == 256 { 4096 } else { 100 }).is_err(), "{path}");
        }
        assert!(clean("a/".repeat(DEPTH + 1).as_bytes(), 4096).is_err());
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
    }
}
