//! The heap of a process that stays, where glibc keeps it: how many arenas, what is kept of what was freed, and giving it back. With any
//! other allocator none of it does anything.

/// At most so many arenas: each keeps for itself what was freed in it. Called before there are threads.
pub fn at_most_arenas(count: usize) {
    #[cfg(target_env = "gnu")]
    set(libc::M_ARENA_MAX, count);
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

/// What has so many bytes or more goes back to the kernel as soon as it is freed; smaller things stay, up to twice that at the end of an
/// arena. glibc raises its own bound, up to 32 MB, with each large piece that is freed, and keeps those of that size from then on.
pub fn give_back_from(bytes: usize) {
    #[cfg(target_env = "gnu")]
    {
        set(libc::M_MMAP_THRESHOLD, bytes);
        set(libc::M_TRIM_THRESHOLD, bytes.saturating_mul(2));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

#[cfg(target_env = "gnu")]
fn set(parameter: libc::c_int, value: usize) {
    let value = libc::c_int::try_from(value).unwrap_or(libc::c_int::MAX);
    // SAFETY: mallopt(3) takes two integers and may be called at any time.
    let _ = unsafe { libc::mallopt(parameter, value) }; // one that refuses keeps what it has
}

/// Gives free pages back to the kernel. Takes a millisecond or so.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer, is thread-safe, and touches free memory only.
    let _ = unsafe { libc::malloc_trim(0) };
}
