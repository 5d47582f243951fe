//! Files under names that came from outside: `--log`, `--pid-file`, sockets for terminals and pidfds. The one door to all of them.
//!
//! Somebody else may write to the directory that such a name is in. So it is found once, by handle; no link is followed as the last
//! part of it, none on the way to it that others could have put there; nothing is opened before it was looked at, and no open waits.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const WRITE: OFlags = OFlags::WRONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// As many as the kernel follows.
const MAX_LINKS: usize = 40;
/// How often somebody may be quicker.
const TRIES: u32 = 64;

/// A name in a directory.
#[derive(Debug)]
pub struct Name {
    dir: OwnedFd,
    name: OsString,
}

/// Whether root or we own it, and nobody else may write to it.
pub fn is_trusted(stat: &Stat) -> bool {
    is_trusted_owner(stat.st_uid) && stat.st_mode & 0o022 == 0
}

fn is_trusted_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Directories that are root's on every host.
const ROOTS: [&str; 7] = ["/", "/dev", "/dev/pts", "/run", "/tmp", "/var", "/var/tmp"];

/// In a user namespace the host's root may be nobody, and so is every other user there: then only directories that are known to be
/// root's count as his.
fn is_roots_or_ours(dir: &Stat) -> bool {
    is_trusted_owner(dir.st_uid)
        || ROOTS.iter().any(|known| is(dir, known))
            && rustix::fs::stat("/").is_ok_and(|root| root.st_uid == dir.st_uid)
}

fn is_left_alone(dir: &Stat) -> bool {
    is_roots_or_ours(dir) && dir.st_mode & 0o022 == 0
}

fn is(dir: &Stat, path: &str) -> bool {
    rustix::fs::stat(path).is_ok_and(|there| (there.st_dev, there.st_ino) == (dir.st_dev, dir.st_ino))
}

/// In any other directory a container that has it may have put them: making nodes is allowed to most, opening them is not.
fn has_hosts_devices(dir: &Stat) -> bool {
    is_left_alone(dir) && ["/dev", "/dev/pts"].iter().any(|known| is(dir, known))
}

/// Opens a log to append to: a file, which is made if it isn't there, a character device of /dev, or what a descriptor stands for.
pub fn append(path: &Path) -> Result<OwnedFd> {
    let name = Name::find(path)?;
    if is_procfs(&name.dir)? {
        return descriptor(&name);
    }
    for _ in 0..TRIES {
        let flags = WRITE | OFlags::APPEND;
        match rustix::fs::openat(&name.dir, &name.name, HANDLE, Mode::empty()) {
            Err(Errno::NOENT) => {}
            handle => {
                let handle = handle.what(|| "open it")?;
                let stat = rustix::fs::fstat(&handle).what(|| "look at it")?;
                return match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => again(&handle, flags),
                    FileType::CharacterDevice if has_hosts_devices(&name.dir()?) => again(&handle, flags),
                    FileType::Symlink => match name.descriptor()? {
                        Some(path) => descriptor(&Name::find(&path)?),
                        None => Err(refused("a symbolic link")),
                    },
                    kind => Err(refused(word(kind))),
                };
            }
        }
        let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match rustix::fs::openat(&name.dir, &name.name, new, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) => {}
            made => return made.what(|| "make it"),
        }
    }
    Err(Error::os(libc::EAGAIN, "somebody makes and removes it all the time"))
}

/// What one of a process's descriptors stands for: the caller has it open, so it is his business what it is.
fn descriptor(name: &Name) -> Result<OwnedFd> {
    let opened = rustix::fs::openat(&name.dir, &name.name, WRITE | OFlags::APPEND, Mode::empty());
    let file = opened.what(|| "open it")?;
    let stat = rustix::fs::fstat(&file).what(|| "look at it")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::CharacterDevice => {}
        // Whoever reads gets all of it.
        FileType::Fifo => {
            rustix::fs::fcntl_setfl(&file, OFlags::WRONLY).what(|| "wait for its reader")?;
        }
        kind => return Err(refused(word(kind))),
    }
    Ok(file)
}

/// Opens what a handle stands for.
fn again(handle: &OwnedFd, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(link_to(handle), flags, Mode::empty()).what(|| "open it")
}

/// A name of a descriptor, for calls that take names alone.
fn link_to(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// A socket that somebody listens at, and its address, which is valid as long as the handle is.
pub fn socket(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let name = Name::find(path)?;
    let handle =
        rustix::fs::openat(&name.dir, &name.name, HANDLE, Mode::empty()).what(|| "open the socket")?;
    let stat = rustix::fs::fstat(&handle).what(|| "look at the socket")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => {}
        kind => return Err(refused(word(kind))),
    }
    let address = link_to(&handle).into();
    Ok((handle, address))
}

impl Name {
    /// The directory must be there.
    pub fn find(path: &Path) -> Result<Self> {
        let name = path.file_name().ok_or_else(|| Error::invalid("it has no name"))?.to_owned();
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let straight = rustix::fs::openat2(CWD, above, DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let dir = match straight {
            Err(Errno::LOOP | Errno::AGAIN) => walk(above)?,
            dir => dir.what(|| format!("open the directory {}", above.display()))?,
        };
        Ok(Self { dir, name })
    }

    /// A new file with this content takes the name, whole or not at all. It takes the place of a file, or of a link, which it
    /// doesn't follow; of nothing else.
    pub fn write(&self, content: &[u8]) -> Result<()> {
        let (draft, file) = self.draft()?;
        let written = fill(&file, content).what(|| "write it").and_then(|()| {
            match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                there => match FileType::from_raw_mode(there.what(|| "look at what is there")?.st_mode) {
                    FileType::RegularFile | FileType::Symlink => {}
                    kind => return Err(refused(word(kind))),
                },
            }
            rustix::fs::renameat(&self.dir, &draft, &self.dir, &self.name).what(|| "put it in its place")
        });
        written.inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.dir, &draft, AtFlags::empty());
        })
    }

    /// The directory of this name, made with mode 0700 if it isn't there: then it is told so, and the handle can change it.
    pub fn directory(&self) -> Result<(OwnedFd, bool)> {
        match rustix::fs::mkdirat(&self.dir, &self.name, Mode::RWXU) {
            Err(Errno::EXIST) => return Ok((self.existing_directory()?, false)),
            made => made.what(|| "make it")?,
        }
        let flags = DIRECTORY.difference(OFlags::PATH) | OFlags::NOFOLLOW;
        let handle = rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()).what(|| "open it")?;
        // Whoever may write to the directory that it is in could have put another one there since.
        if is_just_made(&handle).what(|| "look at it")? {
            return Ok((handle, true));
        }
        Err(refused("a directory that somebody has put there"))
    }

    /// The directory of this name, itself and not what a link leads to.
    pub fn existing_directory(&self) -> Result<OwnedFd> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()).what(|| "open it")
    }

    /// Only an empty one. No error if it isn't there.
    pub fn remove_directory(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed.what(|| "remove it"),
        }
    }

    /// No error if it isn't there.
    pub fn remove(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed.what(|| "remove it"),
        }
    }

    /// A file that nobody had before, beside the one that it will become.
    fn draft(&self) -> Result<(String, OwnedFd)> {
        let flags = WRITE | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let pid = std::process::id();
        for _ in 0..TRIES {
            let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            let draft = format!(".rt-{pid}-{time:x}");
            match rustix::fs::openat(&self.dir, &draft, flags, Mode::from_raw_mode(0o644)) {
                Err(Errno::EXIST) => {}
                made => return Ok((draft, made.what(|| "make a new file beside it")?)),
            }
        }
        Err(Error::os(libc::EEXIST, "make a new file beside it"))
    }

    fn dir(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.dir).what(|| "look at its directory")
    }

    /// Of a link: the descriptor of ours that it stands for, as /dev/stdout does.
    fn descriptor(&self) -> Result<Option<PathBuf>> {
        if !is_left_alone(&self.dir()?) {
            return Ok(None);
        }
        let to = rustix::fs::readlinkat(&self.dir, &self.name, Vec::new()).what(|| "read the link")?;
        let path = PathBuf::from(OsString::from_vec(to.into_bytes()));
        let number = path.strip_prefix("/proc/self/fd").ok().and_then(Path::to_str);
        Ok(number.is_some_and(|number| number.parse::<u32>().is_ok()).then_some(path))
    }
}

/// Ours, ours alone, and empty.
fn is_just_made(dir: &OwnedFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::fstat(dir)?;
    let mut entries = rustix::fs::Dir::read_from(dir)?;
    Ok(stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o077 == 0
        && entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}

fn fill(file: &OwnedFd, mut content: &[u8]) -> rustix::io::Result<()> {
    while !content.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, content))?;
        content = &content[written..];
    }
    Ok(())
}

/// A directory with links on the way: part by part, so that each link is looked at.
fn walk(path: &Path) -> Result<OwnedFd> {
    let what = || format!("open the directory {}", path.display());
    let open = |dir: &OwnedFd, name: &OsStr, more: OFlags| {
        rustix::fs::openat(dir, name, DIRECTORY.difference(OFlags::DIRECTORY) | more, Mode::empty())
    };
    let start = |path: &str| rustix::fs::open(path, DIRECTORY, Mode::empty()).what(what);
    let mut left = parts(path);
    let mut at = start(".")?;
    let mut links = MAX_LINKS;
    while let Some(part) = left.pop() {
        if part == "/" {
            at = start("/")?;
            continue;
        }
        let handle = open(&at, &part, OFlags::NOFOLLOW).what(what)?;
        let stat = rustix::fs::fstat(&handle).what(what)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            at = handle;
            continue;
        }
        if is_procfs(&at)? {
            at = open(&at, &part, OFlags::DIRECTORY).what(what)?; // the kernel's own links
            continue;
        }
        follow(&at, &stat).map_err(|error| error.during(format!("{} through {part:?}", what())))?;
        links = links.checked_sub(1).ok_or(Errno::LOOP).what(what)?;
        let to = rustix::fs::readlinkat(&at, &part, Vec::new()).what(what)?;
        left.extend(parts(Path::new(OsStr::from_bytes(to.as_bytes()))));
    }
    let stat = rustix::fs::fstat(&at).what(what)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(at),
        _ => Err(Error::os(libc::ENOTDIR, what())),
    }
}

/// The last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |part: Component<'_>| part.as_os_str().to_owned();
    path.components().filter(|part| *part != Component::CurDir).rev().map(part).collect()
}

/// A link is followed where nobody else could have put it: in a directory that only root or we write to, or put there by root or us
/// where each may only remove his own (/tmp).
fn follow(dir: &OwnedFd, link: &Stat) -> Result<()> {
    let stat = rustix::fs::fstat(dir).what(|| "look at a directory")?;
    let sticky = is_roots_or_ours(&stat) && stat.st_mode & 0o1000 != 0;
    if is_left_alone(&stat) || sticky && is_trusted_owner(link.st_uid) {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, "it is a symbolic link in a directory that others may write to")
        .cure("name the place itself"))
}

fn is_procfs(dir: impl AsFd) -> Result<bool> {
    // KERNEL: include/uapi/linux/magic.h
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    Ok(rustix::fs::fstatfs(dir).what(|| "look at a directory")?.f_type as u64 == PROC_SUPER_MAGIC)
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

fn refused(kind: &str) -> Error {
    Error::new(Kind::Denied, format!("it is {kind}")).cure("name something else, or remove it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_just_made() {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let dir = std::env::temp_dir().join(format!("rt-outfile-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let open = || rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(is_just_made(&open()).unwrap());
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!is_just_made(&open()).unwrap());
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(dir.join("earlier"), "").unwrap();
        assert!(!is_just_made(&open()).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
