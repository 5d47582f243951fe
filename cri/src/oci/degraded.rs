//! What was asked for and is weaker than that: shown in statuses, in `Status`'s conditions and as events. It decides nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One such thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// The field of the request, such as `resources.cpu_shares`.
    pub field: String,
    /// What was asked for, such as `512`.
    pub asked: String,
    /// What it is instead and why, such as `left out: the host has no controller "cpu"`.
    pub instead: String,
}

impl Degraded {
    /// All three are phrases for people.
    pub fn new(field: impl Into<String>, asked: impl fmt::Display, instead: impl Into<String>) -> Self {
        Self { field: field.into(), asked: asked.to_string(), instead: instead.into() }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.field, self.asked, self.instead)
    }
}
