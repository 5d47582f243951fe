//! A filesystem being made: told word by word what it shall be, then had as a detached mount.
//!
//! It attaches nothing, and only passes options on: which filesystem takes which is the kernel's business.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Context, Error, Result};
use crate::plan::mount_options::{Options, attr};

/// Filesystems whose `ro` is the mount's alone: their superblock is shared, or is still written to by us.
const VIRTUAL: [&[u8]; 6] = [b"proc", b"sysfs", b"tmpfs", b"devpts", b"mqueue", b"cgroup2"];

/// Makes one with these options; gives the mount, and the context for the caller to let go of. With `tmpcopyup` the attributes are
/// left to whoever fills it.
pub fn create(
    fstype: &CStr,
    source: &CStr,
    options: &Options,
    label: Option<&str>,
) -> Result<(OwnedFd, Draft)> {
    let draft = Draft::open(fstype)?;
    draft.source(source)?;
    draft.options(fstype, options)?;
    if let Some(label) = label.filter(|_| fstype.to_bytes() != b"proc" && fstype.to_bytes() != b"sysfs") {
        let label = CString::new(label).unwrap_or_default();
        draft.told(
            rustix::mount::fsconfig_set_string(&draft.0, c"context", &label),
            "set its SELinux label",
        )?;
    }
    let tree = draft.mount(if options.copy_up { 0 } else { options.attributes.set })?;
    Ok((tree, draft))
}

/// Whether it is made from devices of the host's, which only the host's side may open: the container's device rules are not about what
/// the config mounts, and nobody in the container shall have use of such a device for a moment.
pub fn is_of_devices(fstype: &CStr, source: &CStr) -> Result<bool> {
    if VIRTUAL.contains(&fstype.to_bytes()) {
        return Ok(false);
    }
    let source = rustix::fs::stat(source);
    if source.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice) {
        return Ok(true);
    }
    // Several of them, or none.
    if let Some(takes) = takes_devices(fstype)? {
        return Ok(takes);
    }
    // This loads its module, if there is one.
    Draft::open(fstype)?;
    Ok(takes_devices(fstype)? == Some(true))
}

/// `None`: not a filesystem that the kernel knows now. SPEC: filesystems(5)
fn takes_devices(fstype: &CStr) -> Result<Option<bool>> {
    const TABLE: &str = "/proc/filesystems";
    let table = std::fs::read_to_string(TABLE).what(|| format!("read {TABLE}"))?;
    // `fuse.sshfs` is a fuse.
    let name = fstype.to_bytes().split(|byte| *byte == b'.').next();
    let lines = table.lines().filter_map(|line| line.split_once('\t'));
    let mut known = lines.filter(|(_, known)| Some(known.as_bytes()) == name);
    Ok(known.next().map(|(word, _)| word != "nodev"))
}

/// fsopen(2)'s context.
#[derive(Debug)]
pub struct Draft(OwnedFd);

impl From<OwnedFd> for Draft {
    /// Opened by another process.
    fn from(context: OwnedFd) -> Self {
        Self(context)
    }
}

impl From<Draft> for OwnedFd {
    fn from(draft: Draft) -> Self {
        draft.0
    }
}

impl Draft {
    /// Of a kind of filesystem.
    pub fn open(fstype: &CStr) -> Result<Self> {
        let opened = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC);
        opened.map(Self).map_err(|errno| match errno {
            Errno::NODEV => {
                Error::unsupported(format!("the kernel has no filesystem {}", fstype.to_string_lossy()))
                    .cure("see /proc/filesystems")
            }
            _ => Error::os(errno.raw_os_error(), "open the filesystem"),
        })
    }

    /// What it is made from.
    pub fn source(&self, source: &CStr) -> Result<()> {
        self.told(rustix::mount::fsconfig_set_string(&self.0, c"source", source), "set its source")
    }

    /// All that is for the superblock.
    pub fn options(&self, fstype: &CStr, options: &Options) -> Result<()> {
        for flag in &options.superblock {
            self.told(rustix::mount::fsconfig_set_flag(&self.0, *flag), flag)?;
        }
        if options.attributes.set & attr::RDONLY != 0 && !VIRTUAL.contains(&fstype.to_bytes()) {
            self.told(rustix::mount::fsconfig_set_flag(&self.0, c"ro"), "ro")?;
        }
        for option in &options.filesystem {
            let told = match option.split_once('=') {
                Some((key, value)) => rustix::mount::fsconfig_set_string(&self.0, key, value),
                None => rustix::mount::fsconfig_set_flag(&self.0, option.as_str()),
            };
            self.told(told, option)?;
        }
        Ok(())
    }

    /// A directory by its handle, whatever its path may be. KERNEL(6.13)
    pub fn directory(&self, key: &CStr, handle: impl AsFd) -> Result<()> {
        self.told(rustix::mount::fsconfig_set_fd(&self.0, key, handle), &key.to_string_lossy())
    }

    /// Creates it and mounts it, attached nowhere.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        self.told(rustix::mount::fsconfig_create(&self.0), "create the filesystem")?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        rustix::mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.explained(errno, "make the mount"))
    }

    fn told(&self, result: rustix::io::Result<()>, what: &str) -> Result<()> {
        result.map_err(|errno| self.explained(errno, what))
    }

    /// The kernel tells through the context what it did not like ("tmpfs: Unknown parameter 'x'").
    fn explained(&self, errno: Errno, what: &str) -> Error {
        let mut text = [0; 512];
        let said = rustix::io::read(&self.0, &mut text).map_or(&[][..], |len| &text[..len]);
        let said = String::from_utf8_lossy(said.strip_prefix(b"e ").unwrap_or(said));
        let error = Error::os(errno.raw_os_error(), what);
        match said.trim() {
            "" => error,
            said => error.cure(format!("the kernel says: {said}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_which_filesystems_take_devices() {
        assert_eq!(takes_devices(c"tmpfs").unwrap(), Some(false));
        assert_eq!(takes_devices(c"tmpfs.sub").unwrap(), Some(false));
        assert_eq!(takes_devices(c"no-such-filesystem").unwrap(), None);
        assert!(!is_of_devices(c"tmpfs", c"tmpfs").unwrap());
        assert!(is_of_devices(c"no-such-filesystem", c"none").is_err());
        let table = std::fs::read_to_string("/proc/filesystems").unwrap();
        let Some(name) = table.lines().find_map(|line| line.strip_prefix('\t')) else { return };
        let name = std::ffi::CString::new(name).unwrap();
        assert!(is_of_devices(&name, c"one:another").unwrap());
    }
}
