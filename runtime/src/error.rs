//! The one error type of the runtime and the shim: what was being done, to what, why it failed, and the cure where one is known.
//!
//! It does not log and does not choose exit codes or codes of protocols; the command line or the server does, once, at the edge.

use std::borrow::Cow;
use std::fmt;

/// What a caller branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The container, file or process named does not exist.
    NotFound,
    /// The id, path or cgroup is already taken.
    Exists,
    /// `config.json` or an argument asks for something that makes no sense.
    Invalid,
    /// The operation does not fit the container's status.
    WrongStatus,
    /// This host, kernel or build can't do it.
    Unsupported,
    /// A permission is missing, or the request is refused for security.
    Denied,
    /// A deadline passed.
    Timeout,
    /// A part that is needed does not answer now: the same call may succeed later.
    Unavailable,
    /// A system call failed with this errno.
    Os(i32),
    /// A broken promise inside this program.
    Internal,
}

impl Kind {
    /// In one word, for callers that read the log: `{"level":"error","kind":"not-found",…}`.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Invalid => "invalid",
            Self::WrongStatus => "wrong-status",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Os(_) => "os",
            Self::Internal => "internal",
        }
    }
}

/// An error: `what` is verb + object, lower case ("mount proc at /proc"); the chain of causes is printed once, at the edge.
///
/// It can be cloned, since several callers may wait for one result.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    what: String,
    cure: Option<String>,
    source: Option<Box<Error>>,
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with no deeper cause.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), cure: None, source: None }
    }

    /// A mistake in `config.json` or an argument.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// Something that isn't there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// Something this host or build can't do.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, what)
    }

    /// A failed system call; `what` names the call's object.
    pub fn os(errno: i32, what: impl Into<String>) -> Self {
        Self { kind: Kind::Os(errno), what: what.into(), cure: None, source: None }
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

/// On the wire: kind, errno, then cure and the chain's texts, each ended by a NUL.
impl Error {
    /// For another process of this program.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, errno) = match self.kind {
            Kind::NotFound => (1, 0),
            Kind::Exists => (2, 0),
            Kind::Invalid => (3, 0),
            Kind::WrongStatus => (4, 0),
            Kind::Unsupported => (5, 0),
            Kind::Denied => (6, 0),
            Kind::Timeout => (7, 0),
            Kind::Os(errno) => (8, errno),
            Kind::Internal => (9, 0),
            Kind::Unavailable => (10, 0),
        };
        let mut bytes = vec![kind];
        bytes.extend(i32::to_le_bytes(errno));
        let mut next = Some(self);
        let mut texts = Vec::new();
        let mut cure = None;
        while let Some(error) = next {
            texts.push(&error.what);
            cure = error.cure.as_ref().or(cure);
            next = error.source.as_deref();
        }
        for text in cure.into_iter().chain(if cure.is_none() { Some(&EMPTY) } else { None }).chain(texts) {
            bytes.extend(text.bytes().filter(|byte| *byte != 0).chain([0]));
        }
        bytes
    }

    /// From [`Self::to_bytes`]; anything else becomes an error that says so. Control characters are escaped: the other side may be
    /// somebody's who would like to write to a terminal.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let [kind, a, b, c, d, texts @ ..] = bytes else {
            return Self::new(Kind::Internal, "unreadable error from the other side");
        };
        let errno = i32::from_le_bytes([*a, *b, *c, *d]);
        let kind = match kind {
            1 => Kind::NotFound,
            2 => Kind::Exists,
            3 => Kind::Invalid,
            4 => Kind::WrongStatus,
            5 => Kind::Unsupported,
            6 => Kind::Denied,
            7 => Kind::Timeout,
            8 => Kind::Os(errno),
            10 => Kind::Unavailable,
            _ => Kind::Internal,
        };
        let texts = String::from_utf8_lossy(texts);
        let mut texts = texts.split_terminator('\0');
        let cure = texts.next().filter(|cure| !cure.is_empty()).map(|cure| visible(cure).into_owned());
        let mut chain = None;
        for what in texts.rev() {
            chain = Some(Self {
                kind,
                what: visible(what).into_owned(),
                cure: None,
                source: chain.map(Box::new),
            });
        }
        let mut error = chain.unwrap_or_else(|| Self::new(kind, "unreadable error from the other side"));
        error.cure = cure;
        error
    }
}

/// Control characters as Rust writes them: names come from containers and images, and shall neither command a terminal nor make
/// two lines of one.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

static EMPTY: String = String::new();

/// `ENOENT`.
pub fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

/// `no such file or directory (ENOENT)`: the words that engines search for are Go's, which are lower case.
pub fn errno_text(errno: i32) -> String {
    let errno = nix::errno::Errno::from_raw(errno);
    let mut text = errno.desc().to_owned();
    if text.get(1..2).is_some_and(|c| c.chars().all(|c| c.is_lowercase() || c == ' '))
        && let Some(first) = text.get_mut(0..1)
    {
        first.make_ascii_lowercase();
    }
    format!("{text} ({errno:?})")
}

impl fmt::Display for Error {
    /// The whole chain on one line: `outer: inner: errno text (cure: …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self);
        let mut cure = None;
        while let Some(error) = next {
            f.write_str(&error.what)?;
            cure = error.cure.as_ref().or(cure);
            next = error.source.as_deref();
            match (next, error.kind) {
                (Some(_), _) => f.write_str(": ")?,
                (None, Kind::Os(errno)) => write!(f, ": {}", errno_text(errno))?,
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
        self.source.as_deref().map(|e| e as _)
    }
}

/// Turns foreign errors into ours, naming what was being done.
pub trait Context<T> {
    /// `what` is evaluated only on failure: verb + object, lower case.
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.during(what()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::os(e as i32, what()))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::os(e.raw_os_error(), what()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn what<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(errno) => Error::os(errno, what()),
            None => Error::new(Kind::Internal, e.to_string()).during(what()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_prints_on_one_line_with_the_errno_and_the_cure() {
        let error = Error::os(libc::ENOENT, "open /x").cure("make it").during("read the config");
        assert_eq!(
            error.to_string(),
            "read the config: open /x: no such file or directory (ENOENT) (make it)"
        );
        assert_eq!(error.errno(), Some(libc::ENOENT));
    }
}
