//! Nodes and links in the container's /dev.
//!
//! CVE-2026-41579: /dev of an image may be a link; it is opened as a directory of the root, and everything is made below that.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::landing::{Landing, kind};
use super::target::{self, Links, Shape};
use crate::error::{Context, Error, Kind, Result};
use crate::parent::prepare::Prepared;
use crate::plan::Surroundings;
use crate::plan::devices::{Device, LINKS};
use crate::plan::mounts::above;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes all of them, unless the config binds a /dev of its own.
pub fn make_all(around: &Surroundings, prepared: &Prepared, root: &OwnedFd) -> Result<()> {
    let Some(devices) = &around.devices else { return Ok(()) };
    let dev = target::open_or_make(root, Path::new("/dev"), Shape::Directory, Links::Refuse)?;
    // The modes are those of the config, whatever the caller's mask.
    let mask = rustix::process::umask(Mode::empty());
    for (at, device) in devices.iter().enumerate() {
        match prepared.devices.get(at) {
            Some(Some(node)) => lent(around, root, &dev, device, node),
            _ => make(around, root, &dev, device),
        }
        .what(|| format!("make device {}", device.path.display()))?;
    }
    rustix::process::umask(mask);
    links(&dev)
}

/// The directory of a node, without links on the way, and on no mount but the one that the config has there: a volume that came there by
/// a link of the image is the host's, and would keep the node. `None`: it is /dev.
fn directory(around: &Surroundings, root: &OwnedFd, node: &Path) -> Result<Option<OwnedFd>> {
    let parent = node.parent().ok_or_else(|| Error::invalid("it has no parent directory"))?;
    if parent == Path::new("/dev") {
        return Ok(None);
    }
    let written = above(&around.mounts, parent).map_or(Path::new("/"), |mount| &mount.target);
    let mut dir =
        target::open(root, written, Links::Refuse).what(|| format!("open {}", written.display()))?;
    for name in parent.strip_prefix(written).unwrap_or(parent) {
        dir = target::step(&dir, name).map_err(|errno| {
            let error = Error::os(errno.raw_os_error(), format!("go to {}", parent.display()));
            match errno {
                Errno::XDEV => error.cure("a link of the image has led a mount there: mount it elsewhere"),
                Errno::LOOP => {
                    error.cure("on the way is a link of the image: name the place that it leads to")
                }
                _ => error,
            }
        })?;
    }
    Ok(Some(dir))
}

fn name(device: &Device) -> Result<&OsStr> {
    device.path.file_name().ok_or_else(|| Error::invalid("it has no name"))
}

fn differs() -> Error {
    Error::new(Kind::Exists, "something else is there already")
        .cure("remove it from the root filesystem, or mount a tmpfs at /dev")
}

/// Who may make no nodes gets the host's, each mounted on a file.
fn lent(around: &Surroundings, root: &OwnedFd, dev: &OwnedFd, device: &Device, node: &OwnedFd) -> Result<()> {
    let other = directory(around, root, &device.path)?;
    let dir = other.as_ref().unwrap_or(dev);
    let name = name(device)?;
    match rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).what(|| "make a file to mount it on"),
    }
    let place = rustix::fs::openat(dir, name, HANDLE, Mode::empty()).what(|| "open what is there")?;
    if matches!(kind(&place)?, FileType::Symlink | FileType::Directory) {
        return Err(differs());
    }
    Landing::of(root, place, node)?.attach(node)
}

fn make(around: &Surroundings, root: &OwnedFd, dev: &OwnedFd, device: &Device) -> Result<()> {
    let other = directory(around, root, &device.path)?;
    let dir = other.as_ref().unwrap_or(dev);
    let name = name(device)?;
    let kind = FileType::from_raw_mode(device.kind);
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(device.mode), number) {
        Err(Errno::EXIST) => {
            let stat =
                rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).what(|| "look at what is there")?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
                return Err(differs());
            }
            // A node of the image keeps its file, but gets the owner and mode that the config asks for.
            let handle =
                rustix::fs::openat(dir, name, HANDLE, Mode::empty()).what(|| "open what is there")?;
            chmod(&handle, device.mode)?;
        }
        made => made.what(|| "mknod")?,
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).what(|| "chown")?;
    }
    Ok(())
}

/// fchmod(2) takes no O_PATH handle, fchmodat2 does. KERNEL(6.6); before: by the handle's name in the host's /proc.
fn chmod(handle: &OwnedFd, mode: u32) -> Result<()> {
    use std::os::fd::AsRawFd;
    match crate::sys::process::fchmod_opath(handle, mode) {
        Err(nix::errno::Errno::ENOSYS) => {
            let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(name, Mode::from_raw_mode(mode)).what(|| "chmod")
        }
        done => done.what(|| "chmod"),
    }
}

/// SPEC: runtime-linux.md#dev-symbolic-links
fn links(dev: &OwnedFd) -> Result<()> {
    let kcore = Path::new("/proc/kcore").exists().then_some(("core", "/proc/kcore"));
    for (name, to) in LINKS.into_iter().chain(kcore) {
        match rustix::fs::symlinkat(to, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).what(|| format!("link /dev/{name} to {to}")),
        }
    }
    // SPEC: config-linux.md#default-devices: the container's own multiplexer, whatever the image has there.
    match rustix::fs::symlinkat("pts/ptmx", dev, "ptmx") {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(dev, "ptmx", AtFlags::empty()).what(|| "replace /dev/ptmx")?;
            rustix::fs::symlinkat("pts/ptmx", dev, "ptmx").what(|| "link /dev/ptmx to pts/ptmx")
        }
        made => made.what(|| "link /dev/ptmx to pts/ptmx"),
    }
}
