//! One flush of a filesystem for all who need one at the time. What is flushed, and how, is its callers'.

use std::sync::{Condvar, Mutex, PoisonError};

/// Flushes of one filesystem, shared: whoever comes while one is under way waits for the next, which serves all who wait.
#[derive(Default)]
pub struct Flushes {
    state: Mutex<Flushed>,
    changed: Condvar,
}

#[derive(Default)]
struct Flushed {
    begun: u64,
    done: u64,
    busy: bool,
}

impl Flushes {
    /// Returns when a flush that began after this call has ended well.
    pub fn flush<E>(&self, flush: impl Fn() -> Result<(), E>) -> Result<(), E> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = state.begun + 1;
        while state.done < wanted {
            if state.busy {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            (state.busy, state.begun) = (true, state.begun + 1);
            let number = state.begun;
            drop(state);
            let flushed = flush();
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.busy = false;
            self.changed.notify_all();
            flushed?;
            state.done = number;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn whoever_returns_had_a_flush_that_began_after_being_asked_for() {
        let (flushes, written, flushed) = (Flushes::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let own = written.fetch_add(1, Ordering::SeqCst) + 1;
                    let flush = || {
                        let before = written.load(Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                        flushed.fetch_max(before, Ordering::SeqCst);
                        Ok::<_, ()>(())
                    };
                    flushes.flush(flush).expect("no error");
                    assert!(flushed.load(Ordering::SeqCst) >= own);
                });
            }
        });
    }

    #[test]
    fn an_error_is_the_error_of_whoever_flushed_and_no_flush() {
        let flushes = Flushes::default();
        assert_eq!(flushes.flush(|| Err("torn")), Err("torn"));
        assert_eq!(flushes.flush(|| Ok::<_, &str>(())), Ok(()));
    }
}
