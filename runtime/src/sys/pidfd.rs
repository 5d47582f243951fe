//! Signals and waiting by pidfd, where a pid could be another process by now. Opening one is rustix's `pidfd_open`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// pidfd_send_signal(2), with any number: rustix's takes only named signals, and systemd's are real-time ones.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: the call takes a descriptor, which is borrowed here, a number, and a null siginfo, which means "as kill(2)".
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    Errno::result(ret).map(drop)
}

/// Waits until the process has exited (a zombie has). ETIMEDOUT after `timeout`.
pub fn wait_exit(pidfd: impl AsFd, timeout: Duration) -> nix::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: poll(2) counts milliseconds, and 0 would spin through the last one.
        let millis = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, millis) {
            Ok(0) if left.is_zero() => return Err(Errno::ETIMEDOUT),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// A pidfd of a process. The caller makes sure that the number is still that process's: its child, not reaped, or itself.
pub fn open(pid: i32) -> nix::Result<std::os::fd::OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// A pidfd of what must be a child of this process, not reaped. ECHILD: it is none, whoever said so.
pub fn open_child(pid: i32) -> nix::Result<std::os::fd::OwnedFd> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let pidfd = open(pid)?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd.as_fd()), look) {
        Ok(_) => Ok(pidfd),
        Err(errno) => Err(Errno::from_raw(errno.raw_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_are_opened_as_children() {
        assert_eq!(open_child(1).unwrap_err(), Errno::ECHILD);
        assert_eq!(open_child(std::process::id().cast_signed()).unwrap_err(), Errno::ECHILD);
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let pidfd = open_child(pid).unwrap();
        wait_exit(&pidfd, Duration::from_secs(60)).unwrap();
        assert!(open_child(pid).is_ok(), "a zombie is still ours");
        child.wait().unwrap();
        assert_eq!(open_child(pid).unwrap_err(), Errno::ESRCH);
    }
}
