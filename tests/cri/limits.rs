//! What one client, or one container, may make the server spend (rule R6): each is tried to the full, and the server goes on.

use crate::surroundings;
use nix::sys::signal::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tests::cri::Surroundings;
use tests::cri::api::v1;

/// What a kubelet takes.
const MESSAGE: usize = 16 << 20;

/// A record under another id, as if it had been made like the first.
fn copied(records: &Path, id: &str, new: &str) {
    let there = records.join(new);
    std::fs::create_dir(&there).expect("make a record");
    for name in ["meta", "status"] {
        let whole = std::fs::read_to_string(records.join(id).join(name)).expect("a record");
        let (head, text) = whole.split_once('\n').expect("a head");
        let boot = head.rsplit(' ').next().expect("a boot");
        let text = text.replace(&format!("\"id\":\"{id}\""), &format!("\"id\":\"{new}\""));
        let sum = Sha256::new().chain_update(boot).chain_update(&text).finalize();
        let sum: String = sum.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(there.join(name), format!("rt-record-1 {sum} {boot}\n{text}"))
            .expect("write a record");
    }
}

fn number(at: usize) -> String {
    format!("{at:064x}")
}

fn annotations() -> serde_json::Value {
    json!({"long": "x".repeat(310_000), "short": "kept"})
}

/// All answers that list, or that a kubelet needs to remove what it lists.
#[test]
fn lists_of_objects_with_more_annotations_than_fit_are_answered_and_the_objects_can_be_removed() {
    const COUNT: usize = 60;
    let mut here = surroundings!();
    let (pod, container) = {
        let mut pod = here.pod("long");
        pod.config["annotations"] = annotations();
        let pod = pod.run();
        let mut container = pod.container("c", &["true"]);
        container.config["annotations"] = annotations();
        let container = container.run();
        container.wait();
        here.crictl(["stopp", pod.id()]).run().ok();
        (pod.id().to_owned(), container.id().to_owned())
    };
    let root = here.places()[0].clone();
    here.end_server(Signal::SIGTERM);
    for at in 0..COUNT {
        copied(&root.join("sandboxes"), &pod, &number(at));
        copied(&root.join("containers"), &container, &number(COUNT + at));
    }
    here.start_server();
    let client = here.client();
    let ask = |method: &str| {
        let answer = client.raw(&format!("RuntimeService/{method}"), Vec::new());
        let answer = answer.unwrap_or_else(|refused| panic!("{method}: {refused:?}"));
        assert!(answer.len() < MESSAGE, "{method}: {} bytes", answer.len());
        answer
    };
    for method in ["ListContainerStats", "ListPodSandboxStats", "ListPodSandboxMetrics"] {
        ask(method);
    }
    let pods: v1::ListPodSandboxResponse = prost::Message::decode(ask("ListPodSandbox")).expect("pods");
    assert_eq!(pods.items.len(), COUNT + 1);
    for item in &pods.items {
        let [label, short, long] =
            [item.labels.get("test"), item.annotations.get("short"), item.annotations.get("run.rt.left-out")]
                .map(|value| value.map(String::as_str));
        assert_eq!((label, short, long), (Some("long"), Some("kept"), Some("1")));
    }
    let containers: v1::ListContainersResponse =
        prost::Message::decode(ask("ListContainers")).expect("containers");
    assert_eq!(containers.containers.len(), COUNT + 1);
    let mut cri = client.cri();
    client.wait(async {
        // One alone has all.
        let filter = Some(v1::PodSandboxFilter { id: number(3), ..Default::default() });
        let one =
            cri.list_pod_sandbox(v1::ListPodSandboxRequest { filter }).await.expect("a list").into_inner();
        assert_eq!(one.items[0].annotations["long"].len(), 310_000);
        // Streams of the same have messages that fit.
        let request = v1::StreamPodSandboxesRequest::default();
        let mut stream = cri.stream_pod_sandboxes(request).await.expect("a stream").into_inner();
        let mut streamed = 0;
        while let Some(message) = stream.message().await.expect("a message") {
            assert!(prost::Message::encoded_len(&message) < MESSAGE);
            streamed += message.pod_sandboxes.len();
        }
        assert_eq!(streamed, COUNT + 1);
        // A pod whose containers have more than fits.
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: true };
        let status = cri.pod_sandbox_status(request).await.expect("a status").into_inner();
        assert_eq!(status.containers_statuses.len(), COUNT + 1);
        assert!(prost::Message::encoded_len(&status) < MESSAGE);
        for item in pods.items {
            let pod_sandbox_id = item.id;
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
            cri.stop_pod_sandbox(request).await.expect("it stops");
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
            cri.remove_pod_sandbox(request).await.expect("it goes");
        }
    });
    assert!(here.words(["ps", "--all", "--quiet"]).is_empty());
}

#[test]
fn a_command_ends_with_the_client_that_waits_for_it_and_takes_its_children_along() {
    let here = surroundings!();
    let pod = here.pod("leaving").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let client = here.client();
    let running = || container.exec(&["pidof", "sleep"]).ok().stdout.split_whitespace().count();
    let mut cri = client.cri();
    let request = v1::ExecSyncRequest {
        container_id: container.id().to_owned(),
        cmd: ["sh", "-c", "sleep 2000 & sleep 3000; echo"].map(str::to_owned).to_vec(),
        timeout: 0,
    };
    client.wait(async {
        let asked = tokio::spawn(async move { cri.exec_sync(request).await });
        let begun = async {
            // The call is sent while this thread is not looking.
            while running() < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), begun).await.expect("the command runs");
        asked.abort();
        let _ = asked.await;
    });
    tests::until("the command and its child are gone", || (running() == 1).then_some(()));
}

#[test]
fn output_of_a_command_is_cut_so_that_its_answer_fits() {
    let here = surroundings!();
    let pod = here.pod("loud").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let script = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 3";
    let request = v1::ExecSyncRequest {
        container_id: container.id().to_owned(),
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: 60,
    };
    let answer = here.client().raw("RuntimeService/ExecSync", prost::Message::encode_to_vec(&request));
    let answer = answer.expect("an answer");
    assert!(answer.len() > 8 << 20 && answer.len() < MESSAGE, "{} bytes", answer.len());
    let answer: v1::ExecSyncResponse = prost::Message::decode(answer).expect("an answer");
    assert_eq!(answer.exit_code, 3);
}

#[test]
fn a_container_can_not_fill_the_hosts_run() {
    let here = surroundings!();
    let plain = here.pod("plain").run();
    let mut host = here.pod("host");
    host.config["linux"]["security_context"]["namespace_options"]["ipc"] = json!(2);
    let host = host.run();
    let before = used();
    for pod in [&plain, &host] {
        let container = pod.container("c", &["sleep", "1000"]).run();
        for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            let script = format!("dd if=/dev/zero of={file} bs=1M count=100 conv=notrunc");
            let output = container.exec(&["sh", "-c", &script]);
            assert!(output.code() != 0 && output.stderr.contains("No space left"), "{file}: {output}");
        }
        let many = container.exec(&[
            "sh",
            "-c",
            "i=0; while : >/dev/shm/$i; do i=$((i+1)); [ $i -lt 200000 ] || exit 7; done",
        ]);
        assert!(pod.id() == host.id() || many.code() != 7, "no end of files in /dev/shm: {many}");
        container.exec(&["sh", "-c", "rm -rf /dev/shm/*"]);
    }
    assert!(used() - before < 1 << 20, "{} bytes more in /run", used() - before);
}

/// Of the test's /run, without what is mounted below.
fn used() -> u64 {
    let of = nix::sys::statvfs::statvfs("/run").expect("a file system");
    (of.blocks() - of.blocks_free()) * of.fragment_size()
}

/// Open ends of connections that say nothing; true once the server has closed one.
fn is_closed(stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).expect("set a flag");
    // What it says first are its settings.
    let mut bytes = [0; 1024];
    loop {
        match (&mut &*stream).read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

fn connect() -> UnixStream {
    UnixStream::connect("/run/rt/cri.sock").expect("connect")
}

#[test]
fn connections_that_ask_for_nothing_make_room_for_one_that_does() {
    let here = surroundings!();
    let silent: Vec<UnixStream> = (0..400).map(|_| connect()).collect();
    here.crictl(["version"]).run().ok();
    let closed = tests::until("the oldest were closed", || {
        let closed = silent.iter().filter(|stream| is_closed(stream)).count();
        (closed >= 400 - 256).then_some(closed)
    });
    assert!(closed < 400, "all were closed");
    here.crictl(["version"]).run().ok();
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// `POST /runtime.v1.RuntimeService/ListContainers`, by HPACK's literals without an index.
fn head() -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let path = "/runtime.v1.RuntimeService/ListContainers";
    [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
        .iter()
        .chain(&[("content-type", "application/grpc")])
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// Resident bytes of the server.
fn resident(here: &Surroundings) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", here.server_pid())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<usize>().ok()).expect("a number")
        << 10
}

/// Sends frames without end and reads nothing, until the server takes no more or ends the connection: how many it took.
fn flood(first: &[u8], frames: impl Fn(u32) -> Vec<u8>) -> (u32, bool) {
    let mut stream = connect();
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("set a limit");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), first].concat()).expect("write");
    for at in 0..200_000 {
        if let Err(error) = stream.write_all(&frames(at)) {
            return (at, error.kind() != std::io::ErrorKind::WouldBlock);
        }
    }
    (200_000, false)
}

#[test]
fn floods_of_http_2_frames_cost_no_memory_and_hold_nobody_up() {
    let here = surroundings!();
    let request = |stream: u32| frame(HEADERS, END_HEADERS, stream, &head());
    let before = resident(&here);
    let resets = |at: u32| [request(2 * at + 1), frame(RESET, 0, 2 * at + 1, &8_u32.to_be_bytes())].concat();
    let floods: HashMap<&str, (u32, bool)> = HashMap::from([
        ("pings", flood(&[], |_| frame(PING, 0, 0, &[0; 8]))),
        ("settings", flood(&[], |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]))),
        // CVE-2023-44487
        ("resets", flood(&[], resets)),
        // CVE-2024-27316 and its like
        (
            "continuations",
            flood(&frame(HEADERS, END_STREAM, 1, &head()), |_| frame(CONTINUATION, 0, 1, &[0; 1000])),
        ),
        // Requests whose bodies never come.
        ("requests", flood(&[], |at| request(2 * at + 1))),
    ]);
    println!("{floods:?}");
    for name in ["resets", "continuations"] {
        assert!(floods[name].1 && floods[name].0 < 20_000, "{name}: the connection goes on: {floods:?}");
    }
    let after = resident(&here);
    assert!(after < before + (48 << 20), "{before} bytes before, {after} after: {floods:?}");
    here.crictl(["version"]).run().ok();
}

/// A kubelet's connection lives for weeks: requests that are given up, many at once, or that go wrong must not add up to its end.
#[test]
fn requests_that_are_given_up_or_go_wrong_do_not_end_their_connection() {
    let here = surroundings!();
    let mut stream = connect();
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a limit");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).expect("write");
    let mut streams = (0..).map(|at: u32| 2 * at + 1);
    for round in 0..50 {
        let mut burst = Vec::new();
        for at in streams.by_ref().take(100) {
            burst.extend(frame(HEADERS, END_HEADERS, at, &head()));
            burst.extend(frame(RESET, 0, at, &8_u32.to_be_bytes()));
        }
        // And some whose window is too large: this side resets them.
        for at in streams.by_ref().take(2) {
            burst.extend(frame(HEADERS, END_HEADERS, at, &head()));
            burst.extend(frame(WINDOW, 0, at, &0x7fff_ffff_u32.to_be_bytes()));
        }
        // An answer means that all before was looked at.
        let asked = streams.next().expect("a number");
        burst.extend(frame(HEADERS, END_HEADERS, asked, &head()));
        burst.extend(frame(DATA, END_STREAM, asked, &[0; 5]));
        stream.write_all(&burst).expect("the connection goes on");
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).expect("the connection goes on");
            let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut body).expect("a whole frame");
            assert_ne!(head[3], GO_AWAY, "round {round}: {}", String::from_utf8_lossy(&body));
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if of == asked && head[3] <= HEADERS && head[4] & END_STREAM != 0 {
                break;
            }
        }
    }
    here.crictl(["version"]).run().ok();
}

/// An exec session of this command over WebSocket.
fn session(here: &Surroundings, container: &str, command: &str) -> TcpStream {
    let request = v1::ExecRequest {
        container_id: container.to_owned(),
        cmd: ["sh", "-c", command].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    let client = here.client();
    let url = client.wait(async { client.cri().exec(request).await.expect("a URL").into_inner().url });
    let (host, path) = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).expect("a URL");
    let mut stream = TcpStream::connect(host).expect("the streaming port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
    )
    .expect("ask");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

/// A frame of a client's, not masked to the eye: with a mask of zeros.
fn typed(length: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u64::try_from(length).expect("64 bits").to_be_bytes();
    [&[0x82, 0x80 | 127], &length[..], &[0; 4], bytes].concat()
}

/// Clients that don't read what processes print, and clients that send half of what they announce: each alone may have megabytes waiting.
#[test]
fn streaming_sessions_that_stand_still_have_one_budget_and_others_go_on_beside_them() {
    const SESSIONS: usize = 100;
    let here = surroundings!();
    let pod = here.pod("still").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let before = resident(&here);
    let deaf: Vec<_> = (0..SESSIONS).map(|_| session(&here, container.id(), "exec cat /dev/zero")).collect();
    let mut halves: Vec<_> = (0..SESSIONS).map(|_| session(&here, container.id(), "exec cat")).collect();
    for half in &mut halves {
        // It may be refused as soon as there is more than that.
        let _ = half.write_all(&typed(1_000_000, &[0; 900_000]));
    }
    // Until all stand still.
    let mut seen = 0;
    tests::until("it grows no more", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = resident(&here);
        (std::mem::replace(&mut seen, now).abs_diff(now) < 1 << 20).then_some(())
    });
    let grown = seen.saturating_sub(before) >> 20;
    println!("{grown} MiB for {} sessions", 2 * SESSIONS);
    assert!(grown < 64 + 64, "{grown} MiB");
    let mut works = session(&here, container.id(), "exec cat");
    works.write_all(&typed(6, b"\0hello")).expect("type");
    let mut all = Vec::new();
    while !all.ends_with(b"\x01hello") {
        let mut piece = [0; 1000];
        let read = works.read(&mut piece).expect("what was typed");
        assert!(read > 0, "the end after {all:?}");
        all.extend_from_slice(&piece[..read]);
    }
    assert_eq!(container.exec(&["echo", "still"]).ok().stdout.trim(), "still");
    drop((deaf, halves));
}
