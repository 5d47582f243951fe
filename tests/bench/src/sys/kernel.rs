//! Raw system calls for the floor program, and its entry without Rust's start-up code.
//!
//! No policy: `floor.rs` says which calls are made.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_long};

/// A failed call's errno.
pub type Errno = i32;

/// One argument: a number, or the address of something that outlives the call.
pub enum Arg<'a> {
    Number(i64),
    Text(&'a CStr),
    Bytes(&'a [u8]),
    Words(&'a [u64]),
}

impl From<i32> for Arg<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a CStr> for Arg<'a> {
    fn from(text: &'a CStr) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u64]> for Arg<'a> {
    fn from(words: &'a [u64]) -> Self {
        Self::Words(words)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// The address of something, for structures that hold pointers.
pub fn address<T>(of: &[T]) -> u64 {
    of.as_ptr().addr() as u64
}

/// Makes the call.
pub fn call<const N: usize>(number: c_long, args: [Arg<'_>; N]) -> Result<i32, Errno> {
    let mut raw = [0 as c_long; 6];
    for (slot, arg) in raw.iter_mut().zip(args) {
        *slot = match arg {
            Arg::Number(number) => number,
            Arg::Text(text) => text.as_ptr().addr().cast_signed() as c_long,
            Arg::Bytes(bytes) => bytes.as_ptr().addr().cast_signed() as c_long,
            Arg::Words(words) => words.as_ptr().addr().cast_signed() as c_long,
        };
    }
    // SAFETY: the calls of `floor.rs` write to no memory of this program but into pipes, files and kernel objects; what they read is
    // borrowed by `args` until here. clone3 without CLONE_VM copies the address space, so both sides go on as after fork.
    let result = unsafe { libc::syscall(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]) };
    if result == -1 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(i32::try_from(result).unwrap_or(i32::MAX))
}

/// Waits for a child; its status as wait4(2) gives it, and the peak resident size of it and what it waited for, in kB.
pub fn wait(pid: i32) -> Result<(i32, i64), Errno> {
    let mut status: c_int = 0;
    // SAFETY: zeroed is a valid rusage; wait4 writes to both places given.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::wait4(pid, &raw mut status, 0, &raw mut usage) < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        Ok((status, usage.ru_maxrss))
    }
}

/// fork(2).
pub fn fork() -> i32 {
    // SAFETY: this program has one thread.
    unsafe { libc::fork() }
}

/// Sets the loopback interface of this network namespace up.
pub fn loopback_up() -> Result<i32, Errno> {
    let socket = call(
        libc::SYS_socket,
        [libc::AF_INET.into(), (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).into(), 0.into()],
    )?;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    let flags = libc::IFF_UP as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let result =
        call(libc::SYS_ioctl, [socket.into(), (libc::SIOCSIFFLAGS as i64).into(), (&request[..]).into()]);
    call(libc::SYS_close, [socket.into()])?;
    result
}

/// Replaces this program; returns only on failure.
pub fn execve(path: &CStr, args: &[*const c_char]) -> Errno {
    let environment: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: both lists end with a null pointer; `args` comes from `main` or is built by `floor.rs` of live strings.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), environment.as_ptr()) };
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Replaces this program by what a descriptor stands for; returns only on failure.
pub fn execve_fd(program: i32, args: &[*const c_char]) -> Errno {
    let environment: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: as in `execve`; an empty path with AT_EMPTY_PATH is the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            args.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Leaves at once.
pub fn leave(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// The program's entry, in place of Rust's own.
// SAFETY: the C entry point, defined once, with C's signature.
#[unsafe(no_mangle)]
pub extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: the C library passes `argc` pointers and a null after them.
    let pointers = unsafe { std::slice::from_raw_parts(argv, count + 1) };
    let mut args: [&CStr; 8] = [c""; 8];
    for (slot, pointer) in args.iter_mut().zip(&pointers[..count]) {
        // SAFETY: each is a NUL-terminated string that lives as long as the process.
        *slot = unsafe { CStr::from_ptr(*pointer) };
    }
    crate::run(&args, pointers)
}
