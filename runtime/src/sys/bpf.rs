//! bpf(2), as far as programs of type BPF_PROG_TYPE_CGROUP_DEVICE need it. No limit of the process is raised for it:
//! KERNEL(5.11) no longer counts programs against RLIMIT_MEMLOCK.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

// KERNEL: include/uapi/linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// Length of a program's name, the closing NUL included.
pub const NAME_LEN: usize = 16;

/// Most programs that one cgroup can have attached. KERNEL: BPF_CGROUP_MAX_PROGS
const MOST: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME_LEN],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ObjectInfo {
    fd: u32,
    len: u32,
    out: u64,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 8],
    name: [u8; NAME_LEN],
}

/// Loads a program of eight-byte instructions. A name that is too long is cut.
pub fn load_device_program(instructions: &[u64], name: &CStr) -> nix::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(instructions.len()).map_err(|_| nix::errno::Errno::E2BIG)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let len = name.count_bytes().min(NAME_LEN - 1);
    load.name[..len].copy_from_slice(&name.to_bytes()[..len]);
    // SAFETY: `load` is the prefix of `union bpf_attr` that PROG_LOAD reads, of the size that is given; its pointers lead to
    // `count` instructions of eight bytes and to a string that ends in NUL, all alive during the call. The kernel only reads.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, std::mem::size_of::<Load>())
    })?;
    // SAFETY: PROG_LOAD returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches a device program to a cgroup, beside those that are there or in place of one of them, without a moment of none.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    instead: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let attach = Attach {
        target: number(cgroup),
        program: number(program),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI | if instead.is_some() { REPLACE } else { 0 },
        replace: instead.map_or(0, number),
    };
    // SAFETY: `attach` is the prefix of `union bpf_attr` that PROG_ATTACH reads, of the size that is given, and holds no pointers.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, std::mem::size_of::<Attach>())
    })
    .map(drop)
}

/// Detaches a device program from a cgroup.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> nix::Result<()> {
    let attach =
        Attach { target: number(cgroup), program: number(program), kind: CGROUP_DEVICE, ..Attach::default() };
    // SAFETY: as in `attach_device_program`.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_DETACH, &raw const attach, std::mem::size_of::<Attach>())
    })
    .map(drop)
}

/// Ids of the device programs attached to this cgroup itself.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<u32>> {
    let mut ids = vec![0u32; MOST];
    let mut query = Query {
        target: number(cgroup),
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: `query` is the prefix of `union bpf_attr` that PROG_QUERY reads and writes, of the size that is given; the kernel
    // writes at most `count` ids of four bytes to where `ids` points, which has room for so many and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, std::mem::size_of::<Query>()) })?;
    ids.truncate(query.count as usize);
    Ok(ids)
}

/// Opens a loaded program.
pub fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    let by_id = ById { id, ..ById::default() };
    // SAFETY: `by_id` is the prefix of `union bpf_attr` that PROG_GET_FD_BY_ID reads, of the size that is given, without pointers.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, &raw const by_id, std::mem::size_of::<ById>())
    })?;
    // SAFETY: PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The name that a program was loaded with.
pub fn program_name(program: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    let mut found = ProgramInfo::default();
    let info = ObjectInfo {
        fd: number(program),
        len: std::mem::size_of::<ProgramInfo>() as u32,
        out: &raw mut found as u64,
    };
    // SAFETY: `info` is the prefix of `union bpf_attr` that OBJ_GET_INFO_BY_FD reads, of the size that is given; the kernel writes
    // at most `len` bytes to `found`, which is as long and lives through the call. Its pointers are zero: nothing else is written.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const info, std::mem::size_of::<ObjectInfo>())
    })?;
    let len = found.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
    Ok(found.name[..len].to_vec())
}

/// A borrowed descriptor is never negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The kernel reads these by offset.
const _: () = {
    assert!(std::mem::offset_of!(Load, name) == 48);
    assert!(std::mem::offset_of!(Attach, replace) == 16);
    assert!(std::mem::offset_of!(Query, count) == 24);
    assert!(std::mem::offset_of!(ProgramInfo, name) == 64);
};
