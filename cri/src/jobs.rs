//! Work that goes on when its client goes away, and that is joined by who asks for the same again. It does not order different work.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::Instrument;

use crate::error::{Error, Result};

type Slot<T> = watch::Receiver<Option<Result<T>>>;

/// Work in progress by key.
#[derive(Debug)]
pub struct Jobs<T> {
    running: Arc<Mutex<HashMap<String, Slot<T>>>>,
}

impl<T: Clone + Send + Sync + 'static> Jobs<T> {
    /// No work.
    pub fn new() -> Self {
        Self { running: Arc::default() }
    }

    /// Starts `work` as a task of its own, or joins what runs under `key`; either way waits for its end.
    pub async fn join<F>(&self, key: String, work: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let slot = self.slot(key.clone(), work);
        ended(slot, &key).await
    }

    fn slot<F>(&self, key: String, work: impl FnOnce() -> F) -> Slot<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = running.get(&key) {
            return slot.clone();
        }
        let (done, slot) = watch::channel(None);
        running.insert(key.clone(), slot.clone());
        let table = Arc::clone(&self.running);
        let work = work();
        let task = async move {
            let result = work.await;
            table.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            done.send_replace(Some(result));
        };
        shim::client::spawn(task.in_current_span());
        slot
    }

    /// Whether work runs under `key`.
    pub fn has(&self, key: &str) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Waits for the end of what runs under `key`, and gives its result; none if nothing does.
    pub async fn end_of(&self, key: &str) -> Option<Result<T>> {
        let slot = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        Some(ended(slot, key).await)
    }

    /// Waits until nothing runs any more.
    pub async fn drain(&self) {
        loop {
            let next = self.running.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned();
            let Some(mut slot) = next else { return };
            let _ = slot.wait_for(Option::is_some).await;
        }
    }
}

async fn ended<T: Clone>(mut slot: Slot<T>, key: &str) -> Result<T> {
    match slot.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or_else(|| Err(Error::internal(format!("{key}: no result")))),
        Err(_) => Err(Error::internal(format!("{key}: its task is gone"))),
    }
}

impl<T: Clone + Send + Sync + 'static> Default for Jobs<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_client_that_goes_away_does_not_stop_the_work_and_a_second_one_joins_it() {
        let jobs = Arc::new(Jobs::<u32>::new());
        let started = Arc::new(AtomicU32::new(0));
        let (go, wait) = watch::channel(false);
        let start = |jobs: Arc<Jobs<u32>>| {
            let (started, mut wait) = (Arc::clone(&started), wait.clone());
            async move {
                jobs.join("run x".to_owned(), || async move {
                    started.fetch_add(1, Ordering::SeqCst);
                    let _ = wait.wait_for(|go| *go).await;
                    Ok(7)
                })
                .await
            }
        };
        let first = tokio::spawn(start(Arc::clone(&jobs)));
        while started.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        let second = tokio::spawn(start(Arc::clone(&jobs)));
        tokio::task::yield_now().await;
        go.send_replace(true);
        assert_eq!(second.await.expect("task").expect("result"), 7);
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert!(!jobs.has("run x"));
    }
}
