//! The probe's only unsafe code: one total function per kernel question, each giving a plain value or an errno.
//!
//! No policy and no formatting here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::time::Duration;

/// A failed call's errno.
pub type Errno = i32;

/// The program's entry, in place of Rust's own: its start-up code would ignore SIGPIPE and open closed descriptors.
// SAFETY: `main` is the C entry point, defined once in this program, with C's signature.
#[unsafe(no_mangle)]
pub extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let args: Vec<String> = (0..count)
        // SAFETY: the C library passes `argc` valid, NUL-terminated strings that live as long as the process.
        .map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_string_lossy().into_owned())
        .collect();
    let code = crate::run(&args);
    // Rust's own runtime would do this at the end.
    let _ = std::io::Write::flush(&mut std::io::stdout());
    code
}

fn check(result: c_long) -> Result<i64, Errno> {
    if result == -1 { Err(errno()) } else { Ok(result) }
}

fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// An argument of a raw call.
pub enum Arg {
    Number(i64),
    Text(CString),
    Buffer(Vec<u8>),
}

/// Any system call; buffers and texts are passed by address.
pub fn syscall(number: i64, args: &mut [Arg]) -> Result<i64, Errno> {
    let mut raw = [0 as c_long; 6];
    for (slot, arg) in raw.iter_mut().zip(args) {
        *slot = match arg {
            Arg::Number(n) => *n,
            Arg::Text(text) => text.as_ptr() as c_long,
            Arg::Buffer(bytes) => bytes.as_mut_ptr() as c_long,
        };
    }
    // SAFETY: memory is only reached through the addresses given, which are live buffers of `args` or what a test chose on purpose.
    check(unsafe { libc::syscall(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]) })
}

/// socketcall(SYS_SOCKET, [family, SOCK_STREAM, 0]) as a 32-bit program of x86 makes it.
#[cfg(target_arch = "x86_64")]
pub fn old_socket(family: u32) -> Result<i64, Errno> {
    const SOCKETCALL: i64 = 102;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new page of our own, at an address of 32 bits.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: the page has room for three numbers.
    unsafe { page.cast::<[u32; 3]>().write([family, 1, 0]) };
    let result: i64;
    // SAFETY: the call reads the three numbers and touches no other memory; rbx, which the compiler keeps for itself, is given back.
    unsafe {
        std::arch::asm!(
            "xchg {call}, rbx", "int 0x80", "xchg {call}, rbx",
            call = inout(reg) 1_u64 => _, inout("rax") SOCKETCALL => result, in("rcx") page,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    // A register of 32 bits.
    let result = result as i32;
    if result < 0 { Err(-result) } else { Ok(result.into()) }
}

/// No other machine has it.
#[cfg(not(target_arch = "x86_64"))]
pub fn old_socket(_: u32) -> Result<i64, Errno> {
    Err(libc::ENOSYS)
}

fn call(number: c_long, args: [c_long; 4]) -> Result<i64, Errno> {
    // SAFETY: used below only with calls whose arguments are plain numbers.
    // Unused ones are zero: prctl refuses anything else.
    check(unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], 0, 0) })
}

/// Real, effective, saved user id, or group id.
pub fn user_ids() -> [u32; 3] {
    let mut ids = [0u32; 3];
    let [r, e, s] = &mut ids;
    // SAFETY: three live places to write to.
    unsafe { libc::getresuid(r, e, s) };
    ids
}

/// Real, effective, saved group id.
pub fn group_ids() -> [u32; 3] {
    let mut ids = [0u32; 3];
    let [r, e, s] = &mut ids;
    // SAFETY: three live places to write to.
    unsafe { libc::getresgid(r, e, s) };
    ids
}

/// Supplementary groups.
pub fn groups() -> Vec<u32> {
    let mut list = vec![0u32; 65536];
    // SAFETY: the length given is the length of `list`.
    let count = unsafe { libc::getgroups(65536, list.as_mut_ptr()) };
    list.truncate(usize::try_from(count).unwrap_or(0));
    list
}

/// The umask; it is set back at once.
pub fn umask() -> u32 {
    // SAFETY: umask(2) only swaps a number; this program has one thread.
    unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        mask
    }
}

/// `prctl` with numbers.
pub fn prctl(option: c_int, argument: c_long) -> Result<i64, Errno> {
    call(libc::SYS_prctl, [c_long::from(option), argument, 0, 0])
}

/// The parent-death signal.
pub fn parent_death_signal() -> i32 {
    let mut signal: c_int = 0;
    // SAFETY: PR_GET_PDEATHSIG writes one int to the address given.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    signal
}

/// Inheritable, permitted, effective capability bits.
pub fn capabilities() -> Result<[u64; 3], Errno> {
    let mut header = [0x2008_0522u32, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: capget writes two triples of u32 for version 3, which is what `sets` holds.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) })?;
    let join = |i: usize| u64::from(sets[0][i]) | u64::from(sets[1][i]) << 32;
    Ok([join(2), join(1), join(0)])
}

/// Soft and hard limit of a resource; `u64::MAX` is infinity.
pub fn rlimit(resource: u32) -> Result<[u64; 2], Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit64 of the calling process writes one rlimit64.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<c_void>(), &raw mut limit)
    })?;
    Ok([limit.rlim_cur, limit.rlim_max])
}

/// The descriptor's flags, or `None` where it is closed.
pub fn fd_flags(fd: i32) -> Option<i32> {
    // SAFETY: F_GETFD takes no argument.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    (flags >= 0).then_some(flags)
}

/// Node name and domain name.
pub fn names() -> (String, String) {
    let mut uts = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: uname fills the structure with NUL-terminated strings; zeroed is valid should it fail.
    let uts = unsafe {
        libc::uname(uts.as_mut_ptr());
        uts.assume_init()
    };
    let text = |field: &[c_char]| -> String {
        field.iter().take_while(|&&c| c != 0).map(|&c| char::from(c.cast_unsigned())).collect()
    };
    (text(&uts.nodename), text(&uts.domainname))
}

/// `struct sched_attr` as the kernel fills it.
#[repr(C)]
#[derive(Default)]
pub struct Schedule {
    size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    util_min: u32,
    util_max: u32,
}

/// The scheduling attributes of this process.
pub fn schedule() -> Result<Schedule, Errno> {
    let mut attr = Schedule::default();
    // SAFETY: the size given is that of the structure written to.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size_of::<Schedule>(), 0) })?;
    Ok(attr)
}

/// I/O priority as the kernel packs it: class in the bits from 13 on.
pub fn io_priority() -> Result<i64, Errno> {
    call(libc::SYS_ioprio_get, [1, 0, 0, 0])
}

/// The cpus this process may run on.
pub fn cpus() -> Vec<usize> {
    let mut mask = [0u64; 128];
    // SAFETY: the size given is that of `mask`.
    let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    let bits = usize::try_from(got).unwrap_or(0) * 8;
    (0..bits).filter(|i| mask[i / 64] >> (i % 64) & 1 == 1).collect()
}

/// NUMA memory policy: mode with flags, and the node mask's first word.
pub fn memory_policy() -> Result<(i32, u64), Errno> {
    let mut mode: c_int = 0;
    let mut nodes = [0u64; 16];
    // SAFETY: 1024 bits is the size of `nodes`; the kernel writes at most that.
    check(unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nodes.as_mut_ptr(), 1024, 0, 0) })?;
    Ok((mode, nodes[0]))
}

/// The session keyring's serial number and description.
pub fn session_keyring() -> Result<(i64, String), Errno> {
    const GET_KEYRING_ID: c_long = 0;
    const DESCRIBE: c_long = 6;
    const SESSION: c_long = -3;
    let id = call(libc::SYS_keyctl, [GET_KEYRING_ID, SESSION, 0, 0])?;
    let mut text = vec![0u8; 4096];
    // SAFETY: the length given is that of `text`.
    let length =
        check(unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, id, text.as_mut_ptr(), text.len()) })?;
    text.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok((id, String::from_utf8_lossy(&text).into_owned()))
}

/// Whether the descriptor is a terminal; then its rows and columns.
pub fn terminal(fd: i32) -> Option<[u16; 2]> {
    // SAFETY: isatty takes a number, TIOCGWINSZ writes one winsize.
    unsafe {
        if libc::isatty(fd) != 1 {
            return None;
        }
        let mut size = MaybeUninit::<libc::winsize>::zeroed();
        libc::ioctl(fd, libc::TIOCGWINSZ, size.as_mut_ptr());
        let size = size.assume_init();
        Some([size.ws_row, size.ws_col])
    }
}

/// Session id and process group.
pub fn session() -> [i32; 2] {
    // SAFETY: both only take numbers.
    unsafe { [libc::getsid(0), libc::getpgrp()] }
}

/// The flags of a network interface (`IFF_UP` is 1).
pub fn interface_flags(name: &str) -> Result<i16, Errno> {
    // SAFETY: a zeroed ifreq is valid; the name is cut to fit and stays NUL-terminated; the ioctl writes into the same structure.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(c_long::from(socket))?;
        let mut request: libc::ifreq = MaybeUninit::zeroed().assume_init();
        for (to, from) in request.ifr_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from.cast_signed();
        }
        let result = check(c_long::from(libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &raw mut request)));
        libc::close(socket);
        result.map(|_| request.ifr_ifru.ifru_flags)
    }
}

/// Signals with the action "ignore".
pub fn ignored_signals() -> Vec<i32> {
    (1..=64)
        .filter(|&signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: a null new action only asks; the old one is written to `action`, which zeroed is valid too.
            let action = unsafe {
                libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
                action.assume_init()
            };
            action.sa_sigaction == libc::SIG_IGN
        })
        .collect()
}

/// Blocked signals.
pub fn blocked_signals() -> Vec<i32> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a null new set only asks; sigismember reads the set just written.
    unsafe {
        libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr());
        let set = set.assume_init();
        (1..=64).filter(|&s| libc::sigismember(&raw const set, s) == 1).collect()
    }
}

/// Blocks every signal, so that `wait_signal` gets them.
pub fn block_signals() {
    // SAFETY: fills and installs a set of this function's own.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The next signal, or `None` after the time given; `block_signals` comes first.
pub fn wait_signal(time: Option<Duration>) -> Option<i32> {
    // SAFETY: waits on a set of its own; the timeout is a live timespec or null.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigfillset(&raw mut set);
        let limit = time
            .map(|t| libc::timespec { tv_sec: t.as_secs().cast_signed(), tv_nsec: t.subsec_nanos().into() });
        loop {
            let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let signal = libc::sigtimedwait(&raw const set, std::ptr::null_mut(), limit);
            if signal > 0 {
                return Some(signal);
            }
            if errno() != libc::EINTR {
                return None;
            }
        }
    }
}

/// Reaps what has died; gives the pids.
pub fn reap() -> Vec<i32> {
    let mut gone = Vec::new();
    loop {
        // SAFETY: a null status is allowed.
        let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        if pid <= 0 {
            return gone;
        }
        gone.push(pid);
    }
}

/// A byte and a descriptor, over a connected Unix socket.
pub fn send_descriptor(socket: i32, fd: i32) -> Result<(), Errno> {
    let mut byte = [b'x'];
    let mut bytes = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 3];
    // SAFETY: zeros are a msghdr; what it points to, room for one header and one descriptor among it, outlives the call.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut bytes, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        check(libc::sendmsg(socket, &raw const message, 0) as c_long).map(drop)
    }
}

/// fork(2): 0 in the child.
pub fn fork() -> Result<i32, Errno> {
    // SAFETY: this program has one thread, so the child may do anything.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(errno()) } else { Ok(pid) }
}

/// Leaves at once, without destructors.
pub fn leave(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// Sends this process a signal, with the default action restored and unblocked.
pub fn kill_self(signal: i32) {
    // SAFETY: plain numbers; the set is this function's own.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// openat(2), without a mode.
pub fn open_at(dir: &std::fs::File, name: &CStr, flags: c_int) -> Result<std::fs::File, Errno> {
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: the name ends in NUL; the number is that of a descriptor just opened, which nobody else has.
    unsafe {
        let fd = libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC);
        check(c_long::from(fd)).map(|_| std::fs::File::from_raw_fd(fd))
    }
}

/// Whether the mount that a descriptor is on can be written to.
pub fn writable(file: &std::fs::File) -> bool {
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: fstatvfs fills the structure; zeroed is valid should it fail.
    let (result, stat) = unsafe {
        let result = libc::fstatvfs(std::os::fd::AsRawFd::as_raw_fd(file), stat.as_mut_ptr());
        (result, stat.assume_init())
    };
    result == 0 && stat.f_flag & libc::ST_RDONLY == 0
}

/// Kills a process.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(c_long::from(unsafe { libc::kill(pid, signal) })).map(|_| ())
}

/// Bytes of a System V shared memory segment: `text` is written where given, what is there is returned.
pub fn sysv_segment(key: i32, text: Option<&str>) -> Result<String, Errno> {
    const SIZE: usize = 4096;
    let create = if text.is_some() { libc::IPC_CREAT } else { 0 };
    // SAFETY: the segment is SIZE bytes long and stays attached while it is read and written.
    unsafe {
        let id = libc::shmget(key, SIZE, create | 0o600);
        check(c_long::from(id))?;
        let memory = libc::shmat(id, std::ptr::null(), 0);
        if memory.addr() == usize::MAX {
            return Err(errno());
        }
        let bytes = std::slice::from_raw_parts_mut(memory.cast::<u8>(), SIZE);
        if let Some(text) = text {
            let length = text.len().min(SIZE - 1);
            bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
            bytes[length] = 0;
        }
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(SIZE);
        let seen = String::from_utf8_lossy(&bytes[..end]).into_owned();
        libc::shmdt(memory);
        Ok(seen)
    }
}
