//! What a pull tells those who watch it. It draws nothing.

use super::digest::Digest;

/// Watches the layers of one pull. Called often, from any thread; must not block.
pub trait Progress: Send + Sync {
    /// Something happened to a layer.
    fn layer(&self, digest: &Digest, event: Event);
}

/// What happened to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It will be downloaded; bytes to come.
    Waiting(u64),
    /// Bytes came.
    Received(u64),
    /// It is unpacked and on disk, or was before.
    Done,
}

/// For those who don't watch.
pub struct Unwatched;

impl Progress for Unwatched {
    fn layer(&self, _: &Digest, _: Event) {}
}
