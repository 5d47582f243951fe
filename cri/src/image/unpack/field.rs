//! What the readers of archives have in common: their errors, and numbers of digits.

use crate::error::Error;
use std::fmt::Display;

/// An archive that is none, or one that no archiver writes.
pub fn bad(why: &str) -> Error {
    Error::invalid(format!("read layer's archive: {why}"))
}

/// More of something than is taken: what it is and how much, the bound, and the cure.
pub fn beyond(what: impl Display, bound: impl Display, cure: &str) -> Error {
    bad(&format!("{what}, at most {bound} are taken")).cure(cure)
}

/// The cure where no archiver writes so much on its own.
pub const REBUILD: &str = "build the image with an archiver that does not write so many";

/// Digits only, no sign.
pub fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}
