//! What clients of exec, attach and port-forward send: whole conversations over SPDY and WebSocket. The first byte says which of them.

use cri::stream::fuzzing::{Protocol, serve};

use crate::{Form, Outcome, Target};

/// SPDY/3.1.
pub const SPDY: Target =
    Target { name: "spdy", run: spdy, seeds: spdy_sessions, form: Form::Bytes, memory: (4 << 20, 256) };

/// WebSocket, with channels or SPDY inside.
pub const WEBSOCKET: Target =
    Target { name: "websocket", run: websocket, seeds: messages, form: Form::Bytes, memory: (4 << 20, 256) };

fn spdy(input: &[u8]) -> Outcome {
    talk(input, [Protocol::ExecSpdy, Protocol::ForwardSpdy])
}

fn websocket(input: &[u8]) -> Outcome {
    talk(input, [Protocol::ExecWebSocket, Protocol::ForwardWebSocket])
}

fn talk(input: &[u8], protocols: [Protocol; 2]) -> Outcome {
    let Some((which, sent)) = input.split_first() else { return Outcome::Refused };
    let answer = serve(protocols[usize::from(which & 1)], sent);
    if answer.is_empty() { Outcome::Refused } else { Outcome::Taken }
}

fn seed(which: u8, session: Vec<u8>) -> Vec<u8> {
    std::iter::once(which).chain(session).collect()
}

fn spdy_sessions() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("exec", seed(0, Protocol::ExecSpdy.session())),
        ("exec-in-the-clear", seed(0, in_the_clear(&Protocol::ExecSpdy.session()))),
        ("forward", seed(1, Protocol::ForwardSpdy.session())),
        ("forward-in-the-clear", seed(1, in_the_clear(&Protocol::ForwardSpdy.session()))),
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("exec", seed(0, Protocol::ExecWebSocket.session())),
        ("forward", seed(1, Protocol::ForwardWebSocket.session())),
        ("forward-in-the-clear", seed(1, masked(2, &in_the_clear(&Protocol::ForwardSpdy.session())))),
    ]
}

/// The same session with header blocks that are stored instead of compressed: altering a byte of them alters a header.
fn in_the_clear(session: &[u8]) -> Vec<u8> {
    use cri::stream::spdy::headers::Reader;
    use flate2::{Compress, Compression, FlushCompress};
    let (mut reader, mut stored) = (Reader::new(), Compress::new(Compression::none(), true));
    let (mut made, mut rest) = (Vec::new(), session);
    while let [first, _, third, kind, flags, l0, l1, l2, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
        let (body, next) = after.split_at(length);
        rest = next;
        let mut body = body.to_vec();
        if *first & 0x80 != 0 && *kind == 1 {
            let headers = reader.read(&body[10..]).expect("headers of our own");
            let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
            for text in headers.iter().flat_map(|(name, value)| [name, value]) {
                plain.extend((text.len() as u32).to_be_bytes());
                plain.extend(text.as_bytes());
            }
            let mut block = Vec::with_capacity(plain.len() + 256);
            stored.compress_vec(&plain, &mut block, FlushCompress::Sync).expect("room");
            body.truncate(10);
            body.extend(block);
        }
        made.extend([*first, rest_of(*first), *third, *kind, *flags]);
        made.extend(&(body.len() as u32).to_be_bytes()[1..]);
        made.extend(body);
    }
    made
}

/// The second byte of a frame's head: the version of a control frame, nothing of a data frame of our sessions.
fn rest_of(first: u8) -> u8 {
    if first & 0x80 != 0 { 3 } else { 0 }
}

/// A client's message, whose mask changes nothing.
fn masked(code: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short message");
    let mut frame = vec![0x80 | code, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(bytes);
    frame
}
