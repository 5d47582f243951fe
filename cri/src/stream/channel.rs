//! The two directions of one stream between a client and us, whatever the transport: bounded queues of pieces.
//!
//! Knows neither SPDY nor WebSocket; their writer tasks encode what is sent here.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces that a stream holds before its connection isn't read any more. With pieces of at most `PIECE` bytes: 2 MiB.
pub const QUEUE: usize = 32;

/// The most bytes of a piece: what a pipe holds, so that one reading takes all that a process could write meanwhile.
pub const PIECE: usize = 64 * 1024;

/// What a client sends on one stream.
pub struct Input {
    queue: mpsc::Receiver<Event>,
}

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
pub type Feed = mpsc::Sender<Event>;

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
    pub fn new(stream: u32, headers: Vec<(String, String)>, out: mpsc::Sender<Outgoing>) -> (Self, Feed) {
        let (input, feed) = Input::new();
        (Self { stream, headers, input, output: Output::new(stream, out) }, feed)
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Input {
    /// An input and what feeds it.
    pub fn new() -> (Self, Feed) {
        let (feed, queue) = mpsc::channel(QUEUE);
        (Self { queue }, feed)
    }

    /// The next thing that happens. A connection that is gone looks like a reset.
    pub async fn next(&mut self) -> Event {
        self.queue.recv().await.unwrap_or(Event::Reset)
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
