//! One container's directory as the file system sees it: files whole or not at all, the lock, who is there.
//!
//! What is stored there is acted upon, hooks are run from it: so the directory of all containers, this one and the record must be
//! root's or ours, and nobody else may write to them.
//!
//! It does not know what the files mean but for the record; how containers are found is in [`super::dir`].

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::record::Record;
use super::status::Presence;
use crate::error::{Context, Error, Kind, Result};
use crate::id::Id;
use crate::outfile::is_trusted;

const STATE: &str = "state.json";
/// The FIFO at which init waits for `start`.
pub const START_FIFO: &str = "exec.fifo";
/// The compiled filter, for `exec`.
pub const SECCOMP: &str = "seccomp.bpf";
/// What is in most containers' directories at their end.
const KNOWN: [&str; 2] = [STATE, SECCOMP];
/// Far above what any engine writes; a record that is larger is refused when it is written, so that it can be read again.
const MAX_RECORD: u64 = 16 << 20;
/// The longest that an operation may wait for another one on the same container.
const PATIENCE: Duration = Duration::from_secs(30);
const OPEN_DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// One container's directory.
pub struct Place {
    /// Whose.
    pub id: Id,
    /// Where.
    pub path: PathBuf,
    /// Removed when dropped.
    pub temporary: bool,
    dir: OwnedFd,
    locked: bool,
}

impl Place {
    /// NotFound if it isn't there.
    pub fn open(root: impl AsFd, path: PathBuf, id: &Id) -> Result<Self> {
        let what = || format!("open state directory {}", path.display());
        let dir = match rustix::fs::openat(&root, id.as_str(), OPEN_DIR, Mode::empty()) {
            Err(Errno::NOENT) => return Err(missing(id)),
            dir => dir.what(what)?,
        };
        must_be_ours(&dir).what(what)?;
        Ok(Self { id: id.clone(), path, temporary: false, dir, locked: false })
    }

    /// NotFound if `create` did not come so far.
    pub fn read_record(&self) -> Result<Record> {
        let text = self.read_file(STATE, MAX_RECORD).map_err(|error| match error.kind() {
            Kind::NotFound => missing(&self.id),
            _ => error,
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            let what = format!("understand {}: {error}", self.path.join(STATE).display());
            Error::new(Kind::Internal, what).cure("`rt delete --force` removes it")
        })
    }

    /// Replaces the record.
    pub fn commit(&self, record: &Record) -> Result<()> {
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
    pub fn write_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        let draft = format!(".{name}");
        let write = || -> rustix::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let make = || rustix::fs::openat(&self.dir, &draft, flags, Mode::from_raw_mode(0o600));
            let file = match make() {
                // Of one who was killed as he wrote.
                Err(Errno::EXIST) => {
                    rustix::fs::unlinkat(&self.dir, &draft, AtFlags::empty())?;
                    make()?
                }
                made => made?,
            };
            let mut left = contents;
            while !left.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, left))?;
                left = &left[written..];
            }
            rustix::fs::renameat(&self.dir, &draft, &self.dir, name)
        };
        write().what(|| format!("write {}", self.path.join(name).display()))
    }

    /// At most `limit` bytes: Denied if there are more.
    pub fn read_file(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let what = || format!("read {}", self.path.join(name).display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::os(libc::ENOENT, what()).with_kind(Kind::NotFound)),
            file => file.what(what)?,
        };
        must_be_ours(&file).what(what)?;
        let mut contents = Vec::with_capacity(8192);
        std::fs::File::from(file).take(limit + 1).read_to_end(&mut contents).what(what)?;
        if contents.len() as u64 > limit {
            return Err(Error::new(Kind::Denied, format!("{}: longer than {limit} bytes", what())));
        }
        Ok(contents)
    }

    /// Waits until nobody else changes anything here. NotFound if it was removed meanwhile.
    pub fn lock(&mut self) -> Result<()> {
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
    pub fn creator(&self) -> Result<Presence> {
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

    /// Makes the FIFO and opens both ends in one descriptor, which init inherits and execve closes: `start` finds a reader as long
    /// as init waits, and loses the last other writer when init has executed the program or is gone.
    pub fn make_fifo(&self) -> Result<OwnedFd> {
        let what = || format!("make the start FIFO {}", self.path.join(START_FIFO).display());
        rustix::fs::mknodat(&self.dir, START_FIFO, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .what(what)?;
        self.open_fifo(OFlags::RDWR).what(what)
    }

    /// Opens one of its ends, or both. It doesn't wait for the other.
    pub fn open_fifo(&self, way: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = way | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, START_FIFO, flags, Mode::empty())
    }

    /// Whether init may still wait: the FIFO is there, and somebody reads it.
    pub fn start_fifo(&self) -> Result<Presence> {
        match self.open_fifo(OFlags::WRONLY) {
            Ok(_) => Ok(Presence::Here),
            // A `start` was killed before it could remove it.
            Err(Errno::NOENT | Errno::NXIO) => Ok(Presence::Gone),
            Err(errno) => Err(errno).what(|| format!("look at {}", self.path.join(START_FIFO).display())),
        }
    }

    /// Never follows a link out of the directory: std's removal goes by descriptor.
    pub fn remove(&self) -> Result<()> {
        // What is there is known, mostly.
        for name in KNOWN {
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
        if rustix::fs::rmdir(&self.path).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).what(|| format!("remove state directory {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The directory's, which also holds the lock.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// No error if it isn't there.
    pub fn remove_file(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).what(|| format!("remove {}", self.path.join(name).display())),
        }
    }

    /// Others may change things now.
    pub fn unlock(&mut self) {
        if self.locked {
            // Explicit, not by closing: a child may hold a copy of the descriptor.
            let _ = rustix::fs::flock(&self.dir, FlockOperation::Unlock);
            self.locked = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary {
            // Nobody is left who could act on a failure here; `delete -f` finds what remains.
            let _ = self.remove();
        }
        self.unlock();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// Whoever else could write there could have his hooks run by us.
pub fn must_be_ours(it: impl AsFd) -> Result<()> {
    let stat = rustix::fs::fstat(it).what(|| "look whose it is")?;
    if is_trusted(&stat) {
        return Ok(());
    }
    let we = rustix::process::geteuid().as_raw();
    let why = if [0, we].contains(&stat.st_uid) {
        format!("others may write to it (mode {:04o})", stat.st_mode & 0o7777)
    } else {
        format!("it belongs to user {}, not to root or user {we}", stat.st_uid)
    };
    Err(Error::new(Kind::Denied, why)
        .cure("its owner has to call rt; or give a directory of your own by --root, of mode 0700"))
}

/// Engines look for "does not exist".
pub fn missing(id: &Id) -> Error {
    Error::new(Kind::NotFound, format!("container \"{id}\" does not exist"))
}
