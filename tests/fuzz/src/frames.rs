//! What comes over the shim's socket: frames of calls to its server, frames of answers to its client.

use std::path::Path;
use std::time::Duration;

use prost::Message;
use shim::api::containerd::task::v3 as task;
use shim::api::pod;
use shim::ttrpc::{Channel, Code, Hello, Request, Service, Status, Stop, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::surroundings::SCRATCH;
use crate::{Form, Outcome, Target};

/// To the server: frames, or the hello of a stream.
pub const CALLS: Target =
    Target { name: "frames", run: calls, seeds: requests, form: Form::Bytes, memory: (1 << 20, 64) };

/// To the client.
pub const ANSWERS: Target =
    Target { name: "answers", run: answers, seeds: responses, form: Form::Bytes, memory: (1 << 20, 64) };

/// Until a conversation has ended, whatever the machine does beside.
const PATIENCE: Duration = Duration::from_secs(60);

const HEADER: usize = 10;

const TASK: &str = "containerd.task.v3.Task";
const POD: &str = shim::client::SERVICE;

/// Reads the request of a method and gives it back as it understood it.
#[derive(Clone)]
struct Mirror;

impl Service for Mirror {
    async fn answer(&self, request: Request) -> Result<Vec<u8>, Status> {
        let bytes = request.payload.as_slice();
        match (request.service.as_str(), request.method.as_str()) {
            (TASK, "Create") => mirrored::<task::CreateTaskRequest>(bytes),
            (TASK, "Exec") => mirrored::<task::ExecProcessRequest>(bytes),
            (TASK, "Update") => mirrored::<task::UpdateTaskRequest>(bytes),
            (TASK, "Kill") => mirrored::<task::KillRequest>(bytes),
            (POD, "Create") => mirrored::<pod::CreateRequest>(bytes),
            (POD, "Exec") => mirrored::<pod::ExecRequest>(bytes),
            (POD, "Update") => mirrored::<pod::UpdateRequest>(bytes),
            (POD, "Watch") => mirrored::<pod::WatchRequest>(bytes),
            (_, other) => Err(Status::new(Code::Unimplemented, format!("no method {other}"))),
        }
    }

    fn only_waits(&self, request: &Request) -> bool {
        request.method == "Watch"
    }

    async fn stream(&self, hello: Hello, mut connection: UnixStream) {
        let _ = connection.write_all(hello.line().as_bytes()).await;
    }
}

fn mirrored<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let read = M::decode(bytes).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let written = read.encode_to_vec();
    let again = M::decode(written.as_slice()).expect("what was written is read");
    assert!(read == again, "what was read is written in another way: {read:?}");
    Ok(written)
}

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("a conversation that doesn't end") })
}

fn calls(input: &[u8]) -> Outcome {
    let answer = on_a_runtime(async {
        let path = Path::new(SCRATCH).join("s");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let stop = Stop::new();
        let talk = async {
            let (mut read, mut write) = UnixStream::connect(&path).await.expect("connect").into_split();
            let sent = async {
                let _ = write.write_all(input).await; // it may have had enough
                drop(write);
            };
            let mut answer = Vec::new();
            let (_, ended) = tokio::join!(sent, read.read_to_end(&mut answer));
            let _ = ended; // closed with bytes that it didn't read
            stop.now();
            answer
        };
        tokio::join!(serve(listener, Mirror, &stop), talk).1
    });
    if input.first() == Some(&0) { whole_frames(&answer) } else { hello(&answer, input) }
}

/// Answers are whole frames, each a response.
fn whole_frames(mut answer: &[u8]) -> Outcome {
    let mut outcome = Outcome::Refused;
    while !answer.is_empty() {
        let (head, rest) = answer.split_at_checked(HEADER).expect("a whole header");
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        assert_eq!(head[8], 2, "a frame that is no response");
        let (message, next) = rest.split_at_checked(length).expect("a whole message");
        // SPEC: ttrpc's Response: 1 is a status, 2 the payload.
        if message.first().is_none_or(|tag| *tag != 0x0a) {
            outcome = Outcome::Taken;
        }
        answer = next;
    }
    outcome
}

/// A stream's hello is understood as it was written.
fn hello(answer: &[u8], input: &[u8]) -> Outcome {
    if answer.is_empty() {
        return Outcome::Refused;
    }
    assert!(input.starts_with(answer), "a hello understood in another way");
    Outcome::Taken
}

/// Two calls whose answers are what was put in.
fn answers(input: &[u8]) -> Outcome {
    on_a_runtime(async {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let channel = Channel::over(ours);
        let server = async {
            let (mut read, mut write) = theirs.into_split();
            let mut head = [0; HEADER];
            let _ = read.read_exact(&mut head).await;
            let _ = write.write_all(input).await; // it may have had enough
            drop(write);
            let mut rest = Vec::new();
            let _ = read.read_to_end(&mut rest).await;
        };
        let client = async {
            let call = |id: &str| pod::StartRequest { id: id.to_owned() };
            let (first, second) = (call("a"), call("b"));
            let (first, second) = tokio::join!(
                channel.call::<_, pod::StartResponse>((POD, "Start"), &first, PATIENCE / 2),
                channel.call::<_, pod::WatchResponse>((POD, "Watch"), &second, PATIENCE / 2),
            );
            drop(channel);
            if first.is_ok() || second.is_ok() { Outcome::Taken } else { Outcome::Refused }
        };
        tokio::join!(server, client).1
    })
}

fn frame(stream: u32, kind: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u32).to_be_bytes().to_vec();
    frame.extend(stream.to_be_bytes());
    frame.extend([kind, 0]);
    frame.extend(message);
    frame
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let call = |stream, (service, method): (&str, &str), payload: Vec<u8>| {
        let request = Request {
            service: service.into(),
            method: method.into(),
            payload,
            timeout_nano: 5_000_000_000,
            metadata: Vec::new(),
        };
        frame(stream, 1, &request.encode_to_vec())
    };
    let create = task::CreateTaskRequest {
        id: "a".into(),
        bundle: "/b".into(),
        stdout: "/run/out".into(),
        ..Default::default()
    };
    let exec = pod::ExecRequest { id: "a".into(), exec_id: "e".into(), ..Default::default() };
    let kill = task::KillRequest { id: "a".into(), signal: 9, ..Default::default() };
    let all = [
        call(1, (TASK, "Create"), create.encode_to_vec()),
        call(3, (POD, "Exec"), exec.encode_to_vec()),
        call(5, (TASK, "Kill"), kill.encode_to_vec()),
        call(7, (POD, "Watch"), Vec::new()),
    ];
    vec![("calls", all.concat()), ("hello", b"stream a1-b2 stdout\n".to_vec())]
}

fn responses() -> Vec<(&'static str, Vec<u8>)> {
    // SPEC: ttrpc's Response: 1 is a status, 2 the payload.
    let good = |payload: &[u8]| [&[0x12, payload.len() as u8], payload].concat();
    let status = Status::new(Code::NotFound, "no such container").encode_to_vec();
    let refused = [&[0x0a, status.len() as u8], status.as_slice()].concat();
    let watched = pod::WatchResponse {
        containers: vec![pod::Container { id: "a".into(), ..Default::default() }],
        ..Default::default()
    };
    let both = [frame(3, 2, &good(&watched.encode_to_vec())), frame(1, 2, &good(&[]))].concat();
    let mixed = [frame(1, 2, &refused), frame(3, 2, &good(&[]))].concat();
    vec![("both", both), ("mixed", mixed)]
}
