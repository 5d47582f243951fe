//! Where everything lies on disk, the one door by which directories are made there, and how ids are made.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::config::Config;
use crate::error::{Context, Error, Kind, Result};

/// The directories of one server.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What survives a reboot: records, images, writable layers.
    pub root: PathBuf,
    /// What dies with it: sockets, bundles, mounts.
    pub state: PathBuf,
}

impl Paths {
    /// The directories that the configuration names.
    pub fn new(config: &Config) -> Self {
        Self { root: config.root.clone(), state: config.state.clone() }
    }

    /// The directories that nobody but root may enter, outermost first.
    pub fn own(&self) -> [PathBuf; 9] {
        let (root, state) = (self.root.clone(), self.state.clone());
        let (pods, bundles) = (self.state.join("pods"), self.state.join("bundles"));
        let records = [self.sandbox_records(), self.container_records()];
        let [sandboxes, containers] = records;
        [
            root,
            state,
            pods,
            bundles,
            sandboxes,
            containers,
            self.images(),
            self.network(),
            self.runtime_root(),
        ]
    }

    /// The records of all sandboxes.
    pub fn sandbox_records(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// The records of all containers, and their writable layers.
    pub fn container_records(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One sandbox's record.
    pub fn sandbox_record(&self, id: &str) -> PathBuf {
        self.sandbox_records().join(id)
    }

    /// One container's record and writable layer.
    pub fn container_record(&self, id: &str) -> PathBuf {
        self.container_records().join(id)
    }

    /// The shim's directory of a sandbox, with the pod's files and its `/dev/shm`.
    pub fn pod(&self, id: &str) -> PathBuf {
        self.state.join("pods").join(id)
    }

    /// The bundle of a container, of a sandbox's pause container too.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.state.join("bundles").join(id)
    }

    /// The runtime's own state directory.
    pub fn runtime_root(&self) -> PathBuf {
        self.state.join("rt")
    }

    /// The root filesystem of pause containers.
    pub fn pause_rootfs(&self) -> PathBuf {
        self.state.join("pause/rootfs")
    }

    /// Images.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The network's records.
    pub fn network(&self) -> PathBuf {
        self.root.join("network")
    }
}

/// A pod's tmpfs in its directory: what its containers may write to.
pub fn pod_files(dir: &Path) -> PathBuf {
    dir.join("files")
}

/// A new id of 64 hexadecimal digits.
pub fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    let mut source = File::open("/dev/urandom").what(|| "open /dev/urandom")?;
    source.read_exact(&mut bytes).what(|| "read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The boot that this server runs in.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).what(|| format!("read {path}"))?.trim().to_owned())
}

/// Makes a directory of the server's with its parents. Nobody but its owner may enter it, also if it was there before: what containers
/// own lies below (their writable layers with set-user-ID files, volumes), and so do values of their environments.
pub fn own_dir(path: &Path) -> Result<()> {
    let what = || format!("make directory {} for nobody else", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).what(what)?;
    // An administrator's link to another disk is followed; what a container could make a link of is deeper than any of these.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).what(what)?;
    shut(&dir, 0o700).what(what)
}

/// Makes a directory that is not the server's but the host's, with its parents, as `mkdir -p` would: others may use it too.
pub fn host_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).what(|| format!("make directory {}", path.display()))
}

/// Makes a file, or empties it, that nobody but its owner may read, also if it was there before. What is there is looked at before it is
/// emptied: a link, another's file, or one that has a second name somewhere, keeps what it has.
pub fn own_file(path: &Path) -> Result<File> {
    let what = || format!("make {} for nobody else", path.display());
    // Nonblocking, since a pipe without a reader would hold us up.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).what(what)?;
    let found = rustix::fs::fstat(&file).what(what)?;
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    if !is_file || found.st_uid != rustix::process::geteuid().as_raw() || found.st_nlink != 1 {
        return Err(Error::new(Kind::Denied, "what is there is not ours alone")
            .cure("remove it")
            .during(what()));
    }
    shut(&file, 0o600).what(what)?;
    rustix::fs::ftruncate(&file, 0).what(what)?;
    Ok(file.into())
}

/// Writes such a file.
pub fn write_own(path: &Path, content: &[u8]) -> Result<()> {
    own_file(path)?.write_all(content).what(|| format!("write {}", path.display()))
}

/// Shuts a record that is there, of an earlier version perhaps: its directory, and the files in it.
pub fn shut_record(dir: &Path) -> Result<()> {
    own_dir(dir)?;
    for name in ["meta", "status"] {
        let path = dir.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => {}
            file => file.and_then(|file| shut(file, 0o600)).what(|| format!("shut {}", path.display()))?,
        }
    }
    Ok(())
}

/// Takes away what a file or directory lets others do.
fn shut(file: impl AsFd, mode: u32) -> rustix::io::Result<()> {
    let now = rustix::fs::fstat(&file)?.st_mode & 0o7777;
    if now & !mode == 0 { Ok(()) } else { rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)) }
}

/// Removes a directory with what is in it; one that is not there is fine.
pub fn remove_dir(path: &Path) -> Result<()> {
    match crate::removal::remove_all(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).what(|| format!("remove directory {}", path.display())),
    }
}

/// Nanoseconds since the epoch.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("rt-cri-paths-{}", new_id().expect("an id")));
        std::fs::create_dir(&folder).expect("a directory");
        folder
    }

    #[test]
    fn what_is_not_ours_alone_is_not_emptied() {
        let dir = folder();
        let at = |name: &str| dir.join(name);
        for name in ["linked", "named"] {
            std::fs::write(at(name), "precious").expect("write");
        }
        symlink(at("linked"), at("link")).expect("link");
        std::fs::hard_link(at("named"), at("name")).expect("link");
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        // Opened to the end by a reader, as its owner could.
        let reader = rustix::fs::open(at("pipe"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        for name in ["link", "name", "pipe"] {
            assert!(own_file(&at(name)).is_err(), "{name}");
        }
        drop(reader);
        for name in ["linked", "named"] {
            assert_eq!(std::fs::read_to_string(at(name)).expect("read"), "precious");
        }
        if rustix::process::geteuid().is_root() {
            std::fs::write(at("theirs"), "precious").expect("write");
            std::os::unix::fs::chown(at("theirs"), Some(1000), None).expect("give it away");
            assert!(own_file(&at("theirs")).is_err());
            assert_eq!(std::fs::read_to_string(at("theirs")).expect("read"), "precious");
        }
        remove_dir(&dir).expect("removed");
    }

    #[test]
    fn our_own_file_is_emptied_and_shut() {
        let dir = folder();
        let path = dir.join("own");
        std::fs::write(&path, "a long text").expect("write");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("open it");
        write_own(&path, b"text").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "text");
        assert_eq!(std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        remove_dir(&dir).expect("removed");
    }
}
