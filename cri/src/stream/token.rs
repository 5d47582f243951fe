//! Tokens: what a streaming URL ends with. Each is good for one connection, for one minute.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Kind, Result};

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Tokens that may wait at once.
const WAITING_MAX: usize = 1000;

/// Requests that wait for their connection.
pub struct Tokens<Request> {
    waiting: Mutex<HashMap<String, (Instant, Request)>>,
}

impl<Request> Default for Tokens<Request> {
    fn default() -> Self {
        Self { waiting: Mutex::new(HashMap::new()) }
    }
}

impl<Request> Tokens<Request> {
    /// Keeps a request and gives the token for it: 128 random bits in hexadecimal.
    ///
    /// # Errors
    /// `Unavailable` if too many wait already; `Os` if the kernel gives no random bytes.
    pub fn put(&self, request: Request) -> Result<String> {
        let now = Instant::now();
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .what(|| "read random bytes for a token")?;
        let token = bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // into a String: can't fail
            text
        });
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (since, _)| now.duration_since(*since) < LIFETIME);
        if waiting.len() >= WAITING_MAX {
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "keep a streaming request: {WAITING_MAX} wait for their connection already; try again in a minute"
                ),
            ));
        }
        waiting.insert(token.clone(), (now, request));
        Ok(token)
    }

    /// Takes the request of a token, which is worth nothing from then on.
    pub fn take(&self, token: &str) -> Option<Request> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, request) = waiting.remove(token)?;
        (since.elapsed() < LIFETIME).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        tokens.waiting.lock().expect("no panic").get_mut(&old).expect("it waits").0 = long_ago;
        assert_eq!(tokens.take(&old), None);
        assert_eq!(tokens.take(&young), Some("young"));
    }

    #[test]
    fn the_number_of_waiting_requests_is_bounded() {
        let tokens = Tokens::default();
        for _ in 0..WAITING_MAX {
            tokens.put(()).expect("a token");
        }
        let error = tokens.put(()).expect_err("one too many");
        assert_eq!(error.kind(), Kind::Unavailable);
    }
}
