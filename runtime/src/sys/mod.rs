//! The only unsafe code of the crate: thin, total, without policy; one file per kernel facility.
//!
//! A wrapper takes and returns owned or borrowed descriptors and Rust values, and reports errno through [`nix::Result`].
//! What rustix or nix already have is called from there directly.
#![allow(unsafe_code)]

pub mod alarm;
pub mod alloc;
pub mod bpf;
pub mod clone;
pub mod exec;
pub mod memory;
pub mod mount;
pub mod net;
pub mod pidfd;
pub mod process;
pub mod quota;
pub mod seccomp;
pub mod spawn;
pub mod start;
pub mod terminal;

use std::os::fd::AsFd;

use nix::errno::Errno;

/// Whether it is the node or a descriptor of this character device.
pub fn is_character_device(handle: impl AsFd, major: u32, minor: u32) -> bool {
    rustix::fs::fstat(handle).is_ok_and(|node| {
        rustix::fs::FileType::from_raw_mode(node.st_mode).is_char_device()
            && node.st_rdev == rustix::fs::makedev(major, minor)
    })
}

/// The result of a raw system call: -1 is an errno.
fn check(ret: libc::c_long) -> nix::Result<libc::c_long> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
