//! Tokens: what a streaming URL ends with. Each is good for one connection, for one minute. What waits is bounded in number and in bytes,
//! and goes when its minute is over, whether anybody asks again or not. Nobody is refused for what others left waiting: the oldest of
//! whoever has the most makes room.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Context, Error, Result};

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Tokens that may wait at once.
const WAITING_MAX: usize = 1000;

/// Of one container, or pod: who fetches more doesn't mean to use the oldest.
const WAITING_EACH: usize = 250;

/// What the requests that wait may have together: two of the longest that can be executed, or a thousand of 12 kB.
pub const BYTES_MAX: usize = 12 << 20;

/// What can wait.
pub trait Weight {
    /// What it keeps in memory.
    fn bytes(&self) -> usize;

    /// Whom it is counted for.
    fn owner(&self) -> &str;
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
        self.shrink();
    }

    /// Makes room for a request of so many bytes by what is counted for its own owner where that has all that one may, else by the oldest
    /// of who has the most.
    fn make_room(&mut self, owner: &str, more: usize) {
        if self.of(owner).count() >= WAITING_EACH {
            self.take_oldest(owner);
        }
        if self.requests.len() >= WAITING_MAX
            && let Some(most) = self.greediest(|_| 1)
        {
            self.take_oldest(&most);
        }
        while self.bytes + more > BYTES_MAX
            && let Some(most) = self.greediest(Weight::bytes)
        {
            self.take_oldest(&most);
        }
    }

    fn of(&self, owner: &str) -> impl Iterator<Item = (&String, &Instant)> {
        let theirs = self.requests.iter().filter(move |(_, (_, request))| request.owner() == owner);
        theirs.map(|(token, (since, _))| (token, since))
    }

    fn take_oldest(&mut self, owner: &str) {
        let oldest = self.of(owner).min_by_key(|(_, since)| **since).map(|(token, _)| token.clone());
        if let Some(oldest) = oldest {
            self.take(&oldest);
        }
    }

    /// Who has the most, as it is counted.
    fn greediest(&self, count: impl Fn(&Request) -> usize) -> Option<String> {
        let mut all: HashMap<&str, usize> = HashMap::new();
        for (_, request) in self.requests.values() {
            *all.entry(request.owner()).or_default() += count(request);
        }
        all.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner.to_owned())
    }

    fn shrink(&mut self) {
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
    /// `Invalid` for one that has more than all may; `Os` if the kernel gives no random bytes.
    pub fn put(&self, request: Request) -> Result<String> {
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .what(|| "read random bytes for a token")?;
        let token = bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // into a String: can't fail
            text
        });
        let more = request.bytes();
        if more > BYTES_MAX {
            let why = format!(
                "keep a streaming request until its connection comes: it takes {more} bytes of memory, all together have {BYTES_MAX}"
            );
            return Err(Error::invalid(why).cure("put what the command says into a file, or type it"));
        }
        let mut waiting = self.waiting();
        waiting.expire(self.lifetime);
        waiting.make_room(request.owner(), more);
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
    use crate::error::Kind;
    use std::sync::Arc;

    impl Weight for &str {
        fn bytes(&self) -> usize {
            self.len()
        }

        fn owner(&self) -> &'static str {
            "one"
        }
    }

    impl Weight for usize {
        fn bytes(&self) -> usize {
            *self
        }

        fn owner(&self) -> &'static str {
            "one"
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

    /// Of an owner.
    struct Of(&'static str, usize);

    impl Weight for Of {
        fn bytes(&self) -> usize {
            self.1
        }

        fn owner(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn who_leaves_urls_unused_loses_his_own_oldest_and_refuses_nobody() {
        let tokens = Tokens::default();
        let put = |owner, bytes| tokens.put(Of(owner, bytes)).expect("nobody is refused");
        let quiet = put("quiet", 1);
        let greedy: Vec<_> = (0..WAITING_EACH + 10).map(|_| put("greedy", 1)).collect();
        assert_eq!(tokens.waiting().requests.len(), 1 + WAITING_EACH, "one has more than its own");
        assert!(greedy[..10].iter().all(|token| tokens.take(token).is_none()), "the oldest went");
        assert!(tokens.take(&greedy[10]).is_some() && tokens.take(&greedy[WAITING_EACH + 9]).is_some());
        // As many as there may be, of several.
        for owner in ["a", "b", "c", "d", "e"] {
            (0..WAITING_EACH).for_each(|_| drop(put(owner, 1)));
        }
        let newest = put("another", 1);
        let waiting = tokens.waiting().requests.len();
        assert!(waiting <= WAITING_MAX, "{waiting}");
        assert!(tokens.take(&quiet).is_some() && tokens.take(&newest).is_some(), "they have few");
    }

    #[test]
    fn the_bytes_of_waiting_requests_are_bounded_and_given_back() {
        let tokens = Tokens::default();
        let put = |owner, bytes| tokens.put(Of(owner, bytes)).expect("nobody is refused");
        let small = put("small", 1000);
        let large: Vec<_> = (0..5).map(|_| put("large", BYTES_MAX / 2)).collect();
        assert!(tokens.waiting().bytes <= BYTES_MAX);
        assert!(tokens.take(&small).is_some() && tokens.take(&large[4]).is_some());
        put("small", BYTES_MAX);
        assert_eq!(tokens.waiting().requests.len(), 1);
        let Err(error) = tokens.put(Of("small", BYTES_MAX + 1)) else { panic!("more than all may") };
        assert_eq!(error.kind(), Kind::Invalid);
    }
}
