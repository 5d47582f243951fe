//! Whether there is a core left for a second thread of a layer. With as many layers at work as there are cores, another thread each
//! would only move bytes from one core's cache to another's.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static LAYERS: AtomicUsize = AtomicUsize::new(0);

/// A layer that is being unpacked, for as long as this lives.
pub struct AtWork(());

impl AtWork {
    /// One more.
    pub fn begin() -> Self {
        LAYERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        LAYERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether fewer layers are being unpacked than there are cores for this process.
pub fn to_spare() -> bool {
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
    LAYERS.load(Ordering::Relaxed) < *cores
}
