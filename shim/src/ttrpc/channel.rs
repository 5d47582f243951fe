//! The client's side: one connection, many calls at once, answers in any order.
//!
//! Does not connect again by itself: a connection that broke says that its server is gone, which the caller has to hear.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::message::Response;
use super::{Code, Request, Status, frame};

/// How long a connection may take to come about: the other side's backlog is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that takes longer to read what is sent to it is as good as gone.
const WRITE: Duration = Duration::from_secs(30);
/// Calls that wait to be written.
const QUEUE: usize = 64;
/// From so many waiting calls on, those whose callers went away are looked for.
const SWEEP: usize = 256;

type Waiting = oneshot::Sender<Result<Vec<u8>, Status>>;

/// A connection to a ttrpc server. Cheap to clone; the connection closes with the last clone.
#[derive(Clone, Debug)]
pub struct Channel {
    calls: mpsc::Sender<(Vec<u8>, Waiting)>,
}

/// Calls that were written and have no answer yet; `None` once the connection is gone.
type Pending = Arc<Mutex<Option<HashMap<u32, Waiting>>>>;

impl Channel {
    /// Connects to a server's socket.
    ///
    /// # Errors
    /// `Unavailable` when nobody listens there (or its backlog stays full), with the reason.
    pub async fn connect(path: &Path) -> Result<Self, Status> {
        let failed = |why: &dyn std::fmt::Display| {
            Status::new(Code::Unavailable, format!("connect to {}: {why}", path.display()))
        };
        let stream = timeout(CONNECT, UnixStream::connect(path)).await.map_err(|error| failed(&error))?;
        Ok(Self::over(stream.map_err(|error| failed(&error))?))
    }

    /// Uses a connection that is there already.
    pub fn over(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let pending = Pending::new(Mutex::new(Some(HashMap::new())));
        let (calls, queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            // Whichever side ends first ends the other; so does the last clone of the channel.
            tokio::select! {
                () = write_calls(writer, queue, &pending) => {}
                () = read_answers(reader, &pending) => {}
            }
            pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        Self { calls }
    }

    /// Calls a method and waits for its answer, for at most `deadline`.
    ///
    /// # Errors
    /// The server's status; `Unavailable` when the connection broke (the call may have been made or not), `DeadlineExceeded`.
    pub async fn call<A, R>(&self, name: (&str, &str), argument: &A, deadline: Duration) -> Result<R, Status>
    where
        A: Message,
        R: Message + Default,
    {
        let (service, method) = name;
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: argument.encode_to_vec(),
            timeout_nano: i64::try_from(deadline.as_nanos()).unwrap_or(i64::MAX),
            metadata: crate::request::metadata(),
        };
        let frame = frame::encode(0, frame::REQUEST, &request)?;
        let answer = timeout(deadline, self.exchange(frame)).await.unwrap_or_else(|_| {
            let text = format!("{method}: no answer within {} ms", deadline.as_millis());
            Err(Status::new(Code::DeadlineExceeded, text))
        })?;
        R::decode(answer.as_slice())
            .map_err(|error| Status::new(Code::Internal, format!("read the answer to {method}: {error}")))
    }

    /// Whether the connection is gone: calls can only fail from now on.
    pub fn is_closed(&self) -> bool {
        self.calls.is_closed()
    }

    async fn exchange(&self, frame: Vec<u8>) -> Result<Vec<u8>, Status> {
        let gone = || Status::new(Code::Unavailable, "the connection was closed by its other side");
        let (waiting, answer) = oneshot::channel();
        self.calls.send((frame, waiting)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Numbers and writes the calls, in the order in which they came: a server may insist that numbers rise.
async fn write_calls(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<(Vec<u8>, Waiting)>,
    pending: &Pending,
) {
    let mut stream = 1_u32;
    while let Some((mut frame, waiting)) = queue.recv().await {
        if waiting.is_closed() {
            continue;
        }
        frame::set_stream(&mut frame, stream);
        match pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(calls) => {
                if calls.len() >= SWEEP {
                    calls.retain(|_, waiting| !waiting.is_closed());
                }
                calls.insert(stream, waiting);
            }
            None => return,
        }
        if !matches!(timeout(WRITE, writer.write_all(&frame)).await, Ok(Ok(()))) {
            return;
        }
        let Some(next) = stream.checked_add(2) else { return };
        stream = next;
    }
}

async fn read_answers(reader: OwnedReadHalf, pending: &Pending) {
    let mut reader = frame::buffered(reader);
    while let Ok(frame::Read::Frame(header, message, _)) = frame::read(&mut reader, None).await {
        let waiting = match pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(calls) if header.kind == frame::RESPONSE => calls.remove(&header.stream),
            Some(_) => None,
            None => return,
        };
        if let Some(waiting) = waiting {
            // A caller that no longer waits needs no answer.
            let _ = waiting.send(answer_in(&message));
        }
    }
}

fn answer_in(message: &[u8]) -> Result<Vec<u8>, Status> {
    let response = Response::decode(message)
        .map_err(|error| Status::new(Code::Internal, format!("read a response: {error}")))?;
    match response.status {
        Some(status) if status.code != Code::Ok as i32 => Err(status),
        _ => Ok(response.payload),
    }
}
