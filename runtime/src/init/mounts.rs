//! The mounts of the config, each made as a descriptor and then moved to its place by handle.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, statx};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};

use super::copy_up;
use super::target::{self, Links, Shape, spent};
use crate::error::{Context, Error, Kind, Result};
use crate::parent::prepare::Prepared;
use crate::plan::Surroundings;
use crate::plan::mount_options::{Attributes, Options, Propagation};
use crate::plan::mounts::{Content, Mount};
use crate::sys::mount::{Depth, MountAttr, mount_setattr};

/// Makes all of them, in order.
pub fn make_all(around: &Surroundings, prepared: &Prepared, root: &OwnedFd) -> Result<()> {
    let shared_root = matches!(around.rootfs.propagation, Some(Propagation { kind: libc::MS_SHARED, .. }));
    let maker = Maker { prepared, root, label: around.mount_label.as_deref(), shared_root };
    for (mount, source) in around.mounts.iter().zip(&prepared.sources) {
        let made = match (&mount.content, source) {
            (Content::Filesystem { fstype, source }, _) => maker.filesystem(mount, fstype, source),
            (Content::Cgroup, _) => maker.cgroup(mount),
            (Content::Bind { recursive, .. }, Some(tree)) => maker.bind(mount, tree.as_fd(), *recursive),
            (Content::Bind { .. }, None) => Err(Error::new(Kind::Internal, "the source was not opened")),
        };
        made.what(|| format!("mount {} at {}", name(&mount.content), mount.target.display()))?;
    }
    Ok(())
}

fn name(content: &Content) -> String {
    match content {
        Content::Bind { source, .. } => source.display().to_string(),
        Content::Filesystem { fstype, .. } => fstype.to_string_lossy().into_owned(),
        Content::Cgroup => "cgroup2".to_owned(),
    }
}

struct Maker<'a> {
    prepared: &'a Prepared,
    root: &'a OwnedFd,
    label: Option<&'a str>,
    shared_root: bool,
}

impl Maker<'_> {
    fn filesystem(&self, mount: &Mount, fstype: &CStr, source: &CStr) -> Result<()> {
        // CVE-2019-19921: labels and parameters are looked for below these two, so nothing may lead elsewhere.
        let links =
            if matches!(fstype.to_bytes(), b"proc" | b"sysfs") { Links::Refuse } else { Links::Follow };
        let mut options = Cow::Borrowed(&mount.options);
        if fstype == c"tmpfs" && !options.filesystem.iter().any(|option| option.starts_with("mode=")) {
            // As runc does: a tmpfs over a directory of the image is as open as that was.
            if let Ok(stat) = target::open(self.root, &mount.target, links).and_then(rustix::fs::fstat) {
                options.to_mut().filesystem.push(format!("mode={:o}", stat.st_mode & 0o7777));
            }
        }
        let place = target::open_or_make(self.root, &mount.target, Shape::Directory, links)?;
        let tree = new_filesystem(fstype, source, &options, self.label)?;
        if mount.options.copy_up {
            copy_up::copy(&place, &tree)?;
            // Copied first, locked afterwards: fsmount left out what would have forbidden it.
            attributes(&tree, Depth::One, mount.options.attributes, 0)?;
        }
        self.place(mount, &tree, place)?;
        spent(tree);
        Ok(())
    }

    fn cgroup(&self, mount: &Mount) -> Result<()> {
        let place = target::open_or_make(self.root, &mount.target, Shape::Directory, Links::Follow)?;
        if let Some(tree) = &self.prepared.cgroups {
            attributes(tree, Depth::Tree, mount.options.attributes, libc::MS_SLAVE)?;
            return self.place(mount, tree, place);
        }
        let options = Options { superblock: Vec::new(), filesystem: Vec::new(), ..mount.options.clone() };
        let tree = new_filesystem(c"cgroup2", c"cgroup", &options, None)?;
        self.place(mount, &tree, place)?;
        spent(tree);
        Ok(())
    }

    fn bind(&self, mount: &Mount, tree: BorrowedFd<'_>, recursive: bool) -> Result<()> {
        let shape = match kind(tree)? {
            FileType::Directory => Shape::Directory,
            _ => Shape::File,
        };
        let place = target::open_or_make(self.root, &mount.target, shape, Links::Follow)?;
        // A bind of something shared would stay its peer; as if it had been made after the tree was cut off.
        let cut = if self.shared_root || !mount.options.propagation.is_empty() { 0 } else { libc::MS_SLAVE };
        if recursive && cut != 0 {
            attributes(tree, Depth::Tree, Attributes::default(), cut)?;
            attributes(tree, Depth::One, mount.options.attributes, 0)?;
        } else {
            attributes(tree, Depth::One, mount.options.attributes, cut)?;
        }
        self.place(mount, tree, place)
    }

    /// The attributes of the whole tree and its propagation, then the move to its place.
    fn place(&self, mount: &Mount, tree: impl AsFd, place: OwnedFd) -> Result<()> {
        attributes(&tree, Depth::Tree, mount.options.recursive_attributes, 0)?;
        for change in &mount.options.propagation {
            let depth = if change.recursive { Depth::Tree } else { Depth::One };
            attributes(&tree, depth, Attributes::default(), change.kind)?;
        }
        onto(&tree, &place).map_err(|error| unlike(error, &tree, &place))?;
        spent(place);
        Ok(())
    }
}

/// Attaches a detached mount at a handle.
pub fn onto(tree: impl AsFd, place: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", place, c"", flags).what(|| "attach")
}

/// The kernel only says EINVAL where a directory meets a file.
fn unlike(error: Error, source: impl AsFd, place: &OwnedFd) -> Error {
    let directory = |handle: Result<FileType>| handle.map(|kind| kind == FileType::Directory).ok();
    match (error.errno(), directory(kind(source)), directory(kind(place))) {
        (Some(libc::EINVAL | libc::ENOTDIR), Some(true), Some(false)) => {
            Error::invalid("the source is a directory, the destination is not")
        }
        (Some(libc::EINVAL | libc::ENOTDIR), Some(false), Some(true)) => {
            Error::invalid("the destination is a directory, the source is not")
        }
        _ => error,
    }
}

/// What kind of file a handle stands for.
pub fn kind(handle: impl AsFd) -> Result<FileType> {
    let stat = statx(handle, c"", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::TYPE)
        .what(|| "look at it")?;
    Ok(FileType::from_raw_mode(u32::from(stat.stx_mode)))
}

fn attributes(tree: impl AsFd, depth: Depth, change: Attributes, propagation: u64) -> Result<()> {
    if change.is_empty() && propagation == 0 {
        return Ok(());
    }
    mount_setattr(
        tree,
        c"",
        depth,
        MountAttr { set: change.set, clear: change.clear, propagation, userns: None },
    )
    .what(|| "set its attributes")
}

/// Filesystems whose `ro` is the mount's alone: their superblock is shared, or is still written to by us.
const VIRTUAL: [&[u8]; 6] = [b"proc", b"sysfs", b"tmpfs", b"devpts", b"mqueue", b"cgroup2"];

fn new_filesystem(fstype: &CStr, source: &CStr, options: &Options, label: Option<&str>) -> Result<OwnedFd> {
    let context =
        rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
            Errno::NODEV => {
                Error::unsupported(format!("the kernel has no filesystem {}", fstype.to_string_lossy()))
                    .cure("see /proc/filesystems")
            }
            _ => Error::os(errno.raw_os_error(), "open the filesystem"),
        })?;
    let told =
        |result: rustix::io::Result<()>, what: &str| result.map_err(|errno| explained(&context, errno, what));
    told(rustix::mount::fsconfig_set_string(&context, c"source", source), "set its source")?;
    for flag in &options.superblock {
        told(rustix::mount::fsconfig_set_flag(&context, *flag), flag)?;
    }
    if options.attributes.set & crate::plan::mount_options::attr::RDONLY != 0
        && !VIRTUAL.contains(&fstype.to_bytes())
    {
        told(rustix::mount::fsconfig_set_flag(&context, c"ro"), "ro")?;
    }
    for option in &options.filesystem {
        match option.split_once('=') {
            Some((key, value)) => told(rustix::mount::fsconfig_set_string(&context, key, value), option)?,
            None => told(rustix::mount::fsconfig_set_flag(&context, option.as_str()), option)?,
        }
    }
    if let Some(label) = label.filter(|_| fstype.to_bytes() != b"proc" && fstype.to_bytes() != b"sysfs") {
        let label = CString::new(label).unwrap_or_default();
        told(rustix::mount::fsconfig_set_string(&context, c"context", &label), "set its SELinux label")?;
    }
    told(rustix::mount::fsconfig_create(&context), "create the filesystem")?;
    let set = if options.copy_up { 0 } else { options.attributes.set };
    let attributes = MountAttrFlags::from_bits_retain(set as u32);
    let tree = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| explained(&context, errno, "make the mount"))?;
    spent(context);
    Ok(tree)
}

/// The kernel tells through the context what it did not like ("tmpfs: Unknown parameter 'x'").
fn explained(context: &OwnedFd, errno: Errno, what: &str) -> Error {
    let mut text = [0; 512];
    let said = rustix::io::read(context, &mut text).map_or(&[][..], |len| &text[..len]);
    let said = String::from_utf8_lossy(said.strip_prefix(b"e ").unwrap_or(said));
    let error = Error::os(errno.raw_os_error(), what);
    match said.trim() {
        "" => error,
        said => error.cure(format!("the kernel says: {said}")),
    }
}

/// Where `path` of the config is, for those who only look at it.
pub fn find(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>> {
    match target::open(root, path, Links::NotLast) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).what(|| format!("open {} in the container", path.display())),
    }
}
