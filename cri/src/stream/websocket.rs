//! WebSocket: remotecommand's channels as the first byte of each message (v4, v5), and SPDY inside binary messages (port-forward).
//!
//! Source: k8s.io/apimachinery `remotecommand` and KEP-4006. The handshake is the HTTP server's.

use std::future::Future;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::backend::Streams;
use super::channel::{Event, Feed, Input, Outgoing, Output, What};
use super::remote::Client;
use super::room::{PIECE, QUEUE, Room, Unfinished};
use super::wire::{self, ReadSide, Wire, WriteSide};

/// The longest message that is taken.
const MESSAGE_MAX: usize = 1024 * 1024;

/// What is read at once, and between a tunnel's two ends.
const BUFFER: usize = 32 * 1024;

/// How long the last messages may take, and a client to close after we did.
const CLOSING: Duration = Duration::from_secs(10);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5, from clients: the next byte is the number of a channel on which nothing more comes.
const CLOSE: u8 = 255;

/// Version of the channel protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No end of stdin but that of the connection.
    V4,
    /// Channels can be half-closed.
    V5,
}

/// Reads and writes of a connection as one thing, as WebSocket wants it.
type Both = tokio::io::Join<ReadSide, WriteSide>;

/// What a client sends. A message counts from its first byte on, until the next is asked for; so does what comes between its fragments.
struct Source {
    messages: SplitStream<WebSocketStream<Both>>,
    unfinished: Unfinished,
}

impl Source {
    async fn next(&mut self) -> Option<Message> {
        self.unfinished.clear();
        loop {
            match self.messages.next().await? {
                // Answered by the library. They may stand within a message, which is then not whole.
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(error) => {
                    tracing::debug!(%error, "streaming connection");
                    return None;
                }
            }
        }
    }
}

/// All that is held of a client's message, and what was read with it.
const HELD_MAX: usize = MESSAGE_MAX + BUFFER;

async fn socket(wire: Wire, room: &Room) -> (Sink, Source) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .read_buffer_size(BUFFER)
        // Written at once: what can't be is one message, whose writer waits.
        .write_buffer_size(0);
    let unfinished = room.message(HELD_MAX);
    let read = wire::counted(wire.read, unfinished.clone());
    let both = tokio::io::join(read, wire.write);
    let (sink, messages) = WebSocketStream::from_raw_socket(both, Role::Server, Some(config)).await.split();
    (sink, Source { messages, unfinished })
}

/// Serves an exec or attach session until it ends, or until the client goes, which drops it.
pub async fn remote<Session, Ended>(wire: Wire, streams: Streams, version: Version, session: Session)
where
    Session: FnOnce(Client) -> Ended,
    Ended: Future<Output = ()>,
{
    let room = Room::new();
    let (sink, source) = socket(wire, &room).await;
    let (out, queue) = mpsc::channel(QUEUE);
    let output = |number: u8| Output::new(u32::from(number), out.clone(), &room);
    let (stdin, stdin_feed) = Input::new(&room);
    let (resize, resize_feed) = Input::new(&room);
    let client = Client {
        error: output(ERROR),
        stdin: streams.stdin.then_some(stdin),
        stdout: streams.stdout.then(|| output(STDOUT)),
        stderr: streams.stderr.then(|| output(STDERR)),
        resize: streams.tty.then_some(resize),
    };
    let writer = tokio::spawn(write(sink, queue));
    let mut reading = Reading { source, stdin: stdin_feed, resize: resize_feed, version };
    // An empty message on the first channel that is written tells the client that the session stands.
    let first = client.stdout.as_ref().or(client.stderr.as_ref()).unwrap_or(&client.error);
    let _ = first.send(Bytes::new()).await;
    tokio::select! {
        () = session(client) => {}
        () = reading.run() => {}
    }
    drop(out);
    if let Ok(Ok(Some(mut sink))) = timeout(CLOSING, writer).await {
        let _ = close(&mut sink).await;
        let _ = timeout(CLOSING, async { while reading.source.next().await.is_some() {} }).await;
    }
}

struct Reading {
    source: Source,
    stdin: Feed,
    resize: Feed,
    version: Version,
}

impl Reading {
    /// Reads until the client closes or breaks the protocol.
    async fn run(&mut self) {
        while let Some(message) = self.source.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                _ => continue,
            };
            match (bytes.first().copied(), self.version) {
                (Some(CLOSE), Version::V5) => {
                    if let Some(feed) = bytes.get(1).and_then(|channel| self.feed(*channel)) {
                        let _ = feed.send(Event::End).await;
                    }
                }
                (Some(channel), _) => {
                    let Some(feed) = self.feed(channel) else { continue };
                    // Copied, since a piece that waits would keep the whole message.
                    for piece in bytes[1..].chunks(PIECE) {
                        let _ = feed.send(Event::Piece(Bytes::copy_from_slice(piece))).await; // nobody listens any more: dropped
                    }
                }
                (None, _) => {}
            }
        }
    }

    fn feed(&self, channel: u8) -> Option<&Feed> {
        match channel {
            STDIN => Some(&self.stdin),
            RESIZE => Some(&self.resize),
            _ => None,
        }
    }
}

type Sink = SplitSink<WebSocketStream<Both>, Message>;

/// Writes until all senders are gone; gives the sink back if it still works.
async fn write(mut sink: Sink, mut queue: mpsc::Receiver<Outgoing>) -> Option<Sink> {
    while let Some(Outgoing { stream, what }) = queue.recv().await {
        let channel = stream as u8; // we gave the numbers
        let message = match what {
            What::Piece(piece, _) => {
                let mut message = BytesMut::with_capacity(1 + piece.len());
                message.put_u8(channel);
                message.put(piece);
                message.freeze()
            }
            // Only clients half-close: client-go takes a server's for an unknown channel.
            What::End | What::Reset | What::Frame(_) => continue,
        };
        sink.feed(Message::Binary(message)).await.ok()?;
        if queue.is_empty() {
            sink.flush().await.ok()?;
        }
    }
    Some(sink)
}

/// A close without a code counts as an error with client-go.
async fn close(sink: &mut Sink) -> Result<(), Error> {
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    sink.send(Message::Close(Some(normal))).await?;
    sink.close().await
}

/// Takes a connection that carries SPDY inside binary messages apart: what comes out is that SPDY connection.
pub async fn tunnel(wire: Wire) -> Wire {
    let (mut sink, mut source) = socket(wire, &Room::new()).await;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut from_inside, mut to_inside) = tokio::io::split(ours);
    tokio::spawn(async move { inward(&mut source, &mut to_inside).await });
    tokio::spawn(async move {
        if outward(&mut from_inside, &mut sink).await.is_ok() {
            let _ = timeout(CLOSING, close(&mut sink)).await;
        }
    });
    Wire::new(theirs, Bytes::new())
}

async fn inward(source: &mut Source, to: &mut (impl AsyncWrite + Unpin)) {
    while let Some(message) = source.next().await {
        match message {
            Message::Binary(bytes) if to.write_all(&bytes).await.is_err() => return,
            Message::Close(_) => break,
            _ => {}
        }
    }
    let _ = to.shutdown().await;
}

async fn outward(from: &mut (impl AsyncRead + Unpin), sink: &mut Sink) -> Result<(), Error> {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        if buffer.capacity() < BUFFER / 4 {
            buffer.reserve(BUFFER);
        }
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        sink.send(Message::Binary(buffer.split().freeze())).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Budget;
    use super::*;

    /// A client's frame with a mask of zeros, which need not be whole.
    fn frame(first: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u64::try_from(bytes.len()).unwrap().to_be_bytes();
        match u8::try_from(bytes.len()) {
            Ok(short @ ..126) => [&[first, 0x80 | short][..], &[0; 4], bytes].concat(),
            _ => [&[first, 0x80 | 127][..], &length, &[0; 4], bytes].concat(),
        }
    }

    /// How many bytes of a message in fragments the client gets rid of, with a ping after each.
    async fn taken(fragment: usize) -> usize {
        let (ours, theirs) = tokio::io::duplex(4096);
        let budget = Budget::new(4 * PIECE, 0);
        let (mut sink, mut source) = socket(Wire::new(theirs, Bytes::new()), &Room::of(&budget)).await;
        tokio::spawn(async move {
            while source.next().await.is_some() {}
            let _ = sink.close().await;
        });
        let (mut read, mut write) = tokio::io::split(ours);
        tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
        let mut sent = 0;
        while sent < 20 * PIECE {
            let opcode = if sent == 0 { 2 } else { 0 };
            let both = [frame(opcode, &vec![0; fragment]), frame(0x89, b"ping")].concat();
            if write.write_all(&both).await.is_err() {
                break;
            }
            sent += fragment;
        }
        sent
    }

    #[tokio::test]
    async fn a_ping_within_a_message_makes_it_no_smaller() {
        for fragment in [100, 10_000, PIECE] {
            let taken = taken(fragment).await;
            assert!(taken < 8 * PIECE, "{taken} bytes in fragments of {fragment}");
        }
    }
}
