//! The processes in a cgroup that exists: list, freeze and kill them, wait until none is left, remove what is empty.
//!
//! It makes no cgroup and sets no limit. Waiting is poll(2) on cgroup.events, never sleep.
//! KERNEL(5.14): cgroup.kill; KERNEL(5.2): cgroup.freeze

use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

const OPEN_FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

/// After so long, a change has been told.
const UNTOLD: Duration = Duration::from_millis(20);

/// A cgroup of the cgroup2 tree, with all below it.
#[derive(Debug)]
pub struct Occupants {
    path: PathBuf,
    dir: OwnedFd,
}

/// A line of cgroup.events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Empty,
    Frozen,
    Thawed,
}

impl Event {
    fn line(self) -> &'static str {
        match self {
            Self::Empty => "populated 0",
            Self::Frozen => "frozen 1",
            Self::Thawed => "frozen 0",
        }
    }
}

impl Occupants {
    /// `None` if there is no such cgroup.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        match rustix::fs::open(path, OPEN_DIR, Mode::empty()) {
            Ok(dir) => Ok(Some(Self { path: path.to_owned(), dir })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("open cgroup {}", path.display())),
        }
    }

    /// The text of one of its files, `None` if there is none.
    pub fn read_file(&self, name: &str) -> Result<Option<String>> {
        match read(&self.dir, name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("read {}", self.path.join(name).display())),
        }
    }

    /// The names of its files.
    pub fn files(&self) -> Result<Vec<String>> {
        let what = || format!("read cgroup {}", self.path.display());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir).what(what)? {
            let entry = entry.what(what)?;
            if entry.file_type() == FileType::RegularFile {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// All process ids, of cgroups below too; not sorted.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        let look = |dir: &OwnedFd| {
            match read(dir, "cgroup.procs") {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                // Threaded: its processes are listed further up. Or it was removed while we looked.
                Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            Ok(())
        };
        let walked = walk(&self.dir, look, |_, _| Ok(()));
        walked.what(|| format!("list processes of cgroup {}", self.path.display()))?;
        Ok(pids)
    }

    /// Kills all at once, also those that are being forked, or frozen.
    pub fn kill(&self) -> Result<()> {
        match write(&self.dir, "cgroup.kill", "1") {
            Err(Errno::NODEV) => Ok(()), // removed: nobody is left
            // Without any file it was removed too: systemd does that to an empty one at any time.
            Err(Errno::NOENT) if read(&self.dir, "cgroup.procs").is_err() => Ok(()),
            Err(Errno::NOENT) => Err(Error::unsupported(format!("kill cgroup {}", self.path.display()))
                .cure("there is no cgroup.kill before Linux 5.14")),
            killed => killed.what(|| format!("kill cgroup {}", self.path.display())),
        }
    }

    /// Waits until all have exited; those that nobody has waited for yet have.
    pub fn wait_empty(&self, timeout: Duration) -> Result<()> {
        self.wait(Event::Empty, timeout)
    }

    /// Stops all, and waits until they stand.
    pub fn freeze(&self, timeout: Duration) -> Result<()> {
        let frozen = self.set_freezer("1").and_then(|()| self.wait(Event::Frozen, timeout));
        if frozen.is_err() {
            // Half frozen is worse than not at all. The first error is the one to tell.
            let _ = self.set_freezer("0");
        }
        frozen
    }

    /// Lets all go on.
    pub fn thaw(&self, timeout: Duration) -> Result<()> {
        self.set_freezer("0")?;
        self.wait(Event::Thawed, timeout)
    }

    fn set_freezer(&self, value: &str) -> Result<()> {
        write(&self.dir, "cgroup.freeze", value)
            .what(|| format!("write {value} to {}", self.path.join("cgroup.freeze").display()))
    }

    fn wait(&self, event: Event, timeout: Duration) -> Result<()> {
        let what = || format!("read {}", self.path.join("cgroup.events").display());
        let file = match rustix::fs::openat(
            &self.dir,
            "cgroup.events",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(Errno::NOENT | Errno::NODEV) if event == Event::Empty => return Ok(()),
            file => file.what(what)?,
        };
        let deadline = Instant::now() + timeout;
        let mut look_again = Duration::from_micros(500);
        let mut buffer = [0; 256];
        loop {
            // Reading arms the next poll.
            let len = match rustix::io::pread(&file, &mut buffer, 0) {
                Err(Errno::NODEV) => return Ok(()),
                len => len.what(what)?,
            };
            if has_line(&buffer[..len], event) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = format!("wait for `{}` in cgroup {}", event.line(), self.path.display());
                return Err(Error::new(Kind::Timeout, format!("{what}: not so after {timeout:?}")));
            }
            // KERNEL: CGROUP_FILE_NOTIFY_MIN_INTV: a change within 10 ms of another is told only after these. Most are over
            // sooner: looked at after 1 ms, 2 ms, and so on, until telling can be relied on.
            look_again = (look_again * 2).min(UNTOLD);
            let next = if look_again < UNTOLD { deadline.min(Instant::now() + look_again) } else { deadline };
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            match poll(&mut fds, millis_until(next)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno).what(what),
            }
        }
    }

    /// Removes the cgroup and all below it. They must be empty.
    pub fn remove(self) -> Result<()> {
        let what = || format!("remove cgroup {}", self.path.display());
        let leave =
            |parent: &OwnedFd, name: &CStr| match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                removed => removed,
            };
        walk(&self.dir, |_| Ok(()), leave).what(|| format!("{}: one below it", what()))?;
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            removed => removed.what(what),
        }
    }
}

/// Looks at a cgroup and all below it, and leaves each of those when all below that one were left: by its parent and its name there.
///
/// A container may make as many as it likes, in any shape: so no path is put together, and few descriptors are open at a time.
fn walk(
    top: &OwnedFd,
    mut look: impl FnMut(&OwnedFd) -> rustix::io::Result<()>,
    mut leave: impl FnMut(&OwnedFd, &CStr) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    look(top)?;
    let mut way = Vec::new();
    let mut left = vec![children(top)?];
    let mut at = rustix::io::fcntl_dupfd_cloexec(top, 3)?;
    while let Some(siblings) = left.last_mut() {
        if let Some(name) = siblings.pop() {
            match rustix::fs::openat(&at, &name, OPEN_DIR, Mode::empty()) {
                Ok(child) => at = child,
                Err(Errno::NOENT | Errno::NODEV) => continue,
                Err(errno) => return Err(errno),
            }
            look(&at)?;
            left.push(children(&at)?);
            way.push(name);
        } else {
            left.pop();
            if let Some(name) = way.pop() {
                // KERNEL: no cgroup of this tree ever moves: it is where we came from, also when it was removed.
                at = rustix::fs::openat(&at, "..", OPEN_DIR, Mode::empty())?;
                leave(&at, &name)?;
            }
        }
    }
    Ok(())
}

fn children(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    // A cgroup has two links, and one for each below it: mostly there is nothing to read.
    if rustix::fs::fstat(dir)?.st_nlink == 2 {
        return Ok(names);
    }
    let entries = match Dir::read_from(dir) {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Waits for what happens in a cgroup: a process killed for memory, or the end of the last one.
#[derive(Debug)]
pub struct Watch {
    cgroup_events: OwnedFd,
    memory_events: Option<OwnedFd>,
}

impl Watch {
    /// From now on.
    pub fn new(occupants: &Occupants) -> Result<Self> {
        let open = |name: &str| match rustix::fs::openat(&occupants.dir, name, OPEN_FILE, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("open {}", occupants.path.join(name).display())),
        };
        let cgroup_events = open("cgroup.events")?.ok_or_else(|| {
            Error::unsupported(format!(
                "watch cgroup {}: there is no cgroup.events",
                occupants.path.display()
            ))
        })?;
        Ok(Self { cgroup_events, memory_events: open("memory.events")? })
    }

    /// Returns when something happened or the time has come; false when nobody is left.
    pub fn wait_until(&self, deadline: Instant) -> Result<bool> {
        let mut buffer = [0; 512];
        if let Some(file) = &self.memory_events {
            // Only to arm the poll; what is in there is the caller's to read.
            let _ = rustix::io::pread(file, &mut buffer, 0);
        }
        match rustix::io::pread(&self.cgroup_events, &mut buffer, 0) {
            Err(Errno::NODEV) => return Ok(false),
            len if has_line(&buffer[..len.what(|| "read cgroup.events")?], Event::Empty) => return Ok(false),
            _ => {}
        }
        let files = [Some(&self.cgroup_events), self.memory_events.as_ref()];
        let mut fds: Vec<PollFd<'_>> =
            files.into_iter().flatten().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)).collect();
        match poll(&mut fds, millis_until(deadline)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno).what(|| "wait for cgroup.events"),
        }
    }
}

fn has_line(text: &[u8], event: Event) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line == event.line().as_bytes())
}

/// Rounded up: poll(2) counts milliseconds, and 0 would spin through the last one.
fn millis_until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
}

fn read(dir: &OwnedFd, name: &str) -> rustix::io::Result<String> {
    use std::io::Read;
    let file = rustix::fs::openat(dir, name, OPEN_FILE, Mode::empty())?;
    let mut text = String::new();
    match std::fs::File::from(file).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(Errno::ILSEQ),
        Err(error) => Err(Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

fn write(dir: &OwnedFd, name: &str, text: &str) -> rustix::io::Result<()> {
    let file = rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}
