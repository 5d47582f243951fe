//! Doors for fuzzing: what a client sends on a streaming connection, whole, against the server's side of it with a process that echoes.
//!
//! Whatever comes in, what goes out must be well formed: that is asserted here. In no build that is shipped.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::backend::{Backend, Exec, Process, Session, Size, Streams};
use super::spdy::frame::{HEAD, Head, data_head};
use super::spdy::{self, headers};
use super::wire::Wire;
use super::{forward, remote, websocket};
use crate::error::{Error, Kind, Result};

/// Until a conversation has ended, whatever the machine does beside.
const PATIENCE: Duration = Duration::from_secs(60);

/// Turns of the server before the client closes.
const TURNS: usize = 200;

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: true };

/// The protocol of a connection after its upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// exec and attach over SPDY.
    ExecSpdy,
    /// port-forward over SPDY.
    ForwardSpdy,
    /// exec and attach over WebSocket.
    ExecWebSocket,
    /// port-forward, which is SPDY inside WebSocket.
    ForwardWebSocket,
}

impl Protocol {
    /// A conversation as a client means it.
    pub fn session(self) -> Vec<u8> {
        match self {
            Self::ExecSpdy => exec_session(),
            Self::ForwardSpdy => forward_session(),
            Self::ExecWebSocket => messages(),
            Self::ForwardWebSocket => message(2, &forward_session()),
        }
    }
}

/// Sends `input`, reads until the server has closed, and gives the answer, which is well formed.
pub fn serve(protocol: Protocol, input: &[u8]) -> Vec<u8> {
    match protocol {
        Protocol::ExecSpdy => well_formed(converse(input, exec_over_spdy), input),
        Protocol::ForwardSpdy => well_formed(converse(input, forward_over_spdy), input),
        Protocol::ExecWebSocket => understood(converse(input, exec_over_websocket), input),
        Protocol::ForwardWebSocket => understood(converse(input, forward_over_websocket), input),
    }
}

/// A process that gives back what it gets; ports at which nobody listens.
struct Echo;

impl Process for Echo {
    fn resize(&self, _: Size) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn wait(&self) -> BoxFuture<'_, Result<Option<i32>>> {
        async { Ok(Some(7)) }.boxed()
    }
}

fn echo() -> Result<Session> {
    let (stdin, typed) = UnixStream::pair().expect("a pair");
    let (stdout, printed) = UnixStream::pair().expect("a pair");
    tokio::spawn(async move {
        let (mut typed, mut printed) = (typed, printed);
        tokio::io::copy(&mut typed, &mut printed).await
    });
    Ok(Session { stdin: Some(stdin), stdout: Some(stdout), stderr: None, process: Box::new(Echo) })
}

impl Backend for Echo {
    fn exec<'a>(&'a self, _: &'a Exec) -> BoxFuture<'a, Result<Session>> {
        async { echo() }.boxed()
    }

    fn attach<'a>(&'a self, _: &'a str, _: Streams) -> BoxFuture<'a, Result<Session>> {
        async { echo() }.boxed()
    }

    fn connect<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream>> {
        async move { Err(Error::new(Kind::Unavailable, format!("nobody listens on {port}"))) }.boxed()
    }
}

/// Sends `input` and gives what came back until the server had closed.
fn converse<Served>(input: &[u8], serve: impl FnOnce(Wire) -> Served) -> Vec<u8>
where
    Served: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let talked = runtime.block_on(async {
        let (ours, theirs) = duplex(4096);
        tokio::spawn(serve(Wire::new(theirs, Bytes::new())));
        timeout(PATIENCE, talk(ours, input)).await
    });
    talked.unwrap_or_else(|_| panic!("no end after {PATIENCE:?}: {input:02x?}"))
}

async fn talk(ours: DuplexStream, input: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(ours);
    let sent = async {
        let _ = write.write_all(input).await; // it may have had enough
        // A client that reads answers before it goes.
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let mut answer = Vec::new();
    let (_, read) = tokio::join!(sent, read.read_to_end(&mut answer));
    read.expect("a stream in memory");
    answer
}

/// A control frame of SPDY/3.1.
fn control(kind: u16, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend(((u32::from(flags) << 24) | length as u32).to_be_bytes());
    frame.extend(parts.concat());
    frame
}

fn opened(stream: u32, block: &[u8]) -> Vec<u8> {
    control(1, 0, &[&stream.to_be_bytes(), &[0; 6], block])
}

fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    [&data_head(stream, bytes.len(), last), bytes].concat()
}

/// A whole exec with a terminal.
fn exec_session() -> Vec<u8> {
    let mut deflate = headers::Writer::new();
    let mut input = Vec::new();
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        input.extend(opened(stream, &deflate.block(&[("streamtype", kind)])));
    }
    input.extend(data(7, br#"{"Width":80,"Height":24}"#, false));
    input.extend(control(6, 0, &[&1_u32.to_be_bytes()])); // a ping
    input.extend(data(3, b"typed\n", true));
    input.extend(control(3, 0, &[&7_u32.to_be_bytes(), &5_u32.to_be_bytes()])); // a reset
    input
}

/// Two connections of a port-forward.
fn forward_session() -> Vec<u8> {
    let mut deflate = headers::Writer::new();
    let mut input = Vec::new();
    for (stream, kind, id) in [(1, "error", "0"), (3, "data", "0"), (5, "error", "1"), (7, "data", "1")] {
        let block = deflate.block(&[("streamtype", kind), ("port", "8080"), ("requestid", id)]);
        input.extend(opened(stream, &block));
    }
    input.extend(data(3, b"asked", true));
    input.extend(control(7, 0, &[&0_u32.to_be_bytes(), &0_u32.to_be_bytes()])); // the end
    input
}

/// What came back must be whole frames of SPDY, the last of which may be cut.
fn well_formed(all: Vec<u8>, input: &[u8]) -> Vec<u8> {
    let mut answer = all.as_slice();
    while let Some((head, rest)) = answer.split_first_chunk::<HEAD>() {
        let length = match Head::parse(*head) {
            Ok(Head::Data { length, .. } | Head::Control { length, .. }) => length,
            Err(error) => panic!("{error} in the answer to {input:02x?}"),
        };
        answer = rest.get(length..).unwrap_or_default();
    }
    all
}

async fn exec_over_spdy(wire: Wire) {
    spdy::serve(wire, |mut accept| async move {
        if let Ok(client) = remote::gather(&mut accept, ALL, remote::Version::Status).await {
            remote::run(client, echo(), remote::Version::Status).await;
        }
    })
    .await;
}

async fn forward_over_spdy(wire: Wire) {
    spdy::serve(wire, |accept| forward::run(Arc::new(Echo), "pod".to_owned(), accept)).await;
}

/// A client's message: they are masked (RFC 6455, section 5.2).
fn message(code: u8, bytes: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![0x80 | code];
    match bytes.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(bytes.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn messages() -> Vec<u8> {
    let resize = [&[4][..], br#"{"Width":80,"Height":24}"#].concat();
    let all: [(u8, &[u8]); 5] =
        [(2, &resize), (9, b"ping"), (2, b"\0typed\n"), (1, b"\0text"), (2, &[255, 0])];
    all.iter()
        .flat_map(|(code, bytes)| message(*code, bytes))
        .chain(message(8, &1000_u16.to_be_bytes()))
        .collect()
}

/// A client of the library must understand all that came back.
fn understood(answer: Vec<u8>, input: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (mut ours, theirs) = duplex(answer.len() + 4096);
        ours.write_all(&answer).await.expect("room");
        let _ = ours.shutdown().await;
        let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        while let Some(next) = socket.next().await {
            match next {
                Ok(Message::Binary(_) | Message::Pong(_) | Message::Close(_)) => {}
                Ok(other) => panic!("{other:?} in the answer to {input:02x?}"),
                // The server may go without a word, but what it says is right.
                Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed | SocketError::Io(_)) => {
                    return;
                }
                Err(SocketError::Protocol(error)) if error.to_string().contains("closing handshake") => {
                    return;
                }
                Err(error) => panic!("{error} in the answer to {input:02x?}"),
            }
        }
    });
    answer
}

async fn exec_over_websocket(wire: Wire) {
    websocket::remote(wire, ALL, websocket::Version::V5, |client| async move {
        remote::run(client, echo(), remote::Version::Status).await;
    })
    .await;
}

async fn forward_over_websocket(wire: Wire) {
    forward_over_spdy(websocket::tunnel(wire).await).await;
}
