//! Project quotas: which project a directory belongs to, and what a project uses. rustix and nix know users' and groups' only.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk` of linux/quota.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Quota {
    space_hard: u64,
    space_soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    space_time: u64,
    inodes_time: u64,
    valid: u32,
}

/// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR.
mod raw {
    use super::Attributes;

    nix::ioctl_read!(get_attributes, b'X', 31, Attributes);
    nix::ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);
}

/// What is made in a directory belongs to its project.
const INHERIT: u32 = 0x200;

const GET_QUOTA: u32 = 0x80_0007;
const PROJECTS: u32 = 2;

/// What a project uses: bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// On disk.
    pub bytes: u64,
    /// Files of all kinds.
    pub inodes: u64,
}

/// The project of a file; 0 is none.
pub fn project(file: BorrowedFd<'_>) -> nix::Result<u32> {
    let mut attributes = Attributes::default();
    // SAFETY: FS_IOC_FSGETXATTR writes a struct fsxattr, which lives through the call.
    unsafe { raw::get_attributes(file.as_raw_fd(), &raw mut attributes)? };
    Ok(attributes.project)
}

/// Gives an empty directory, and so all that will be made in it, to a project.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> nix::Result<()> {
    let mut attributes = Attributes::default();
    // SAFETY: FS_IOC_FSGETXATTR writes a struct fsxattr, which lives through the call.
    unsafe { raw::get_attributes(directory.as_raw_fd(), &raw mut attributes)? };
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: FS_IOC_FSSETXATTR reads a struct fsxattr, which lives through the call.
    unsafe { raw::set_attributes(directory.as_raw_fd(), &raw const attributes)? };
    Ok(())
}

/// What a project uses on the file system of a file. ESRCH or another error: it counts none. KERNEL(5.14): quotactl_fd
pub fn used(file: BorrowedFd<'_>, project: u32) -> nix::Result<Used> {
    let mut quota = Quota::default();
    let command = (GET_QUOTA << 8) | PROJECTS;
    // SAFETY: Q_GETQUOTA writes a struct if_dqblk, which lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, project, &raw mut quota)
    })?;
    Ok(Used { bytes: quota.space, inodes: quota.inodes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_system_without_quotas_says_so() {
        let proc = std::fs::File::open("/proc").expect("proc");
        assert!(used(proc.as_fd(), 1).is_err());
        assert_eq!(project(proc.as_fd()), Err(Errno::ENOTTY));
    }
}
