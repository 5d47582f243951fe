//! Turns of those that download: so many of one owner, so many in all. Who has one pays for it with bytes: where others wait, the slowest
//! that does not goes, so that however many registries are silent or slow, they keep nobody from theirs.

use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// How long others wait before one has to go, and how long one that has just begun, or has just been resumed, may stay whatever comes.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Who sends so many bytes a second pays for his turn.
const PAYS: u64 = 64 << 10;

/// Turns.
pub struct Slots {
    of_one: usize,
    in_all: Arc<Semaphore>,
    patience: Duration,
    /// Those that anybody has or waits for.
    owners: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// Those that have one.
    payers: Mutex<Vec<Weak<Payer>>>,
}

/// A turn; dropped when it is over.
pub struct Slot {
    payer: Arc<Payer>,
    _own: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

/// What has been paid for a turn, and whether it has to be given up.
pub struct Payer {
    paid: Mutex<Paid>,
    leave: Notify,
}

/// Only the waits for the sender count: what is done with the bytes is not his affair.
#[derive(Default)]
struct Paid {
    bytes: u64,
    waited: Duration,
    waits_since: Option<Instant>,
    told_to_leave: bool,
}

impl Slots {
    /// So many of one owner at a time, so many in all; others wait for so long before one that does not pay goes.
    pub fn new(of_one: usize, in_all: usize, patience: Duration) -> Self {
        Self {
            of_one: of_one.max(1),
            in_all: Arc::new(Semaphore::new(in_all.max(1))),
            patience,
            owners: Mutex::default(),
            payers: Mutex::default(),
        }
    }

    /// Waits for a turn of this owner's.
    pub async fn take(&self, owner: &str) -> Result<Slot> {
        let closed = |error: AcquireError| Error::internal(error.to_string());
        // ORDER: its own first: who waits for that keeps nobody else from theirs.
        let own = self.of(owner).acquire_owned().await.map_err(closed)?;
        let mut turn = pin!(self.in_all.clone().acquire_owned());
        let in_all = loop {
            tokio::select! {
                taken = &mut turn => break taken.map_err(closed)?,
                () = sleep(self.patience) => self.send_away(),
            }
        };
        let payer = Arc::new(Payer { paid: Mutex::default(), leave: Notify::new() });
        locked(&self.payers).push(Arc::downgrade(&payer));
        Ok(Slot { payer, _own: own, _in_all: in_all })
    }

    fn of(&self, owner: &str) -> Arc<Semaphore> {
        let mut owners = locked(&self.owners);
        owners.retain(|_, slots| slots.strong_count() > 0);
        if let Some(slots) = owners.get(owner).and_then(Weak::upgrade) {
            return slots;
        }
        let slots = Arc::new(Semaphore::new(self.of_one));
        owners.insert(owner.to_owned(), Arc::downgrade(&slots));
        slots
    }

    /// The slowest of those that don't pay.
    fn send_away(&self) {
        let mut payers = locked(&self.payers);
        payers.retain(|payer| payer.strong_count() > 0);
        let known = payers.iter().filter_map(Weak::upgrade);
        let owing = known.filter_map(|payer| Some((payer.owes(self.patience)?, payer)));
        if let Some((_, payer)) = owing.min_by_key(|(rate, _)| *rate) {
            locked(&payer.paid).told_to_leave = true;
            payer.leave.notify_one();
        }
    }
}

impl Slot {
    /// Who pays for it.
    pub fn payer(&self) -> Arc<Payer> {
        self.payer.clone()
    }
}

impl Payer {
    /// What the sender sends, waited for; `size` says how much that was. An error where the turn has to be given up.
    pub async fn pays<T>(&self, sent: impl Future<Output = T>, size: impl FnOnce(&T) -> u64) -> Result<T> {
        let _wait = Wait::begin(self);
        tokio::select! {
            biased;
            sent = sent => {
                let mut paid = locked(&self.paid);
                paid.bytes = paid.bytes.saturating_add(size(&sent));
                Ok(sent)
            }
            () = self.leave.notified() => {
                let what = format!("it comes slower than {PAYS} bytes a second, and others wait for its place");
                Err(Error::new(Kind::Timeout, what)
                    .cure("pull again later; what came of a large layer is kept; registry.concurrent_layers_in_all says how many places there are"))
            }
        }
    }

    /// Bytes a second, if those are too few.
    fn owes(&self, patience: Duration) -> Option<u64> {
        let paid = locked(&self.paid);
        let waited = paid.waited + paid.waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        if paid.told_to_leave || waited < patience {
            return None;
        }
        let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = paid.bytes.saturating_mul(1000) / millis;
        (rate < PAYS).then_some(rate)
    }
}

/// A wait for the sender, however it ends.
struct Wait<'a>(&'a Payer);

impl<'a> Wait<'a> {
    fn begin(payer: &'a Payer) -> Self {
        locked(&payer.paid).waits_since = Some(Instant::now());
        Self(payer)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut paid = locked(&self.0.paid);
        if let Some(since) = paid.waits_since.take() {
            paid.waited += since.elapsed();
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::pending;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn an_owner_that_keeps_its_turns_keeps_no_others_from_theirs() {
        let slots = Slots::new(2, 3, PATIENCE);
        let slow = [slots.take("slow").await.unwrap(), slots.take("slow").await.unwrap()];
        assert!(slots.take("slow").now_or_never().is_none());
        let other = slots.take("other").now_or_never().expect("a turn").unwrap();
        assert!(slots.take("third").now_or_never().is_none(), "three in all");
        drop(other);
        assert!(slots.take("third").now_or_never().is_some());
        drop(slow);
        assert!(slots.take("slow").now_or_never().is_some());
        drop(slots.take("last").await.unwrap());
        assert_eq!(slots.owners.lock().unwrap().len(), 1, "those that nobody has are forgotten");
    }

    /// Holds a turn until it is told to leave; sends a byte now and then, or nothing.
    async fn holds(slots: &Slots, owner: &str, now_and_then: bool) -> String {
        let slot = slots.take(owner).await.expect("a turn");
        let payer = slot.payer();
        loop {
            let sent = async { if now_and_then { sleep(SHORT / 8).await } else { pending().await } };
            if let Err(error) = payer.pays(sent, |()| 1).await {
                return error.to_string();
            }
        }
    }

    #[tokio::test]
    async fn the_silent_and_the_slow_leave_when_others_wait() {
        let slots = Slots::new(1, 2, SHORT);
        let both = async { tokio::join!(holds(&slots, "silent", false), holds(&slots, "slow", true)) };
        let others = async {
            let first = slots.take("first").await.unwrap();
            let second = slots.take("second").await.unwrap();
            drop((first, second));
        };
        let ((silent, slow), ()) = tokio::join!(both, others);
        assert!(silent.contains("others wait"), "{silent}");
        assert!(slow.contains("others wait"), "{slow}");
    }

    #[tokio::test]
    async fn who_pays_stays_and_who_computes_is_not_counted_as_slow() {
        let slots = Slots::new(1, 2, SHORT);
        let (fast, busy) = (slots.take("fast").await.unwrap(), slots.take("busy").await.unwrap());
        let (fast_pays, busy_pays) = (fast.payer(), busy.payer());
        busy_pays.pays(async {}, |()| 1).await.unwrap();
        for _ in 0..10 {
            let sent = async { sleep(SHORT / 2).await };
            fast_pays.pays(sent, |()| PAYS).await.unwrap();
            assert!(slots.take("other").now_or_never().is_none(), "both are held");
            slots.send_away();
        }
        busy_pays.pays(async {}, |()| 1).await.expect("its work takes long, not its sender");
        fast_pays.pays(async {}, |()| 1).await.expect("it pays");
    }

    #[tokio::test]
    async fn nobody_leaves_where_nobody_waits() {
        let slots = Slots::new(1, 1, SHORT);
        let slow = slots.take("slow").await.unwrap();
        let payer = slow.payer();
        payer.pays(sleep(SHORT * 4), |()| 1).await.expect("it is slow, and keeps nobody");
    }
}
