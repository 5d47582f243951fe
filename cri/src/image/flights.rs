//! Layers on their way, one for all who want the same. What a flight does is its caller's.

use super::digest::Digest;
use super::layer::Wanted;
use super::store::Held;
use crate::error::{Error, Result};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A layer being brought.
pub type Flight = BoxFuture<'static, Result<Arc<Held>>>;

/// Held by all that works for a flight, threads too: the flight has ended when the last is dropped.
pub type Working = Arc<watch::Sender<()>>;

/// By content and place.
type Key = (Digest, Digest);

/// Those under way.
pub struct Flights {
    under_way: Mutex<HashMap<Key, UnderWay>>,
    slots: Arc<Semaphore>,
}

struct UnderWay {
    flight: WeakShared<Flight>,
    working: watch::Receiver<()>,
}

impl UnderWay {
    /// The flight, where somebody waits for it.
    fn wanted(&self) -> Option<Shared<Flight>> {
        self.flight.upgrade().filter(|flight| flight.peek().is_none())
    }
}

impl Flights {
    /// So many layers are downloaded and unpacked at a time.
    pub fn new(most: usize) -> Self {
        Self { under_way: Mutex::default(), slots: Arc::new(Semaphore::new(most.max(1))) }
    }

    /// Waits for a turn.
    pub async fn slot(&self) -> Result<OwnedSemaphorePermit> {
        self.slots.clone().acquire_owned().await.map_err(|error| Error::internal(error.to_string()))
    }

    /// The flight that is under way, or else `start`, and whether it is that one.
    pub fn join(&self, wanted: &Wanted, start: impl FnOnce(Working) -> Flight) -> (Shared<Flight>, bool) {
        let mut under_way = self.under_way();
        under_way.retain(|_, entry| entry.wanted().is_some() || entry.working.has_changed().is_ok());
        let key = (wanted.diff.clone(), wanted.chain.clone());
        if let Some(flight) = under_way.get(&key).and_then(UnderWay::wanted) {
            return (flight, false);
        }
        let (working, ends) = watch::channel(());
        let flight = start(Arc::new(working)).shared();
        let entry = flight.downgrade().map(|flight| UnderWay { flight, working: ends });
        under_way.extend(entry.map(|entry| (key, entry)));
        (flight, true)
    }

    /// Returns when nothing works any more for the flights that nobody waits for: what they had made is gone or whole then.
    pub async fn given_up(&self) {
        let abandoned: Vec<_> = {
            let under_way = self.under_way();
            under_way
                .values()
                .filter(|entry| entry.wanted().is_none())
                .map(|entry| entry.working.clone())
                .collect()
        };
        for mut working in abandoned {
            // It never changes; it closes.
            while working.changed().await.is_ok() {}
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
