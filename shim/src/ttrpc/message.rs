//! The messages that every ttrpc frame carries one of: request, response, the status inside a response, and metadata inside a request.
//!
//! Written by hand rather than made from a file.

use std::fmt;
use std::time::Duration;

/// A call: which method of which service, and its argument.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Full name of the service: `containerd.task.v3.Task`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Name of the method in it.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's request message, encoded.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits, in nanoseconds; 0: for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// What else the caller says; a key may come more than once.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<Metadatum>,
}

/// One thing that a caller says beside the argument.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Metadatum {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Any text.
    #[prost(string, tag = "2")]
    pub value: String,
}

impl Request {
    /// How long the caller waits, if it said so.
    pub fn timeout(&self) -> Option<Duration> {
        u64::try_from(self.timeout_nano).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

/// The answer to a call: a status that is not `Ok`, or the payload.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    /// Absent when the call went well.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's response message, encoded.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// Why a call was refused: a code of gRPC's and a sentence. The error type of everything on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// One of [`Code`].
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// What was being done, and why it did not work.
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Status {
    /// A refusal with its reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
#[allow(missing_docs)] // gRPC's own names
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}
