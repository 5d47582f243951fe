//! This program's second life: the same arguments and environment, and where it needs one a mark by which it knows that it is the second.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use crate::sys::exec::Strings;

/// Its arguments, and its environment, with `mark` set to a value.
pub fn arguments_and_environment(mark: Option<(&str, &str)>) -> (Strings, Strings) {
    let text = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let args = crate::sys::start::args().iter().cloned().map(text).collect();
    let key = mark.map(|(name, _)| OsStr::new(name));
    let mark = mark.map(|(name, value)| CString::new(format!("{name}={value}")).unwrap_or_default());
    let env = std::env::vars_os()
        .filter(|(name, _)| Some(name.as_os_str()) != key)
        .map(|(name, value)| text([name, value].join(OsStr::new("="))));
    (Strings::new(args), Strings::new(env.chain(mark).collect()))
}
