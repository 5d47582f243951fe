//! Waiting: a condition is polled until it holds or the deadline passes.
//!
//! Nobody sleeps for a fixed time.

use std::time::{Duration, Instant};

/// How long anything may take on a loaded machine before it counts as hung.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `ask` gives a value; panics with `what` when the deadline passes.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    match within(DEADLINE, &mut ask) {
        Some(value) => value,
        None => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Polls for at most this long.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(value) = ask() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
