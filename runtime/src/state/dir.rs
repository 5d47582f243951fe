//! The state directory: `<root>/<id>/` for each container, in it `state.json`, the start FIFO, and the seccomp program.
//!
//! `mkdir` is the lock on an id; flock(2) on the directory is the lock on its contents; readers need neither, since files
//! are replaced by rename. Nothing is fsynced: all of it dies with the boot, as the containers do.
//! It does not know what the operations do.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::place::{Place, START_FIFO, missing, must_be_ours};
use super::record::Record;
use super::status::{self, Freezer, Presence, Seen, Stage, Status};
use crate::error::{Context, Error, Kind, Result};
use crate::id::Id;

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
        let root = match self.open_root() {
            Err(error) if error.kind() == Kind::NotFound => {
                self.make_root()?;
                self.open_root()?
            }
            root => root?,
        };
        match rustix::fs::mkdirat(&root, id.as_str(), DIR_MODE) {
            Err(Errno::EXIST) => return Err(taken(id)),
            made => made.map_err(|errno| not_made(&path, errno))?,
        }
        let mut place = Place::open(root, path, id)?;
        place.lock()?;
        // Not before: whoever removed what we had just made has no reason to lose what he made then.
        place.temporary = true;
        Ok(Reserved { place })
    }

    /// A container as it is stored now. NotFound if there is none.
    pub fn open(&self, id: &Id) -> Result<Container> {
        load(self.place(id)?)
    }

    /// The same, and nobody else changes it until this value is dropped or unlocked.
    pub fn open_locked(&self, id: &Id) -> Result<Container> {
        let mut place = self.place(id)?;
        place.lock()?;
        load(place)
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
        let root = self.open_root()?;
        let mut ids = Vec::new();
        for entry in rustix::fs::Dir::read_from(&root).what(what)? {
            let entry = entry.what(what)?;
            let Some(id) = entry.file_name().to_str().ok().and_then(|name| Id::parse(name).ok()) else {
                continue;
            };
            let kind = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(&root, id.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                kind => kind,
            };
            if kind == FileType::Directory {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn place(&self, id: &Id) -> Result<Place> {
        let root = self.open_root().map_err(|error| match error.kind() {
            Kind::NotFound => missing(id),
            _ => error,
        })?;
        Place::open(root, self.root.join(id), id)
    }

    /// NotFound if it isn't there.
    fn open_root(&self) -> Result<OwnedFd> {
        let what = || format!("open state directory {}", self.root.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::open(&self.root, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let text = format!("state directory {} does not exist", self.root.display());
                return Err(Error::new(Kind::NotFound, text));
            }
            root => root.what(what)?,
        };
        must_be_ours(&root).what(what)?;
        Ok(root)
    }

    fn make_root(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let errno = |error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        builder.create(&self.root).map_err(|error| not_made(&self.root, errno(error)))
    }
}

/// Others may pass: in a user namespace init is one of them when it opens the start FIFO. Nobody may list.
const DIR_MODE: Mode = Mode::from_raw_mode(0o711);

/// An id that `create` has taken. Dropped: the directory is removed, as if nothing had been.
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    place: Place,
}

impl Reserved {
    /// Writes the record, first in stage Creating and before anything exists, so that `delete` finds all.
    pub fn commit(&self, record: &Record) -> Result<()> {
        self.place.commit(record)
    }

    /// Makes the FIFO at which init will wait.
    pub fn make_fifo(&self) -> Result<OwnedFd> {
        self.place.make_fifo()
    }

    /// Puts a file beside the record.
    pub fn write_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        self.place.write_file(name, contents)
    }

    /// The container's directory.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// The descriptor that holds the lock; each copy of it does, a forked child's too.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.place.descriptor()
    }

    /// The container is whole, its last record committed in stage Created: disarms the removal. The lock ends here, though
    /// init may hold a copy of the descriptor.
    pub fn keep(mut self, record: Record) -> Container {
        debug_assert_eq!(record.stage, Stage::Created);
        self.place.temporary = false;
        self.place.unlock();
        Container { place: self.place, record }
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

    /// The caller has reaped init: nobody has to look for it any more.
    pub fn reaped(&mut self) {
        self.record.init = None;
    }

    /// Opens an end of the FIFO at which init waits for `start`.
    pub fn open_fifo(&self, way: OFlags) -> rustix::io::Result<OwnedFd> {
        self.place.open_fifo(way)
    }

    /// Says that init is past the FIFO: from here on the status is running.
    pub fn remove_fifo(&self) -> Result<()> {
        self.place.remove_file(START_FIFO)
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

fn load(place: Place) -> Result<Container> {
    let record = place.read_record()?;
    Ok(Container { place, record })
}

fn not_made(path: &Path, errno: Errno) -> Error {
    let error = Error::os(errno.raw_os_error(), format!("create state directory {}", path.display()));
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => error.cure(
            "set XDG_RUNTIME_DIR, below which the state of users is kept, or choose a directory by --root",
        ),
        _ => error,
    }
}

/// runc's words, with the id.
fn taken(id: &Id) -> Error {
    Error::new(Kind::Exists, format!("container with given ID already exists: \"{id}\""))
        .cure("`rt delete` frees it")
}
