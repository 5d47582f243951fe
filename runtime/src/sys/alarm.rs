//! A blocking system call with a deadline, for the calls that have none of their own (flock).
//!
//! SIGALRM gets a handler that does nothing and keeps it: execve(2) resets it, and nothing else here uses that signal.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn ring(_: libc::c_int) {}

/// Runs `call`, which must report EINTR as such, until it gives anything else or the time is over: then ETIMEDOUT.
pub fn with_deadline<T>(after: Duration, mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    // Without SA_RESTART, so that the call is interrupted.
    let interrupting = SigAction::new(SigHandler::Handler(ring), SaFlags::empty(), SigSet::empty());
    // SAFETY: sigaction(2) needs a handler that is async-signal-safe: `ring` does nothing.
    unsafe { sigaction(Signal::SIGALRM, &interrupting)? };
    let deadline = Instant::now() + after;
    let _timer = Timer::start(after)?;
    loop {
        match call() {
            Err(Errno::EINTR) if Instant::now() >= deadline => return Err(Errno::ETIMEDOUT),
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Interrupts this very thread, deleted on drop.
struct Timer(libc::timer_t);

impl Timer {
    fn start(after: Duration) -> nix::Result<Self> {
        // SAFETY: all-zero is a valid sigevent: plain integers and a union of them.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        let mut id: libc::timer_t = std::ptr::null_mut();
        // SAFETY: timer_create(2) reads the event and writes the id, both live through the call.
        Errno::result(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut id) })?;
        let timer = Self(id);
        // It repeats, since the first ring could come just before the call begins to block.
        let times =
            libc::itimerspec { it_interval: timespec(Duration::from_millis(10)), it_value: timespec(after) };
        // SAFETY: timer_settime(2) reads the times, which live through the call; the old ones aren't wanted.
        Errno::result(unsafe { libc::timer_settime(timer.0, 0, &times, std::ptr::null_mut()) })?;
        Ok(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the id is a timer of this process, and this is its only deletion.
        unsafe { libc::timer_delete(self.0) };
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    // SAFETY: all-zero is a valid timespec; musl's has private padding, so it can't be written as a literal.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    time.tv_sec = duration.as_secs().try_into().unwrap_or(i64::MAX);
    time.tv_nsec = duration.subsec_nanos().into();
    time
}
