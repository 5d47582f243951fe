//! The one error type of the shim: what was being done, to what, why it failed. It does not log; whoever answers a caller maps
//! [`Kind`] once, to a ttrpc code or an exit code.

use std::fmt;

/// What a caller branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The container, exec or token named does not exist.
    NotFound,
    /// The id is already taken.
    Exists,
    /// The request makes no sense.
    Invalid,
    /// The operation does not fit the container's status.
    WrongStatus,
    /// This shim, host or kernel can't do it.
    Unsupported,
    /// A permission is missing, or the request is refused for security.
    Denied,
    /// A deadline passed.
    Timeout,
    /// The shim is ending.
    Unavailable,
    /// A system call failed with this errno.
    Os(i32),
    /// A broken promise inside this program.
    Internal,
}

/// An error: `what` is verb + object, lower case ("run rt create"); the chain of causes is printed once, at the edge.
///
/// It can be cloned, since several callers may wait for one result.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    what: String,
    source: Option<Box<Error>>,
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with no deeper cause.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// A failed system call; `what` names the call's object.
    pub fn os(errno: i32, what: impl Into<String>) -> Self {
        Self::new(Kind::Os(errno), what)
    }

    /// A mistake in the request.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// Something this shim can't do.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, what)
    }

    /// Something that isn't there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// The same failure, seen from one level up: `what` is now being done, this error is why it failed.
    #[must_use]
    pub fn during(self, what: impl Into<String>) -> Self {
        Self { kind: self.kind, what: what.into(), source: Some(Box::new(self)) }
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What callers branch on.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    /// The whole chain on one line: `outer: inner: errno text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match (&self.source, self.kind) {
            (Some(source), _) => write!(f, ": {source}"),
            (None, Kind::Os(errno)) => write!(f, ": {}", runtime::error::errno_text(errno)),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        let kind = match error.kind() {
            runtime::Kind::NotFound => Kind::NotFound,
            runtime::Kind::Exists => Kind::Exists,
            runtime::Kind::InvalidConfig => Kind::Invalid,
            runtime::Kind::WrongStatus => Kind::WrongStatus,
            runtime::Kind::Unsupported => Kind::Unsupported,
            runtime::Kind::Denied => Kind::Denied,
            runtime::Kind::Timeout => Kind::Timeout,
            // Its text has the errno already.
            runtime::Kind::Os(_) | runtime::Kind::Internal => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// Turns foreign errors into ours, naming what was being done.
pub trait Context<T> {
    /// `what` is evaluated only on failure: verb + object, lower case.
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.during(what()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::os(errno as i32, what()))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::os(errno.raw_os_error(), what()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Error::os(errno, what()),
            None => Error::new(Kind::Internal, error.to_string()).during(what()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_prints_on_one_line_with_the_errno() {
        let error = Error::os(libc::ENOENT, "open /x").during("create container \"a\"");
        assert_eq!(error.to_string(), "create container \"a\": open /x: no such file or directory (ENOENT)");
        assert_eq!(error.kind(), Kind::Os(libc::ENOENT));
    }

    #[test]
    fn an_error_of_the_runtime_keeps_its_whole_text() {
        let error = Error::from(runtime::Error::os(libc::EPERM, "open /y"));
        assert_eq!(error.to_string(), "open /y: operation not permitted (EPERM)");
    }
}
