//! Digests of content: `sha256:…` and `sha512:…`, checked at parse. It reads nothing.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

/// Why content is another than was asked for.
pub const CHANGED: &str = "the registry, a mirror or a proxy changed it";

/// `algorithm:hex`, lower case, of the right length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Checks `text`: algorithm known, hex digits of its length.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("parse digest {text:?}: {why}"));
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| wrong("no colon"))?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(wrong("neither sha256 nor sha512")),
        };
        if hex.len() != length || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong(&format!("not {length} lower-case hex digits")));
        }
        Ok(Self(text.to_owned()))
    }

    /// The sha256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256:…`
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256`
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The digits alone.
    pub fn hex(&self) -> &str {
        self.0.rsplit(':').next().unwrap_or_default()
    }

    /// A hasher for content that should have this digest.
    pub fn hasher(&self) -> Hasher {
        if self.algorithm() == "sha512" { Hasher::Sha512(sha2::Sha512::new()) } else { Hasher::sha256() }
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

/// Bytes, and the digest that they were found to have. Only hashing the bytes makes one, so whoever holds it need not ask who sent them,
/// nor under which header or name.
#[derive(Debug, Clone)]
pub struct Verified {
    digest: Digest,
    bytes: Vec<u8>,
}

impl Verified {
    /// What came without a digest that it should have: by its sha256.
    pub fn unasked(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }

    /// What came for a digest, where it has that one and the length that was told with it; `what` it is, for the error.
    pub fn asked(what: &str, bytes: Vec<u8>, (wanted, size): (&Digest, Option<u64>)) -> Result<Self> {
        if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
            let text = format!("verify {what} {wanted}: {} bytes came instead of {size}", bytes.len());
            return Err(Error::invalid(text).cure(CHANGED));
        }
        match wanted.matches(&bytes) {
            true => Ok(Self { digest: wanted.clone(), bytes }),
            false => {
                let text = format!("verify {what} {wanted}: what was sent has another digest");
                Err(Error::invalid(text).cure(CHANGED))
            }
        }
    }

    /// Of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// As they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As they came, for whoever needs no proof any more.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// Content that is being hashed as it passes.
#[derive(Clone)]
pub enum Hasher {
    /// The usual one.
    Sha256(sha2::Sha256),
    /// Rare.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// What diff ids and image ids use.
    pub fn sha256() -> Self {
        Self::Sha256(sha2::Sha256::new())
    }

    /// More content.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all of it.
    pub fn finish(self) -> Digest {
        let (name, bytes): (_, Vec<u8>) = match self {
            Self::Sha256(hasher) => ("sha256", hasher.finalize().to_vec()),
            Self::Sha512(hasher) => ("sha512", hasher.finalize().to_vec()),
        };
        let mut text = format!("{name}:");
        for byte in bytes {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        Digest(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_verified_has_the_digest_and_the_length_that_were_asked_for() {
        for digest in [Digest::of(b"abc"), {
            let mut hasher = Hasher::Sha512(sha2::Sha512::new());
            hasher.update(b"abc");
            hasher.finish()
        }] {
            let asked = |bytes: &[u8], size| Verified::asked("blob", bytes.to_vec(), (&digest, size));
            assert_eq!(asked(b"abc", Some(3)).unwrap().digest(), &digest);
            assert_eq!(asked(b"abc", None).unwrap().into_bytes(), b"abc");
            assert!(asked(b"abd", Some(3)).unwrap_err().to_string().contains("another digest"));
            assert!(asked(b"abc", Some(4)).unwrap_err().to_string().contains("3 bytes came instead of 4"));
        }
        assert_eq!(Verified::unasked(b"abc".to_vec()).digest(), &Digest::of(b"abc"));
    }

    #[test]
    fn digests_are_checked_at_parse() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        let digest = Digest::parse(empty).unwrap();
        assert_eq!((digest.algorithm(), digest.hex().len()), ("sha256", 64));
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        for wrong in
            ["", "sha256", "sha256:", "md5:00", "sha256:E3", &empty.to_uppercase(), &format!("{empty}0")]
        {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
        let long = format!("sha512:{}", "0".repeat(128));
        assert!(!Digest::parse(&long).unwrap().matches(b""));
    }
}
