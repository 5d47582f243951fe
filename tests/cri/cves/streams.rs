//! What spdystream had.

use super::most_memory;
use crate::surroundings;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tests::cri::api::v1;

/// A control frame of SPDY/3.1: its kind, and a body of any length that is said to be `length`.
fn control(kind: u16, length: usize, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&u32::try_from(length).expect("24 bits").to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A SYN_STREAM with this header block, compressed.
fn syn_stream(block: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(block).expect("compress");
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    body.extend(encoder.finish().expect("compress"));
    control(1, body.len(), &body)
}

// 2026-35469: counts and lengths of SPDY frames are believed before the bytes are there: a few bytes take gigabytes.
#[test]
fn cve_2026_35469_spdy_frames_declare_more_than_they_bring() {
    let here = surroundings!();
    let pod = here.pod("spdy").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let client = here.client();
    let most = u32::MAX.to_be_bytes();
    let hostile: Vec<Vec<u8>> = vec![
        // SETTINGS with four thousand million entries, of which none is there.
        control(4, 4, &most),
        control(4, 0xff_ffff, &most),
        // Header blocks: a count, a name's length and a value's length without end.
        syn_stream(&most),
        syn_stream(&[&[0, 0, 0, 1][..], &most].concat()),
        syn_stream(&[&[0, 0, 0, 1, 0, 0, 0, 1, b'a'][..], &most].concat()),
        // Sixteen kilobytes that are sixteen megabytes.
        syn_stream(&vec![0; 16 << 20]),
        // A frame as long as can be said.
        control(1, 0xff_ffff, &[0; 64]),
    ];
    let before = most_memory(&here);
    for frame in hostile.iter().cycle().take(hostile.len() * 4) {
        let request = v1::ExecRequest {
            container_id: container.id().to_owned(),
            cmd: vec!["cat".to_owned()],
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        let url = client.wait(async {
            client.cri().exec(request).await.expect("the server lives, and gives a URL").into_inner().url
        });
        let rest = url.split_once("://").expect("a scheme").1;
        let (host, path) = rest.split_once('/').expect("a path");
        let mut stream = TcpStream::connect(host).expect("the server lives, and listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
        )
        .expect("the server lives, and is asked");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("the server lives, and answers");
        assert_eq!(&answer, b"HTTP/1.1 101");
        let _ = stream.write_all(frame);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // It ends, by the server's word or because nothing more comes.
        let _ = stream.read_to_end(&mut Vec::new()).expect("the server lives, and lets go of it");
    }
    let grown = most_memory(&here).saturating_sub(before) >> 20;
    assert!(grown < 48, "the server has taken {grown} MiB");
    assert_eq!(container.exec(&["echo", "still"]).ok().stdout.trim(), "still");
}
