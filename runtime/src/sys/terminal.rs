//! Pseudo-terminals by their multiplexer's descriptor.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// Unlocks the terminal and opens its other end. KERNEL(4.13): TIOCGPTPEER
pub fn peer(multiplexer: impl AsFd) -> nix::Result<OwnedFd> {
    let fd = multiplexer.as_fd().as_raw_fd();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(libc::c_long::from(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK as _, &raw const unlock) }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number.
    let peer = check(libc::c_long::from(unsafe { libc::ioctl(fd, libc::TIOCGPTPEER as _, flags) }))?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(peer as i32) })
}

/// Whether it is a multiplexer's node. KERNEL: only the kernel's own driver has this device number.
pub fn is_multiplexer_node(handle: impl AsFd) -> bool {
    super::is_character_device(handle, 5, 2)
}

/// Whether it is a multiplexer's descriptor, which has a terminal.
pub fn is_multiplexer(fd: impl AsFd) -> bool {
    let mut index: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    is_multiplexer_node(&fd)
        && unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGPTN as _, &raw mut index) } == 0
}

/// Makes `fd` descriptors 0, 1 and 2.
pub fn as_standard_streams(fd: impl AsFd) -> nix::Result<()> {
    for standard in 0..3 {
        // SAFETY: the three standard descriptors are open in every process of ours and are owned by nobody.
        check(libc::c_long::from(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), standard) }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_multiplexer_is_one() {
        for other in ["/dev/null", "/dev/tty", "/", "/proc/self/exe"] {
            let Ok(file) = std::fs::File::open(other) else { continue };
            assert!(!is_multiplexer(&file), "{other}");
        }
        let Ok(ours) = std::fs::File::options().read(true).write(true).open("/dev/ptmx") else { return };
        assert!(is_multiplexer(&ours) && !is_multiplexer(peer(&ours).unwrap()));
    }
}
