//! The program's first instructions, instead of the standard library's: no signal stack, no handlers, SIGPIPE as it was.
//!
//! That start-up code is a dozen system calls, a part in twenty-five of all that `rt run` makes. What of it is needed is here: descriptors
//! 0 to 2 are open, so that nothing of ours gets one of these numbers, and the arguments are kept.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

static ARGS: OnceLock<Vec<OsString>> = OnceLock::new();

/// What the C library passed to `main`: pointers to the arguments, ended by a null pointer.
static ARGV: AtomicPtr<*mut c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Makes `main` the program: `program!(path)`, in a crate with `#![no_main]`; `path` takes the arguments after the program's name and
/// gives the exit code.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        /// What the C library's start-up code calls.
        // SAFETY: the only `main` of the program, with the C library's signature.
        #[allow(unsafe_code, clippy::not_unsafe_ptr_arg_deref)]
        #[unsafe(no_mangle)]
        pub extern "C" fn main(
            argc: ::std::ffi::c_int,
            argv: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: the arguments are those that the C library passes to main.
            unsafe { $crate::sys::start::enter(argc, argv) };
            // Not a return: the standard library's exit flushes what is buffered.
            ::std::process::exit($main($crate::sys::start::args().iter().skip(1).cloned()))
        }
    };
}

/// All arguments of the process, the program's name first.
pub fn args() -> &'static [OsString] {
    ARGS.get().map_or(&[], Vec::as_slice)
}

/// Overwrites this process's environment, which /proc/PID/environ shows to whoever may trace it, and its arguments, which
/// /proc/PID/cmdline shows to everybody: a container is not told the host's, nor what the caller gives to another process in it. What
/// reads the environment after this finds nothing; [`args`] are copies. Only in a process with one thread.
pub fn forget_arguments_and_environment() {
    unsafe extern "C" {
        static environ: *const *mut c_char;
    }
    // SAFETY: the C library's lists of pointers to the strings that the kernel put on the stack, ended by a null pointer; this process
    // has one thread, has changed none of them and keeps no reference to them: whoever reads them, reads copies.
    unsafe {
        overwrite(ARGV.load(Ordering::Relaxed));
        overwrite(environ);
    }
}

/// # Safety
/// A null pointer, or pointers to C strings that nobody else uses, ended by a null pointer.
unsafe fn overwrite(list: *const *mut c_char) {
    let mut at = list;
    // SAFETY: by this function's contract.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            let entry = *at;
            std::ptr::write_bytes(entry, 0, libc::strlen(entry));
            at = at.add(1);
        }
    }
}

/// Opens what is closed of descriptors 0 to 2, wants to hear of children, and keeps the arguments.
///
/// # Safety
/// `argc` and `argv` are those that the C library passed to `main`.
pub unsafe fn enter(argc: c_int, argv: *const *const c_char) {
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three entries, as the second argument says; no events are asked for, so that it returns at once.
    unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) };
    for entry in standard {
        if entry.revents & libc::POLLNVAL != 0 {
            // SAFETY: a C string; the lowest free number is the closed one, and stays open for good.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // With SIGCHLD ignored, as a caller may have left it, children would vanish with their exit codes.
    // SAFETY: the default disposition: no code of ours runs at the signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    ARGV.store(argv.cast_mut().cast(), Ordering::Relaxed);
    let count = usize::try_from(argc).unwrap_or(0);
    let text = |at: usize| {
        // SAFETY: by this function's contract `argv` has `argc` pointers to C strings that live as long as the process.
        let text = unsafe { CStr::from_ptr(*argv.add(at)) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    let _ = ARGS.set((0..count).map(text).collect());
}
