//! What init needs and only the host's side can get: the root filesystem and the sources of bind mounts, as detached mounts.
//!
//! They are cloned here, before the container's mount namespace exists: shared mounts keep their peers, and neither a user
//! namespace nor the permissions on the way to a source stand in between. A descriptor that is dropped takes its mount with it.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType};
use rustix::mount::OpenTreeFlags;

use super::cgroup::Site;
use super::filesystem;
use super::overlay::{Fresh, Overlay};
use super::procfs::{self, Nearby};
use super::userns::Mappings;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::devices::Device;
use crate::plan::layers::{self, RootMount};
use crate::plan::mounts::{Content, Mount};
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::rootfs::{Entry, Rootfs};
use crate::plan::{Plan, Surroundings};
use crate::privilege::in_user_namespace;
use crate::sys::mount::{Depth, MountAttr, is_procfs, mount_setattr};

/// Detached mounts and descriptors that init inherits.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The root filesystem; none where its directory is used as it is.
    pub root: Option<OwnedFd>,
    /// Directories that were made for it; they go with this value.
    pub fresh: Fresh,
    /// What the root filesystem is mounted over, lowest first.
    pub under: Vec<OwnedFd>,
    /// For each mount of the plan: its source, if it is a bind mount, or what could only be made elsewhere.
    pub sources: Vec<Option<OwnedFd>>,
    /// The host's cgroup2 tree, for a container without a cgroup namespace.
    pub cgroups: Option<OwnedFd>,
    /// The host's /dev/null, to mask files with.
    pub null: Option<OwnedFd>,
    /// The host's device nodes, for a container that can't make its own.
    pub devices: Vec<Option<OwnedFd>>,
}

/// Opens everything; `joined` are the namespaces that the container joins.
pub fn prepare(plan: &Plan, site: Option<&Site>, joined: &[(Namespace, OwnedFd)]) -> Result<Prepared> {
    let around = &plan.surroundings;
    if !mounts_root(around) {
        return Ok(Prepared::default());
    }
    let nearby = Nearby { joined, made: &plan.task.namespaces.new };
    let mut mappings = Mappings::new(plan, joined);
    let mut sources = Vec::with_capacity(around.mounts.len());
    for mount in &around.mounts {
        sources.push(match &mount.content {
            Content::Filesystem { fstype, .. } if *fstype == c"proc" => {
                let made = procfs::make(nearby, &mount.options);
                made.what(|| format!("mount proc at {}", mount.target.display()))?
            }
            Content::Filesystem { fstype, source } => host_filesystem(plan, mount, (fstype, source))
                .what(|| format!("mount {} at {}", fstype.to_string_lossy(), mount.target.display()))?,
            _ => source(mount, &mut mappings)?,
        });
    }
    let mut fresh = Fresh::default();
    let mut under = roots(&around.rootfs, &mut mappings, &mut fresh)?;
    Ok(Prepared {
        root: under.pop(),
        fresh,
        under,
        sources,
        cgroups: cgroups(plan, site)?,
        null: if around.masked.is_empty() { None } else { Some(null()?) },
        devices: host_devices(plan, around)?,
    })
}

/// What takes devices of the host's is made here, outside of the container's cgroup. In a user namespace of its own the container is as
/// the kernel has it: its init makes such a mount, which is forbidden.
fn host_filesystem(plan: &Plan, mount: &Mount, (fstype, source): (&CStr, &CStr)) -> Result<Option<OwnedFd>> {
    if plan.task.namespaces.has(Namespace::User) || !filesystem::is_of_devices(fstype, source)? {
        return Ok(None);
    }
    let label = plan.surroundings.mount_label.as_deref();
    filesystem::create(fstype, source, &mount.options, label).map(|(tree, _)| Some(tree))
}

/// Whether the root filesystem is mounted at its path, and not used as it is: always in a mount namespace of the container's own;
/// in one that is shared, where something is to be changed on it.
fn mounts_root(around: &Surroundings) -> bool {
    let rootfs = &around.rootfs;
    let as_it_is = around.mounts.is_empty() && around.masked.is_empty() && around.readonly.is_empty();
    rootfs.entry != Entry::Chroot || rootfs.readonly || around.devices.is_some() || !as_it_is
}

/// Without a cgroup namespace the container sees the host's tree, from its root, as with other runtimes.
fn cgroups(plan: &Plan, site: Option<&Site>) -> Result<Option<OwnedFd>> {
    let wanted = plan.surroundings.mounts.iter().any(|mount| mount.content == Content::Cgroup);
    if !wanted || plan.task.namespaces.has(Namespace::Cgroup) {
        return Ok(None);
    }
    let path = site.map_or(Path::new("/sys/fs/cgroup"), Site::mount_point);
    clone(path, Recursive::No).what(|| format!("open the host's cgroups {}", path.display())).map(Some)
}

/// The bundle's own directory, or the mounts that take its place.
fn roots(rootfs: &Rootfs, mappings: &mut Mappings<'_>, fresh: &mut Fresh) -> Result<Vec<OwnedFd>> {
    if rootfs.mounts.is_empty() {
        return Ok(vec![root(&rootfs.path)?]);
    }
    let name = |content: &layers::Content| match content {
        layers::Content::Bind { source, .. } => source.display().to_string(),
        layers::Content::Overlay { .. } => "an overlay".to_owned(),
        layers::Content::Filesystem { source, .. } => source.to_string_lossy().into_owned(),
    };
    let make = |mount: &RootMount| {
        root_mount(mount, mappings, fresh).what(|| format!("mount {} as root", name(&mount.content)))
    };
    rootfs.mounts.iter().map(make).collect()
}

fn root_mount(mount: &RootMount, mappings: &mut Mappings<'_>, fresh: &mut Fresh) -> Result<OwnedFd> {
    let options = &mount.options;
    let tree = match &mount.content {
        layers::Content::Overlay { lowers, changes } => {
            return Overlay { lowers, changes, options, idmap: mount.idmap.as_ref() }.make(mappings, fresh);
        }
        layers::Content::Filesystem { fstype, source } => {
            filesystem::create(fstype, source, options, None)?.0
        }
        layers::Content::Bind { source, recursive } => {
            let tree = root_tree(source, if *recursive { Recursive::Yes } else { Recursive::No })?;
            let (set, clear) = (options.attributes.set, options.attributes.clear);
            mount_setattr(&tree, c"", Depth::One, MountAttr { set, clear, ..Default::default() })
                .what(|| "set its attributes")?;
            tree
        }
    };
    let (set, clear) = (options.recursive_attributes.set, options.recursive_attributes.clear);
    mount_setattr(&tree, c"", Depth::Tree, MountAttr { set, clear, ..Default::default() })
        .what(|| "set its attributes")?;
    if let Some(map) = &mount.idmap {
        mappings.apply(&tree, depth(options.idmap), map)?;
    }
    Ok(tree)
}

/// Of the whole tree with `ridmap`, else of the one mount.
fn depth(ridmap: Option<bool>) -> Depth {
    if ridmap == Some(true) { Depth::Tree } else { Depth::One }
}

fn root(path: &Path) -> Result<OwnedFd> {
    root_tree(path, Recursive::Yes)
}

fn root_tree(path: &Path, recursive: Recursive) -> Result<OwnedFd> {
    let what = || format!("open the root filesystem {}", path.display());
    let tree = clone(path, recursive).map_err(|errno| match errno {
        rustix::io::Errno::NOENT => {
            Error::os(errno.raw_os_error(), what()).cure("root.path must name a directory")
        }
        _ => Error::os(errno.raw_os_error(), what()),
    })?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree).what(what)?.st_mode);
    if kind != FileType::Directory {
        return Err(Error::invalid(format!("the root filesystem {} is not a directory", path.display())));
    }
    Ok(tree)
}

fn source(mount: &Mount, mappings: &mut Mappings<'_>) -> Result<Option<OwnedFd>> {
    let Content::Bind { source, recursive } = &mount.content else { return Ok(None) };
    let recursive = if *recursive { Recursive::Yes } else { Recursive::No };
    let what = || format!("mount {} at {}", source.display(), mount.target.display());
    let tree = clone(source, recursive).map_err(|errno| {
        Error::os(errno.raw_os_error(), format!("open the source {}", source.display())).during(what())
    })?;
    // CVE-2019-16884: labels are written below /proc, so what is bound there must be a procfs.
    if mount.target == Path::new("/proc") && !is_procfs(&tree).what(what)? {
        return Err(Error::new(Kind::Denied, format!("{}: the source is not a procfs", what())));
    }
    if let Some(map) = &mount.idmap {
        mappings.apply(&tree, depth(mount.options.idmap), map).what(what)?;
    }
    Ok(Some(tree))
}

#[derive(Clone, Copy)]
enum Recursive {
    Yes,
    No,
}

fn clone(path: &Path, recursive: Recursive) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if matches!(recursive, Recursive::Yes) {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, path, flags)
}

/// CVE-2025-31133: the node is opened on the host, by us, and looked at.
pub fn null() -> Result<OwnedFd> {
    node(Path::new("/dev/null"), (1, 3)).what(|| "open the host's /dev/null")
}

/// A node of the host's, on a read-only mount: it is read and written as before, and its mode, owner and times are the host's alone.
fn node(path: &Path, (major, minor): (u32, u32)) -> Result<OwnedFd> {
    let tree = clone(path, Recursive::No).what(|| "clone its mount")?;
    is_device(&tree, major, minor)?;
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(&tree, c"", Depth::One, read_only).what(|| "make its mount read-only")?;
    Ok(tree)
}

fn is_device(node: impl AsFd, major: u32, minor: u32) -> Result<()> {
    let stat = rustix::fs::fstat(node).what(|| "look at the node")?;
    let found = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if found == (major, minor) {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!("it is device {}:{}, not {major}:{minor}", found.0, found.1)))
}

/// mknod(2) is for the initial user namespace only: in any other, the host's nodes are bound.
fn host_devices(plan: &Plan, around: &Surroundings) -> Result<Vec<Option<OwnedFd>>> {
    let foreign = || plan.task.namespaces.has(Namespace::User) || in_user_namespace();
    let Some(devices) = around.devices.as_ref().filter(|_| foreign()) else {
        return Ok(Vec::new());
    };
    devices.iter().map(host_device).collect()
}

fn host_device(device: &Device) -> Result<Option<OwnedFd>> {
    if device.kind == libc::S_IFIFO {
        return Ok(None); // FIFOs can be made in any user namespace.
    }
    let what = || format!("open the host's {} for a container with a user namespace", device.path.display());
    node(&device.path, (device.major, device.minor)).what(what).map(Some)
}
