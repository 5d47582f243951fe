//! What is on its way, one flight for all who want the same. What it is, and what a flight does, is its caller's.

use crate::error::Result;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Something being brought.
pub type Flight<T> = BoxFuture<'static, Result<T>>;

/// Held by all that works for a flight, threads too: the flight has ended when the last is dropped.
pub type Working = Arc<watch::Sender<()>>;

/// Those under way.
pub struct Flights<K, T> {
    under_way: Mutex<HashMap<K, UnderWay<T>>>,
}

struct UnderWay<T> {
    flight: WeakShared<Flight<T>>,
    working: watch::Receiver<()>,
}

impl<T: Clone> UnderWay<T> {
    /// The flight, where somebody waits for it.
    fn wanted(&self) -> Option<Shared<Flight<T>>> {
        self.flight.upgrade().filter(|flight| flight.peek().is_none())
    }
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

impl<K: Hash + Eq, T: Clone> Flights<K, T> {
    /// The flight that is under way, or else `start`, and whether it is that one.
    pub fn join(&self, key: K, start: impl FnOnce(Working) -> Flight<T>) -> (Shared<Flight<T>>, bool) {
        let mut under_way = self.under_way();
        under_way.retain(|_, entry| entry.wanted().is_some() || entry.working.has_changed().is_ok());
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

    fn under_way(&self) -> MutexGuard<'_, HashMap<K, UnderWay<T>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
