//! execve(2) with arguments that were prepared beforehand, so that nothing is allocated at the end of init.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// A null-terminated array of C strings, as execve wants it.
#[derive(Debug)]
pub struct Strings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// Prepares the array.
    pub fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _owned: owned, pointers }
    }
}

/// Replaces this process by the program at `path`; comes back only with an error.
pub fn execve(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: C strings and null-terminated arrays of them, all alive during the call.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// Replaces this process by the program that the descriptor stands for; comes back only with an error.
pub fn execve_fd(program: BorrowedFd<'_>, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: as in `execve`; an empty path with AT_EMPTY_PATH means the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}
