//! Client and server against each other, and raw bytes against the server, on sockets of this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::message::Response;
use super::{Channel, Code, Hello, Request, Service, Status, Stop, frame, serve};
use crate::pod::StreamName;

/// Echoes; "never" waits for ever; streams get their token back.
#[derive(Clone, Default)]
struct Echo {
    waiting: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service for Echo {
    async fn answer(&self, request: Request) -> Result<Vec<u8>, Status> {
        match request.method.as_str() {
            "Echo" => Ok(request.payload),
            "Never" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _counted = Counted(Arc::clone(&self.waiting));
                std::future::pending().await
            }
            other => Err(Status::new(Code::Unimplemented, format!("no method {other}"))),
        }
    }

    fn only_waits(&self, request: &Request) -> bool {
        request.method == "Never"
    }

    async fn stream(&self, hello: Hello, mut connection: UnixStream) {
        let _ = connection.write_all(hello.token.as_bytes()).await;
        let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
    }
}

/// A directory with a socket; removed when the test ends.
struct Place(PathBuf);

impl Place {
    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `test` beside a server.
fn beside_a_server<T: Future<Output = ()>>(test: impl FnOnce(PathBuf, Echo) -> T) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let place = Place(std::env::temp_dir().join(format!("shim-ttrpc.{}.{number}", std::process::id())));
    std::fs::create_dir_all(&place.0).expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = UnixListener::bind(place.socket()).expect("a socket");
        let (service, stop) = (Echo::default(), Stop::new());
        let server = serve(listener, service.clone(), &stop);
        let run = async {
            timeout(Duration::from_secs(20), test(place.socket(), service)).await.expect("in time");
            stop.now();
        };
        tokio::join!(server, run);
    });
}

async fn call(channel: &Channel, method: &str, text: &str, limit: Duration) -> Result<String, Status> {
    let argument = Status::new(Code::Ok, text);
    channel.call::<_, Status>(("test.Echo", method), &argument, limit).await.map(|echo| echo.message)
}

const SOON: Duration = Duration::from_secs(5);

#[test]
fn many_calls_share_a_connection_and_a_wait_holds_up_none() {
    beside_a_server(|socket, _| async move {
        let channel = Channel::connect(&socket).await.expect("connected");
        let waiting = call(&channel, "Never", "", SOON);
        let quick = async {
            for number in 0..200 {
                let text = number.to_string();
                assert_eq!(call(&channel, "Echo", &text, SOON).await, Ok(text));
            }
        };
        tokio::select! {
            _ = waiting => panic!("a wait without an end ended"),
            () = quick => {}
        }
    });
}

#[test]
fn a_call_ends_with_the_time_of_its_caller_and_a_wait_with_its_connection() {
    beside_a_server(|socket, service| async move {
        let channel = Channel::connect(&socket).await.expect("connected");
        let late = call(&channel, "Never", "", Duration::from_millis(30)).await;
        assert_eq!(late.map_err(|status| status.code), Err(Code::DeadlineExceeded as i32));
        let waiting = tokio::spawn({
            let channel = channel.clone();
            async move { call(&channel, "Never", "", SOON).await }
        });
        while service.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        drop(channel);
        while service.waiting.load(Ordering::SeqCst) != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn too_large_a_message_is_refused_on_both_sides() {
    beside_a_server(|socket, _| async move {
        let channel = Channel::connect(&socket).await.expect("connected");
        let text = "x".repeat(frame::LIMIT + 1);
        let refused = call(&channel, "Echo", &text, SOON).await.map_err(|status| status.code);
        assert_eq!(refused, Err(Code::ResourceExhausted as i32));
        let text = "x".repeat(frame::LIMIT - 100);
        assert_eq!(call(&channel, "Echo", &text, SOON).await.map(|echo| echo.len()), Ok(text.len()));
    });
}

#[test]
fn nonsense_gets_an_answer_and_the_connection_goes_on() {
    beside_a_server(|socket, _| async move {
        let mut raw = UnixStream::connect(&socket).await.expect("connected");
        // Data on a stream that is none, an even stream, then a real call.
        for (stream, kind, code) in
            [(1, 3, Code::InvalidArgument), (2, 1, Code::InvalidArgument), (5, 1, Code::Ok)]
        {
            let request = Request { service: "a".into(), method: "Echo".into(), ..Request::default() };
            raw.write_all(&frame::encode(stream, kind, &request).expect("small")).await.expect("sent");
            let Ok(frame::Read::Frame(header, message, _)) = frame::read(&mut raw, None).await else {
                panic!("no answer")
            };
            let response = Response::decode(message.as_slice()).expect("a response");
            assert_eq!(header.stream, stream);
            assert_eq!(response.status.map_or(0, |status| status.code), code as i32);
        }
    });
}

#[test]
fn the_first_byte_tells_a_stream_from_calls() {
    beside_a_server(|socket, _| async move {
        let mut stream = UnixStream::connect(&socket).await.expect("connected");
        let line = Hello { token: "abc".into(), name: StreamName::Stdin }.line();
        // In two parts, the second with what already belongs to the stream.
        stream.write_all(&line.as_bytes()[..9]).await.expect("sent");
        tokio::task::yield_now().await;
        stream.write_all(format!("{}and more", &line[9..]).as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut got = String::new();
        stream.read_to_string(&mut got).await.expect("the end");
        assert_eq!(got, "abc");

        let mut stream = UnixStream::connect(&socket).await.expect("connected");
        stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        assert_eq!(stream.read_to_string(&mut String::new()).await.unwrap_or(0), 0, "nothing but the end");
    });
}

#[test]
fn random_bytes_harm_nobody() {
    beside_a_server(|socket, _| async move {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..300 {
            let mut bytes = vec![0];
            for _ in 0..40 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                bytes.extend_from_slice(&seed.to_le_bytes());
            }
            // Half of them small enough to be frames.
            bytes[1] = 0;
            bytes[2] &= if seed & 1 == 0 { 0 } else { 0xff };
            let mut stream = UnixStream::connect(&socket).await.expect("connected");
            let _ = stream.write_all(&bytes).await;
        }
        let channel = Channel::connect(&socket).await.expect("connected");
        assert_eq!(call(&channel, "Echo", "still here", SOON).await.as_deref(), Ok("still here"));
    });
}

#[test]
fn a_client_that_stops_reading_holds_up_no_other() {
    beside_a_server(|socket, _| async move {
        let mut deaf = UnixStream::connect(&socket).await.expect("connected");
        let request = Request {
            service: "a".into(),
            method: "Echo".into(),
            payload: vec![0; 100_000],
            timeout_nano: 0,
            metadata: Vec::new(),
        };
        for number in 0..100_u32 {
            let frame = frame::encode(2 * number + 1, frame::REQUEST, &request).expect("small");
            if timeout(Duration::from_millis(100), deaf.write_all(&frame)).await.is_err() {
                break;
            }
        }
        let channel = Channel::connect(&socket).await.expect("connected");
        assert_eq!(call(&channel, "Echo", "heard", SOON).await.as_deref(), Ok("heard"));
    });
}
