//! One connection to the server: frames of calls, or a stream that is handed over; the first byte says which.
//!
//! A peer that sends nonsense gets a clear answer on the stream that it named; one that stops reading is disconnected, and blocks
//! nobody meanwhile: each connection has its own writer and its own bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinSet, coop};
use tokio::time::timeout;

use super::frame::{self, Header, Read, Room, Taken};
use super::message::Response;
use super::server::Service;
use super::{Code, Request, Status};
use crate::pod::StreamName;

/// Calls of one connection that are being answered. Most of them are waits; a pod has some for each process.
const CALLS: usize = 1024;
/// Answers that need no call: to frames that make no sense.
const REFUSALS: usize = 16;
/// A peer that reads nothing for so long is disconnected.
const WRITE: Duration = Duration::from_secs(30);
/// How long a stream's hello may take, and how long it may be.
const HELLO_TIME: Duration = Duration::from_secs(10);
const HELLO: usize = 256;

/// How a connection says that it is a stream: `stream TOKEN NAME\n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What `Exec` or `Attach` answered with.
    pub token: String,
    /// Which of its streams.
    pub name: StreamName,
}

impl Hello {
    /// The line, with its end.
    pub fn line(&self) -> String {
        format!("stream {} {}\n", self.token, word(self.name))
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let (Some("stream"), Some(token), Some(name), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        let name = StreamName::parse(name)?;
        let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| Self { token: token.to_owned(), name })
    }
}

/// The name as it stands in a hello.
fn word(name: StreamName) -> &'static str {
    match name {
        StreamName::Stdin => "stdin",
        StreamName::Stdout => "stdout",
        StreamName::Stderr => "stderr",
    }
}

/// What is read of all calls that are not answered.
const READ: usize = 64 << 20;

/// What all connections share: the memory for calls, and the count of those that have to be answered before the server may end.
#[derive(Clone, Debug)]
pub(super) struct Busy {
    due: Arc<watch::Sender<()>>,
    room: Room,
}

impl Default for Busy {
    fn default() -> Self {
        Self { due: Arc::new(watch::channel(()).0), room: Room::new(READ) }
    }
}

/// Keeps the server alive until the answer is written.
type Due = (OwnedSemaphorePermit, Option<watch::Receiver<()>>);

impl Busy {
    fn due(&self) -> watch::Receiver<()> {
        self.due.subscribe()
    }

    /// Waits until no answer is due.
    pub(super) async fn over(&self) {
        self.due.closed().await;
    }
}

/// Serves one connection until it ends.
pub(super) async fn run<S: Service>(stream: UnixStream, service: S, place: OwnedSemaphorePermit, busy: Busy) {
    let mut first = [0];
    match peek(&stream, &mut first).await {
        Ok(1..) if first == [0] => calls(stream, service, &busy).await,
        Ok(1..) => {
            if let Ok(Some(hello)) = timeout(HELLO_TIME, hello(&stream)).await {
                drop(place);
                service.stream(hello, stream).await;
            }
        }
        _ => {}
    }
}

/// Reads calls and has each answered by a task of its own.
async fn calls<S: Service>(stream: UnixStream, service: S, busy: &Busy) {
    let (reader, writer) = stream.into_split();
    let mut reader = frame::buffered(reader);
    let (answers, queue) = mpsc::channel(CALLS + REFUSALS);
    let writer = tokio::spawn(write(writer, queue));
    let room = Arc::new(Semaphore::new(CALLS));
    let mut waits = JoinSet::new();
    let mut last = 0;
    while let Some((stream, call, taken)) = next(&mut reader, (&mut last, &busy.room), &answers).await {
        while waits.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            refuse(&answers, stream, Code::ResourceExhausted, &format!("more than {CALLS} calls at once"));
            continue;
        };
        let (service, answers) = (service.clone(), answers.clone());
        if service.only_waits(&call) {
            waits.spawn(answer(service, (stream, call, taken), answers, (permit, None)));
        } else {
            tokio::spawn(answer(service, (stream, call, taken), answers, (permit, Some(busy.due()))));
        }
    }
    // Calls that are still carried out write their answers if the peer still reads.
    drop((answers, waits));
    let _ = writer.await;
}

type Answers = mpsc::Sender<(Vec<u8>, Option<Due>)>;

/// The next call; frames that are none are refused here. `None` when the connection is over.
async fn next(
    reader: &mut (impl AsyncRead + Unpin),
    (last, room): (&mut u32, &Room),
    answers: &Answers,
) -> Option<(u32, Request, Taken)> {
    loop {
        if answers.is_closed() {
            return None; // the peer no longer reads
        }
        // ORDER: frames that are here already come from memory, where tokio does not count: without this, all of a peer's calls
        // would begin before any of them goes on.
        coop::consume_budget().await;
        let (header, message, taken) = match frame::read(reader, Some(room)).await {
            Ok(Read::Frame(header, message, taken)) => (header, message, taken),
            Ok(Read::TooLarge(header)) => {
                let text =
                    format!("a message of {} bytes: at most {} are allowed", header.length, frame::LIMIT);
                refuse(answers, header.stream, Code::ResourceExhausted, &text);
                if frame::was_skipped(header) {
                    continue;
                }
                return None;
            }
            Ok(Read::End) | Err(_) => return None,
        };
        match call_in(header, &message, *last) {
            Ok(call) => {
                *last = header.stream;
                return Some((header.stream, call, taken));
            }
            Err(status) => {
                let code = Code::try_from(status.code).unwrap_or(Code::Unknown);
                refuse(answers, header.stream, code, &status.message);
            }
        }
    }
}

/// The call in a frame, or what is wrong with it.
fn call_in(header: Header, message: &[u8], last: u32) -> Result<Request, Status> {
    let wrong = |text: String| Err(Status::new(Code::InvalidArgument, text));
    if header.kind != frame::REQUEST {
        return wrong(format!("a frame of kind {}: only requests (1) are understood", header.kind));
    }
    if header.stream.is_multiple_of(2) || header.stream <= last {
        let text =
            format!("stream {}: a client's streams are odd and rise; the last was {last}", header.stream);
        return wrong(text);
    }
    if header.flags & frame::REMOTE_OPEN != 0 {
        return Err(Status::new(
            Code::Unimplemented,
            "a stream of messages: only single calls are supported",
        ));
    }
    Request::decode(message).or_else(|error| wrong(format!("read a request: {error}")))
}

/// Answers one call within the time that its caller gave it.
async fn answer<S: Service>(service: S, call: (u32, Request, Taken), answers: Answers, due: Due) {
    let (stream, request, taken) = call;
    let limit = request.timeout();
    let work = service.answer(request);
    let outcome = match limit {
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| {
            let text = format!("not done within the {} ms that the caller gave", limit.as_millis());
            Err(Status::new(Code::DeadlineExceeded, text))
        }),
        None => work.await,
    };
    drop(taken);
    let frame = match outcome {
        Ok(payload) => frame::encode(stream, frame::RESPONSE, &Response { status: None, payload }),
        Err(status) => Err(status),
    };
    let frame = frame.unwrap_or_else(|status| refusal(stream, status));
    let _ = answers.send((frame, Some(due))).await;
}

fn refusal(stream: u32, status: Status) -> Vec<u8> {
    let response = Response { status: Some(status), payload: Vec::new() };
    frame::encode(stream, frame::RESPONSE, &response).unwrap_or_default()
}

/// Refuses a frame, unless the peer sends nonsense faster than it reads what is said about it.
fn refuse(answers: &Answers, stream: u32, code: Code, text: &str) {
    let _ = answers.try_send((refusal(stream, Status::new(code, text)), None));
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<(Vec<u8>, Option<Due>)>) {
    while let Some((frame, due)) = queue.recv().await {
        if !matches!(timeout(WRITE, writer.write_all(&frame)).await, Ok(Ok(()))) {
            return;
        }
        drop(due);
    }
}

/// The hello of a stream, if it is one. Takes no byte more than that from the connection.
async fn hello(stream: &UnixStream) -> Option<Hello> {
    let mut line = Vec::new();
    let mut bytes = [0; HELLO];
    loop {
        let seen = peek(stream, &mut bytes).await.ok().filter(|seen| *seen > 0)?;
        let end = bytes[..seen].iter().position(|byte| *byte == b'\n');
        let taken = stream.try_io(Interest::READABLE, || {
            Ok(recv(stream, &mut bytes[..end.map_or(seen, |end| end + 1)], RecvFlags::empty())?.0)
        });
        line.extend_from_slice(bytes.get(..taken.ok()?)?);
        if end.is_some() {
            line.pop();
            return Hello::parse(&line);
        }
        if line.len() >= HELLO {
            return None;
        }
    }
}

/// Looks at what has arrived without taking it. 0: the end.
async fn peek(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<usize> {
    stream.async_io(Interest::READABLE, || Ok(recv(stream, &mut *bytes, RecvFlags::PEEK)?.0)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        for name in [StreamName::Stdin, StreamName::Stdout, StreamName::Stderr] {
            let hello = Hello { token: "a1-b2".into(), name };
            assert_eq!(Hello::parse(hello.line().trim_end().as_bytes()), Some(hello));
        }
        for bad in
            ["", "stream", "stream a", "stream a stdin x", "stream  stdin", "stream a tty", "sTream a stdin"]
        {
            assert_eq!(Hello::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn frames_that_are_no_calls_are_named() {
        let header = |stream, kind, flags| Header { length: 0, stream, kind, flags };
        let code =
            |header, message: &[u8], last| call_in(header, message, last).map_err(|status| status.code);
        assert!(code(header(1, 1, 0), b"", 0).is_ok());
        for (header, message, last) in [
            (header(1, 3, 0), &b""[..], 0),
            (header(2, 1, 0), b"", 0),
            (header(0, 1, 0), b"", 0),
            (header(3, 1, 0), b"", 3),
            (header(1, 1, 0), b"\xff\xff", 0),
        ] {
            assert_eq!(code(header, message, last), Err(Code::InvalidArgument as i32), "{header:?}");
        }
        assert_eq!(code(header(1, 1, frame::REMOTE_OPEN), b"", 0), Err(Code::Unimplemented as i32));
    }
}
