//! Container events, for GetContainerEvents. A client that falls behind loses the oldest; it does not slow the server down.

use tokio::sync::broadcast;

use crate::api;
use crate::paths;

/// Who listens.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<api::ContainerEventResponse>,
}

impl Events {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(1024) }
    }

    /// From now on.
    pub fn subscribe(&self) -> broadcast::Receiver<api::ContainerEventResponse> {
        self.sender.subscribe()
    }

    /// Whether anybody listens: what an event says need not be collected otherwise.
    pub fn are_wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells all.
    pub fn send(&self, mut event: api::ContainerEventResponse) {
        event.created_at = paths::now();
        // Nobody listening is fine.
        let _ = self.sender.send(event);
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}
