//! Device nodes of the host. It makes none.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::oci::{Node, NodeKind};

/// Below /dev, what every container has of its own.
const OWN: [&str; 8] = ["pts", "shm", "mqueue", "fd", "console", ".lxc", ".lxd-mounts", ".udev"];

/// All below /dev, for privileged containers.
pub fn all() -> Vec<Node> {
    let mut nodes = Vec::new();
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    for entry in entries.filter(|entry| !OWN.iter().any(|own| entry.file_name() == *own)) {
        walk(&entry.path(), &mut nodes);
    }
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    nodes
}

/// The node at `path`, or all below it.
pub fn nodes(path: &Path) -> Result<Vec<Node>> {
    let real = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::not_found(format!("device {} does not exist", path.display())));
        }
        other => other.what(|| format!("look at device {}", path.display()))?,
    };
    let mut nodes = Vec::new();
    walk(&real, &mut nodes);
    if nodes.is_empty() && !real.is_dir() {
        return Err(Error::invalid(format!("{} is no device", path.display())));
    }
    Ok(nodes)
}

fn walk(path: &Path, nodes: &mut Vec<Node>) {
    let Ok(there) = std::fs::symlink_metadata(path) else { return };
    let kind = there.file_type();
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), nodes);
        }
        return;
    }
    let kind = match () {
        () if kind.is_char_device() => NodeKind::Char,
        () if kind.is_block_device() => NodeKind::Block,
        () => return,
    };
    nodes.push(Node {
        path: path.to_owned(),
        kind,
        major: i64::from(rustix::fs::major(there.rdev())),
        minor: i64::from(rustix::fs::minor(there.rdev())),
        mode: there.mode() & 0o7777,
        uid: there.uid(),
        gid: there.gid(),
    });
}
