//! The one error type of the CRI server: what was being done, to what, why it failed, and the cure where one is known.
//!
//! Not the runtime's, though alike: a foreign type can't become a [`tonic::Status`] by `?`. It does not log. Its kind becomes a gRPC code once, at the edge, by `From<Error> for tonic::Status`.

use std::fmt;

use tonic::{Code, Status};

/// What a caller branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The sandbox, container, image or file named does not exist.
    NotFound,
    /// The name or id is taken by something else.
    Exists,
    /// The request or the configuration asks for something that makes no sense.
    Invalid,
    /// The operation does not fit the status of what it is for.
    WrongStatus,
    /// This host, kernel or build can't do it.
    Unsupported,
    /// A permission is missing, or the request is refused for security.
    Denied,
    /// It is signed by nobody who is trusted.
    Untrusted,
    /// A deadline passed.
    Timeout,
    /// A part that is needed does not answer now: the same call may succeed later.
    Unavailable,
    /// There is as much of something as may be: what others have must end first.
    Exhausted,
    /// A system call failed with this errno.
    Os(i32),
    /// A broken promise inside this program or one that it calls.
    Internal,
}

impl Kind {
    /// The gRPC code that clients see.
    pub fn code(self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::Exists => Code::AlreadyExists,
            Self::Invalid => Code::InvalidArgument,
            Self::WrongStatus => Code::FailedPrecondition,
            Self::Unsupported => Code::Unimplemented,
            Self::Denied | Self::Untrusted => Code::PermissionDenied,
            Self::Timeout => Code::DeadlineExceeded,
            Self::Unavailable => Code::Unavailable,
            Self::Exhausted => Code::ResourceExhausted,
            Self::Os(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                Code::ResourceExhausted
            }
            Self::Os(_) => Code::Unknown,
            Self::Internal => Code::Internal,
        }
    }

    /// The same table the other way, for those whose answers have codes: the shim.
    fn of(code: Code) -> Self {
        const KINDS: [Kind; 9] = [
            Kind::NotFound,
            Kind::Exists,
            Kind::Invalid,
            Kind::WrongStatus,
            Kind::Unsupported,
            Kind::Denied,
            Kind::Timeout,
            Kind::Unavailable,
            Kind::Exhausted,
        ];
        let code = match code {
            Code::OutOfRange => Code::InvalidArgument,
            Code::Unauthenticated => Code::PermissionDenied,
            Code::Cancelled => Code::Unavailable,
            code => code,
        };
        KINDS.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Internal)
    }
}

/// An error: `what` is verb + object, lower case ("mount tmpfs at /run/rt/pods/x/shm"); the chain of causes is printed once.
#[derive(Clone)]
pub struct Error {
    /// What callers branch on.
    pub kind: Kind,
    /// Verb + object, with paths and values.
    pub what: String,
    /// Why, one level down.
    pub source: Option<Box<Error>>,
    cure: Option<String>,
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with no deeper cause.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), cure: None, source: None }
    }

    /// What is named does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// A mistake in the request or in the configuration.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// Something this host or build can't do.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, what)
    }

    /// A broken promise inside this program or one that it calls.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Kind::Internal, what)
    }

    /// A failed system call; `what` names the call's object.
    pub fn os(errno: i32, what: impl Into<String>) -> Self {
        Self::new(Kind::Os(errno), what)
    }

    /// What the reader can do about it, a short phrase without a full stop.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// The same failure, seen from one level up: `what` is now being done, this error is why it failed.
    #[must_use]
    pub fn during(self, what: impl Into<String>) -> Self {
        Self { kind: self.kind, what: what.into(), cure: None, source: Some(Box::new(self)) }
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

    /// The errno at the root of the chain, if a system call is there.
    pub fn errno(&self) -> Option<i32> {
        match (&self.source, self.kind) {
            (Some(source), _) => source.errno(),
            (None, Kind::Os(errno)) => Some(errno),
            (None, _) => None,
        }
    }
}

impl fmt::Display for Error {
    /// The whole chain on one line: `outer: inner: errno text (cure)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self);
        let mut cure = None;
        while let Some(error) = next {
            f.write_str(&error.what)?;
            cure = error.cure.as_ref().or(cure);
            next = error.source.as_deref();
            match (next, error.kind) {
                (Some(_), _) => f.write_str(": ")?,
                (None, Kind::Os(errno)) => write!(f, ": {}", runtime::error::errno_text(errno))?,
                (None, _) => {}
            }
        }
        match cure {
            Some(cure) => write!(f, " ({cure})"),
            None => Ok(()),
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

/// A status travels in an HTTP header, of which clients take 16 KiB and more in all; percent-encoding may triple it.
const LONGEST: usize = 4096;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
            text.push('…');
        }
        Self::new(error.kind.code(), text)
    }
}

impl From<runtime::error::Error> for Error {
    fn from(error: runtime::error::Error) -> Self {
        use runtime::error::Kind as From;
        let kind = match error.kind() {
            From::NotFound => Kind::NotFound,
            From::Exists => Kind::Exists,
            From::Invalid => Kind::Invalid,
            From::WrongStatus => Kind::WrongStatus,
            From::Unsupported => Kind::Unsupported,
            From::Denied => Kind::Denied,
            From::Timeout => Kind::Timeout,
            From::Unavailable => Kind::Unavailable,
            // Its text has the errno's words already.
            From::Os(errno) if Kind::Os(errno).code() == Code::ResourceExhausted => Kind::Exhausted,
            From::Os(_) | From::Internal => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<shim::client::Status> for Error {
    /// The shim's sentence has the whole chain already.
    fn from(status: shim::client::Status) -> Self {
        Self::new(Kind::of(Code::from_i32(status.code)), status.message)
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
            // One of ours may have come through a reader.
            None => match error.downcast::<Error>() {
                Ok(own) => own.during(what()),
                Err(other) => Error::internal(other.to_string()).during(what()),
            },
        })
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::invalid(error.to_string()).during(what()))
    }
}

impl<T> Context<T> for Result<T, runtime::error::Error> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::from(error).during(what()))
    }
}

impl<T> Context<T> for Result<T, shim::client::Status> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|status| Error::from(status).during(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_code_of_the_kind_and_the_whole_chain_with_its_cure() {
        let error = Error::os(libc::ENOENT, "open /x").cure("make it").during("read the config");
        let status = Status::from(error);
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(
            status.message(),
            "read the config: open /x: no such file or directory (ENOENT) (make it)"
        );
        let status = Status::from(Error::not_found("find image x").during("create container y"));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "create container y: find image x"));
    }

    #[test]
    fn a_code_of_the_shims_comes_through() {
        // Those that the shim gives (shim/src/service/mod.rs); it has no words for the kind of an errno.
        for code in [3, 4, 5, 6, 7, 8, 9, 12, 13, 14].map(Code::from_i32) {
            let from_shim = shim::client::Status { code: code as i32, message: "x".to_owned() };
            assert_eq!(Status::from(Error::from(from_shim)).code(), code);
        }
    }

    #[test]
    fn a_full_disk_is_resource_exhausted() {
        assert_eq!(Kind::Os(libc::ENOSPC).code(), Code::ResourceExhausted);
    }
}
