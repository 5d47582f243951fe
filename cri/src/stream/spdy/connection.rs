//! A SPDY connection: reads frames, opens channels, answers pings, writes what channels send. Streams' meaning is the caller's.

use std::collections::HashMap;
use std::future::Future;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::channel::{Channel, Event, Feed, Outgoing, What, piece};
use super::super::room::{PIECE, Place, QUEUE, Room};
use super::super::wire::{self, ReadSide, Wire, WriteSide};
use super::frame::{self, Control, HEAD, Head, Status};
use super::headers;

/// Streams that may be open at once: two for each of a thousand forwarded connections, and room.
const STREAMS_MAX: usize = 4096;

/// How long the last frames may take to be written.
const FLUSH: Duration = Duration::from_secs(10);

/// Serves a connection until `session` ends, or until the client goes, which drops the session. It gets each stream that the
/// client opens.
pub async fn serve<Session, Ended>(wire: Wire, session: Session)
where
    Session: FnOnce(mpsc::Receiver<Channel>) -> Ended,
    Ended: Future<Output = ()>,
{
    let (out, queue) = mpsc::channel(QUEUE);
    let (opened, accept) = mpsc::channel(QUEUE);
    let mut reading = Reading::new(wire.read, out.clone(), opened);
    let writer = tokio::spawn(write(wire.write, queue));
    tokio::select! {
        () = session(accept) => {}
        said = reading.run() => {
            if let Err(error) = said {
                tracing::debug!(%error, "streaming connection");
            }
            // The client is gone: nobody is left to whom the session could say anything. It is dropped.
        }
    }
    let bye = Bytes::from(frame::go_away(reading.newest));
    let _ = timeout(FLUSH, out.send(Outgoing { stream: 0, what: What::Frame(bye) })).await;
    let read = reading.stop();
    drop(out);
    if let Ok(Ok(Some(write))) = timeout(FLUSH, writer).await {
        wire::close(read, write).await;
    }
}

/// The reading half's state.
struct Reading {
    read: ReadSide,
    out: mpsc::Sender<Outgoing>,
    opened: mpsc::Sender<Channel>,
    open: HashMap<u32, Feed>,
    room: Room,
    newest: u32,
    inflate: headers::Reader,
    empty: headers::Empty,
}

impl Reading {
    fn new(read: ReadSide, out: mpsc::Sender<Outgoing>, opened: mpsc::Sender<Channel>) -> Self {
        Self {
            read,
            out,
            opened,
            open: HashMap::new(),
            room: Room::new(),
            newest: 0,
            inflate: headers::Reader::new(),
            empty: headers::Empty::default(),
        }
    }

    /// Reads until the client closes (Ok) or breaks the protocol (Err says how).
    async fn run(&mut self) -> Result<(), String> {
        let mut head = [0; HEAD];
        loop {
            match self.read.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(format!("read a frame's head: {error}")),
            }
            match Head::parse(head)? {
                Head::Data { stream, fin, length } => self.payload(stream, fin, length).await?,
                Head::Control { kind, fin, length } => {
                    let mut body = vec![0; length];
                    self.exactly(&mut body).await?;
                    self.control(Control::parse(kind, fin, &body)?).await?;
                }
            }
        }
    }

    fn stop(self) -> ReadSide {
        self.read
    }

    async fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.read.read_exact(bytes).await.map(|_| ()).map_err(|error| format!("read a frame: {error}"))
    }

    async fn payload(&mut self, stream: u32, fin: bool, length: usize) -> Result<(), String> {
        if !self.open.contains_key(&stream) && stream > self.newest {
            self.send(frame::reset(stream, Status::InvalidStream)).await?;
        }
        let mut left = length;
        while left > 0 {
            let mut buffer = BytesMut::with_capacity(left.min(PIECE));
            let read = (&mut self.read).take(left as u64).read_buf(&mut buffer).await;
            match read.map_err(|error| format!("read a frame: {error}"))? {
                0 => return Err("the client went away in the middle of a frame".to_owned()),
                count => left -= count,
            }
            self.feed(stream, Event::Piece(piece(buffer))).await;
        }
        if fin {
            self.feed(stream, Event::End).await;
            self.open.remove(&stream);
        }
        Ok(())
    }

    /// Gives an event to its stream. Streams that are over are fed in vain: the client may not know yet.
    async fn feed(&mut self, stream: u32, event: Event) {
        let Some(feed) = self.open.get(&stream) else { return };
        if feed.send(event).await.is_err() {
            self.open.remove(&stream);
        }
    }

    async fn control(&mut self, control: Control<'_>) -> Result<(), String> {
        match control {
            Control::Open { stream, fin, block } => {
                let headers = self.inflate.read(block)?;
                self.open(stream, headers).await?;
                if fin {
                    self.feed(stream, Event::End).await;
                    self.open.remove(&stream);
                }
            }
            Control::Headers { stream, fin, block } => {
                self.inflate.read(block)?;
                if fin {
                    self.feed(stream, Event::End).await;
                    self.open.remove(&stream);
                }
            }
            Control::Reset { stream } => {
                self.feed(stream, Event::Reset).await;
                self.open.remove(&stream);
            }
            Control::Ping { id } => self.send(frame::ping(id)).await?,
            Control::GoAway | Control::Ignored => {}
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, headers: headers::Headers) -> Result<(), String> {
        if stream.is_multiple_of(2) || stream <= self.newest {
            return Err(format!("stream {stream} opened after stream {}", self.newest));
        }
        self.newest = stream;
        self.open.retain(|_, feed| !feed.is_closed());
        if self.open.len() >= STREAMS_MAX {
            return self.send(frame::reset(stream, Status::Cancel)).await;
        }
        // Its headers may be 64 kB out of a few bytes: they end here.
        let headers = match headers::known(&headers) {
            Ok(known) => known,
            Err(error) => {
                tracing::debug!(%error, "refuse a stream");
                return self.send(frame::reset(stream, Status::Cancel)).await;
            }
        };
        let Some((channel, feed)) = Channel::new(stream, headers, self.out.clone(), &self.room) else {
            // As often as the client likes: no matter for the log.
            tracing::debug!("refuse a stream: there are as many as all connections may have");
            return self.send(frame::reset(stream, Status::Cancel)).await;
        };
        let reply = frame::reply(stream, &self.empty.block());
        self.send(reply).await?;
        self.open.insert(stream, feed);
        if self.opened.send(channel).await.is_err() {
            self.open.remove(&stream);
            self.send(frame::reset(stream, Status::Cancel)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, frame: Vec<u8>) -> Result<(), String> {
        let outgoing = Outgoing { stream: 0, what: What::Frame(frame.into()) };
        self.out.send(outgoing).await.map_err(|_| "the client doesn't take what is written".to_owned())
    }
}

/// Frames that are written by one system call, at most.
const BATCH: usize = 16;

/// Writes until all senders are gone; gives the write side back if it still works. What has come meanwhile is written together.
async fn write(mut write: WriteSide, mut queue: mpsc::Receiver<Outgoing>) -> Option<WriteSide> {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // Their room is theirs until they are written.
        let frames: Vec<Framed> = batch.drain(..).map(framed).collect();
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(2 * frames.len());
        for (head, body, _) in &frames {
            slices.push(IoSlice::new(head));
            slices.push(IoSlice::new(body));
        }
        put(&mut write, &mut slices).await.ok()?;
        if queue.is_empty() {
            write.flush().await.ok()?;
        }
    }
    Some(write)
}

/// A frame's first eight bytes, the rest, and the room that it takes.
type Framed = ([u8; HEAD], Bytes, Option<Place>);

fn framed(Outgoing { stream, what }: Outgoing) -> Framed {
    let whole: Bytes = match what {
        What::Piece(piece, place) => {
            return (frame::data_head(stream, piece.len(), false), piece, Some(place));
        }
        What::End => return (frame::data_head(stream, 0, true), Bytes::new(), None),
        What::Reset => frame::reset(stream, Status::Cancel).into(),
        What::Frame(bytes) => bytes,
    };
    let mut head = [0; HEAD];
    head.copy_from_slice(&whole[..HEAD]); // no frame is shorter
    (head, whole.slice(HEAD..), None)
}

/// Writes all of them.
async fn put(write: &mut WriteSide, mut slices: &mut [IoSlice<'_>]) -> std::io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0); // leaves out those that are empty
    while !slices.is_empty() {
        let written = write.write_vectored(slices).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}
