//! Attributes of the calling process that nix and rustix lack, or that libc would apply to every thread by signals.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// The three sets that capset(2) takes, as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: u64,
    /// May be put into force.
    pub permitted: u64,
    /// Handed on by execve(2) to files that ask.
    pub inheritable: u64,
}

const CAPABILITY_V3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Replaces the three sets of this thread in one call.
pub fn capset(sets: CapSets) -> nix::Result<()> {
    let header = CapHeader { version: CAPABILITY_V3, pid: 0 };
    let half = |shift: u32| CapHalf {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: version 3 takes one header and two halves, which these are; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) }).map(drop)
}

/// Reads the three sets of this thread.
pub fn capget() -> nix::Result<CapSets> {
    let header = CapHeader { version: CAPABILITY_V3, pid: 0 };
    let mut halves = [CapHalf::default(); 2];
    // SAFETY: as in `capset`; the kernel writes two halves.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) })?;
    let join = |pick: fn(&CapHalf) -> u32| u64::from(pick(&halves[0])) | u64::from(pick(&halves[1])) << 32;
    Ok(CapSets {
        effective: join(|h| h.effective),
        permitted: join(|h| h.permitted),
        inheritable: join(|h| h.inheritable),
    })
}

fn prctl(option: libc::c_int, args: [libc::c_ulong; 4]) -> nix::Result<libc::c_int> {
    // SAFETY: callers in this file pass options whose arguments are numbers, never pointers.
    check(libc::c_long::from(unsafe { libc::prctl(option, args[0], args[1], args[2], args[3]) }))
        .map(|r| r as _)
}

/// Whether the capability is in this thread's bounding set; EINVAL: the kernel doesn't know it.
pub fn bounding_has(capability: u8) -> nix::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, [capability.into(), 0, 0, 0]).map(|r| r == 1)
}

/// Takes a capability out of the bounding set for good.
pub fn bounding_drop(capability: u8) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, [capability.into(), 0, 0, 0]).map(drop)
}

/// Empties the ambient set.
pub fn ambient_clear() -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_CLEAR_ALL as _, 0, 0, 0]).map(drop)
}

/// Adds a capability, which must be permitted and inheritable, to the ambient set.
pub fn ambient_raise(capability: u8) -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_RAISE as _, capability.into(), 0, 0]).map(drop)
}

/// Keep permitted capabilities over the change of user to come (until execve).
pub fn keep_capabilities() -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0]).map(drop)
}

/// execve(2) can't give privileges any more, for this process and all its descendants.
pub fn no_new_privileges() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// Nobody without CAP_SYS_PTRACE over this process's first user namespace can trace it or look into its /proc directory.
pub fn undumpable() -> nix::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, [0, 0, 0, 0]).map(drop)
}

/// Orphans among the descendants become children of this process.
pub fn become_subreaper() -> nix::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]).map(drop)
}

/// This process gets `signal` when its parent dies.
pub fn signal_on_parent_death(signal: i32) -> nix::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, [signal as _, 0, 0, 0]).map(drop)
}

/// KERNEL: -1 would leave them all as they are, and whoever asked for it what he was.
fn is_an_id(id: u32) -> nix::Result<()> {
    if id == u32::MAX { Err(nix::errno::Errno::EINVAL) } else { Ok(()) }
}

/// Real, effective and saved user id of this thread. Raw: libc's own would signal all threads, and there is one.
pub fn setresuid(uid: u32) -> nix::Result<()> {
    is_an_id(uid)?;
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Real, effective and saved group id of this thread.
pub fn setresgid(gid: u32) -> nix::Result<()> {
    is_an_id(gid)?;
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// The supplementary groups of this thread.
pub fn setgroups(groups: &[u32]) -> nix::Result<()> {
    // SAFETY: a pointer to as many group ids as the first argument says.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Marks every descriptor from `first` on as close-on-exec. KERNEL(5.11)
pub fn close_on_exec_from(first: u32) -> nix::Result<()> {
    // SAFETY: three numbers; no descriptor is closed now, so nobody's ownership ends.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes every descriptor from `first` on but those of `keep`. Only in a process that ends in execve or
/// `_exit` without dropping what it owns: what owned a descriptor owns a number from here on. KERNEL(5.9)
pub fn close_all_but(mut first: u32, keep: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    for last in kept.into_iter().map(Some).chain([None]) {
        let end = last.map_or(u32::MAX, |kept| kept.wrapping_sub(1));
        if last != Some(0) && first <= end {
            // SAFETY: three numbers. By this function's contract nobody uses or drops what is closed here.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) })?;
        }
        first = first.max(last.map_or(u32::MAX, |kept| kept + 1));
    }
    Ok(())
}

/// The name of this process, as ps(1) shows it: 15 bytes.
pub fn set_name(name: &CStr) -> nix::Result<()> {
    // SAFETY: a C string that outlives the call.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })).map(drop)
}

/// Begins a new, empty session keyring without a name and gives its serial number.
pub fn new_session_keyring() -> nix::Result<i32> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a null pointer is no name.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, none) })
        .map(|serial| serial as i32)
}

/// Sets the permission mask of a key.
pub fn set_key_permission(serial: i32, mask: u32) -> nix::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, serial, mask) }).map(drop)
}

/// I/O priority of this process: class (1 real-time, 2 best effort, 3 idle) and level 0–7.
pub fn set_io_priority(class: u16, level: u16) -> nix::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: numbers only.
    check(unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, i32::from(class) << 13 | i32::from(level))
    })
    .map(drop)
}

/// CPU scheduling of this process, sched_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    /// Size of this structure; [`set_scheduler`] fills it in.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Static priority of real-time policies.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// See [`SchedAttr`]; `pid` 0 is this process.
pub fn set_scheduler(pid: i32, mut attr: SchedAttr) -> nix::Result<()> {
    attr.size = std::mem::size_of::<SchedAttr>() as u32;
    // SAFETY: a number and a structure whose first field is its size, as the call wants it; flags are 0.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) }).map(drop)
}

/// NUMA policy of this thread: mode with its flags, and the nodes as a bit mask.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> nix::Result<()> {
    let bits = if nodes.is_empty() { 0 } else { nodes.len() as u64 * 64 + 1 };
    // SAFETY: the kernel reads `bits - 1` bits from the mask, which is that long; none for an empty one.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) }).map(drop)
}

/// Execution domain, personality(2).
pub fn set_personality(domain: u64) -> nix::Result<()> {
    // SAFETY: a number.
    check(libc::c_long::from(unsafe { libc::personality(domain) })).map(drop)
}

/// One resource limit of this process. Raw numbers, since nix's enum lacks what newer kernels have.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = [soft, hard];
    // SAFETY: prlimit64 takes two 64-bit numbers, soft then hard; the old limit is not asked for.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null_mut::<u64>())
    })
    .map(drop)
}

/// Makes a terminal the controlling one of this session, which has none.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    check(libc::c_long::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// Characters of a terminal.
pub fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(libc::c_long::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }))
        .map(drop)
}

/// Opens the file that stands for a namespace. `None`: it is something else, and was not opened, but looked at: a FIFO would wait for its
/// other end, and to open a device may be to use it.
pub fn open_namespace(path: &std::path::Path) -> rustix::io::Result<Option<std::os::fd::OwnedFd>> {
    use rustix::fs::{Mode, OFlags};
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if !super::mount::is_nsfs(&handle)? {
        return Ok(None);
    }
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(Some)
}

/// The type of namespace that a descriptor of `/proc/PID/ns/*` stands for, as its `CLONE_NEW*` flag. KERNEL(4.11)
pub fn namespace_type(namespace: BorrowedFd<'_>) -> nix::Result<u64> {
    const NS_GET_NSTYPE: libc::c_int = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    check(libc::c_long::from(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _, 0) }))
        .map(|r| r as u64)
}

/// The user namespace that a namespace belongs to. KERNEL(4.9)
pub fn owner_namespace(namespace: BorrowedFd<'_>) -> nix::Result<std::os::fd::OwnedFd> {
    const NS_GET_USERNS: libc::c_int = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument, and gives a new descriptor.
    let fd = check(libc::c_long::from(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _, 0) }))?;
    Ok(own(fd as std::os::fd::RawFd))
}

/// The user who made a user namespace, as the caller's own knows him. KERNEL(4.11)
pub fn owner_uid(namespace: BorrowedFd<'_>) -> nix::Result<u32> {
    const NS_GET_OWNER_UID: libc::c_int = 0xb704;
    let mut uid: libc::uid_t = 0;
    // SAFETY: NS_GET_OWNER_UID writes a uid_t, which outlives the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID as _, &raw mut uid)
    }))?;
    Ok(uid)
}

/// The namespace above a user or PID namespace. KERNEL(4.9)
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> nix::Result<std::os::fd::OwnedFd> {
    const NS_GET_PARENT: libc::c_int = 0xb702;
    // SAFETY: NS_GET_PARENT takes no argument, and gives a new descriptor.
    let fd = check(libc::c_long::from(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT as _, 0) }))?;
    Ok(own(fd as std::os::fd::RawFd))
}

/// Takes ownership of a descriptor that the kernel has just handed to this process (SCM_RIGHTS), or that it was started with.
pub fn own(received: std::os::fd::RawFd) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    assert!(received > 2, "a received descriptor can't be one of the standard three");
    // SAFETY: callers pass what recvmsg(2) has just stored, or what execve(2) left open: nothing else in this process owns it.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(received) }
}

/// Takes ownership of a descriptor, above 2, that this process was started with; from here on it is closed on exec. EBADF also for one
/// that was opened since: all of ours are closed on exec.
pub fn inherited(fd: std::os::fd::RawFd) -> nix::Result<std::os::fd::OwnedFd> {
    // SAFETY: two numbers.
    let flags = check(libc::c_long::from(unsafe { libc::fcntl(fd, libc::F_GETFD) }))?;
    if fd <= 2 || flags & libc::c_long::from(libc::FD_CLOEXEC) != 0 {
        return Err(nix::errno::Errno::EBADF);
    }
    // SAFETY: three numbers.
    check(libc::c_long::from(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    Ok(own(fd))
}

/// chmod of what an O_PATH handle stands for. KERNEL(6.6): fchmodat2
pub fn fchmod_opath(handle: impl std::os::fd::AsFd, mode: u32) -> nix::Result<()> {
    const FCHMODAT2: libc::c_long = 452;
    // SAFETY: a descriptor, an empty C string and numbers.
    check(unsafe {
        libc::syscall(FCHMODAT2, handle.as_fd().as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH)
    })
    .map(drop)
}

/// Ends this process at once: no exit handlers, no buffers, no destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Sets how this process takes a signal.
pub fn default_signal(
    signal: nix::sys::signal::Signal,
    handler: nix::sys::signal::SigHandler,
) -> nix::Result<()> {
    assert!(!matches!(
        handler,
        nix::sys::signal::SigHandler::Handler(_) | nix::sys::signal::SigHandler::SigAction(_)
    ));
    // SAFETY: default or ignore (checked above): no code of ours runs at the signal.
    unsafe { nix::sys::signal::signal(signal, handler) }.map(drop)
}

/// In a forked child: lets go of what a descriptor stands for, which lives on in the parent. The number stays open and its owner's, for
/// what `instead` stands for, so that whoever owns it can be used and dropped as before.
pub fn let_go(inherited: BorrowedFd<'_>, instead: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: two open descriptors, both borrowed; dup3 leaves each of them open.
    let done = unsafe { libc::dup3(instead.as_raw_fd(), inherited.as_raw_fd(), libc::O_CLOEXEC) };
    check(libc::c_long::from(done)).map(drop)
}
