//! The two directions of one stream between a client and us, whatever the transport: bounded queues of pieces.
//!
//! Knows neither SPDY nor WebSocket; their writer tasks encode what is sent here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::room::{Lane, PIECE, Place, QUEUE, Room};

/// What was read, in no more memory than that: a buffer that waited for much and got little is not kept.
pub fn piece(read: BytesMut) -> Bytes {
    if read.len() < read.capacity() / 2 { Bytes::copy_from_slice(&read) } else { read.freeze() }
}

/// What that takes.
fn weight(piece: &Bytes) -> usize {
    if piece.len() < PIECE / 2 { piece.len() } else { PIECE }
}

/// What a client sends on one stream.
pub struct Input {
    queue: mpsc::Receiver<Waiting>,
    /// Of what was given out last: who asks for the next is done with it.
    place: Option<Place>,
    _stream: Counted,
}

/// An event on its way, with the room that it takes.
type Waiting = (Event, Option<Place>);

/// Held by both ends of a stream that is one of so many.
type Counted = Option<Arc<OwnedSemaphorePermit>>;

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
    lane: Lane,
    _stream: Counted,
}

impl Feed {
    /// Puts an event in. Waits while the stream, or the connection, has as much as it may.
    pub async fn send(&self, event: Event) -> Result<(), Gone> {
        let bytes = match &event {
            Event::Piece(piece) => weight(piece),
            Event::End | Event::Reset => 0,
        };
        if self.is_closed() {
            return Err(Gone);
        }
        let place = tokio::select! {
            place = self.lane.take(bytes) => place,
            // Nobody takes it any more.
            () = self.queue.closed() => return Err(Gone),
        };
        self.queue.send((event, place)).await.map_err(|_| Gone)
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
    lane: Lane,
}

/// A client that can be sent a piece, with the room for it.
pub struct Turn<'a> {
    stream: u32,
    slot: mpsc::Permit<'a, Outgoing>,
    place: Place,
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
    /// Bytes, with the room that they take until they are written.
    Piece(Bytes, Place),
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
    /// A channel whose input is fed by the returned sender and whose output goes to `out`. None: there are as many streams as may be.
    pub fn new(
        stream: u32,
        headers: Vec<(String, String)>,
        out: mpsc::Sender<Outgoing>,
        room: &Room,
    ) -> Option<(Self, Feed)> {
        let (input, feed) = Input::counted(room, Some(Arc::new(room.stream()?)));
        Some((Self { stream, headers, input, output: Output::new(stream, out, room) }, feed))
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Input {
    /// An input and what feeds it.
    pub fn new(room: &Room) -> (Self, Feed) {
        Self::counted(room, None)
    }

    fn counted(room: &Room, stream: Counted) -> (Self, Feed) {
        let (feed, queue) = mpsc::channel(QUEUE);
        let feed = Feed { queue: feed, lane: room.input.clone(), _stream: stream.clone() };
        (Self { queue, place: None, _stream: stream }, feed)
    }

    /// The next thing that happens. A connection that is gone looks like a reset.
    pub async fn next(&mut self) -> Event {
        self.place = None;
        let (event, place) = self.queue.recv().await.unwrap_or((Event::Reset, None));
        self.place = place;
        event
    }
}

impl Output {
    /// What is sent goes to the writer behind `queue`, which ends when all outputs are gone.
    pub fn new(stream: u32, queue: mpsc::Sender<Outgoing>, room: &Room) -> Self {
        Self { stream, queue, lane: room.output.clone() }
    }

    /// Waits until the client may be sent a piece, at most `bytes` long: before that is read, so that nobody waits with it in his hands.
    pub async fn turn(&self, bytes: usize) -> Result<Turn<'_>, Gone> {
        let place = tokio::select! {
            place = self.lane.take(bytes) => place.ok_or(Gone)?,
            () = self.queue.closed() => return Err(Gone),
        };
        let slot = self.queue.reserve().await.map_err(|_| Gone)?;
        Ok(Turn { stream: self.stream, slot, place })
    }

    /// Sends a few words. Waits while the client doesn't read.
    pub async fn send(&self, words: Bytes) -> Result<(), Gone> {
        self.turn(words.len()).await?.send(words);
        Ok(())
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

impl Turn<'_> {
    /// Sends it.
    pub fn send(mut self, piece: Bytes) {
        self.place.keep(weight(&piece));
        self.slot.send(Outgoing { stream: self.stream, what: What::Piece(piece, self.place) });
    }
}
