//! seccomp(2): loads a filter program into this process. KERNEL(3.17)
//!
//! It doesn't touch no_new_privs: without that attribute the caller needs CAP_SYS_ADMIN in its user namespace.

use nix::errno::Errno;

use super::check;

const SET_MODE_FILTER: libc::c_long = 1;
const INSN_SIZE: usize = 8;

/// Puts this thread, and with SECCOMP_FILTER_FLAG_TSYNC all others, under a filter for good.
///
/// `program`: the bytes of an array of `struct sock_filter`. No allocation, so that it is right after fork too.
pub fn load(program: &[u8], flags: u32) -> nix::Result<()> {
    let length = u16::try_from(program.len() / INSN_SIZE).map_err(|_| Errno::EINVAL)?;
    if !program.len().is_multiple_of(INSN_SIZE) {
        return Err(Errno::EINVAL);
    }
    let header = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let flags = libc::c_ulong::from(flags);
    // SAFETY: the kernel only reads: the header, which outlives the call, and `len` instructions of 8 bytes at `filter`, which
    // are `program`. It copies them bytewise, so that their alignment doesn't matter.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const header) };
    match check(ret)? {
        0 => Ok(()),
        // With TSYNC: the id of a thread that could not be brought under the filter.
        _ => Err(Errno::ESRCH),
    }
}
