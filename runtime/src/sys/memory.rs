//! The heap of a process that stays, where glibc keeps it: how many arenas, and giving back what is free. With any other allocator
//! neither does anything.

/// At most so many arenas: each keeps for itself what was freed in it. Called before there are threads.
pub fn at_most_arenas(count: usize) {
    #[cfg(target_env = "gnu")]
    {
        let count = libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt(3) takes two integers and may be called at any time.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, count) }; // one that refuses has as many as before
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

/// Gives free pages back to the kernel. Takes a millisecond or so.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer, is thread-safe, and touches free memory only.
    let _ = unsafe { libc::malloc_trim(0) };
}
