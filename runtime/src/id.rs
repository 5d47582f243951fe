//! A container's id, validated once, where it enters the program. It does not look whether such a container exists.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The id names a directory of the state directory and, by default, a cgroup: neither may be longer.
pub const MAX_LEN: usize = 255;

/// `[a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*`, at most 255 bytes: never empty, never `.` or `..`, never a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// Checks `text`; the words "container id" and "invalid" are what people know from runc.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("container id cannot be empty"));
        }
        if text.len() > MAX_LEN {
            let what = format!("invalid container id of {} bytes: the limit is {MAX_LEN}", text.len());
            return Err(Error::invalid(what));
        }
        match text.char_indices().find(|&(at, c)| !allowed(c, at)) {
            None => Ok(Self(text.to_owned())),
            Some((0, '.')) => {
                Err(Error::invalid(format!("invalid container id {text:?}: it must not begin with a dot")))
            }
            Some((_, c)) => {
                let what = format!("invalid container id {text:?}: {c:?} is not allowed");
                Err(Error::invalid(what).cure("use letters, digits and _ + - ."))
            }
        }
    }

    /// The id closest to `text` that is valid: for ids made from file names. `None` if nothing usable is left.
    pub fn from_name(text: &str) -> Option<Self> {
        let name: String = text
            .trim_start_matches('.')
            .chars()
            .take(MAX_LEN)
            .map(|c| if allowed(c, 1) { c } else { '-' })
            .collect();
        // An id that begins with a dash can't be written after a command without `--`.
        Self::parse(name.trim_start_matches('-')).ok()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(c: char, at: usize) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-') || (c == '.' && at > 0)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for Id {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl TryFrom<String> for Id {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_engines_make_are_valid() {
        let longest = "a".repeat(MAX_LEN);
        for text in ["a", "0", "web-1", "_x", "+x", "-x", "a.b", "a..b", "A+B_c.d", &longest] {
            assert_eq!(Id::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn bad_ids_say_what_is_wrong() {
        let cure = " (use letters, digits and _ + - .)";
        for (text, message) in [
            ("", "container id cannot be empty".to_owned()),
            (".", "invalid container id \".\": it must not begin with a dot".to_owned()),
            ("..", "invalid container id \"..\": it must not begin with a dot".to_owned()),
            (".x", "invalid container id \".x\": it must not begin with a dot".to_owned()),
            ("a/b", format!("invalid container id \"a/b\": '/' is not allowed{cure}")),
            ("a b", format!("invalid container id \"a b\": ' ' is not allowed{cure}")),
            ("ä", format!("invalid container id \"ä\": 'ä' is not allowed{cure}")),
            ("a\0", format!("invalid container id \"a\\0\": '\\0' is not allowed{cure}")),
            ("a\n", format!("invalid container id \"a\\n\": '\\n' is not allowed{cure}")),
        ] {
            assert_eq!(Id::parse(text).unwrap_err().to_string(), message);
        }
        let long = Id::parse(&"a".repeat(256)).unwrap_err().to_string();
        assert_eq!(long, "invalid container id of 256 bytes: the limit is 255");
    }

    #[test]
    fn a_name_becomes_the_closest_id() {
        for (name, id) in
            [("web", "web"), (".hidden", "hidden"), ("my app", "my-app"), ("-x", "x"), ("a:b", "a-b")]
        {
            assert_eq!(Id::from_name(name).unwrap().as_str(), id);
        }
        for name in ["", "...", "-", "  "] {
            assert!(Id::from_name(name).is_none(), "{name:?}");
        }
    }
}
