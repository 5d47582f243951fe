//! Tokens: what a streaming URL ends with. Each is good for one connection, for one minute. What waits is bounded in number and in bytes,
//! and goes when its minute is over, whether anybody asks again or not.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Context, Error, Kind, Result};

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Tokens that may wait at once.
const WAITING_MAX: usize = 1000;

/// What the requests that wait may have together: two of the longest that can be executed, or a thousand of 12 kB.
pub const BYTES_MAX: usize = 12 << 20;

/// What can wait.
pub trait Weight {
    /// What it keeps in memory.
    fn bytes(&self) -> usize;
}

/// Requests that wait for their connection.
pub struct Tokens<Request> {
    lifetime: Duration,
    waiting: Mutex<Waiting<Request>>,
    /// The first has come.
    come: Notify,
}

struct Waiting<Request> {
    bytes: usize,
    requests: HashMap<String, (Instant, Request)>,
}

impl<Request> Default for Tokens<Request> {
    fn default() -> Self {
        let waiting = Mutex::new(Waiting { bytes: 0, requests: HashMap::new() });
        Self { lifetime: LIFETIME, waiting, come: Notify::new() }
    }
}

impl<Request: Weight> Waiting<Request> {
    fn take(&mut self, token: &str) -> Option<(Instant, Request)> {
        let (since, request) = self.requests.remove(token)?;
        self.bytes -= request.bytes();
        Some((since, request))
    }

    fn expire(&mut self, lifetime: Duration) {
        let is_over = |since: &Instant| since.elapsed() >= lifetime;
        let over = self.requests.iter().filter(|(_, (since, _))| is_over(since));
        let over: Vec<String> = over.map(|(token, _)| token.clone()).collect();
        for token in over {
            self.take(&token);
        }
        if self.requests.is_empty() {
            // The table of a thousand goes too.
            self.requests.shrink_to_fit();
        }
    }
}

impl<Request: Weight> Tokens<Request> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Request>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request and gives the token for it: 128 random bits in hexadecimal.
    ///
    /// # Errors
    /// `Unavailable` if too many, or too much, wait already; `Os` if the kernel gives no random bytes.
    pub fn put(&self, request: Request) -> Result<String> {
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .what(|| "read random bytes for a token")?;
        let token = bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // into a String: can't fail
            text
        });
        let more = request.bytes();
        let mut waiting = self.waiting();
        waiting.expire(self.lifetime);
        let (count, bytes) = (waiting.requests.len(), waiting.bytes);
        if count >= WAITING_MAX || bytes + more > BYTES_MAX {
            let why = format!(
                "keep a streaming request of {more} bytes: {count} with {bytes} bytes wait for their connection already, \
                 {WAITING_MAX} with {BYTES_MAX} bytes may"
            );
            return Err(Error::new(Kind::Unavailable, why).cure("try again in a minute"));
        }
        waiting.bytes += more;
        waiting.requests.insert(token.clone(), (Instant::now(), request));
        drop(waiting);
        self.come.notify_one();
        Ok(token)
    }

    /// Takes the request of a token, which is worth nothing from then on.
    pub fn take(&self, token: &str) -> Option<Request> {
        let (since, request) = self.waiting().take(token)?;
        (since.elapsed() < self.lifetime).then_some(request)
    }

    /// Forgets requests when their time is over, for ever.
    pub async fn forget(&self) {
        loop {
            let oldest = self.waiting().requests.values().map(|(since, _)| *since).min();
            match oldest {
                Some(since) => tokio::time::sleep_until(since + self.lifetime).await,
                None => self.come.notified().await,
            }
            self.waiting().expire(self.lifetime);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    impl Weight for &str {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    impl Weight for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn a_token_is_good_once() {
        let tokens = Tokens::default();
        let token = tokens.put("exec").expect("a token");
        assert_eq!(token.len(), 32);
        assert_eq!(tokens.take(&token), Some("exec"));
        assert_eq!(tokens.take(&token), None);
    }

    #[test]
    fn a_token_is_worth_nothing_after_its_time() {
        let tokens = Tokens::default();
        let [old, young] = ["old", "young"].map(|request| tokens.put(request).expect("a token"));
        let long_ago = Instant::now().checked_sub(LIFETIME).expect("a machine that is up");
        tokens.waiting().requests.get_mut(&old).expect("it waits").0 = long_ago;
        assert_eq!(tokens.take(&old), None);
        assert_eq!(tokens.take(&young), Some("young"));
    }

    #[tokio::test]
    async fn what_nobody_fetches_is_not_kept_beyond_its_time() {
        let tokens = Arc::new(Tokens { lifetime: Duration::from_millis(50), ..Tokens::default() });
        let forgets = Arc::clone(&tokens);
        tokio::spawn(async move { forgets.forget().await });
        for _ in 0..2 {
            for _ in 0..10 {
                tokens.put(1000_usize).expect("a token");
            }
            let gone = async {
                // Nobody asks for anything meanwhile.
                while tokens.waiting().bytes > 0 || tokens.waiting().requests.capacity() > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(LIFETIME, gone).await.expect("they go by themselves");
        }
    }

    #[test]
    fn the_number_of_waiting_requests_is_bounded() {
        let tokens = Tokens::default();
        for _ in 0..WAITING_MAX {
            tokens.put("").expect("a token");
        }
        let error = tokens.put("").expect_err("one too many");
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[test]
    fn the_bytes_of_waiting_requests_are_bounded_and_given_back() {
        let tokens = Tokens::default();
        let half = tokens.put(BYTES_MAX / 2).expect("a token");
        tokens.put(BYTES_MAX / 2).expect("a token");
        let error = tokens.put(1).expect_err("a byte too many");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(tokens.take(&half), Some(BYTES_MAX / 2));
        tokens.put(BYTES_MAX / 2).expect("there is room again");
    }
}
