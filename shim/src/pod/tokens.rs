//! Which connections may come: a token names a process and the streams of it that a client was promised. It holds no streams.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use super::{StreamName, Target};
use crate::error::{Context, Error, Result};

/// How long a promised connection is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What was promised and has not come.
#[derive(Debug, Default)]
pub struct Tokens(BTreeMap<String, (Target, Vec<StreamName>)>);

impl Tokens {
    /// Promises these streams.
    pub fn promise(&mut self, target: &Target, names: Vec<StreamName>) -> Result<String> {
        let mut random = [0u8; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .what(|| "read /dev/urandom")?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.insert(token.clone(), (target.clone(), names));
        Ok(token)
    }

    /// A connection has come: each may once.
    pub fn redeem(&mut self, token: &str, name: StreamName) -> Result<Target> {
        let unknown = || Error::not_found("no such stream was promised, or it was too long ago");
        let (target, names) = self.0.get_mut(token).ok_or_else(unknown)?;
        let at = names.iter().position(|promised| *promised == name).ok_or_else(unknown)?;
        names.remove(at);
        let (target, over) = (target.clone(), names.is_empty());
        if over {
            self.0.remove(token);
        }
        Ok(target)
    }

    /// Too late. Gives whose it was if something has not come.
    pub fn expire(&mut self, token: &str) -> Option<Target> {
        self.0.remove(token).map(|(target, _)| target)
    }

    /// The process is gone.
    pub fn forget(&mut self, gone: &Target) {
        self.0.retain(|_, (target, _)| target != gone);
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
}
