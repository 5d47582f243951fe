//! The conversation with systemd, against a peer that plays it over a socket pair, and the handshake against a real bus.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Instant;

use super::*;

/// What the peer does about one call.
enum Answer {
    /// Nothing in it.
    Empty,
    /// A job, and at once how it ended; before the answer, as a busy systemd may.
    Job(&'static str),
    /// Name and text.
    Refusal(&'static str, String),
}

/// Answers a script of (method, answer), and gives back the bodies that it got.
fn peer(script: Vec<(&'static str, Answer)>) -> (Connection, JoinHandle<Vec<Vec<u8>>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut hello = Vec::new();
        while !hello.ends_with(b"BEGIN\r\n") {
            let mut byte = [0];
            theirs.read_exact(&mut byte).unwrap();
            hello.push(byte[0]);
        }
        assert!(hello.starts_with(b"\0AUTH EXTERNAL 3"), "{hello:?}");
        theirs.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        script.into_iter().map(|(method, answer)| serve(&mut theirs, method, answer)).collect()
    });
    let connection = Connection::authenticate(ours, Instant::now() + PATIENCE).unwrap();
    (connection, thread)
}

fn serve(stream: &mut UnixStream, method: &str, answer: Answer) -> Vec<u8> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).unwrap();
    let mut whole = fixed.to_vec();
    whole.resize(wire::length(&fixed).unwrap(), 0);
    stream.read_exact(&mut whole[16..]).unwrap();
    assert_eq!(Message::decode(&whole).unwrap().name, method);
    let serial = u32::from_le_bytes(whole[8..12].try_into().unwrap());
    let body_len = u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
    let out = match answer {
        Answer::Empty => message(2, &[reply_to(serial)], b""),
        Answer::Job(result) => {
            let mut body = 7u32.to_le_bytes().to_vec();
            for word in ["/org/freedesktop/systemd1/job/7", "x.scope", result] {
                text(&mut body, word);
            }
            let mut out = message(4, &[field(3, "s", "JobRemoved"), field(8, "g", "uoss")], &body);
            let mut body = Vec::new();
            text(&mut body, "/org/freedesktop/systemd1/job/7");
            out.extend(message(2, &[reply_to(serial), field(8, "g", "o")], &body));
            out
        }
        Answer::Refusal(name, words) => {
            let mut body = Vec::new();
            text(&mut body, &words);
            message(3, &[reply_to(serial), field(4, "s", name), field(8, "g", "s")], &body)
        }
    };
    stream.write_all(&out).unwrap();
    whole.split_off(whole.len() - body_len)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
    out.push(0);
}

fn reply_to(serial: u32) -> Vec<u8> {
    [&[5, 1, b'u', 0][..], &serial.to_le_bytes()].concat()
}

fn field(code: u8, kind: &str, value: &str) -> Vec<u8> {
    let mut out = vec![code, 1, kind.as_bytes()[0], 0];
    match kind {
        "g" => {
            out.push(value.len() as u8);
            out.extend(value.as_bytes());
            out.push(0);
        }
        _ => text(&mut out, value),
    }
    out
}

fn message(kind: u8, fields: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
    let mut array = Vec::new();
    for field in fields {
        array.resize(array.len().next_multiple_of(8), 0);
        array.extend(field);
    }
    let mut out = vec![b'l', kind, 0, 1];
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend((array.len() as u32).to_le_bytes());
    out.extend(array);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(body);
    out
}

fn property(name: &str, value: Value) -> Property {
    Property { name: name.to_owned(), value }
}

fn holds(body: &[u8], word: &str) -> bool {
    body.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn a_scope_is_started_and_waited_for() {
    let (mut systemd, thread) =
        peer(vec![("Subscribe", Answer::Empty), ("StartTransientUnit", Answer::Job("done"))]);
    let properties = vec![property("PIDs", Value::Uint32s(vec![5]))];
    assert_eq!(start_on(&mut systemd, "x.scope", properties).unwrap(), [""; 0]);
    let bodies = thread.join().unwrap();
    // The whole body, byte by byte after the specification: name, mode, one property, no further units.
    let mut expected = b"\x07\0\0\0x.scope\0\x07\0\0\0replace\0".to_vec();
    expected.extend(b"\x1c\0\0\0\0\0\0\0\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x05\0\0\0");
    expected[24] = (expected.len() - 32) as u8;
    expected.extend(b"\0\0\0\0");
    expected.resize(expected.len().next_multiple_of(8), 0);
    assert_eq!(bodies[1], expected, "\n{:x?}\n{expected:x?}", bodies[1]);
}

#[test]
fn a_job_that_fails_is_an_error() {
    let (mut systemd, thread) =
        peer(vec![("Subscribe", Answer::Empty), ("StartTransientUnit", Answer::Job("failed"))]);
    let error = start_on(&mut systemd, "x.scope", Vec::new()).unwrap_err().to_string();
    assert!(
        error.starts_with("systemd's job ended as \"failed\" (see `systemctl status x.scope`"),
        "{error}"
    );
    thread.join().unwrap();
}

#[test]
fn a_failed_unit_of_that_name_is_reset_once() {
    let exists = || Answer::Refusal("org.freedesktop.systemd1.UnitExists", "Unit x.scope exists.".into());
    let (mut systemd, thread) = peer(vec![
        ("Subscribe", Answer::Empty),
        ("StartTransientUnit", exists()),
        ("ResetFailedUnit", Answer::Empty),
        ("StartTransientUnit", Answer::Job("done")),
    ]);
    start_on(&mut systemd, "x.scope", Vec::new()).unwrap();
    thread.join().unwrap();
    let (mut systemd, thread) = peer(vec![
        ("Subscribe", Answer::Empty),
        ("StartTransientUnit", exists()),
        ("ResetFailedUnit", Answer::Empty),
        ("StartTransientUnit", exists()),
    ]);
    let error = start_on(&mut systemd, "x.scope", Vec::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert!(error.to_string().contains("Unit x.scope exists."), "{error}");
    thread.join().unwrap();
}

#[test]
fn properties_that_an_older_systemd_lacks_are_left_out() {
    let unknown = |name: &str| {
        let text = format!("Cannot set property {name}, or unknown property.");
        Answer::Refusal("org.freedesktop.DBus.Error.PropertyReadOnly", text)
    };
    let (mut systemd, thread) = peer(vec![
        ("SetUnitProperties", unknown("AllowedCPUs")),
        ("SetUnitProperties", Answer::Empty),
        ("SetUnitProperties", unknown("MemoryMax")),
    ]);
    let properties =
        vec![property("AllowedCPUs", Value::Bytes(vec![1])), property("MemoryMax", Value::Uint64(5))];
    let warnings = change_on(&mut systemd, "x.scope", properties.clone()).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("does not take AllowedCPUs"), "{warnings:?}");
    let error = change_on(&mut systemd, "x.scope", properties).unwrap_err().to_string();
    assert!(error.contains("Cannot set property MemoryMax"), "{error}");
    let bodies = thread.join().unwrap();
    assert!(holds(&bodies[0], "AllowedCPUs") && !holds(&bodies[1], "AllowedCPUs"));
    assert!(holds(&bodies[1], "MemoryMax"));
}

#[test]
fn a_unit_that_is_gone_needs_no_stop() {
    let (mut systemd, thread) = peer(vec![
        ("Subscribe", Answer::Empty),
        (
            "StopUnit",
            Answer::Refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.".into()),
        ),
    ]);
    stop_on(&mut systemd, "x.scope").unwrap();
    thread.join().unwrap();
    let (mut systemd, thread) = peer(vec![
        ("Subscribe", Answer::Empty),
        ("StopUnit", Answer::Job("done")),
        ("ResetFailedUnit", Answer::Refusal("org.freedesktop.systemd1.NoSuchUnit", String::new())),
    ]);
    stop_on(&mut systemd, "x.scope").unwrap();
    thread.join().unwrap();
}

#[test]
fn a_peer_that_is_silent_or_hangs_up_is_an_error() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let soon = Instant::now() + Duration::from_millis(50);
    let error = Connection::authenticate(ours, soon).unwrap_err();
    assert!(error.errno() == Some(libc::ETIMEDOUT) || error.kind() == Kind::Timeout, "{error:?}");
    drop(theirs);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    let error = Connection::authenticate(ours, Instant::now() + PATIENCE).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::Denied, "authenticate: the answer is \"REJECTED EXTERNAL\"")
    );
    let (mut systemd, thread) = peer(vec![("Subscribe", Answer::Empty)]);
    let error = start_on(&mut systemd, "x.scope", Vec::new()).unwrap_err();
    assert!(matches!(error.errno(), Some(libc::ECONNRESET | libc::EPIPE)), "{error:?}");
    thread.join().unwrap();
}

/// The daemon of Debian's package `dbus`, with a bus of its own.
#[test]
fn a_real_bus_understands_us() {
    use std::process::{Command, Stdio};
    let path = std::env::temp_dir().join(format!("rt-bus-{}", std::process::id()));
    let address = format!("--address=unix:path={}", path.display());
    let daemon = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--nopidfile", "--print-address=1", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut daemon) = daemon else {
        println!("SKIP a_real_bus_understands_us: no dbus-daemon here");
        return;
    };
    // It prints the address when it listens.
    let mut byte = [0];
    daemon.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    let stream = UnixStream::connect(&path).unwrap();
    let answers = Connection::on_bus(stream, Instant::now() + PATIENCE).and_then(|mut bus| {
        let call = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "GetNameOwner",
        };
        let mut body = Writer::default();
        body.text("org.freedesktop.DBus");
        let owner = bus.call(&call, "s", &body)?;
        let refused = start_on(&mut bus, "x.scope", Vec::new());
        Ok((owner.map(|message| message.body().text()), refused))
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let _ = std::fs::remove_file(&path);
    let (owner, refused) = answers.unwrap();
    assert_eq!(owner, Ok(Some("org.freedesktop.DBus".to_owned())));
    // Nobody plays systemd there.
    assert!(refused.unwrap_err().to_string().contains("org.freedesktop.systemd1"));
}
