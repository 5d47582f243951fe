//! portforward.k8s.io: pairs of streams, `error` and `data`, each pair one TCP connection into the pod.
//!
//! What goes wrong with one connection is told on its error stream and resets its two streams; the session and all other
//! connections go on (containerd#9875, kubernetes#74551).

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
use super::channel::{Channel, Event, Input, Output, piece};
use super::halves::{Halves, Pair, WAITING};
use super::room::PIECE;
use crate::descriptors;

/// How long a connection into the pod may take.
const DIALLING: Duration = Duration::from_secs(30);

/// How long a session without any connection lives.
const IDLE: Duration = Duration::from_secs(4 * 3600);

/// Forwarded connections at once; fewer where the process may have few descriptors.
const CONNECTIONS_MAX: usize = 16 << 10;

/// Serves the streams of one client until it opens no more and all its connections have ended.
pub async fn run(backend: Arc<dyn Backend>, sandbox: String, mut accept: mpsc::Receiver<Channel>) {
    let sandbox: Arc<str> = sandbox.into();
    let mut halves = Halves::new(WAITING);
    let mut running = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = timeout(IDLE, accept.recv()) => next,
            Some(_) = running.join_next() => continue,
            half = halves.overdue() => {
                // Without a word, as the kubelet's server does: one on an error stream would end client-go's whole session.
                let _ = half.output.reset().await;
                continue;
            }
        };
        let channel = match next {
            Ok(Some(channel)) => channel,
            Ok(None) => break,
            Err(_) if running.is_empty() => break,
            Err(_) => continue,
        };
        match halves.complete(channel) {
            Ok(Some(pair)) => {
                running.spawn(serve(backend.clone(), sandbox.clone(), pair));
            }
            Ok(None) => {}
            Err(refused) => refuse(&refused.0.output, &refused.1).await,
        }
    }
    while running.join_next().await.is_some() {}
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
        // Room and a buffer are there while bytes flow only: an idle connection has none.
        let ready = from.readable().await;
        let Ok(turn) = to.turn(PIECE).await else { return Over::GivenUp };
        let mut read = BytesMut::with_capacity(PIECE);
        match ready.and_then(|()| from.try_read_buf(&mut read)) {
            Ok(0) => break,
            Ok(_) => turn.send(piece(read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(%error, "read from a forwarded port");
                return Over::Broken;
            }
        }
    }
    let _ = to.end().await;
    Over::Ended
}
