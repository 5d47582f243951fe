//! The mounts of the config, each made as a descriptor and then moved to its place by handle.

use std::borrow::Cow;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;

use super::copy_up;
use super::kept::Kept;
use super::landing::{Landing, kind};
use super::target::{self, Links, Shape, spent};
use crate::error::{Context, Error, Kind, Result};
use crate::parent::filesystem;
use crate::parent::prepare::Prepared;
use crate::plan::Surroundings;
use crate::plan::mount_options::{Attributes, Options, Propagation};
use crate::plan::mounts::{Content, Mount};
use crate::sys::mount::{Depth, MountAttr, mount_setattr};

/// Makes all of them, in order; gives those below which something is to be hidden or protected.
pub fn make_all(around: &Surroundings, prepared: &Prepared, root: &OwnedFd) -> Result<Kept> {
    let shared_root = matches!(around.rootfs.propagation, Some(Propagation { kind: libc::MS_SHARED, .. }));
    let mut maker = Maker { prepared, root, around, shared_root, kept: Kept::default() };
    for (mount, source) in around.mounts.iter().zip(&prepared.sources) {
        let made = match (&mount.content, source) {
            (Content::Filesystem { fstype, source }, made) => {
                maker.filesystem(mount, (fstype, source), made.as_ref())
            }
            (Content::Cgroup, _) => maker.cgroup(mount),
            (Content::Bind { recursive, .. }, Some(tree)) => maker.bind(mount, tree.as_fd(), *recursive),
            (Content::Lent { .. }, Some(tree)) => maker.bind(mount, tree.as_fd(), false),
            (Content::Bind { .. } | Content::Lent { .. }, None) => {
                Err(Error::new(Kind::Internal, "the source was not opened"))
            }
        };
        made.what(|| format!("mount {} at {}", name(&mount.content), mount.target.display()))?;
    }
    Ok(maker.kept)
}

fn name(content: &Content) -> String {
    match content {
        Content::Bind { source, .. } => source.display().to_string(),
        Content::Filesystem { fstype, .. } => fstype.to_string_lossy().into_owned(),
        Content::Cgroup => "cgroup2".to_owned(),
        Content::Lent { by } => format!("what container {by:?} has there"),
    }
}

struct Maker<'a> {
    prepared: &'a Prepared,
    root: &'a OwnedFd,
    around: &'a Surroundings,
    shared_root: bool,
    kept: Kept,
}

impl Maker<'_> {
    fn filesystem(
        &mut self,
        mount: &Mount,
        (fstype, source): (&CStr, &CStr),
        made: Option<&OwnedFd>,
    ) -> Result<()> {
        // CVE-2019-19921: labels and parameters are looked for below these two, so nothing may lead elsewhere.
        let links =
            if matches!(fstype.to_bytes(), b"proc" | b"sysfs") { Links::Refuse } else { Links::Follow };
        let mut options = Cow::Borrowed(&mount.options);
        let there = target::open(self.root, &mount.target, links);
        if let Ok(place) = &there
            && fstype == c"tmpfs"
            && !options.filesystem.iter().any(|option| option.starts_with("mode="))
        {
            // As runc does: a tmpfs over a directory of the image is as open as that was.
            let stat = rustix::fs::fstat(place).what(|| "look at the directory below")?;
            options.to_mut().filesystem.push(format!("mode={:o}", stat.st_mode & 0o7777));
        }
        let place = target::made_unless(there, self.root, &mount.target, Shape::Directory)?;
        if let Some(tree) = made {
            let place = Landing::of(self.root, place, tree)?;
            return self.place(mount, tree, place);
        }
        let label = self.around.mount_label.as_deref();
        let (tree, draft) = filesystem::create(fstype, source, &options, label)?;
        spent(draft.into());
        let place = Landing::of(self.root, place, &tree)?;
        if mount.options.copy_up {
            copy_up::copy(&place, &tree)?;
            // Copied first, locked afterwards: fsmount left out what would have forbidden it.
            attributes(&tree, Depth::One, mount.options.attributes, 0)?;
        }
        self.place(mount, &tree, place)?;
        spent(tree);
        Ok(())
    }

    fn cgroup(&mut self, mount: &Mount) -> Result<()> {
        let place = target::open_or_make(self.root, &mount.target, Shape::Directory, Links::Follow)?;
        if let Some(tree) = &self.prepared.cgroups {
            attributes(tree, Depth::Tree, mount.options.attributes, libc::MS_SLAVE)?;
            let place = Landing::of(self.root, place, tree)?;
            return self.place(mount, tree, place);
        }
        let options = Options { superblock: Vec::new(), filesystem: Vec::new(), ..mount.options.clone() };
        let (tree, draft) = filesystem::create(c"cgroup2", c"cgroup", &options, None)?;
        spent(draft.into());
        let place = Landing::of(self.root, place, &tree)?;
        self.place(mount, &tree, place)?;
        spent(tree);
        Ok(())
    }

    fn bind(&mut self, mount: &Mount, tree: BorrowedFd<'_>, recursive: bool) -> Result<()> {
        let shape = match kind(tree)? {
            FileType::Directory => Shape::Directory,
            _ => Shape::File,
        };
        let place = target::open_or_make(self.root, &mount.target, shape, Links::Follow)?;
        let mut place = Landing::of(self.root, place, tree)?;
        if shape == Shape::Directory {
            place = place.but_for_devices(self.root, &mount.target)?;
        }
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
    fn place(&mut self, mount: &Mount, tree: impl AsFd, place: Landing) -> Result<()> {
        attributes(&tree, Depth::Tree, mount.options.recursive_attributes, 0)?;
        for change in &mount.options.propagation {
            let depth = if change.recursive { Depth::Tree } else { Depth::One };
            attributes(&tree, depth, Attributes::default(), change.kind)?;
        }
        place.attach(&tree)?;
        self.kept.add(self.around, &mount.target, tree)
    }
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
