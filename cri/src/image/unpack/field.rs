//! What the readers of archives have in common: their error, and numbers of digits.

use crate::error::Error;

/// An archive that is none, or one that no archiver writes.
pub fn bad(why: &str) -> Error {
    Error::invalid(format!("read layer's archive: {why}"))
}

/// Digits only, no sign.
pub fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}
