//! A bump allocator for a process that lives a few milliseconds; what doesn't fit its arena goes to the system's allocator.
//!
//! It never gives memory of the arena back, except that the newest block can grow or shrink in place.
//! Not for processes that stay: `rt run` in the foreground allocates next to nothing while it waits.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for an engine's config three times over; pages that are never touched cost nothing.
const ARENA: usize = 1 << 20;

/// The allocator.
pub struct Bump {
    arena: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}

// SAFETY: blocks are handed out by an atomic compare-exchange on `used`, so no two callers get overlapping parts of the arena.
unsafe impl Sync for Bump {}

impl Bump {
    /// An empty arena, in .bss.
    pub const fn new() -> Self {
        Self { arena: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) }
    }

    fn start(&self) -> usize {
        self.arena.get() as usize
    }

    fn owns(&self, block: *mut u8) -> bool {
        (self.start()..self.start() + ARENA).contains(&(block as usize))
    }
}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every block is either a part of the arena that was reserved by exactly one successful compare-exchange, aligned as
// asked, or comes from `System`; a block goes back to the allocator that it came from, which its address tells.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.start();
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            // As every malloc aligns: nix reads control messages out of byte vectors as if they were aligned structures.
            let align = layout.align().max(8);
            let at = (start + used + align - 1) & !(align - 1);
            let end = at - start + layout.size();
            if end > ARENA {
                // SAFETY: the caller's layout is valid by this function's own contract.
                return unsafe { System.alloc(layout) };
            }
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return at as *mut u8,
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.owns(block) {
            let end = block as usize - self.start() + layout.size();
            // The newest block can be taken back; any other stays used, which a failed exchange means.
            let _ = self.used.compare_exchange(
                end,
                block as usize - self.start(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        } else {
            // SAFETY: not in the arena, so `alloc` got it from `System` with this layout.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !self.owns(block) {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        let at = block as usize - self.start();
        let newest = self.used.load(Ordering::Relaxed) == at + layout.size();
        if newest
            && at + new_size <= ARENA
            && self
                .used
                .compare_exchange(at + layout.size(), at + new_size, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            return block;
        }
        // SAFETY: same alignment, and `new_size` is valid for it by the caller's contract.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least the smaller of the two sizes long and don't overlap: `moved` was just reserved.
            unsafe { std::ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size)) };
            // SAFETY: `block` is not used after this.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_distinct_and_keep_their_contents_when_they_grow() {
        static BUMP: Bump = Bump::new();
        let bump = &BUMP;
        let small = Layout::from_size_align(3, 1).unwrap();
        let wide = Layout::from_size_align(64, 64).unwrap();
        // SAFETY: valid layouts; blocks are used within their sizes and freed at most once.
        unsafe {
            let a = bump.alloc(small);
            a.copy_from(b"abc".as_ptr(), 3);
            let b = bump.alloc(wide);
            assert_eq!(b as usize % 64, 0);
            assert!(b as usize >= a as usize + 3);
            let a = bump.realloc(a, small, 100);
            assert_eq!(std::slice::from_raw_parts(a, 3), b"abc");
            let huge = Layout::from_size_align(2 * ARENA, 8).unwrap();
            let c = bump.alloc(huge);
            assert!(!bump.owns(c));
            bump.dealloc(c, huge);
        }
    }
}
