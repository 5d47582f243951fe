//! Removing what containers have written: trees of any depth and width, with two descriptors and no recursion. A container makes a
//! directory in a directory as often as it has inodes; each level of a recursion costs stack, and the thread's end is the server's.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// So many names of directories that are not empty are taken from one directory at a time, and one where so many are held in all.
const AT_A_TIME: usize = 256;
const HELD: usize = 1 << 16;

/// Which directory it is.
type Identity = (u64, u64);

/// A directory that is being emptied, above the one that is.
struct Level {
    identity: Identity,
    /// The one below that is being emptied.
    entered: CString,
    /// Those that are not empty, as far as they were looked at.
    full: Vec<CString>,
}

/// Removes what has this path, and all that is in it. No link is followed.
pub fn remove_all(path: &Path) -> Result<(), Errno> {
    let mut at = match openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(CWD, path, AtFlags::empty()),
        Err(errno) => return Err(errno),
    };
    let mut above: Vec<Level> = Vec::new();
    let mut held = 0;
    let mut full = empty(&at, AT_A_TIME)?;
    loop {
        if let Some(name) = full.pop() {
            held += full.len();
            let below = openat(&at, &name, DIRECTORY, Mode::empty())?;
            above.push(Level { identity: identity(&at)?, entered: name, full });
            at = below;
        } else {
            let Some(level) = above.pop() else { break };
            held -= level.full.len();
            // Nobody else writes here; what was moved all the same is not ours to empty.
            let up = openat(&at, c"..", DIRECTORY, Mode::empty())?;
            if identity(&up)? != level.identity {
                return Err(Errno::STALE);
            }
            at = up;
            full = level.full;
            gone(unlinkat(&at, &level.entered, AtFlags::REMOVEDIR))?;
            if !full.is_empty() {
                continue;
            }
        }
        // Those that it had more of are found when these are gone.
        full = empty(&at, if held < HELD { AT_A_TIME } else { 1 })?;
    }
    drop(at);
    unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

/// Removes what a directory has but for directories that are not empty: up to so many of them are given.
fn empty(directory: &OwnedFd, most: usize) -> Result<Vec<CString>, Errno> {
    let mut full = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            kind => kind == FileType::Directory,
        };
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(directory, name, flags) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if is_directory => {
                full.push(name.to_owned());
                if full.len() == most {
                    break;
                }
            }
            removed => gone(removed)?,
        }
    }
    Ok(full)
}

/// Somebody else's removal is one, too.
fn gone(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

fn identity(directory: &OwnedFd) -> Result<Identity, Errno> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::path::PathBuf;

    /// In memory: a disk may take a millisecond for each directory that is freed.
    fn folder(name: &str) -> PathBuf {
        let folder = PathBuf::from("/dev/shm").join(format!("rt-cri-removal-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a directory");
        folder
    }

    /// Deeper than any stack of ours has frames, or the process descriptors; with a file and a sibling with content now and then.
    #[test]
    fn no_tree_is_too_deep() {
        let top = folder("deep");
        let mut at = openat(CWD, &top, DIRECTORY, Mode::empty()).expect("open");
        let mode = Mode::from_raw_mode(0o755);
        for level in 0..20_000 {
            if level % 1000 == 0 {
                mkdirat(&at, c"sibling", mode).expect("make");
                mkdirat(&at, c"sibling/full", mode).expect("make");
            }
            mkdirat(&at, c"d", mode).expect("make");
            at = openat(&at, c"d", DIRECTORY, Mode::empty()).expect("open");
        }
        drop(at);
        remove_all(&top).expect("removed");
        assert!(!top.exists());
    }

    #[test]
    fn no_directory_is_too_wide_and_links_stay_where_they_lead() {
        let (top, kept) = (folder("wide"), folder("kept"));
        std::fs::write(kept.join("file"), "precious").expect("write");
        for number in 0..3 * AT_A_TIME {
            std::fs::create_dir_all(top.join(format!("d{number}/e"))).expect("make");
            std::fs::write(top.join(format!("d{number}/e/f")), "").expect("write");
        }
        std::os::unix::fs::symlink(&kept, top.join("d0/link")).expect("link");
        std::os::unix::fs::symlink(&kept, top.join("link")).expect("link");
        remove_all(&top).expect("removed");
        assert!(!top.exists());
        std::os::unix::fs::symlink(&kept, &top).expect("link");
        remove_all(&top).expect("the link itself");
        assert_eq!(std::fs::read_to_string(kept.join("file")).expect("read"), "precious");
        remove_all(&kept).expect("removed");
        assert_eq!(remove_all(&kept), Err(Errno::NOENT));
    }
}
