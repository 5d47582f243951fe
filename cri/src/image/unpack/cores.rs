//! Turns at the cores. As many layers are unpacked at a time as there are cores, the one that began first before all others: more of
//! them would only take each other's caches and memory, and all be on disk at the end instead of one after the other.
//!
//! A layer that waits for the network lets others have its turn meanwhile.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

struct Turns {
    free: usize,
    /// Those who wait, by the order in which they began.
    waiting: BTreeSet<u64>,
    /// The order of the next one.
    next: u64,
}

struct Desk {
    turns: Mutex<Turns>,
    changed: Condvar,
}

impl Desk {
    fn new(cores: usize) -> Self {
        let turns = Turns { free: cores, waiting: BTreeSet::new(), next: 0 };
        Self { turns: Mutex::new(turns), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, order: u64) {
        let mut turns = self.lock();
        turns.waiting.insert(order);
        while turns.free == 0 || turns.waiting.first() != Some(&order) {
            turns = self.changed.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        turns.waiting.remove(&order);
        turns.free -= 1;
        if turns.free > 0 {
            self.changed.notify_all();
        }
    }

    fn leave(&self) {
        self.lock().free += 1;
        self.changed.notify_all();
    }
}

fn desk() -> &'static Desk {
    static DESK: OnceLock<Desk> = OnceLock::new();
    DESK.get_or_init(|| Desk::new(std::thread::available_parallelism().map_or(1, usize::from)))
}

/// A layer's turn; another layer's when this is dropped.
pub struct Turn {
    desk: &'static Desk,
    order: u64,
}

impl Turn {
    /// Waits for one. Blocks.
    pub fn begin() -> Self {
        Self::at(desk())
    }

    fn at(desk: &'static Desk) -> Self {
        let order = {
            let mut turns = desk.lock();
            turns.next += 1;
            turns.next
        };
        desk.enter(order);
        Self { desk, order }
    }

    /// Waits for something else, while others may have the turn.
    pub fn apart<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.desk.leave();
        let result = wait();
        self.desk.enter(self.order);
        result
    }

    /// Lets a layer go first that began before this one and can go on again.
    pub fn let_older(&self) {
        if self.desk.lock().waiting.first().is_some_and(|first| *first < self.order) {
            self.apart(|| ());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.desk.leave();
    }
}

/// Whether there is a core that no layer has: then a second thread of a layer is worth what it costs.
pub fn to_spare() -> bool {
    desk().lock().free > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn no_more_have_a_turn_than_there_are_cores() {
        let desk: &Desk = Box::leak(Box::new(Desk::new(3)));
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let turn = Turn::at(desk);
                    for _ in 0..50 {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        turn.apart(std::thread::yield_now);
                        turn.let_older();
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(desk.lock().free, 3);
    }

    #[test]
    fn who_began_first_goes_on_first() {
        let desk: &Desk = Box::leak(Box::new(Desk::new(1)));
        let first = Arc::new(Turn::at(desk));
        let (say, hear) = channel::<()>();
        let (said, heard) = channel();
        let waiting = {
            let (first, said) = (first.clone(), said.clone());
            std::thread::spawn(move || {
                let _ = first.apart(|| hear.recv());
                let _ = said.send("first");
            })
        };
        let second = Turn::at(desk); // while the first is apart
        say.send(()).expect("it listens");
        while desk.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        let third = std::thread::spawn(move || {
            let _turn = Turn::at(desk);
            let _ = said.send("third");
        });
        while desk.lock().waiting.len() < 2 {
            std::thread::yield_now();
        }
        let back = std::thread::spawn(move || {
            second.let_older(); // comes back behind the first, before the third
            second
        });
        assert_eq!(heard.recv(), Ok("first"));
        waiting.join().expect("it ends");
        drop(first);
        drop(back.join().expect("it has its turn"));
        assert_eq!(heard.recv(), Ok("third"));
        third.join().expect("it ends");
    }
}
