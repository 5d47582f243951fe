//! Which connections may come: a token names a process and the streams of it that a client was promised. It holds no streams.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use tokio::net::UnixStream;

use super::{StreamName, Target};
use crate::error::{Context, Error, Result};

/// How long a promised connection is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What was promised and has not come.
#[derive(Debug, Default)]
pub struct Tokens(BTreeMap<String, Promise>);

#[derive(Debug)]
struct Promise {
    target: Target,
    missing: Vec<StreamName>,
    /// Stdin's connection, while outputs are missing.
    typist: Option<UnixStream>,
}

impl Tokens {
    /// Promises these streams.
    pub fn promise(&mut self, target: &Target, names: Vec<StreamName>) -> Result<String> {
        let mut random = [0u8; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .what(|| "read /dev/urandom")?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.insert(token.clone(), Promise { target: target.clone(), missing: names, typist: None });
        Ok(token)
    }

    /// How many connections of a process were promised and have not come.
    pub fn of(&self, target: &Target) -> usize {
        let promises = self.0.values().filter(|promise| promise.target == *target);
        promises.map(|promise| promise.missing.len() + usize::from(promise.typist.is_some())).sum()
    }

    /// A connection has come: each may once.
    pub fn redeem(&mut self, token: &str, name: StreamName) -> Result<Target> {
        let unknown = || Error::not_found("no such stream was promised, or it was too long ago");
        let promise = self.0.get_mut(token).ok_or_else(unknown)?;
        let at = promise.missing.iter().position(|promised| *promised == name).ok_or_else(unknown)?;
        promise.missing.remove(at);
        let target = promise.target.clone();
        if promise.missing.is_empty() && promise.typist.is_none() {
            self.0.remove(token);
        }
        Ok(target)
    }

    /// Keeps stdin's connection while outputs of the same promise are missing; else gives it back.
    pub fn hold(&mut self, token: &str, typist: UnixStream) -> Option<UnixStream> {
        match self.0.get_mut(token) {
            Some(promise) => {
                promise.typist = Some(typist);
                None
            }
            None => Some(typist),
        }
    }

    /// Gives what was held, when nothing is missing any more.
    pub fn complete(&mut self, token: &str) -> Option<UnixStream> {
        self.0.get(token).filter(|promise| promise.missing.is_empty())?;
        self.0.remove(token)?.typist
    }

    /// Too late. Gives whose it was if something has not come, and what was held.
    pub fn expire(&mut self, token: &str) -> Option<(Target, Option<UnixStream>)> {
        self.0.remove(token).map(|promise| (promise.target, promise.typist))
    }

    /// The process is gone.
    pub fn forget(&mut self, gone: &Target) {
        self.0.retain(|_, promise| promise.target != *gone);
    }
}

/// The streams of which the answer is yes.
pub fn names(asked: [(bool, StreamName); 3]) -> Vec<StreamName> {
    asked.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_once_per_stream() {
        let (mut tokens, target) = (Tokens::default(), Target::container("a"));
        let token = tokens.promise(&target, vec![StreamName::Stdin, StreamName::Stdout]).unwrap();
        assert_eq!(tokens.redeem(&token, StreamName::Stdout).unwrap(), target);
        assert!(tokens.redeem(&token, StreamName::Stdout).is_err());
        assert!(tokens.redeem(&token, StreamName::Stderr).is_err());
        assert!(tokens.redeem("0", StreamName::Stdin).is_err());
        assert_eq!(tokens.redeem(&token, StreamName::Stdin).unwrap(), target);
        assert!(tokens.expire(&token).is_none());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn stdin_waits_for_the_outputs_of_its_promise() {
        let (mut tokens, target) = (Tokens::default(), Target::container("a"));
        let typist = || UnixStream::pair().unwrap().0;
        let both = vec![StreamName::Stdin, StreamName::Stdout];
        let token = tokens.promise(&target, both.clone()).unwrap();
        tokens.redeem(&token, StreamName::Stdin).unwrap();
        assert!(tokens.hold(&token, typist()).is_none());
        assert!(tokens.complete(&token).is_none());
        tokens.redeem(&token, StreamName::Stdout).unwrap();
        assert!(tokens.complete(&token).is_some());
        assert!(tokens.expire(&token).is_none());
        // The other way round; and one whose output never comes.
        let token = tokens.promise(&target, both.clone()).unwrap();
        tokens.redeem(&token, StreamName::Stdout).unwrap();
        tokens.redeem(&token, StreamName::Stdin).unwrap();
        assert!(tokens.hold(&token, typist()).is_some());
        let token = tokens.promise(&target, both).unwrap();
        tokens.redeem(&token, StreamName::Stdin).unwrap();
        assert!(tokens.hold(&token, typist()).is_none());
        assert!(matches!(tokens.expire(&token), Some((_, Some(_)))));
    }
}
