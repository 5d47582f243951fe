//! What clients send on streaming connections, mutated at random: SPDY frames, header blocks, WebSocket messages. Nothing may panic or
//! hang, and whatever came in, what goes out must be well formed. Guided by coverage, and for longer: `hack/fuzz spdy`, `websocket`.

use super::fuzzing::{Protocol, serve};
use super::spdy::headers;
use crate::image::mutations::each;

/// Each changed a little in each round.
fn conversations(protocol: Protocol) {
    let session = protocol.session();
    assert!(!serve(protocol, &session).is_empty(), "a good conversation got no answer");
    each(&[&session], |input| drop(serve(protocol, input)));
}

#[test]
fn spdy() {
    conversations(Protocol::ExecSpdy);
    conversations(Protocol::ForwardSpdy);
}

#[test]
fn websocket() {
    conversations(Protocol::ExecWebSocket);
    conversations(Protocol::ForwardWebSocket);
}

#[test]
fn headers() {
    let mut deflate = headers::Writer::new();
    let first = deflate.block(&[("streamtype", "data"), ("port", "80"), ("requestid", "7")]);
    let second = deflate.block(&[("streamtype", "error"), ("port", "80"), ("requestid", "7")]);
    let bomb = headers::Writer::new().block(&[("streamtype", &"a".repeat(200_000))]);
    each(&[&first, &second, &bomb], |block| {
        // On a fresh connection, and on one whose state is further.
        for before in [None, Some(&first)] {
            let read = || {
                let mut inflate = headers::Reader::new();
                before.map(|before| inflate.read(before));
                inflate.read(block)
            };
            let headers = read();
            assert_eq!(headers, read(), "understood in two ways: {block:02x?}");
            let length: usize =
                headers.iter().flatten().map(|(name, value)| name.len() + value.len() + 8).sum();
            assert!(length <= headers::BLOCK_MAX, "{length} bytes of {block:02x?}");
        }
    });
}
