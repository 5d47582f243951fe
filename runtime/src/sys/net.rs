//! Sockets: network devices by ioctl(2), enough to set one up; descriptors that a Unix socket does not take.

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

/// KERNEL(6.16): include/uapi/asm-generic/socket.h
const SO_PASSRIGHTS: libc::c_int = 83;

/// Whoever sends this Unix socket a descriptor gets EPERM. A kernel that has no such option passes them as ever.
pub fn refuse_descriptors(socket: impl AsFd) -> nix::Result<()> {
    let off: libc::c_int = 0;
    let size = std::mem::size_of_val(&off) as libc::socklen_t;
    // SAFETY: SO_PASSRIGHTS reads an int, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            size,
        )
    };
    match check(libc::c_long::from(set)) {
        Err(Errno::ENOPROTOOPT) => Ok(()),
        done => done.map(drop),
    }
}

/// Whether [`refuse_descriptors`] has an effect, told by a socket on which it was called.
#[cfg(test)]
pub fn can_refuse_descriptors(socket: impl AsFd) -> bool {
    let mut on: libc::c_int = 1;
    let mut size = std::mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: SO_PASSRIGHTS writes an int, which outlives the call, as does its size.
    let got = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw mut on).cast(),
            &raw mut size,
        )
    };
    got == 0 && on == 0
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
