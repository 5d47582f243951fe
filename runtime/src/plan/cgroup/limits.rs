//! One write to one file of a cgroup, and what its failure means. Which writes there are: [`super::resources`].

use std::borrow::Cow;
use std::fmt::Display;

use serde::{Serialize, Serializer};

/// A value for a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Its name in the cgroup.
    pub file: Cow<'static, str>,
    /// What is written, in one write(2).
    pub value: String,
    /// Where the config asked for it.
    pub limit: Cow<'static, str>,
    /// What it means if the host lacks the file.
    pub need: Need,
    /// What else to try.
    #[serde(skip_serializing_if = "OnError::is_fail")]
    pub on_error: OnError,
}

/// What it means if the host lacks the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Need {
    /// The container must not run without: an error.
    Required,
    /// It runs, and a warning is shown.
    Degradable,
    /// Nothing is limited by it: where there is no file, there is no limit either.
    Lifts,
}

/// What to try after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnError {
    /// Nothing.
    Fail,
    /// EINVAL: it depends on another file that is written later; once more after all others.
    RetryLast,
    /// No such file: this one, with that value.
    Instead(&'static str, String),
}

impl OnError {
    fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

impl Serialize for OnError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fail => serializer.serialize_str("fail"),
            Self::RetryLast => serializer.serialize_str("retry after the others"),
            Self::Instead(file, value) => serializer.collect_str(&format_args!("{value} to {file}")),
        }
    }
}

impl Write {
    /// A write that must succeed.
    pub fn new(file: impl Into<Cow<'static, str>>, value: impl Display, limit: &'static str) -> Self {
        Self {
            file: file.into(),
            value: format!("{value}"),
            limit: limit.into(),
            need: Need::Required,
            on_error: OnError::Fail,
        }
    }

    /// The same write with another need.
    #[must_use]
    pub fn need(mut self, need: Need) -> Self {
        self.need = need;
        self
    }

    /// The same write with something else to try.
    #[must_use]
    pub fn or(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// The controller that has the file; `None`: the core, which is everywhere.
    pub fn controller(&self) -> Option<&str> {
        match self.file.split_once('.') {
            Some(("cgroup", _)) | None => None,
            Some((controller, _)) => Some(controller),
        }
    }
}
