//! Strings of the config as the kernel takes them: without NULs.

use std::ffi::CString;

use crate::error::{Error, Result};

/// One string; `place` is where it stands.
pub fn one(place: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("{place} {text:?} contains a NUL")))
}

/// A list of strings.
pub fn list(place: &str, texts: &[String]) -> Result<Vec<CString>> {
    texts.iter().enumerate().map(|(at, text)| one(&format!("{place}[{at}]"), text)).collect()
}
