//! A layer's tree, visited in full: by handles, so that no path is too long, and depth first, so that memory is for one directory a level
//! whatever is in them.

use crate::error::{Context, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is there: the directory that it is in, its name there, and its path below the root.
pub struct Found<'a> {
    /// The directory.
    pub parent: BorrowedFd<'a>,
    /// The name.
    pub name: &'a CStr,
    /// The path.
    pub path: &'a [u8],
    /// What it is.
    pub kind: FileType,
}

/// Calls `visit` for all below `root` that is no directory.
pub fn walk(root: &OwnedFd, mut visit: impl FnMut(Found<'_>) -> Result<()>) -> Result<()> {
    let mut path: Vec<u8> = Vec::new();
    let what = |path: &[u8]| format!("list {:?} of layer", String::from_utf8_lossy(path));
    // Each with the length of its path.
    let mut open = vec![(Dir::read_from(root).what(|| what(b""))?, 0)];
    while let Some((directory, length)) = open.last_mut() {
        path.truncate(*length);
        let Some(entry) = directory.next() else {
            open.pop();
            continue;
        };
        let entry = entry.what(|| what(&path))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.to_bytes());
        let parent = directory.fd().what(|| what(&path))?;
        let kind = match entry.file_type() {
            FileType::Unknown => kind_of(parent, name).what(|| what(&path))?,
            kind => kind,
        };
        if kind == FileType::Directory {
            let below = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).what(|| what(&path))?;
            let length = path.len();
            open.push((Dir::new(below).what(|| what(&path))?, length));
        } else {
            visit(Found { parent, name, path: &path, kind })?;
        }
    }
    Ok(())
}

fn kind_of(parent: BorrowedFd<'_>, name: &CStr) -> Result<FileType, Errno> {
    let stat = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_files_are_visited_once_at_whatever_depth() {
        let dir = std::env::temp_dir().join(format!("rt-walk.{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let deep = "d".repeat(200) + "/";
        std::fs::create_dir_all(dir.join(deep.repeat(10))).expect("directories");
        let mut wanted: BTreeSet<String> = (0..500).map(|number| format!("f{number}")).collect();
        wanted.insert(deep.repeat(10) + "last");
        for file in &wanted {
            std::fs::write(dir.join(file), "").expect("a file");
        }
        let root = std::fs::File::open(&dir).expect("the root").into();
        let mut seen = BTreeSet::new();
        walk(&root, |found| {
            assert!(found.kind == FileType::RegularFile && found.path.ends_with(found.name.to_bytes()));
            assert!(seen.insert(String::from_utf8_lossy(found.path).into_owned()));
            Ok(())
        })
        .expect("a walk");
        assert_eq!(seen, wanted);
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
