//! The namespaces of a container that runs: those that its first process is in, as long as that is in the user namespace that the container
//! was made in.
//!
//! A process makes or enters namespaces that belong to its own user namespace or to one below that, and who has gone to one below never
//! comes back. So as long as the first process is where it was, nobody but who has the container's rights anyway has made its other namespaces.
//! Once it has gone, they may be anybody's: with its own binfmt_misc, its own idea of who root is, its own word on supplementary groups.
//!
//! Whatever enters a container or lends what is its own goes through [`Origin`].

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use super::{ProcessId, Record};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::namespaces::Kind as Namespace;
use crate::sys::process::{owner_uid, parent_namespace};

/// Which namespace it is, for as long as somebody is in it or below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceId {
    /// Of nsfs.
    pub device: u64,
    /// In there.
    pub inode: u64,
}

impl NamespaceId {
    /// Of an open one.
    pub fn of(namespace: impl AsFd) -> rustix::io::Result<Self> {
        rustix::fs::fstat(namespace).map(|stat| Self::from(&stat))
    }

    /// The user namespace that a process is in.
    pub fn user_of(process: &str) -> rustix::io::Result<Self> {
        rustix::fs::stat(format!("/proc/{process}/ns/user")).map(|stat| Self::from(&stat))
    }
}

impl From<&Stat> for NamespaceId {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// How far the user namespace of a container is below that of the caller. Only asked where the record, by an older version, does not say
/// which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// It is the caller's child.
    Child,
    /// There is one between, which `rt` made for an ordinary user.
    Grandchild,
}

/// Where the first process of a container is, and where it has to be.
#[derive(Debug)]
pub struct Origin {
    /// /proc/PID/ns
    names: OwnedFd,
    /// The user namespace that the container was made in.
    user: NamespaceId,
}

impl Origin {
    /// Of the process `init` of the container. An error if it has gone elsewhere, or ended.
    pub fn of(container: &Record, init: ProcessId, depth: Depth) -> Result<Self> {
        let name = format!("/proc/{}/ns", init.pid);
        let what = || format!("look at the namespaces of process {}", init.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let names = rustix::fs::open(&name, flags, Mode::empty()).what(what)?;
        // ORDER: asked after they were opened: else they could be those of whoever has this pid now.
        if !init.is_alive()? {
            return Err(Error::new(Kind::WrongStatus, format!("{}: it has ended", what())));
        }
        let user = match container.user_namespace {
            Some(user) => user,
            None if container.has(Namespace::User) => made_below(&open(&names)?, depth)?,
            None => NamespaceId::user_of("self").what(what)?,
        };
        let origin = Self { names, user };
        origin.check()?;
        Ok(origin)
    }

    /// An error if the process is not, or no longer, where the container was made. What was joined before this is the container's.
    pub fn check(&self) -> Result<()> {
        let there = rustix::fs::statat(&self.names, USER, AtFlags::empty()).what(|| LOOK)?;
        self.is(NamespaceId::from(&there))
    }

    /// The container's user namespace.
    pub fn user(&self) -> Result<OwnedFd> {
        let user = open(&self.names)?;
        self.holds(&user)?;
        Ok(user)
    }

    /// An error if this is not the container's user namespace.
    pub fn holds(&self, user: impl AsFd) -> Result<()> {
        self.is(NamespaceId::of(user).what(|| LOOK)?)
    }

    fn is(&self, seen: NamespaceId) -> Result<()> {
        if seen == self.user {
            return Ok(());
        }
        let what = "the container's first process has gone to a user namespace of its own, and may have made the others";
        Err(Error::new(Kind::Denied, what).cure("only `rt kill` and `rt delete` reach it now"))
    }
}

const USER: &str = "user";
const LOOK: &str = "look at the user namespace of the container's first process";

fn open(names: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(names, USER, flags, Mode::empty()).what(|| LOOK)
}

/// Who has gone deeper has more namespaces above.
fn made_below(user: &OwnedFd, depth: Depth) -> Result<NamespaceId> {
    let above = |namespace: &OwnedFd| parent_namespace(namespace.as_fd()).what(|| LOOK);
    let between = match depth {
        Depth::Child => None,
        Depth::Grandchild => Some(above(user)?),
    };
    let top = between.as_ref().unwrap_or(user);
    let ours = NamespaceId::user_of("self").what(|| LOOK)?;
    // KERNEL: EPERM where the one above is not below the caller's: it is his own, which none of the container's is.
    let over = above(top).and_then(|over| NamespaceId::of(over).what(|| LOOK));
    let owner = owner_uid(top.as_fd()).what(|| LOOK)?;
    if over.ok() == Some(ours) && owner == rustix::process::geteuid().as_raw() {
        return NamespaceId::of(user).what(|| LOOK);
    }
    let what = "the container's state does not say in which user namespace it was made (it is of an older version), and its first process is not in one that rt made here";
    Err(Error::new(Kind::Denied, what).cure("make the container anew; `rt kill` and `rt delete` reach it"))
}
