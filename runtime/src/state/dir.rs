//! The state directory: `<root>/<id>/` for each container, in it `state.json`, the start FIFO, and the seccomp program.
//!
//! `mkdir` is the lock on an id; flock(2) on the directory is the lock on its contents; readers need neither, since files
//! are replaced by rename. Nothing is fsynced: all of it dies with the boot, as the containers do.
//! It does not know what the operations do.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::record::Record;
use super::status::{self, Freezer, Presence, Seen, Stage, Status};
use crate::error::{Context, Error, Kind, Result};
use crate::id::Id;

const STATE: &str = "state.json";
const START_FIFO: &str = "exec.fifo";
/// Far above what any engine writes; a record that is larger is refused when it is written, so that it can be read again.
const MAX_RECORD: u64 = 16 << 20;
/// The longest that an operation may wait for another one on the same container.
const PATIENCE: Duration = Duration::from_secs(30);
const OPEN_DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The directory of all containers: `--root`.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Doesn't touch the system: the directory is made when the first container is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Takes the id: from here on nobody else can. The directory is locked; it goes away unless it is kept.
    /// Exists if the id is taken.
    pub fn reserve(&self, id: &Id) -> Result<Reserved> {
        let path = self.root.join(id);
        if let Err(errno) = rustix::fs::mkdir(&path, DIR_MODE) {
            match errno {
                Errno::NOENT => self.make_root()?,
                Errno::EXIST => return Err(taken(id)),
                _ => return Err(errno).what(|| format!("create state directory {}", path.display())),
            }
            match rustix::fs::mkdir(&path, DIR_MODE) {
                Err(Errno::EXIST) => return Err(taken(id)),
                made => made.what(|| format!("create state directory {}", path.display()))?,
            }
        }
        let dir = open_dir(&path, id)?;
        let reserved = Reserved { place: Place { id: id.clone(), path, dir, locked: false }, kept: false };
        reserved.lock()
    }

    /// A container as it is stored now. NotFound if there is none.
    pub fn open(&self, id: &Id) -> Result<Container> {
        self.place(id)?.load()
    }

    /// The same, and nobody else changes it until this value is dropped or unlocked.
    pub fn open_locked(&self, id: &Id) -> Result<Container> {
        let mut place = self.place(id)?;
        place.lock()?;
        place.load()
    }

    /// The directory of a container whose record may be missing (`create` was killed early) or broken. Locked.
    pub fn open_leftover(&self, id: &Id) -> Result<Leftover> {
        let mut place = self.place(id)?;
        place.lock()?;
        Ok(Leftover { place })
    }

    /// All ids, sorted. NotFound if the directory does not exist.
    pub fn list(&self) -> Result<Vec<Id>> {
        let what = || format!("read state directory {}", self.root.display());
        let entries = std::fs::read_dir(&self.root).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Error::new(Kind::NotFound, format!("state directory {} does not exist", self.root.display()))
            }
            _ => Error::os(e.raw_os_error().unwrap_or(libc::EIO), what()),
        })?;
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.what(what)?;
            let id = entry.file_name().to_str().and_then(|name| Id::parse(name).ok());
            if let (Some(id), Ok(true)) = (id, entry.file_type().map(|t| t.is_dir())) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn place(&self, id: &Id) -> Result<Place> {
        let path = self.root.join(id);
        let dir = open_dir(&path, id)?;
        Ok(Place { id: id.clone(), path, dir, locked: false })
    }

    fn make_root(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.root).what(|| format!("create state directory {}", self.root.display()))
    }
}

/// Others may pass: in a user namespace init is one of them when it opens the start FIFO. Nobody may list.
const DIR_MODE: Mode = Mode::from_raw_mode(0o711);

/// An id that `create` has taken. Dropped: the directory is removed, as if nothing had been.
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    place: Place,
    kept: bool,
}

impl Reserved {
    fn lock(mut self) -> Result<Self> {
        self.place.lock().inspect_err(|error| {
            // Somebody else removed what we had just made; it is not ours to remove any more.
            self.kept = error.kind() == Kind::NotFound;
        })?;
        Ok(self)
    }

    /// Writes the record, first in stage Creating and before anything exists, so that `delete` finds all.
    pub fn commit(&self, record: &Record) -> Result<()> {
        self.place.commit(record)
    }

    /// Where init will wait.
    pub fn fifo_path(&self) -> PathBuf {
        self.place.path.join(START_FIFO)
    }

    /// Puts a file beside the record.
    pub fn write_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        self.place.write_file(name, contents)
    }

    /// The container's directory.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Commits the last record, in stage Created, and disarms the removal. The lock ends here, though init may hold a
    /// copy of the descriptor.
    pub fn keep(mut self, record: Record) -> Result<Container> {
        debug_assert_eq!(record.stage, Stage::Created);
        self.place.commit(&record)?;
        self.kept = true;
        let dir = rustix::io::fcntl_dupfd_cloexec(&self.place.dir, 0).what(|| "duplicate a descriptor")?;
        let place = Place { id: self.place.id.clone(), path: self.place.path.clone(), dir, locked: false };
        Ok(Container { place, record })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left who could act on a failure here; `delete -f` finds what remains.
            let _ = self.place.remove();
        }
    }
}

/// A container as it was stored when it was opened.
#[derive(Debug)]
pub struct Container {
    place: Place,
    record: Record,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &Id {
        &self.place.id
    }

    /// What is stored.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What is going on, seen now.
    pub fn status(&self) -> Result<Status> {
        let owner = match (self.record.stage, self.record.init) {
            (Stage::Creating, _) => self.place.creator()?,
            (Stage::Created, Some(init)) if init.is_alive()? => Presence::Here,
            (Stage::Created, _) => Presence::Gone,
        };
        if (owner, self.record.stage) != (Presence::Here, Stage::Created) {
            return Ok(status::of(
                self.record.stage,
                Seen { owner, start_fifo: Presence::Gone, freezer: Freezer::Thawed },
            ));
        }
        let start_fifo = self.place.start_fifo()?;
        Ok(status::of(self.record.stage, Seen { owner, start_fifo, freezer: self.freezer() }))
    }

    /// Replaces what is stored.
    pub fn commit(&mut self, record: Record) -> Result<()> {
        self.place.commit(&record)?;
        self.record = record;
        Ok(())
    }

    /// Where init waits for `start`.
    pub fn fifo_path(&self) -> PathBuf {
        self.place.path.join(START_FIFO)
    }

    /// Says that init is past the FIFO: from here on the status is running.
    pub fn remove_fifo(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.place.dir, START_FIFO, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).what(|| format!("remove {}", self.fifo_path().display())),
        }
    }

    /// Reads a file beside the record, at most `limit` bytes.
    pub fn read_file(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.place.read_file(name, limit)
    }

    /// The container's directory.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Lets others change it.
    pub fn unlock(&mut self) {
        self.place.unlock();
    }

    /// Removes all that is stored; the id is free again.
    pub fn remove(self) -> Result<()> {
        self.place.remove()
    }

    fn freezer(&self) -> Freezer {
        let Some(cgroup) = &self.record.cgroup else { return Freezer::Thawed };
        let mut first = [0];
        let read = rustix::fs::open(
            cgroup.path.join("cgroup.freeze"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .and_then(|file| rustix::io::read(&file, &mut first));
        // A cgroup that can't be asked is one that was removed, by systemd for example: nothing in it is frozen.
        if read == Ok(1) && first == [b'1'] { Freezer::Frozen } else { Freezer::Thawed }
    }
}

/// A directory whose record may be missing or broken: what `delete --force` finds after a SIGKILL.
#[derive(Debug)]
pub struct Leftover {
    place: Place,
}

impl Leftover {
    /// Its record: NotFound if there is none, another error if it can't be understood.
    pub fn load(self) -> Result<Container, (Self, Error)> {
        match self.place.read_record() {
            Ok(record) => Ok(Container { place: self.place, record }),
            Err(error) => Err((self, error)),
        }
    }

    /// Removes all that is stored.
    pub fn remove(self) -> Result<()> {
        self.place.remove()
    }
}

/// One container's directory.
struct Place {
    id: Id,
    path: PathBuf,
    dir: OwnedFd,
    locked: bool,
}

impl Place {
    fn load(self) -> Result<Container> {
        let record = self.read_record()?;
        Ok(Container { place: self, record })
    }

    fn read_record(&self) -> Result<Record> {
        let text = self.read_file(STATE, MAX_RECORD).map_err(|error| match error.kind() {
            Kind::NotFound => missing(&self.id),
            _ => error,
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            let what = format!("understand {}: {error}", self.path.join(STATE).display());
            Error::new(Kind::Internal, what).cure("`rt delete --force` removes it")
        })
    }

    fn commit(&self, record: &Record) -> Result<()> {
        let mut text = Vec::with_capacity(4096);
        serde_json::to_writer(&mut text, record)
            .map_err(|error| Error::new(Kind::Internal, format!("write the state as JSON: {error}")))?;
        if text.len() as u64 > MAX_RECORD {
            let what =
                format!("store the container's state: {} bytes, the limit is {MAX_RECORD}", text.len());
            return Err(Error::invalid(what).cure("shorten the annotations"));
        }
        self.write_file(STATE, &text)
    }

    /// Whole or not at all: written under another name, then renamed.
    fn write_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        let draft = format!(".{name}");
        let write = || -> rustix::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(&self.dir, &draft, flags, Mode::from_raw_mode(0o600))?;
            let mut left = contents;
            while !left.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, left))?;
                left = &left[written..];
            }
            rustix::fs::renameat(&self.dir, &draft, &self.dir, name)
        };
        write().what(|| format!("write {}", self.path.join(name).display()))
    }

    fn read_file(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let what = || format!("read {}", self.path.join(name).display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::os(libc::ENOENT, what()).with_kind(Kind::NotFound)),
            file => file.what(what)?,
        };
        let mut contents = Vec::with_capacity(8192);
        std::fs::File::from(file).take(limit + 1).read_to_end(&mut contents).what(what)?;
        if contents.len() as u64 > limit {
            return Err(Error::new(Kind::Denied, format!("{}: longer than {limit} bytes", what())));
        }
        Ok(contents)
    }

    fn lock(&mut self) -> Result<()> {
        if let Err(errno) = rustix::fs::flock(&self.dir, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(errno).what(|| format!("lock {}", self.path.display()));
            }
            self.wait_for_lock()?;
        }
        self.locked = true;
        // A directory that was removed while we waited can still be locked, but is no container any more.
        let stat = rustix::fs::fstat(&self.dir).what(|| format!("look at {}", self.path.display()))?;
        if stat.st_nlink == 0 { Err(missing(&self.id)) } else { Ok(()) }
    }

    fn wait_for_lock(&self) -> Result<()> {
        let locked = crate::sys::alarm::with_deadline(PATIENCE, || {
            rustix::fs::flock(&self.dir, FlockOperation::LockExclusive)
                .map_err(|errno| nix::errno::Errno::from_raw(errno.raw_os_error()))
        });
        match locked {
            Err(nix::errno::Errno::ETIMEDOUT) => {
                let what = format!(
                    "container \"{}\" is busy: another operation has held it for {PATIENCE:?}",
                    self.id
                );
                Err(Error::new(Kind::Timeout, what))
            }
            locked => locked.what(|| format!("lock {}", self.path.display())),
        }
    }

    /// Whether `create` still works here: it holds the lock all the while, and the kernel takes it away when it dies.
    fn creator(&self) -> Result<Presence> {
        if self.locked {
            return Ok(Presence::Gone);
        }
        match rustix::fs::flock(&self.dir, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let _ = rustix::fs::flock(&self.dir, FlockOperation::Unlock);
                Ok(Presence::Gone)
            }
            Err(Errno::WOULDBLOCK) => Ok(Presence::Here),
            Err(errno) => Err(errno).what(|| format!("look who locks {}", self.path.display())),
        }
    }

    fn start_fifo(&self) -> Result<Presence> {
        match rustix::fs::statat(&self.dir, START_FIFO, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(Presence::Here),
            Err(Errno::NOENT) => Ok(Presence::Gone),
            Err(errno) => Err(errno).what(|| format!("look at {}", self.path.join(START_FIFO).display())),
        }
    }

    /// Never follows a link out of the directory: std's removal goes by descriptor.
    fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).what(|| format!("remove state directory {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn unlock(&mut self) {
        if self.locked {
            // Explicit, not by closing: a child may hold a copy of the descriptor.
            let _ = rustix::fs::flock(&self.dir, FlockOperation::Unlock);
            self.locked = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

fn open_dir(path: &Path, id: &Id) -> Result<OwnedFd> {
    match rustix::fs::open(path, OPEN_DIR, Mode::empty()) {
        Err(Errno::NOENT) => Err(missing(id)),
        dir => dir.what(|| format!("open state directory {}", path.display())),
    }
}

/// Engines look for "does not exist".
fn missing(id: &Id) -> Error {
    Error::new(Kind::NotFound, format!("container \"{id}\" does not exist"))
}

/// runc's words, with the id.
fn taken(id: &Id) -> Error {
    Error::new(Kind::Exists, format!("container with given ID already exists: \"{id}\""))
        .cure("`rt delete` frees it")
}
