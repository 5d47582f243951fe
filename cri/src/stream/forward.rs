//! portforward.k8s.io: pairs of streams, `error` and `data`, each pair one TCP connection into the pod.
//!
//! What goes wrong with one connection is told on its error stream and resets its two streams; the session and all other
//! connections go on (containerd#9875, kubernetes#74551).

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backend::Backend;
use super::channel::{Channel, Event, Input, Output, PIECE};
use crate::descriptors;

/// How long a connection into the pod may take.
const DIALLING: Duration = Duration::from_secs(30);

/// How long a session without any connection lives.
const IDLE: Duration = Duration::from_secs(4 * 3600);

/// Pairs of which one stream is still missing, at most.
const HALVES_MAX: usize = 1000;

/// Forwarded connections at once; fewer where the process may have few descriptors.
const CONNECTIONS_MAX: usize = 16 << 10;

/// Serves the streams of one client until it opens no more and all its connections have ended.
pub async fn run(backend: Arc<dyn Backend>, sandbox: String, mut accept: mpsc::Receiver<Channel>) {
    let sandbox: Arc<str> = sandbox.into();
    let mut halves: HashMap<String, Channel> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = timeout(IDLE, accept.recv()) => next,
            Some(_) = running.join_next() => continue,
        };
        let channel = match next {
            Ok(Some(channel)) => channel,
            Ok(None) => break,
            Err(_) if running.is_empty() => break,
            Err(_) => continue,
        };
        match complete(&mut halves, channel) {
            Ok(Some(pair)) => {
                running.spawn(serve(backend.clone(), sandbox.clone(), pair));
            }
            Ok(None) => {}
            Err((channel, error)) => refuse(&channel.output, &error).await,
        }
    }
    while running.join_next().await.is_some() {}
}

/// One connection's streams.
struct Pair {
    port: u16,
    error: Channel,
    data: Channel,
}

/// Takes a stream; gives a pair when its other half was there.
fn complete(
    halves: &mut HashMap<String, Channel>,
    channel: Channel,
) -> Result<Option<Pair>, (Channel, String)> {
    let is_error = match channel.header("streamtype") {
        Some("error") => true,
        Some("data") => false,
        other => {
            let error = format!("stream type {other:?}: only \"error\" and \"data\" are known");
            return Err((channel, error));
        }
    };
    let port = match channel.header("port").map(|port| (port, port.parse())) {
        Some((_, Ok(port))) if port > 0 => port,
        Some((text, _)) => {
            let error = format!("port {text:?}: not a number from 1 to 65535");
            return Err((channel, error));
        }
        None => return Err((channel, "stream without a port".to_owned())),
    };
    // Old clients send no request id; they open the error stream right before its data stream.
    let key = match channel.header("requestid") {
        Some(id) => id.to_owned(),
        None if is_error => format!("#{}", channel.stream),
        None => format!("#{}", channel.stream.saturating_sub(2)),
    };
    let Some(other) = halves.remove(&key) else {
        if halves.len() >= HALVES_MAX {
            return Err((channel, format!("{HALVES_MAX} streams wait for their other half already")));
        }
        halves.insert(key, channel);
        return Ok(None);
    };
    let other_is_error = other.header("streamtype") == Some("error");
    if other_is_error == is_error {
        halves.insert(key.clone(), other);
        return Err((channel, format!("request id {key:?}: this stream is there already")));
    }
    let (error, data) = if is_error { (channel, other) } else { (other, channel) };
    Ok(Some(Pair { port, error, data }))
}

/// Connections into pods, of all sessions: each has a descriptor.
static CONNECTIONS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(descriptors::share().min(CONNECTIONS_MAX)));

async fn serve(backend: Arc<dyn Backend>, sandbox: Arc<str>, pair: Pair) {
    let Pair { port, error, data } = pair;
    let Ok(_place) = CONNECTIONS.try_acquire() else {
        let text =
            format!("connect to port {port} of pod {sandbox}: as many connections are forwarded as may be");
        refuse(&error.output, &text).await;
        let _ = data.output.reset().await;
        return;
    };
    let dialled = match timeout(DIALLING, backend.connect(&sandbox, port)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            Err(format!("connect to port {port} of pod {sandbox}: no answer in {} s", DIALLING.as_secs()))
        }
    };
    match dialled {
        Ok(socket) => {
            if relay(socket, data.input, &data.output).await == Over::Broken {
                let _ = data.output.reset().await;
            }
            let _ = error.output.end().await;
        }
        Err(text) => {
            refuse(&error.output, &text).await;
            let _ = data.output.reset().await;
        }
    }
}

/// Says on an error stream what is wrong and ends it.
async fn refuse(output: &Output, error: &str) {
    let _ = output.send(error.to_owned().into()).await;
    let _ = output.end().await;
    let _ = output.reset().await;
}

/// How a connection that stood is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Both sides said that it was all.
    Ended,
    /// The client gave its stream up, or is gone.
    GivenUp,
    /// The pod's side broke off, mostly by a reset. Only this connection's streams hear of it: client-go ends its whole session
    /// when there is as much as a word on an error stream.
    Broken,
}

/// A peer that has sent everything may still read: the connection is over when both directions are.
async fn relay(socket: TcpStream, from_client: Input, to_client: &Output) -> Over {
    let (read, write) = socket.into_split();
    let inward = inward(from_client, write);
    let outward = outward(read, to_client);
    tokio::pin!(inward, outward);
    tokio::select! {
        over = &mut outward => if over == Over::Ended { inward.await } else { over },
        over = &mut inward => if over == Over::Ended { outward.await } else { over },
    }
}

/// Once the pod doesn't take any more, what still comes is dropped: it may have an answer to what it took.
async fn inward(mut from: Input, to: OwnedWriteHalf) -> Over {
    let mut takes = Some(to);
    loop {
        match (from.next().await, &mut takes) {
            (Event::Piece(piece), Some(to)) => {
                if to.write_all(&piece).await.is_err() {
                    takes = None;
                }
            }
            (Event::Piece(_), None) => {}
            (Event::End, Some(to)) => {
                let _ = to.shutdown().await; // it may be gone: its side says so
                return Over::Ended;
            }
            (Event::End, None) => return Over::Ended,
            (Event::Reset, _) => return Over::GivenUp,
        }
    }
}

async fn outward(from: OwnedReadHalf, to: &Output) -> Over {
    loop {
        // A buffer is there while bytes flow only: an idle connection has none.
        let mut piece = BytesMut::new();
        let read = match from.readable().await {
            Ok(()) => {
                piece.reserve(PIECE);
                from.try_read_buf(&mut piece)
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::debug!(%error, "read from a forwarded port");
                return Over::Broken;
            }
        }
        if to.send(piece.freeze()).await.is_err() {
            return Over::GivenUp;
        }
    }
    let _ = to.end().await;
    Over::Ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(stream: u32, headers: &[(&str, &str)]) -> Channel {
        let (out, _) = mpsc::channel(1);
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Channel::new(stream, headers, out, &super::super::channel::Room::new()).0
    }

    #[test]
    fn streams_are_paired_by_request_id_and_without_one_by_number() {
        let mut halves = HashMap::new();
        for (first, second) in [
            (
                channel(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
                channel(7, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            ),
            (
                channel(9, &[("streamtype", "error"), ("port", "80")]),
                channel(11, &[("streamtype", "data"), ("port", "80")]),
            ),
            (
                channel(15, &[("streamtype", "data"), ("port", "80"), ("requestid", "x")]),
                channel(13, &[("streamtype", "error"), ("port", "80"), ("requestid", "x")]),
            ),
        ] {
            assert!(matches!(complete(&mut halves, first), Ok(None)));
            let pair = complete(&mut halves, second).ok().flatten().expect("a pair");
            assert_eq!(pair.port, 80);
            assert_eq!(pair.error.header("streamtype"), Some("error"));
            assert_eq!(pair.data.header("streamtype"), Some("data"));
        }
        assert!(halves.is_empty());
    }

    #[test]
    fn bad_streams_are_told_what_is_wrong() {
        let mut halves = HashMap::new();
        for (headers, expected) in [
            (
                &[("streamtype", "stdin")][..],
                "stream type Some(\"stdin\"): only \"error\" and \"data\" are known",
            ),
            (&[("streamtype", "data")], "stream without a port"),
            (&[("streamtype", "data"), ("port", "0")], "port \"0\": not a number from 1 to 65535"),
            (&[("streamtype", "data"), ("port", "65536")], "port \"65536\": not a number from 1 to 65535"),
        ] {
            let Err((_, error)) = complete(&mut halves, channel(1, headers)) else { panic!("{headers:?}") };
            assert_eq!(error, expected);
        }
    }
}
