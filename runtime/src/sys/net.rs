//! Network devices, by ioctl(2): enough to set one up.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::check;

/// KERNEL: struct ifreq, of which only name and flags are used.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Raises IFF_UP. `socket` is any socket in the device's network namespace.
pub fn set_up(socket: impl AsFd, device: &CStr) -> nix::Result<()> {
    let mut request = InterfaceFlags { name: [0; 16], flags: libc::IFF_UP as libc::c_short, rest: [0; 22] };
    let name = device.to_bytes();
    request
        .name
        .get_mut(..name.len())
        .filter(|_| name.len() < 16)
        .ok_or(Errno::ENODEV)?
        .copy_from_slice(name);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, 40 bytes on 64-bit machines, which `request` is.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    }))
    .map(drop)
}
