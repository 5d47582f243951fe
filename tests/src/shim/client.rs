//! A ttrpc client for tests: one call after the other, and raw bytes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use prost::Message;

use crate::wait::DEADLINE;

/// A connection to a shim.
pub struct Client {
    stream: UnixStream,
    next: u32,
    request_id: Option<String>,
}

/// An answer that is no success: gRPC's code, and the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// gRPC's code.
    pub code: i32,
    /// What the shim said.
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    metadata: Vec<Metadatum>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadatum {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// A frame with any header.
pub fn frame(stream: u32, kind: u8, flags: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message");
    let mut bytes = [length.to_be_bytes(), stream.to_be_bytes()].concat();
    bytes.extend([kind, flags]);
    bytes.extend(message);
    bytes
}

/// The message of a call.
pub fn request(service: &str, method: &str, payload: &[u8]) -> Vec<u8> {
    labelled(service, method, payload, None)
}

/// What a call's message is about: its argument, encoded.
pub fn payload(message: &[u8]) -> Vec<u8> {
    Request::decode(message).expect("a request").payload
}

fn labelled(service: &str, method: &str, payload: &[u8], request_id: Option<&str>) -> Vec<u8> {
    let label = |id: &str| Metadatum { key: "rt-request-id".to_owned(), value: id.to_owned() };
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: payload.to_owned(),
        metadata: request_id.map(label).into_iter().collect(),
    };
    request.encode_to_vec()
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        Self::try_connect(socket).unwrap_or_else(|| panic!("nobody listens on {}", socket.display()))
    }

    /// Connects, if anyone listens.
    pub fn try_connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a deadline");
        Some(Self { stream, next: 1, request_id: None })
    }

    /// All its calls carry this id of the caller's.
    #[must_use]
    pub fn labelled(mut self, request_id: &str) -> Self {
        self.request_id = Some(request_id.to_owned());
        self
    }

    /// Calls and expects success.
    #[track_caller]
    pub fn ask<R: Message + Default>(&mut self, service: &str, method: &str, argument: &impl Message) -> R {
        self.call(service, method, argument).unwrap_or_else(|refused| panic!("{method}: {refused:?}"))
    }

    /// Calls.
    ///
    /// # Errors
    /// What the shim refused it with.
    #[track_caller]
    pub fn call<R: Message + Default>(
        &mut self,
        service: &str,
        method: &str,
        argument: &impl Message,
    ) -> Result<R, Refused> {
        let stream = self.send(service, method, argument);
        let (header, answer) = self.answer();
        assert_eq!(header, stream, "the answer is to another call");
        answer.map(|payload| R::decode(payload.as_slice()).expect("an answer of the method's type"))
    }

    /// Sends a call and waits for nothing; gives its stream's number.
    #[track_caller]
    pub fn send(&mut self, service: &str, method: &str, argument: &impl Message) -> u32 {
        let stream = self.next;
        self.next += 2;
        let message = labelled(service, method, &argument.encode_to_vec(), self.request_id.as_deref());
        self.raw(&frame(stream, 1, 0, &message));
        stream
    }

    /// Sends any bytes.
    #[track_caller]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send to the shim");
    }

    /// The next answer: which stream it is to, and what it says.
    #[track_caller]
    pub fn answer(&mut self) -> (u32, Result<Vec<u8>, Refused>) {
        let mut header = [0; 10];
        self.stream.read_exact(&mut header).expect("an answer in time");
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _] = header;
        assert_eq!(kind, 2, "no response");
        let mut message = vec![0; u32::from_be_bytes([l0, l1, l2, l3]) as usize];
        self.stream.read_exact(&mut message).expect("a whole answer");
        let response = Response::decode(message.as_slice()).expect("a response");
        let answer = match response.status {
            Some(Status { code, message }) if code != 0 => Err(Refused { code, message }),
            _ => Ok(response.payload),
        };
        (u32::from_be_bytes([s0, s1, s2, s3]), answer)
    }

    /// The connection becomes a stream of an exec or an attached process.
    #[track_caller]
    pub fn into_stream(mut self, token: &str, name: &str) -> UnixStream {
        self.raw(format!("stream {token} {name}\n").as_bytes());
        self.stream
    }

    /// Whether an answer comes; not if the connection is closed instead.
    pub fn is_answered(&mut self) -> bool {
        self.stream.read_exact(&mut [0; 10]).is_ok()
    }

    /// Whether the shim has closed the connection; waits for that.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 64]), Ok(0))
    }
}
