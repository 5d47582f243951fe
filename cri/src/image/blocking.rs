//! Work on the store that waits for the disk, away from the threads that answer.

use crate::error::{Error, Result};

/// Runs what waits for the disk on a thread for that.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(format!("work on image store: {error}")))?
}
