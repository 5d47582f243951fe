//! The two directions of one stream between a client and us, whatever the transport: bounded queues of pieces.
//!
//! Knows neither SPDY nor WebSocket; their writer tasks encode what is sent here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Pieces that a stream holds before its connection isn't read any more. With pieces of at most `PIECE` bytes: 2 MiB.
pub const QUEUE: usize = 32;

/// The most bytes of a piece: what a pipe holds, so that one reading takes all that a process could write meanwhile.
pub const PIECE: usize = 64 * 1024;

/// What all streams of one connection may have waiting from the client, as much as one of them alone: a client that is not listened to on
/// many streams costs no more than on one. A message is taken whole, so a WebSocket may be one beyond it.
const ROOM: usize = QUEUE * PIECE;

/// The room of one connection, for what its client has sent and nobody has taken yet.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Room {
    /// Of a new connection.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }

    /// Waits until there is room for so many bytes.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(ROOM)).unwrap_or(u32::MAX);
        Arc::clone(&self.0).acquire_many_owned(bytes).await.ok() // it is never closed
    }
}

/// What was read, in no more memory than that: a buffer that waited for much and got little is not kept.
pub fn piece(read: BytesMut) -> Bytes {
    if read.len() < read.capacity() / 2 { Bytes::copy_from_slice(&read) } else { read.freeze() }
}

/// What a client sends on one stream.
pub struct Input {
    queue: mpsc::Receiver<Waiting>,
}

/// An event on its way, with the room that it takes.
type Waiting = (Event, Option<OwnedSemaphorePermit>);

/// Something that happened on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes, never none.
    Piece(Bytes),
    /// The client sends no more; it may still read.
    End,
    /// The client gave the stream up, both ways.
    Reset,
}

/// Puts what arrives into a stream.
pub struct Feed {
    queue: mpsc::Sender<Waiting>,
    room: Room,
}

impl Feed {
    /// Puts an event in. Waits while the stream, or the connection, has as much as it may.
    pub async fn send(&self, event: Event) -> Result<(), Gone> {
        let bytes = match &event {
            Event::Piece(piece) => piece.len(),
            Event::End | Event::Reset => 0,
        };
        if self.is_closed() {
            return Err(Gone);
        }
        let permit = tokio::select! {
            permit = self.room.take(bytes) => permit,
            // Nobody takes it any more.
            () = self.queue.closed() => return Err(Gone),
        };
        self.queue.send((event, permit)).await.map_err(|_| Gone)
    }

    /// Nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

/// Where a client reads one stream.
#[derive(Clone)]
pub struct Output {
    stream: u32,
    queue: mpsc::Sender<Outgoing>,
}

/// What a connection's writer is asked to send.
#[derive(Debug)]
pub struct Outgoing {
    /// The transport's number of the stream.
    pub stream: u32,
    /// What to send on it.
    pub what: What,
}

/// What is sent on a stream.
#[derive(Debug)]
pub enum What {
    /// Bytes.
    Piece(Bytes),
    /// Nothing more will come.
    End,
    /// The stream is over, both ways.
    Reset,
    /// A frame of the transport itself, ready to be written.
    Frame(Bytes),
}

/// The connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// A stream as a client opened it.
pub struct Channel {
    /// The transport's number.
    pub stream: u32,
    /// What it was opened with.
    pub headers: Vec<(String, String)>,
    /// From the client.
    pub input: Input,
    /// To the client.
    pub output: Output,
}

impl Channel {
    /// A channel whose input is fed by the returned sender and whose output goes to `out`.
    pub fn new(
        stream: u32,
        headers: Vec<(String, String)>,
        out: mpsc::Sender<Outgoing>,
        room: &Room,
    ) -> (Self, Feed) {
        let (input, feed) = Input::new(room);
        (Self { stream, headers, input, output: Output::new(stream, out) }, feed)
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Input {
    /// An input and what feeds it.
    pub fn new(room: &Room) -> (Self, Feed) {
        let (feed, queue) = mpsc::channel(QUEUE);
        (Self { queue }, Feed { queue: feed, room: room.clone() })
    }

    /// The next thing that happens. A connection that is gone looks like a reset.
    pub async fn next(&mut self) -> Event {
        self.queue.recv().await.map_or(Event::Reset, |(event, _)| event)
    }
}

impl Output {
    /// What is sent goes to the writer behind `queue`, which ends when all outputs are gone.
    pub fn new(stream: u32, queue: mpsc::Sender<Outgoing>) -> Self {
        Self { stream, queue }
    }

    /// Sends bytes. Waits while the client doesn't read.
    pub async fn send(&self, piece: Bytes) -> Result<(), Gone> {
        self.push(What::Piece(piece)).await
    }

    /// Says that nothing more will come.
    pub async fn end(&self) -> Result<(), Gone> {
        self.push(What::End).await
    }

    /// Gives the stream up, both ways.
    pub async fn reset(&self) -> Result<(), Gone> {
        self.push(What::Reset).await
    }

    async fn push(&self, what: What) -> Result<(), Gone> {
        self.queue.send(Outgoing { stream: self.stream, what }).await.map_err(|_| Gone)
    }
}
