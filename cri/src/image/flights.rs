//! What is on its way, one flight for all who want the same. What it is, and what a flight does, is its caller's.

use crate::error::{Error, Result};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};

/// Something being brought.
pub type Flight<T> = BoxFuture<'static, Result<T>>;

/// Held by all that works for a flight, threads too: the flight has ended when the last is dropped.
pub type Working = Arc<watch::Sender<()>>;

/// Those under way.
pub struct Flights<K, T> {
    under_way: Mutex<HashMap<K, UnderWay<T>>>,
    slots: Slots,
}

/// Turns: so many of one owner, so many in all.
struct Slots {
    of_one: usize,
    in_all: Arc<Semaphore>,
    /// Those that anybody has or waits for.
    owners: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A turn; dropped when it is over.
pub struct Slot {
    _own: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

impl Slots {
    fn of(&self, owner: &str) -> Arc<Semaphore> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, slots| slots.strong_count() > 0);
        if let Some(slots) = owners.get(owner).and_then(Weak::upgrade) {
            return slots;
        }
        let slots = Arc::new(Semaphore::new(self.of_one));
        owners.insert(owner.to_owned(), Arc::downgrade(&slots));
        slots
    }
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

impl<K: Hash + Eq, T: Clone> Flights<K, T> {
    /// So many of one owner have a turn at a time, and so many in all.
    pub fn new(of_one: usize, in_all: usize) -> Self {
        let (of_one, in_all) = (of_one.max(1), Arc::new(Semaphore::new(in_all.max(1))));
        Self { under_way: Mutex::default(), slots: Slots { of_one, in_all, owners: Mutex::default() } }
    }

    /// Waits for a turn of this owner's.
    pub async fn slot(&self, owner: &str) -> Result<Slot> {
        let closed = |error: AcquireError| Error::internal(error.to_string());
        // ORDER: its own first: who waits for that keeps nobody else from theirs.
        let own = self.slots.of(owner).acquire_owned().await.map_err(closed)?;
        let in_all = self.slots.in_all.clone().acquire_owned().await.map_err(closed)?;
        Ok(Slot { _own: own, _in_all: in_all })
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn an_owner_that_keeps_its_turns_keeps_no_others_from_theirs() {
        let flights: Flights<u8, ()> = Flights::new(2, 3);
        let slow = [flights.slot("slow").await.unwrap(), flights.slot("slow").await.unwrap()];
        assert!(flights.slot("slow").now_or_never().is_none());
        let other = flights.slot("other").now_or_never().expect("a turn").unwrap();
        assert!(flights.slot("third").now_or_never().is_none(), "three in all");
        drop(other);
        assert!(flights.slot("third").now_or_never().is_some());
        drop(slow);
        assert!(flights.slot("slow").now_or_never().is_some());
        drop(flights.slot("last").await.unwrap());
        assert_eq!(flights.slots.owners.lock().unwrap().len(), 1, "those that nobody has are forgotten");
    }
}
