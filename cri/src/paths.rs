//! Where everything lies on disk, and how ids are made. It creates nothing.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Context, Error, Result};

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

    /// A pod's tmpfs for `/dev/shm`.
    pub fn shm(&self, id: &str) -> PathBuf {
        self.pod(id).join("shm")
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

/// A new id of 64 hexadecimal digits.
pub fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    let mut source = std::fs::File::open("/dev/urandom").what(|| "open /dev/urandom")?;
    source.read_exact(&mut bytes).what(|| "read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The boot that this server runs in.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).what(|| format!("read {path}"))?.trim().to_owned())
}

/// Creates a directory with its parents.
pub fn create_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).what(|| format!("create directory {}", path.display()))
}

/// Removes a directory with what is in it; one that is not there is fine.
pub fn remove_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::os(
            error.raw_os_error().unwrap_or(libc::EIO),
            format!("remove directory {}", path.display()),
        )),
    }
}

/// Nanoseconds since the epoch.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
