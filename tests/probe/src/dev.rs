//! One description of a file, as JSON: kind, mode, owner, device numbers, link target.
//!
//! Follows no links.

use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What `lstat` says of the path, or its errno.
pub fn describe(path: &Path) -> Value {
    let name = path.to_string_lossy();
    let stat = match std::fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(e) => return json!({ "path": name, "errno": e.raw_os_error() }),
    };
    let kind = stat.file_type();
    let kind = match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    let rdev = stat.rdev();
    json!({
        "path": name,
        "kind": kind,
        "mode": stat.mode() & 0o7777,
        "uid": stat.uid(),
        "gid": stat.gid(),
        "size": stat.size(),
        "inode": stat.ino(),
        "device": [libc::major(rdev), libc::minor(rdev)],
        "link": std::fs::read_link(path).ok().map(|t| t.to_string_lossy().into_owned()),
    })
}

/// All that lies under a directory, in name order; other file systems below it are listed, not entered (but for `deep` ones).
pub fn tree(top: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(top) else { return found };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let seen = describe(&path);
        let enter = seen["kind"] == "dir" && !path.ends_with("shm") && !path.ends_with("mqueue");
        found.push(seen);
        if enter {
            found.extend(tree(&path));
        }
    }
    found
}
