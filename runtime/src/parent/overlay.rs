//! Overlays as detached mounts, made in the initial user namespace: the host never has one to leak, and opaque directories work.
//!
//! By handles alone where the kernel can (6.15): no path is ever put into a string, so colons, commas, lengths and numbers don't matter.
//! An older kernel only takes layers that lie in the caller's mount namespace, so there a short-lived process makes the overlay
//! in one of its own. It attaches nothing in ours.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::fs::{CWD, Gid, Mode, OFlags, Stat, Uid};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::filesystem::Draft;
use super::userns::Mappings;
use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::outfile::Name;
use crate::plan::layers::Changes;
use crate::plan::mount_options::Options;
use crate::plan::mounts::MountIdMap;
use crate::step::Step;
use crate::sys::clone::{Clone3, Side};
use crate::sys::mount::{Depth, MountAttr, mount_setattr};
use crate::sys::process::exit_now;

/// An overlay to make.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Topmost first.
    pub lowers: &'a [PathBuf],
    /// The writable layer.
    pub changes: &'a Changes,
    /// Attributes, and what the filesystem is told besides.
    pub options: &'a Options,
    /// Of the read-only layers.
    pub idmap: Option<&'a MountIdMap>,
}

impl Overlay<'_> {
    /// Makes it; directories that it made go to `fresh`.
    pub fn make(&self, mappings: &mut Mappings<'_>, fresh: &mut Fresh) -> Result<OwnedFd> {
        let layers = Layers::open(self, mappings, fresh)?;
        match self.by_handles(&layers) {
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EBADF)) => {
                self.in_a_room(mappings).map_err(|older| match older.errno() {
                    // Both ways end alike: the first one knows what the kernel has to say.
                    Some(libc::EINVAL) => error,
                    _ => older,
                })
            }
            made => made,
        }
    }

    fn by_handles(&self, layers: &Layers) -> Result<OwnedFd> {
        let draft = Draft::open(c"overlay")?;
        draft.source(c"overlay")?;
        for (layer, path) in layers.lowers.iter().zip(self.lowers) {
            draft.directory(c"lowerdir+", layer).map_err(|error| error.during(layer_name(path)))?;
        }
        if let Some(changes) = &layers.changes {
            draft.directory(c"upperdir", &changes.upper)?;
            draft.directory(c"workdir", &changes.work)?;
        }
        draft.options(c"overlay", self.options)?;
        draft.mount(self.options.attributes.set)
    }

    /// KERNEL(5.12): the way for kernels before 6.15. The process that makes it has a mount namespace of its own.
    fn in_a_room(&self, mappings: &mut Mappings<'_>) -> Result<OwnedFd> {
        let (ours, theirs) = Link::pair()?;
        let born = Clone3 { namespaces: libc::CLONE_NEWNS as u64, ..Clone3::default() }.call();
        match born.what(|| "clone into a new mount namespace")? {
            Side::Child => {
                drop(ours);
                let message = match self.by_numbers(mappings) {
                    Ok(made) => Message::Ready(Some(made)),
                    Err(error) => Message::Failed(Step::Prepare as u8, error),
                };
                exit_now(i32::from(theirs.send(&message).is_err()))
            }
            Side::Parent(pid, _pidfd) => {
                drop(theirs);
                let said = ours.receive();
                nix::sys::wait::waitpid(pid, None).what(|| "wait for the process that makes it")?;
                match said? {
                    Some(Message::Ready(Some(made))) => Ok(made),
                    Some(Message::Failed(_, error)) => Err(error),
                    _ => Err(Error::new(Kind::Internal, "the process that makes the overlay died")),
                }
            }
        }
    }

    /// In /proc/self/fd the layers' names are numbers, short enough for 500 of them in the page that mount(2) takes.
    fn by_numbers(&self, mappings: &mut Mappings<'_>) -> Result<OwnedFd> {
        mount_setattr(
            CWD,
            c"/",
            Depth::Tree,
            MountAttr { propagation: libc::MS_PRIVATE, ..Default::default() },
        )
        .what(|| "cut a mount namespace off from the host's")?;
        let layers = Layers::open(self, mappings, &mut Fresh::default())?;
        rustix::process::chdir(c"/proc/self/fd").what(|| "enter /proc/self/fd")?;
        let mapped = layers.lowers.iter().filter(|_| self.idmap.is_some());
        for tree in mapped.chain(layers.changes.iter().filter_map(|changes| changes.tmpfs.as_ref())) {
            rustix::mount::move_mount(tree, c"", CWD, c"/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .what(|| "attach a layer")?;
        }
        let text = layers.numbers(self.options);
        // KERNEL: mount(2) takes one page, with its NUL.
        if text.len() >= 4096 {
            return Err(Error::unsupported(format!(
                "{} layers need {} bytes, this kernel takes 4095",
                self.lowers.len(),
                text.len()
            ))
            .cure("Linux 6.15 has no such limit"));
        }
        nix::mount::mount(Some("overlay"), "/proc", Some("overlay"), MsFlags::empty(), Some(text.as_str()))
            .what(|| format!("mount it with {text:?}"))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, c"/proc", flags).what(|| "detach it")?;
        let set = self.options.attributes.set;
        mount_setattr(&tree, c"", Depth::One, MountAttr { set, ..Default::default() })
            .what(|| "set its attributes")?;
        Ok(tree)
    }
}

fn layer_name(path: &Path) -> String {
    format!("open the layer {}", path.display())
}

/// Handles of all directories of an overlay.
struct Layers {
    lowers: Vec<OwnedFd>,
    changes: Option<Writable>,
}

struct Writable {
    upper: OwnedFd,
    work: OwnedFd,
    /// That both are in; it must outlive the making.
    tmpfs: Option<OwnedFd>,
}

impl Layers {
    fn open(overlay: &Overlay<'_>, mappings: &mut Mappings<'_>, fresh: &mut Fresh) -> Result<Self> {
        let mut lowers = Vec::with_capacity(overlay.lowers.len());
        for path in overlay.lowers {
            lowers.push(match overlay.idmap {
                None => directory(CWD, path).what(|| layer_name(path))?,
                Some(map) => mapped(path, map, mappings)?,
            });
        }
        // What covers the topmost layer's root shall look like it.
        let like = rustix::fs::fstat(&lowers[0]).what(|| "look at the topmost layer")?;
        let changes = match overlay.changes {
            Changes::None => None,
            Changes::Tmpfs => Some(Writable::in_memory(&like)?),
            Changes::In { upper, work } => Some(Writable::open(upper, work)?),
            Changes::Made { upper, work } => {
                let (upper, work) = (
                    fresh.make("upper directory", upper, &like)?,
                    fresh.make("work directory", work, &like)?,
                );
                Some(Writable { upper, work, tmpfs: None })
            }
        };
        Ok(Self { lowers, changes })
    }

    /// The options as one string.
    fn numbers(&self, options: &Options) -> String {
        let lowers: Vec<String> = self.lowers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let mut text = format!("lowerdir={}", lowers.join(":"));
        if let Some(changes) = &self.changes {
            let (upper, work) = (changes.upper.as_raw_fd(), changes.work.as_raw_fd());
            text += &format!(",upperdir={upper},workdir={work}");
        }
        for option in &options.filesystem {
            text += ",";
            text += option;
        }
        text
    }
}

impl Writable {
    fn in_memory(like: &Stat) -> Result<Self> {
        let what = || "make a tmpfs for the changes";
        let draft = Draft::open(c"tmpfs").what(what)?;
        draft.source(c"rt-overlay").what(what)?;
        let tmpfs = draft.mount(0).what(what)?;
        let make = |name| {
            rustix::fs::mkdirat(&tmpfs, name, Mode::RWXU).what(what)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(&tmpfs, name, flags, Mode::empty()).what(what)?;
            look_like(&handle, like).what(what)?;
            Ok(handle)
        };
        Ok(Self { upper: make("upper")?, work: make("work")?, tmpfs: Some(tmpfs) })
    }

    fn open(upper: &Path, work: &Path) -> Result<Self> {
        let open = |name, path: &Path| {
            let opened = Name::find(path).and_then(|name| name.existing_directory());
            opened.what(|| format!("open the {name} {}", path.display()))
        };
        Ok(Self { upper: open("upper directory", upper)?, work: open("work directory", work)?, tmpfs: None })
    }
}

/// Directories that did not exist: gone again unless the container comes to stand.
///
/// Somebody else may own the directory that they are in, and put others in their place: each is made, changed and emptied by handle.
#[derive(Debug, Default)]
pub struct Fresh(Vec<(Name, OwnedFd)>);

impl Fresh {
    /// From here on they are the user's.
    pub fn keep(mut self) {
        self.0.clear();
    }

    fn make(&mut self, which: &str, path: &Path, like: &Stat) -> Result<OwnedFd> {
        let what = || format!("open the {which} {}", path.display());
        let name = Name::find(path).what(what)?;
        let (handle, new) = name.directory().what(what)?;
        if new {
            self.0.push((name, rustix::io::fcntl_dupfd_cloexec(&handle, 3).what(what)?));
            look_like(&handle, like).what(what)?;
        }
        Ok(handle)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for (name, handle) in &self.0 {
            // With what the failed create put into them; they were not there before it.
            let inside = format!("/proc/self/fd/{}", handle.as_raw_fd());
            for entry in std::fs::read_dir(inside).into_iter().flatten().flatten() {
                let path = entry.path();
                let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
            }
            let _ = name.remove_directory();
        }
    }
}

/// The owner and mode of another.
fn look_like(dir: &OwnedFd, like: &Stat) -> rustix::io::Result<()> {
    rustix::fs::fchown(dir, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
    rustix::fs::fchmod(dir, Mode::from_raw_mode(like.st_mode & 0o7777))
}

fn directory(dir: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// KERNEL(5.19): overlays of idmapped layers.
fn mapped(path: &Path, map: &MountIdMap, mappings: &mut Mappings<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, path, flags).what(|| layer_name(path))?;
    mappings.apply(&tree, Depth::One, map).what(|| layer_name(path))?;
    Ok(tree)
}
