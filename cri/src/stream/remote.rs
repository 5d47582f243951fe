//! remotecommand: exec and attach between a client's channels and a process's streams, in the versions 1 to 5 of the protocol.
//!
//! Knows channels, not transports. Source: k8s.io/client-go and k8s.io/apimachinery's `remotecommand` constants.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::backend::{Process, Session, Size, Streams};
use super::channel::{Channel, Event, Input, Output, piece};
use super::room::PIECE;
use crate::error::{Error, Kind, Result};

/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

/// How the end of the process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Errors as text, success as silence: `channel.k8s.io` and v2, v3.
    Text,
    /// A `metav1.Status` as JSON: v4, v5.
    Status,
}

/// A client's side of a session.
pub struct Client {
    /// How the end is told, and where.
    pub error: Output,
    /// To the process.
    pub stdin: Option<Input>,
    /// From the process.
    pub stdout: Option<Output>,
    /// From the process.
    pub stderr: Option<Output>,
    /// Sizes of the terminal, as JSON.
    pub resize: Option<Input>,
}

/// Collects the streams that a SPDY client opens; they come in any order.
pub async fn gather(
    accept: &mut mpsc::Receiver<Channel>,
    wanted: Streams,
    version: Version,
) -> Result<Client> {
    let gathered = timeout(OPENING, collect(accept, wanted, version)).await;
    gathered.unwrap_or_else(|_| {
        Err(Error::new(Kind::Timeout, "wait for the client to open its streams: 30 s are over"))
    })
}

async fn collect(accept: &mut mpsc::Receiver<Channel>, wanted: Streams, version: Version) -> Result<Client> {
    let (mut error, mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None, None);
    // Versions 1 to 3 of the protocol may come without a resize stream.
    let mut missing = 1 + usize::from(wanted.stdin) + usize::from(wanted.stdout) + usize::from(wanted.stderr);
    missing += usize::from(wanted.tty && version == Version::Status);
    while missing > 0 {
        let Some(channel) = accept.recv().await else {
            return Err(Error::new(
                Kind::Invalid,
                "wait for the client to open its streams: it closed the connection",
            ));
        };
        let kind = channel.header("streamtype").unwrap_or("none").to_owned();
        let known = match kind.as_str() {
            "error" => error.replace(channel.output).is_none(),
            "stdin" => stdin.replace(channel.input).is_none(),
            "stdout" => stdout.replace(channel.output).is_none(),
            "stderr" => stderr.replace(channel.output).is_none(),
            "resize" => resize.replace(channel.input).is_none(),
            _ => false,
        };
        if !known {
            return Err(Error::new(
                Kind::Invalid,
                format!("open a stream of type {kind:?}: unknown or there already"),
            ));
        }
        missing -= 1;
    }
    match error {
        Some(error) => Ok(Client { error, stdin, stdout, stderr, resize }),
        None => Err(Error::new(Kind::Invalid, "wait for the client to open its streams: no error stream")),
    }
}

/// Connects a client with a process until the process's output has ended and its exit code is known.
pub async fn run(mut client: Client, started: Result<Session>, version: Version) {
    let end = match started {
        Ok(session) => connect(&mut client, session).await,
        Err(error) => Err(error),
    };
    for output in [&client.stdout, &client.stderr].into_iter().flatten() {
        let _ = output.end().await; // a client that is gone needs no end
    }
    if let Some(text) = tell(version, end) {
        let _ = client.error.send(text).await;
    }
    let _ = client.error.end().await;
}

async fn connect(client: &mut Client, session: Session) -> Result<Option<i32>> {
    let Session { stdin, stdout, stderr, process } = session;
    let inputs = async {
        let typed = feed(client.stdin.take(), stdin);
        let sizes = resize(client.resize.take(), process.as_ref());
        tokio::join!(typed, sizes);
        std::future::pending::<()>().await;
    };
    let outputs = async {
        tokio::join!(copy(stdout, client.stdout.as_ref()), copy(stderr, client.stderr.as_ref()));
        process.wait().await
    };
    tokio::select! {
        end = outputs => end,
        () = inputs => Ok(None), // never: inputs don't end a session
    }
}

/// From the client to the process, up to the client's end of it.
async fn feed(from: Option<Input>, to: Option<UnixStream>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Event::Piece(piece) = from.next().await {
        if to.write_all(&piece).await.is_err() {
            break; // the process doesn't want it: what follows is dropped below
        }
    }
    let _ = to.shutdown().await;
    drop(to);
    while let Event::Piece(_) = from.next().await {}
}

/// From the process to the client. Without a client the process's output is read and dropped: it must not stand still.
async fn copy(from: Option<UnixStream>, to: Option<&Output>) {
    let Some(from) = from else { return };
    let mut present = to;
    loop {
        // A buffer is there while bytes flow only: an idle session has none.
        if from.readable().await.is_err() {
            return;
        }
        let turn = match present {
            Some(to) => to.turn(PIECE).await.ok(),
            None => None,
        };
        if turn.is_none() {
            present = None;
        }
        let mut read = BytesMut::with_capacity(PIECE);
        match from.try_read_buf(&mut read) {
            Ok(0) => return,
            Ok(_) => turn.into_iter().for_each(|turn| turn.send(piece(std::mem::take(&mut read)))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    width: u16,
    height: u16,
}

/// Sizes as they come: a sequence of JSON objects, cut anywhere.
async fn resize(from: Option<Input>, process: &dyn Process) {
    let Some(mut from) = from else { return };
    let mut text = Vec::new();
    while let Event::Piece(piece) = from.next().await {
        text.extend_from_slice(&piece);
        let mut asked = serde_json::Deserializer::from_slice(&text).into_iter::<Asked>();
        let mut newest = None;
        while let Some(Ok(size)) = asked.next() {
            newest = Some(size);
        }
        let used = asked.byte_offset();
        text.drain(..used);
        if text.len() > 1024 {
            return; // this is no size
        }
        if let Some(Asked { width, height }) = newest
            && let Err(error) = process.resize(Size { width, height }).await
        {
            tracing::debug!(%error, "resize a terminal");
        }
    }
}

/// What the error stream says at the end.
fn tell(version: Version, end: Result<Option<i32>>) -> Option<Bytes> {
    let status = match (version, end) {
        (Version::Text, Ok(None | Some(0))) => return None,
        (Version::Text, Ok(Some(code))) => return Some(exited(code).into()),
        (Version::Text, Err(error)) => return Some(error.to_string().into()),
        (Version::Status, Ok(None | Some(0))) => Status { status: "Success", ..Status::default() },
        (Version::Status, Ok(Some(code))) => Status {
            status: "Failure",
            reason: "NonZeroExitCode",
            message: exited(code),
            details: Some(Details { causes: vec![Cause { reason: "ExitCode", message: code.to_string() }] }),
            code: 0,
        },
        (Version::Status, Err(error)) => Status {
            status: "Failure",
            reason: "InternalError",
            message: error.to_string(),
            details: None,
            code: 500,
        },
    };
    serde_json::to_vec(&status).ok().map(Bytes::from)
}

fn exited(code: i32) -> String {
    format!("command terminated with non-zero exit code: exit status {code}")
}

#[derive(Serialize, Default)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: u16,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

#[derive(Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: Version, end: Result<Option<i32>>) -> String {
        tell(version, end).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    #[test]
    fn the_end_is_told_as_each_version_wants_it() {
        assert_eq!(told(Version::Text, Ok(Some(0))), "");
        assert_eq!(
            told(Version::Text, Ok(Some(7))),
            "command terminated with non-zero exit code: exit status 7"
        );
        assert_eq!(told(Version::Status, Ok(Some(0))), r#"{"status":"Success"}"#);
        assert_eq!(told(Version::Status, Ok(None)), r#"{"status":"Success"}"#);
        assert_eq!(
            told(Version::Status, Ok(Some(7))),
            r#"{"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with non-zero exit code: exit status 7","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#
        );
        assert_eq!(
            told(Version::Status, Err(Error::new(Kind::NotFound, "find container x"))),
            r#"{"status":"Failure","reason":"InternalError","message":"find container x","code":500}"#
        );
    }
}
