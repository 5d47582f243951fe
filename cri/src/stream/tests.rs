//! The streaming server with clients on real sockets; processes are played by tasks that hold the other end of the streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::backend::{Backend, Exec, Process, Session, Size, Streams};
use super::spdy::frame::{HEAD, Head, data_head};
use super::spdy::headers;
use super::{Config, Server};
use crate::error::{Error, Kind, Result};

const LIMIT: Duration = Duration::from_secs(20);

/// `echo CODE`: gives stdin back and exits with the code. `flood BYTES`: prints that many.
struct Fake {
    sizes: watch::Sender<Option<Size>>,
    /// Held by each deaf process.
    here: Arc<()>,
}

struct Playing {
    code: Option<i32>,
    sizes: watch::Sender<Option<Size>>,
}

impl Process for Playing {
    fn resize(&self, size: Size) -> BoxFuture<'_, Result<()>> {
        self.sizes.send_replace(Some(size));
        async { Ok(()) }.boxed()
    }

    fn wait(&self) -> BoxFuture<'_, Result<Option<i32>>> {
        async { Ok(self.code) }.boxed()
    }
}

impl Backend for Fake {
    fn exec<'a>(&'a self, exec: &'a Exec) -> BoxFuture<'a, Result<Session>> {
        async move {
            let number: usize = exec.command[1].parse().expect("a number");
            let (stdin, mut typed) = UnixStream::pair().expect("a pair");
            let (stdout, mut printed) = UnixStream::pair().expect("a pair");
            let code = match exec.command[0].as_str() {
                "echo" => {
                    tokio::spawn(async move { tokio::io::copy(&mut typed, &mut printed).await });
                    number as i32
                }
                // Reads nothing and never ends, as long as its session is there.
                "deaf" => {
                    let here = self.here.clone();
                    tokio::spawn(async move {
                        let _here = here;
                        let _ = printed.read(&mut [0]).await; // the end of the session
                        drop(typed);
                    });
                    0
                }
                "flood" => {
                    tokio::spawn(async move { printed.write_all(&vec![b'x'; number]).await });
                    0
                }
                other => return Err(Error::new(Kind::NotFound, format!("find program {other}"))),
            };
            let process = Box::new(Playing { code: Some(code), sizes: self.sizes.clone() });
            Ok(Session {
                stdin: exec.streams.stdin.then_some(stdin),
                stdout: Some(stdout),
                stderr: None,
                process,
            })
        }
        .boxed()
    }

    fn attach<'a>(&'a self, container: &'a str, _: Streams) -> BoxFuture<'a, Result<Session>> {
        async move { Err(Error::new(Kind::NotFound, format!("find container {container}"))) }.boxed()
    }

    fn connect<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream>> {
        async move {
            let socket = TcpStream::connect(("127.0.0.1", port)).await;
            socket.map_err(|error| Error::new(Kind::Unavailable, format!("connect to port {port}: {error}")))
        }
        .boxed()
    }
}

async fn server() -> (Arc<Server>, watch::Receiver<Option<Size>>) {
    let (sizes, seen) = watch::channel(None);
    let fake = Fake { sizes, here: Arc::default() };
    (Server::start(&Config::default(), Arc::new(fake)).await.expect("a server"), seen)
}

fn exec(command: &[&str], tty: bool) -> Exec {
    Exec {
        container: "c".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        streams: Streams { stdin: true, stdout: true, stderr: false, tty },
    }
}

/// A SPDY client: opens streams, sends, collects.
struct Client {
    socket: TcpStream,
    deflate: headers::Writer,
    newest: u32,
}

impl Client {
    async fn upgrade(url: &str, protocol: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("http");
        let (host, path) = rest.split_once('/').expect("a path");
        let mut socket = TcpStream::connect(host).await.expect("a connection");
        let head = format!(
            "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.expect("a head"));
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self { socket, deflate: headers::Writer::new(), newest: 0 }
    }

    async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = if self.newest == 0 { 1 } else { self.newest + 2 };
        self.newest = stream;
        let block = self.deflate.block(headers);
        let mut frame = vec![0x80, 3, 0, 1];
        frame.extend_from_slice(&(10 + block.len() as u32).to_be_bytes());
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&block);
        self.socket.write_all(&frame).await.expect("written");
        stream
    }

    async fn send(&mut self, stream: u32, bytes: &[u8], last: bool) {
        self.socket.write_all(&data_head(stream, bytes.len(), last)).await.expect("written");
        self.socket.write_all(bytes).await.expect("written");
    }

    /// Everything up to `until` frames of type `kind` (GOAWAY is 7, RST_STREAM is 3): what came for each stream.
    async fn collect(&mut self, kind: u16, until: usize) -> std::collections::BTreeMap<u32, Vec<u8>> {
        let mut came = std::collections::BTreeMap::<u32, Vec<u8>>::new();
        let mut seen = 0;
        while seen < until {
            let mut head = [0; HEAD];
            timeout(LIMIT, self.socket.read_exact(&mut head)).await.expect("in time").expect("a frame");
            let (stream, length) = match Head::parse(head).expect("a head") {
                Head::Data { stream, length, .. } => (Some(stream), length),
                Head::Control { kind: this, length, .. } => {
                    seen += usize::from(this == kind);
                    (None, length)
                }
            };
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body).await.expect("a body");
            if let Some(stream) = stream {
                came.entry(stream).or_default().extend_from_slice(&body);
            }
        }
        came
    }
}

const GOAWAY: u16 = 7;
const RESET: u16 = 3;
const REPLY: u16 = 2;

#[tokio::test]
async fn spdy_exec_carries_both_directions_and_the_exit_code() {
    let (server, _) = server().await;
    let url = server.exec(exec(&["echo", "7"], false)).expect("a URL");
    let mut client = Client::upgrade(&url, "v4.channel.k8s.io").await;
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    client.send(stdin, b"hello ", false).await;
    client.send(stdin, b"there", true).await;
    let came = client.collect(GOAWAY, 1).await;
    assert_eq!(came[&stdout], b"hello there");
    let status: serde_json::Value = serde_json::from_slice(&came[&error]).expect("a status");
    assert_eq!(status["details"]["causes"][0]["message"], "7");
}

#[tokio::test]
async fn spdy_exec_delivers_all_of_a_large_output_to_a_slow_reader() {
    let (server, _) = server().await;
    let url = server.exec(exec(&["flood", "8000000"], false)).expect("a URL");
    let mut client = Client::upgrade(&url, "v4.channel.k8s.io").await;
    for kind in ["error", "stdin"] {
        client.open(&[("streamtype", kind)]).await;
    }
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    let came = client.collect(GOAWAY, 1).await;
    assert_eq!(came[&stdout].len(), 8_000_000);
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let (server, mut seen) = server().await;
    let url = server.exec(exec(&["echo", "0"], true)).expect("a URL");
    let mut client = Client::upgrade(&url, "v4.channel.k8s.io").await;
    for kind in ["error", "stdout", "stdin"] {
        client.open(&[("streamtype", kind)]).await;
    }
    let resize = client.open(&[("streamtype", "resize")]).await;
    client.send(resize, b"{\"Width\":80,\"Hei", false).await;
    client.send(resize, b"ght\":24}\n", false).await;
    timeout(LIMIT, seen.wait_for(Option::is_some)).await.expect("in time").expect("a size");
    assert_eq!(*seen.borrow(), Some(Size { width: 80, height: 24 }));
}

#[tokio::test]
async fn a_url_is_good_once() {
    let (server, _) = server().await;
    let url = server.exec(exec(&["echo", "0"], false)).expect("a URL");
    let (host, path) = url.strip_prefix("http://").expect("http").split_once('/').expect("a path");
    for expected in ["HTTP/1.1 400", "HTTP/1.1 404"] {
        let mut socket = TcpStream::connect(host).await.expect("a connection");
        let head = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("written");
        let mut answer = String::new();
        timeout(LIMIT, socket.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_forwarded_port_that_resets_is_over_without_a_word_and_the_session_goes_on() {
    let (server, _) = server().await;
    let resets = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = resets.local_addr().expect("an address").port().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = resets.accept().await {
            let _ = socket.read_u8().await;
            drop(socket); // with a byte unread: a reset
        }
    });
    let url = server.forward("pod".to_owned()).expect("a URL");
    let mut client = Client::upgrade(&url, "portforward.k8s.io").await;
    for request in ["0", "1"] {
        let error = client.open(&[("streamtype", "error"), ("port", &port), ("requestid", request)]).await;
        let data = client.open(&[("streamtype", "data"), ("port", &port), ("requestid", request)]).await;
        client.send(data, b"two bytes and more", false).await;
        let came = client.collect(RESET, 1).await;
        assert!(
            came.get(&error).is_none_or(Vec::is_empty),
            "client-go ends its session for a word: {came:?}"
        );
    }
}

#[tokio::test]
async fn a_forwarded_port_that_refuses_leaves_the_others_alone() {
    let (server, _) = server().await;
    let echo = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = echo.local_addr().expect("an address").port().to_string();
    tokio::spawn(async move {
        let (mut socket, _) = echo.accept().await.expect("a connection");
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let nobody = closed.local_addr().expect("an address").port().to_string();
    drop(closed);

    let url = server.forward("pod".to_owned()).expect("a URL");
    let mut client = Client::upgrade(&url, "portforward.k8s.io").await;
    let refused = client.open(&[("streamtype", "error"), ("port", &nobody), ("requestid", "0")]).await;
    client.open(&[("streamtype", "data"), ("port", &nobody), ("requestid", "0")]).await;
    let came = client.collect(RESET, 2).await;
    assert!(String::from_utf8_lossy(&came[&refused]).contains("connect to port"), "{came:?}");

    client.open(&[("streamtype", "error"), ("port", &port), ("requestid", "1")]).await;
    let data = client.open(&[("streamtype", "data"), ("port", &port), ("requestid", "1")]).await;
    client.send(data, b"ping", true).await;
    client.collect(2, 2).await; // the replies to both streams
    let mut head = [0; HEAD];
    timeout(LIMIT, client.socket.read_exact(&mut head)).await.expect("in time").expect("a frame");
    assert_eq!(Head::parse(head), Ok(Head::Data { stream: data, fin: false, length: 4 }));
}

/// Deflate makes 160 bytes of each: a few kilobytes would hold a hundred megabytes here.
#[tokio::test]
async fn a_stream_with_a_long_request_id_is_refused_and_the_session_goes_on() {
    let (server, _) = server().await;
    let url = server.forward("pod".to_owned()).expect("a URL");
    let mut client = Client::upgrade(&url, "portforward.k8s.io").await;
    for number in 0..100 {
        let id = format!("{number}{}", "a".repeat(60_000));
        client.open(&[("streamtype", "error"), ("port", "80"), ("requestid", &id)]).await;
    }
    client.collect(RESET, 100).await;
    client.open(&[("streamtype", "error"), ("port", "80"), ("requestid", &"a".repeat(128))]).await;
    client.collect(REPLY, 1).await;
}

#[tokio::test]
async fn websocket_exec_half_closes_stdin_in_version_5() {
    let (server, _) = server().await;
    let url = server.exec(exec(&["echo", "3"], false)).expect("a URL");
    let (host, _) = url.strip_prefix("http://").expect("http").split_once('/').expect("a path");
    let mut request = url.replace("http://", "ws://").into_client_request().expect("a request");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", http::HeaderValue::from_static("v5.channel.k8s.io"));
    let socket = TcpStream::connect(host).await.expect("a connection");
    let (mut socket, answer) = tokio_tungstenite::client_async(request, socket).await.expect("an upgrade");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    socket.send(Message::Binary(Bytes::from_static(b"\x00hello"))).await.expect("sent");
    socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.expect("sent");
    let (mut stdout, mut error, mut code) = (Vec::new(), Vec::new(), None);
    while let Some(Ok(message)) = timeout(LIMIT, socket.next()).await.expect("in time") {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(frame) => {
                code = frame.map(|frame| u16::from(frame.code));
                break;
            }
            other => panic!("{other:?}"),
        };
        match bytes[0] {
            1 => stdout.extend_from_slice(&bytes[1..]),
            3 => error.extend_from_slice(&bytes[1..]),
            other => panic!("channel {other}"), // client-go knows no more
        }
    }
    assert_eq!(code, Some(1000), "any other end is an error to client-go");
    assert_eq!(stdout, b"hello");
    let status: serde_json::Value = serde_json::from_slice(&error).expect("a status");
    assert_eq!(status["reason"], "NonZeroExitCode");
}

#[tokio::test]
async fn random_bytes_after_the_upgrade_end_the_connection_and_nothing_else() {
    let (server, _) = server().await;
    let mut seed = 7_u64;
    for _ in 0..50 {
        let url = server.forward("pod".to_owned()).expect("a URL");
        let mut client = Client::upgrade(&url, "portforward.k8s.io").await;
        let bytes: Vec<u8> = (0..512)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            })
            .collect();
        let _ = client.socket.write_all(&bytes).await;
        let _ = client.socket.shutdown().await;
        let mut rest = Vec::new();
        let _ = timeout(LIMIT, client.socket.read_to_end(&mut rest)).await.expect("in time");
    }
    let url = server.exec(exec(&["echo", "0"], false)).expect("a URL");
    Client::upgrade(&url, "v4.channel.k8s.io").await;
}

/// Whether the server has closed a connection on which it has said nothing.
fn is_closed(socket: &TcpStream) -> bool {
    let mut byte = [0];
    !matches!(socket.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn half_open_connections_are_bounded_and_hold_nobody_up() {
    let (server, _) = server().await;
    let url = server.exec(exec(&["echo", "0"], false)).expect("a URL");
    let (first, late) = (Client::upgrade(&url, "v4.channel.k8s.io").await, server.address());
    let most = super::server::most_connections();
    let mut silent = Vec::new();
    for _ in 0..most + 20 {
        silent.push(TcpStream::connect(late).await.expect("a connection"));
    }
    // One that has a session among them stays; the oldest of the others make room.
    let closed = async {
        while silent.iter().filter(|socket| is_closed(socket)).count() < 21 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, closed).await.expect("the oldest are closed");
    assert!(!is_closed(&first.socket), "a session is ended for a silent client");
    let url = server.exec(exec(&["echo", "0"], false)).expect("a URL");
    Client::upgrade(&url, "v4.channel.k8s.io").await;
    assert!(silent.iter().any(|socket| !is_closed(socket)));
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (server, _) = server().await;
    let mut socket = TcpStream::connect(server.address()).await.expect("a connection");
    let sent = async {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await?;
        for number in 0..1_000_000 {
            socket.write_all(format!("X-{number}: {}\r\n", "y".repeat(1000)).as_bytes()).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    timeout(LIMIT, sent).await.expect("in time").expect_err("a gigabyte of headers");
}

/// A client opens many streams, whose ends nobody reads, and fills all of them.
#[tokio::test]
async fn what_nobody_reads_of_many_streams_is_no_more_than_of_one() {
    use super::channel::Event;
    use super::room::{PIECE, QUEUE, Room};
    let room = Room::new();
    let mut streams: Vec<_> = (0..100).map(|_| super::channel::Input::new(&room)).collect();
    let piece = || Event::Piece(Bytes::from(vec![b'x'; PIECE]));
    let mut taken = 0;
    for _ in 0..QUEUE {
        for (_, feed) in &streams {
            taken += usize::from(feed.send(piece()).now_or_never().is_some());
        }
    }
    assert_eq!(taken, QUEUE, "pieces that wait");
    // Reading one, when it is done with, makes room for one, and a stream that is given up for all of its own.
    assert_eq!(streams[0].0.next().await, piece());
    assert!(streams[1].1.send(piece()).now_or_never().is_none());
    assert!(streams[0].0.next().now_or_never().is_none());
    let (last, _) = streams.split_last().expect("streams");
    last.1.send(piece()).now_or_never().expect("room").expect("it is read");
    assert!(last.1.send(piece()).now_or_never().is_none());
    streams.truncate(1);
    assert!(streams[0].1.send(piece()).now_or_never().is_some());
}

#[test]
fn a_byte_of_a_large_frame_is_kept_in_a_byte() {
    let mut read = bytes::BytesMut::with_capacity(64 << 10);
    read.extend_from_slice(b"x");
    let kept = super::channel::piece(read);
    assert!(kept.try_into_mut().expect("the only one").capacity() < 1024);
}

/// What it typed is more than its process takes: the end of its connection comes behind that, where nobody reads.
#[tokio::test]
async fn a_client_that_has_gone_is_missed_though_nobody_reads_what_it_typed() {
    let (sizes, _seen) = watch::channel(None);
    let fake = Fake { sizes, here: Arc::default() };
    let here = Arc::downgrade(&fake.here);
    let server = Server::start(&Config::default(), Arc::new(fake)).await.expect("a server");
    let url = server.exec(exec(&["deaf", "0"], false)).expect("a URL");
    let mut client = Client::upgrade(&url, "v4.channel.k8s.io").await;
    client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    client.open(&[("streamtype", "stdout")]).await;
    client.collect(REPLY, 3).await;
    // What the session's queue and the process's socket don't hold stays in the connection, until that is full too.
    while timeout(Duration::from_secs(1), client.send(stdin, &[b'x'; 60_000], false)).await.is_ok() {}
    let runs = || here.strong_count() > 1;
    assert!(runs());
    // As that of a client that is killed before it has read all.
    rustix::net::sockopt::set_socket_linger(&client.socket, Some(Duration::ZERO)).expect("an option");
    drop(client);
    let gone = async {
        while runs() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, gone).await.expect("its session ends");
}
