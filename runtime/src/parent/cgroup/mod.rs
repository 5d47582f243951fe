//! The container's cgroup on the host: made with its limits before anyone is in it, found again later, changed, removed.
//!
//! Who is in it is [`super::occupants`]'; what is written where is decided in [`crate::plan::cgroup`]. A systemd scope needs
//! a process first, so it is made by [`Site::start_unit`] and not by [`Site::create`].

mod apply;
mod berth;
mod controllers;
mod delegate;
mod devices;
mod files;
mod mount;
mod remove;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, XattrFlags};
use rustix::io::Errno;

use super::occupants::Occupants;
use super::systemd;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::cgroup::{CgroupPlan, Place};
use crate::spec::Resources;
use crate::state::CgroupRecord;
pub use berth::Berth;
use controllers::Wanted;
pub use mount::Mount;
pub use remove::remove;

/// Marks directories that were made on the way to a container's cgroup, so that they go away with the last one below.
const MADE: &str = "trusted.rt.made";

/// How long those may take to die who are in a cgroup that is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Another runtime may remove a directory on the way just before something is made in it.
const ATTEMPTS: usize = 8;

/// Where a cgroup will be, before it is there: known early, so that it can be stored before anything exists.
#[derive(Debug)]
pub struct Site {
    mount: Mount,
    /// Below the mount, without a leading slash.
    path: String,
    unit: Option<String>,
}

/// A container's cgroup. Dropped, it is removed with all who are in it, unless it was kept.
#[derive(Debug)]
pub struct Cgroup {
    site: Site,
    dir: OwnedFd,
    /// Made by us, just now: nothing can be attached or set.
    fresh: bool,
    kept: bool,
}

/// Where the host has its cgroup2.
pub fn mount_point() -> Result<PathBuf> {
    Mount::find().map(|mount| mount.path)
}

impl Site {
    /// Finds the host's cgroup2. Refuses a cgroup that somebody is in.
    pub fn find(plan: &CgroupPlan) -> Result<Self> {
        let mount = Mount::find()?;
        let unit = match &plan.place {
            Place::Path { .. } => None,
            Place::Unit { unit, .. } => Some(unit.clone()),
        };
        let site = Self { mount, path: plan.place.path().to_owned(), unit };
        // ORDER: before anything is stored: whoever finds the record later would take others' processes for the container's.
        if let Ok(dir) = files::below(&site.mount.root, &site.path) {
            site.refuse_used(&dir)?;
        }
        Ok(site)
    }

    /// Where the host has its cgroup2.
    pub fn mount_point(&self) -> &Path {
        &self.mount.path
    }

    /// What is stored, for [`Cgroup::open`] and [`remove()`].
    pub fn record(&self, resources: Option<Resources>) -> CgroupRecord {
        CgroupRecord { path: self.absolute(), unit: self.unit.clone(), resources }
    }

    /// Whether it is made around a process: [`Site::start_unit`].
    fn needs_process(&self) -> bool {
        self.unit.is_some()
    }

    /// Makes the cgroup, and enables the controllers that the plan needs. It must not be in use by anyone.
    pub fn create(self, plan: &CgroupPlan) -> Result<Cgroup> {
        if self.unit.is_some() {
            return Err(Error::new(Kind::Internal, "make a systemd unit without a process"));
        }
        let wanted = Wanted::of(plan);
        for _ in 0..ATTEMPTS {
            match self.make(&wanted) {
                Ok((dir, fresh)) => {
                    // ORDER: before there is a guard, which would kill who is in there.
                    if !fresh {
                        self.refuse_used(&dir)?;
                    }
                    return Ok(Cgroup { site: self, dir, fresh, kept: false });
                }
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(self.not_made(errno)),
            }
        }
        Err(Error::os(libc::ENOENT, format!("make cgroup {}: its parent is being removed", self.show())))
    }

    /// Lets systemd make the unit around the process, which is in its cgroup then. Returns also what was left out, to be shown.
    pub fn start_unit(mut self, plan: &CgroupPlan, pid: i32) -> Result<(Cgroup, Vec<String>)> {
        let Some(unit) = &self.unit else {
            return Err(Error::new(Kind::Internal, "start a systemd unit for a cgroup that is none"));
        };
        let warnings = systemd::start(unit, &plan.properties, pid)?;
        // From here on there is something to undo.
        let guard = Started(Some(unit.clone()));
        let what = || format!("find the cgroup of {unit}");
        if unit.ends_with(".slice") {
            // It takes no processes at its start.
            let dir = files::below(&self.mount.root, &self.path).what(what)?;
            files::write(&dir, "cgroup.procs", &pid.to_string())
                .what(|| format!("move process {pid} to {unit}"))?;
        }
        // systemd has the last word about where it is.
        let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).what(what)?;
        let path = table.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        if path.rsplit('/').next() != Some(unit) {
            let place = format!("{}: process {pid} is in \"/{path}\"", what());
            return Err(Error::new(Kind::Internal, place).cure("systemd must run in this cgroup namespace"));
        }
        let dir = files::below(&self.mount.root, &path).what(what)?;
        guard.disarm();
        self.path = path;
        Ok((Cgroup { site: self, dir, fresh: true, kept: false }, warnings))
    }

    /// The directory, and whether it is new.
    fn make(&self, wanted: &Wanted<'_>) -> rustix::io::Result<(OwnedFd, bool)> {
        let (above, name) = self.path.rsplit_once('/').unwrap_or((".", &self.path));
        if above == "." && wanted.enable(&self.mount.root) {
            let fresh = make_directory(&self.mount.root, name)?;
            return Ok((files::below(&self.mount.root, name)?, fresh));
        }
        let parent = match files::below(&self.mount.root, above) {
            // Mostly the parent is there and has the controllers that limits need. Those for accounting it has if it can.
            Ok(parent) if wanted.enable(&parent) => parent,
            Ok(_) | Err(Errno::NOENT) => self.descend(above, wanted)?,
            Err(errno) => return Err(errno),
        };
        let fresh = make_directory(&parent, name)?;
        Ok((files::below(&parent, name)?, fresh))
    }

    /// Makes what is missing of a path and enables the controllers on each level.
    fn descend(&self, path: &str, wanted: &Wanted<'_>) -> rustix::io::Result<OwnedFd> {
        let mut dir = files::below(&self.mount.root, ".")?;
        for name in path.split('/').filter(|name| *name != ".") {
            wanted.enable(&dir);
            let fresh = make_directory(&dir, name)?;
            dir = files::below(&dir, name)?;
            if fresh {
                // Without the mark it stays behind, which is what other runtimes do.
                let _ = rustix::fs::fsetxattr(&dir, MADE, b"", XattrFlags::empty());
            }
        }
        wanted.enable(&dir);
        Ok(dir)
    }

    /// Whoever is in an existing cgroup would be frozen and killed with the container.
    fn refuse_used(&self, dir: &OwnedFd) -> Result<()> {
        let what = format!("make cgroup {}", self.show());
        let events = files::read(dir, "cgroup.events").what(|| what.clone())?;
        let has = |line: &str| events.lines().any(|have| have == line);
        if has("populated 1") {
            return Err(Error::new(Kind::Exists, format!("{what}: it is there and has processes"))
                .cure("another container uses it, or is not deleted yet: name another linux.cgroupsPath"));
        }
        if has("frozen 1") {
            return Err(Error::new(Kind::Exists, format!("{what}: it is there and frozen"))
                .cure("remove it, or name another linux.cgroupsPath"));
        }
        Ok(())
    }
    fn not_made(&self, errno: Errno) -> Error {
        let error = Error::os(errno.raw_os_error(), format!("make cgroup {}", self.show()));
        match errno {
            Errno::ROFS => error.cure("the cgroup2 file system is mounted read-only here"),
            Errno::ACCESS | Errno::PERM => error.cure("it belongs to another user"),
            Errno::AGAIN => {
                error.cure("cgroup.max.descendants or cgroup.max.depth of a cgroup above is reached")
            }
            Errno::LOOP => error.cure("a symbolic link is on the way"),
            _ => error,
        }
    }

    fn absolute(&self) -> PathBuf {
        self.mount.path.join(&self.path)
    }

    fn show(&self) -> String {
        self.absolute().display().to_string()
    }
}

/// A unit that is stopped again if the next steps fail.
struct Started(Option<String>);

impl Started {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(error) = self.0.as_deref().and_then(|unit| systemd::stop(unit).err()) {
            tracing::warn!("{error}");
        }
    }
}

/// Whether it was made; it may be there already.
fn make_directory(parent: &OwnedFd, name: &str) -> rustix::io::Result<bool> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

impl Cgroup {
    /// The cgroup of a container that was made earlier; `None` if it is gone. Never removed when dropped.
    pub fn open(record: &CgroupRecord) -> Result<Option<Self>> {
        let mount = Mount::find()?;
        let Some(path) = record.path.strip_prefix(&mount.path).ok().and_then(Path::to_str) else {
            let what = format!("open cgroup {}", record.path.display());
            return Err(Error::unsupported(format!("{what}: cgroup2 is at {} now", mount.path.display())));
        };
        match files::below(&mount.root, path) {
            Ok(dir) => {
                let site = Site { path: path.to_owned(), mount, unit: record.unit.clone() };
                Ok(Some(Self { site, dir, fresh: false, kept: true }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("open cgroup {}", record.path.display())),
        }
    }

    /// For `CLONE_INTO_CGROUP`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What is stored: where it really is, for a unit.
    pub fn record(&self, resources: Option<Resources>) -> CgroupRecord {
        self.site.record(resources)
    }

    /// From now on it stays.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Moves a process here, with its threads.
    pub fn attach(&self, pid: i32) -> Result<()> {
        files::write(&self.dir, "cgroup.procs", &pid.to_string())
            .what(|| format!("move process {pid} to cgroup {}", self.site.show()))
            .map_err(|error| match error.errno() {
                Some(libc::EBUSY) => error
                    .cure("the cgroup has controllers enabled for its children, so it can hold no process"),
                Some(libc::EOPNOTSUPP) => error.cure("the cgroup or one above is threaded"),
                _ => error,
            })
    }

    /// How often the kernel killed someone in here for want of memory; 0 without the memory controller.
    pub fn oom_kills(&self) -> u64 {
        let events = files::read(&self.dir, "memory.events").unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that was there before us stays, but for who was put into it: it was empty.
        if self.kept {
            return;
        }
        let record = self.site.record(None);
        let undone = if self.fresh { remove(&record, PATIENCE) } else { remove::kill(&record, PATIENCE) };
        if let Err(error) = undone {
            tracing::warn!("{error}");
        }
    }
}
