//! What a pull tells those who watch it: the log, Prometheus, and whoever asked for it. It draws nothing.

use super::digest::Digest;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pull that takes longer is told of in the log so often.
const OFTEN: Duration = Duration::from_secs(10);

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

/// Logs a long pull now and then, counts what comes, and passes on.
pub struct Logged {
    image: String,
    next: Arc<dyn Progress>,
    state: Mutex<State>,
}

struct State {
    told: Instant,
    size: u64,
    received: u64,
}

impl Logged {
    /// For a pull of `image` that begins now.
    pub fn new(image: &str, next: Arc<dyn Progress>) -> Self {
        let state = State { told: Instant::now(), size: 0, received: 0 };
        Self { image: image.to_owned(), next, state: Mutex::new(state) }
    }

    fn note(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Waiting(size) => state.size += size,
            Event::Received(bytes) => {
                state.received += bytes;
                crate::metrics::layer_bytes(bytes);
            }
            Event::Done => crate::metrics::layer_done(),
        }
        if state.told.elapsed() >= OFTEN {
            state.told = Instant::now();
            let State { size, received, .. } = *state;
            tracing::info!(image = self.image, received, of = size, "image is being pulled");
        }
    }
}

impl Progress for Logged {
    fn layer(&self, digest: &Digest, event: Event) {
        self.note(event);
        self.next.layer(digest, event);
    }
}

/// For those who don't watch.
pub struct Unwatched;

impl Progress for Unwatched {
    fn layer(&self, _: &Digest, _: Event) {}
}
