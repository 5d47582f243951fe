//! The one door to files at places that a container may have had its hands on: logs, and the named pipes of a client. A file is looked at
//! before it is opened for anything, by a handle that opens nothing (`O_PATH`), and what is opened then is what was looked at. Nothing here
//! waits for another process: not for the other end of a pipe, not for a lease.
//!
//! On the way to a log, a symbolic link is followed only where an administrator may have put it (`/var/log/pods`, on another disk): above the
//! directory that is the pod's own, in directories of root's, and if the link is root's. From the pod's directory on there is none.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};

/// KERNEL: MAXSYMLINKS.
const MOST_LINKS: usize = 40;

/// How often a file may come and go while it is being opened.
const TURNS: usize = 8;

/// How often it is looked whether a file's one name is where it was found. A racer wins one look in some thousand.
const LOOKS: usize = 8;

/// Of a log: the container's owner reads it, others don't.
const LOG_MODE: u32 = 0o640;

/// Of a directory for logs.
const DIRECTORY_MODE: u32 = 0o755;

/// The directory that a file is opened in.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Goes to the directory of `file`, an absolute path. `own` is the directory above the file that is the pod's: neither it nor anything below
    /// may be a link, and what is missing is made. None: it is the file's own directory, which is there.
    pub fn of<'a>(file: &'a Path, own: Option<&Path>) -> Result<(Self, &'a OsStr)> {
        let place = file.parent().filter(|_| file.is_absolute());
        let (Some(place), Some(name)) = (place, file.file_name()) else {
            return Err(Error::invalid("it is no absolute path of a file"));
        };
        let mut way = Way::begin(own.is_some())?;
        let own = own.unwrap_or(place);
        let Ok(below) = place.strip_prefix(own) else {
            return Err(Error::invalid(format!("it is not below {}", own.display())));
        };
        let last = own.file_name();
        way.follow(own.parent().unwrap_or(own))?;
        way.descend(last.into_iter().map(OsStr::to_owned).chain(names(below)?))?;
        Ok((Self(way.end()), name))
    }

    /// Opens a file in it to append to, or makes it. Denied if it isn't a file of root's with this one name.
    pub fn append(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND;
        for _ in 0..TURNS {
            match self.look(name)? {
                Some((handle, found)) => {
                    if found.st_nlink == 0 {
                        continue; // it has just gone
                    }
                    plain(&found)?;
                    if !self.is_only_here(name, &found) {
                        continue; // its one name is elsewhere, or it has just gone
                    }
                    return reopen(handle.as_fd(), flags).map(File::from);
                }
                None => match self.make(name, flags) {
                    Err(Errno::EXIST) => {}
                    made => return made.map(File::from).what(|| "make it"),
                },
            }
        }
        Err(Error::new(Kind::Denied, "it comes and goes all the time"))
    }

    /// Makes a file that was not there; one that was is removed.
    pub fn fresh(&self, name: &OsStr) -> Result<File> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).what(|| format!("remove {}", name.display())),
        }
        let made = self.make(name, OFlags::WRONLY | OFlags::APPEND);
        made.map(File::from).what(|| format!("make {}", name.display()))
    }

    /// Gives a file in it another one's name.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        rustix::fs::renameat(&self.0, from, &self.0, to).what(|| format!("rename {}", from.display()))
    }

    /// Whether the one name that a file has is this one. A hard link to a file of the host's has two, and one again when it is removed; who
    /// makes and removes it all the time can have it there as it is looked up, and gone as its names are counted, but not each time.
    fn is_only_here(&self, name: &OsStr, found: &Stat) -> bool {
        (0..LOOKS).all(|_| {
            rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|here| {
                here.st_nlink == 1 && (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino)
            })
        })
    }

    fn look(&self, name: &OsStr) -> Result<Option<(OwnedFd, Stat)>> {
        match opath(self.0.as_fd(), name) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).what(|| "look at it"),
        }
    }

    fn make(&self, name: &OsStr, access: OFlags) -> Result<OwnedFd, Errno> {
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.0, name, flags, Mode::from_raw_mode(LOG_MODE))
    }
}

/// A named pipe of a client's. Never blocks: one that is opened for both has its other side at once, and a reader need not wait.
pub fn fifo(path: &Path, access: OFlags) -> Result<OwnedFd> {
    let (handle, found) = opath(CWD, path.as_os_str()).what(|| "look at it")?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo => reopen(handle.as_fd(), access),
        other => Err(Error::invalid(format!("it is {}", word(other)))),
    }
}

/// An O_PATH descriptor: no device is started, nobody at the other end sees it.
fn opath(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(dir, name, flags, Mode::empty())?;
    let found = fstat(&handle)?;
    Ok((handle, found))
}

/// The very file of a handle.
fn reopen(handle: BorrowedFd<'_>, access: OFlags) -> Result<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(CWD, format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty()) {
        Err(Errno::AGAIN) => Err(Error::new(Kind::Denied, "somebody holds a lease on it")),
        opened => opened.what(|| "open it"),
    }
}

/// A file that root made here and that is nowhere else: what is written to it changes nothing that somebody keeps at another place.
fn plain(found: &Stat) -> Result<()> {
    let kind = FileType::from_raw_mode(found.st_mode);
    let refused = |why: String| Err(Error::new(Kind::Denied, why).cure("remove it, or name another path"));
    if kind != FileType::RegularFile {
        return refused(format!("it is {}, not a regular file", word(kind)));
    }
    if found.st_nlink > 1 {
        return refused(format!("it has {} names (hard links), perhaps one of the host's", found.st_nlink));
    }
    if !is_root(found.st_uid) {
        return refused(format!("it belongs to user {}, not to root", found.st_uid));
    }
    Ok(())
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    }
}

/// Whether a user is root, or as good: who the shim runs as. In a user namespace the host's root has no number of its own.
fn is_root(user: u32) -> bool {
    static OTHERS: OnceLock<[u32; 2]> = OnceLock::new();
    let others = OTHERS.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let own = nix::unistd::Uid::effective().as_raw();
        let map = read("/proc/self/uid_map");
        let is_hosts = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        let unmapped = read("/proc/sys/kernel/overflowuid").trim().parse().ok().filter(|_| !is_hosts);
        [own, unmapped.unwrap_or(own)]
    });
    user == 0 || others.contains(&user)
}

/// The names of a path's parts. None climbs.
fn names(path: &Path) -> Result<Vec<OsString>> {
    let parts = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Ok(name.to_owned()),
        _ => Err(Error::invalid("its path has ..")),
    };
    parts.map(name).collect()
}

/// Where the walk to a directory has come to: all that it went through, from the root on.
struct Way {
    dirs: Vec<OwnedFd>,
    /// Whether only root may have put entries there, all the way.
    trusted: Vec<bool>,
    links: usize,
    makes: bool,
}

impl Way {
    fn begin(makes: bool) -> Result<Self> {
        let mut way = Self { dirs: Vec::new(), trusted: Vec::new(), links: 0, makes };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        way.enter(openat(CWD, "/", flags, Mode::empty()).what(|| "open /")?)?;
        Ok(way)
    }

    fn end(mut self) -> OwnedFd {
        self.dirs.swap_remove(self.dirs.len() - 1)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.dirs[self.dirs.len() - 1].as_fd()
    }

    fn is_trusted(&self) -> bool {
        self.trusted.last() != Some(&false)
    }

    fn enter(&mut self, dir: OwnedFd) -> Result<()> {
        let found = fstat(&dir).what(|| "look at a directory on the way")?;
        // In a sticky one nobody moves what is root's.
        let stays = found.st_mode & 0o1002 != 0o2;
        self.trusted.push(self.is_trusted() && is_root(found.st_uid) && stays);
        self.dirs.push(dir);
        Ok(())
    }

    /// Along a path that an administrator may have put links into.
    fn follow(&mut self, path: &Path) -> Result<()> {
        let mut todo: VecDeque<OsString> = names(path)?.into();
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                // Only out of a link's text.
                if self.dirs.len() > 1 {
                    self.dirs.pop();
                    self.trusted.pop();
                }
            } else if let Some(link) = self.step(&name)? {
                let text = self.text(&name, &link)?;
                if text.is_absolute() {
                    self.dirs.truncate(1);
                    self.trusted.truncate(1);
                }
                let parts = text.components().filter_map(|part| match part {
                    Component::Normal(name) => Some(name.to_owned()),
                    Component::ParentDir => Some(OsString::from("..")),
                    _ => None,
                });
                parts.rev().for_each(|part| todo.push_front(part));
            }
        }
        Ok(())
    }

    /// What a link says, if it may be followed.
    fn text(&mut self, name: &OsStr, link: &OwnedFd) -> Result<std::path::PathBuf> {
        let found = fstat(link).what(|| "look at a link on the way")?;
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Error::os(libc::ELOOP, format!("follow {}", name.display())));
        }
        if !self.is_trusted() || !is_root(found.st_uid) {
            let what = format!(
                "{} on the way is a symbolic link that others than root may have made",
                name.display()
            );
            return Err(Error::new(Kind::Denied, what).cure("name the place that it leads to"));
        }
        let text = readlinkat(link, "", Vec::new()).what(|| format!("read the link {}", name.display()))?;
        Ok(OsString::from_vec(text.into_bytes()).into())
    }

    /// Down through directories, and nothing else.
    fn descend(&mut self, names: impl Iterator<Item = OsString>) -> Result<()> {
        for name in names {
            if self.step(&name)?.is_some() {
                let what = format!("{} on the way is a symbolic link in a directory of pods", name.display());
                return Err(
                    Error::new(Kind::Denied, what).cure("remove it, or name the place that it leads to")
                );
            }
        }
        Ok(())
    }

    /// Enters a directory; gives a link instead.
    fn step(&mut self, name: &OsStr) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TURNS {
            match openat(self.here(), name, flags, Mode::empty()) {
                Ok(dir) => return self.enter(dir).map(|()| None),
                Err(Errno::NOENT) if self.makes => {
                    match mkdirat(self.here(), name, Mode::from_raw_mode(DIRECTORY_MODE)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => {
                            return Err(errno).what(|| format!("make the directory {}", name.display()));
                        }
                    }
                }
                Err(Errno::NOTDIR | Errno::LOOP) => match opath(self.here(), name) {
                    Ok((link, found)) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => {
                        return Ok(Some(link));
                    }
                    Ok((_, found)) if FileType::from_raw_mode(found.st_mode) != FileType::Directory => {
                        let kind = word(FileType::from_raw_mode(found.st_mode));
                        return Err(Error::os(
                            libc::ENOTDIR,
                            format!("{} on the way is {kind}", name.display()),
                        ));
                    }
                    _ => {} // another has taken its place
                },
                Err(errno) => return Err(errno).what(|| format!("go to {} on the way", name.display())),
            }
        }
        Err(Error::new(Kind::Denied, format!("{} on the way comes and goes all the time", name.display())))
    }
}

#[cfg(test)]
mod tests;
