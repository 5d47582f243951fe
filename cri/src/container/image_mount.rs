//! Images that are mounted as volumes: a read-only view of all layers at a directory of the bundle. What of it the container sees, the
//! pure mapping knows.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};

use crate::api;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::image::unpack::open_in_root;
use crate::node::Node;
use crate::oci::{self, ImageVolume};
use crate::paths;

/// The word that the kubelet looks for.
const FAILED: &str = "ImageVolumeMountFailed";

/// Mounts the images that a container wants as volumes, by the index of the mount.
pub fn create(node: &Node, id: &str, config: &api::ContainerConfig) -> Result<BTreeMap<usize, ImageVolume>> {
    let mut volumes = BTreeMap::new();
    for (index, asked, sub_path) in oci::container::image_mounts(config) {
        let at = directory(node, id).join(index.to_string());
        let path = one(node, asked, sub_path, &at).map_err(|error| error.during(FAILED))?;
        volumes.insert(index, ImageVolume { path });
    }
    Ok(volumes)
}

/// Unmounts them.
pub fn remove(node: &Node, id: &str) -> Result<()> {
    for entry in std::fs::read_dir(directory(node, id)).into_iter().flatten().flatten() {
        while umount2(&entry.path(), MntFlags::MNT_DETACH).is_ok() {}
    }
    paths::remove_dir(&directory(node, id))
}

fn directory(node: &Node, id: &str) -> PathBuf {
    node.paths.bundle(id).join("images")
}

fn one(node: &Node, asked: &api::ImageSpec, sub_path: &str, at: &Path) -> Result<PathBuf> {
    let image = node.images.find(&asked.image).ok_or_else(|| {
        Error::not_found(format!("image {} is not here", crate::table::shown(&asked.image)))
            .cure("pull it first")
    })?;
    mount(&image, at).what(|| format!("mount image {} at {}", image.id, at.display()))?;
    within(at, sub_path).what(|| format!("find {sub_path:?} in image {}", image.id))
}

/// A view of its own, of one layer too: the layer's files are those of every container that is built on it, and whose own they are may
/// hold a lease on them, for which all who open them wait.
fn mount(image: &Image, at: &Path) -> Result<()> {
    paths::own_dir(at)?;
    // KERNEL: an overlay that is only read has two layers at least. Nothing is ever in this one.
    let nothing = at.with_extension("empty");
    paths::own_dir(&nothing)?;
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).what(|| "open an overlay")?;
    // One after the other, topmost first: no path has to be escaped, and their number is the kernel's limit. KERNEL(6.5)
    for layer in image.layers.iter().rev().chain([&nothing]) {
        let path =
            CString::new(layer.as_os_str().as_bytes()).map_err(|_| Error::internal("NUL in a path"))?;
        rustix::mount::fsconfig_set_string(&fs, "lowerdir+", path.as_c_str())
            .what(|| format!("add layer {}", layer.display()))?;
    }
    rustix::mount::fsconfig_create(&fs).what(|| "create an overlay")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mounted =
        rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).what(|| "mount an overlay")?;
    rustix::mount::move_mount(&mounted, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .what(|| format!("mount at {}", at.display()))
}

/// Follows `path` without ever leaving `root`, whatever links are there.
fn within(root: &Path, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Ok(root.to_owned());
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Error::invalid("image_sub_path is no relative path without .."));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty())
        .what(|| format!("open {}", root.display()))?;
    let found = open_in_root(&dir, path.as_bytes(), flags, &|_| Ok(()))?;
    let found = found.map_err(|errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Error::not_found("there is no such path"),
        errno => Error::os(errno.raw_os_error(), "open it"),
    })?;
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    std::fs::read_link(&link).what(|| format!("read {link}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_in_the_image() {
        let dir = std::env::temp_dir().join(format!("rt-image-mount-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/etc")).expect("directory");
        std::os::unix::fs::symlink("/etc", dir.join("a/link")).expect("link");
        let root = std::fs::canonicalize(dir.join("a")).expect("path");
        assert_eq!(within(&root, "link").expect("found"), root.join("etc"));
        assert_eq!(within(&root, "").expect("found"), root);
        for bad in ["../x", "/etc", "none"] {
            assert!(within(&root, bad).is_err(), "{bad}");
        }
        std::fs::remove_dir_all(&dir).expect("remove");
    }
}
