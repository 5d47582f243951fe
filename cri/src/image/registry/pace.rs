//! How fast bytes must come to count as coming: who sends one now and then would hold what others wait for.

use super::follow::unreachable;
use crate::error::{Error, Kind, Result};
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use std::pin::pin;
use std::time::{Duration, Instant};

/// How long a manifest, a config, a token or the like may take in all.
const DOCUMENT: Duration = Duration::from_secs(300);
/// And the words of an error.
const WORDS: Duration = Duration::from_secs(10);

/// Small pieces are handed on as one, of about so many bytes, or of what came in so long: each costs whoever takes it as much as a large one.
const GATHERED: usize = 64 << 10;
const GATHERING: Duration = Duration::from_millis(2);

/// The least that must come.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// In each such time that is waited.
    pub window: Duration,
    /// So many bytes.
    pub least: u64,
}

impl Pace {
    /// By the configuration's `stall_seconds` and `least_bytes_per_second`.
    pub fn new(stall_seconds: u64, least_bytes_per_second: u64) -> Self {
        let seconds = stall_seconds.max(1);
        let least = least_bytes_per_second.saturating_mul(seconds).max(1);
        Self { window: Duration::from_secs(seconds), least }
    }
}

/// An answer's bytes, of which enough come, or none.
pub struct Paced {
    response: Response,
    pace: Pace,
    /// For the network only: whoever takes the bytes may take his time.
    waited: Duration,
    came: u64,
    /// How it ended, found while what had come before was gathered.
    ended: Option<reqwest::Result<Option<Bytes>>>,
}

impl Paced {
    /// From its first byte.
    pub fn new(response: Response, pace: Pace) -> Self {
        Self { response, pace, waited: Duration::ZERO, came: 0, ended: None }
    }

    /// What has come, waited for; and what else comes at once.
    async fn gathered(&mut self) -> reqwest::Result<Option<Bytes>> {
        if let Some(ended) = self.ended.take() {
            return ended;
        }
        let Some(first) = self.response.chunk().await? else { return Ok(None) };
        if first.len() >= GATHERED {
            return Ok(Some(first));
        }
        let mut all = BytesMut::from(first);
        // A connection hands its next piece on only when it is asked for it: one that is there already is not there at the first look.
        let mut patience = pin!(tokio::time::sleep(GATHERING));
        while all.len() < GATHERED {
            let next = tokio::select! {
                biased;
                next = self.response.chunk() => next,
                () = &mut patience => break,
            };
            match next {
                Ok(Some(more)) => all.extend_from_slice(&more),
                // What came before has come all the same; how it ended is for the next.
                ended => {
                    self.ended = Some(ended);
                    break;
                }
            }
        }
        Ok(Some(all.freeze()))
    }

    /// The next piece; None at the end.
    pub async fn chunk(&mut self, what: &str) -> Result<Option<Bytes>> {
        let began = Instant::now();
        let left = self.pace.window.saturating_sub(self.waited);
        let piece = match tokio::time::timeout(left, self.gathered()).await {
            Ok(piece) => piece.map_err(|error| unreachable(&error, what))?,
            Err(_) => return Err(self.too_slow(what)),
        };
        self.waited += began.elapsed();
        let Some(piece) = piece else { return Ok(None) };
        self.came = self.came.saturating_add(piece.len() as u64);
        if self.came >= self.pace.least {
            (self.waited, self.came) = (Duration::ZERO, 0);
        } else if self.waited >= self.pace.window {
            return Err(self.too_slow(what));
        }
        Ok(Some(piece))
    }

    fn too_slow(&self, what: &str) -> Error {
        let Pace { window, least } = self.pace;
        let text = format!("{what}: {} of {least} bytes came in {} s", self.came, window.as_secs());
        Error::new(Kind::Timeout, text)
            .cure("stall_seconds and least_bytes_per_second say how slow it may be")
    }
}

/// The whole body, of at most `most` bytes.
pub async fn body(response: Response, most: usize, pace: Pace) -> Result<Vec<u8>> {
    let what = format!("read {}", super::follow::shown(response.url()));
    let mut paced = Paced::new(response, pace);
    let read = async {
        let mut bytes = Vec::new();
        while let Some(piece) = paced.chunk(&what).await? {
            if bytes.len() + piece.len() > most {
                return Err(Error::invalid(format!("{what}: more than the {most} bytes that are taken")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    let read = tokio::time::timeout(DOCUMENT, read).await;
    read.unwrap_or_else(|_| {
        Err(Error::new(Kind::Timeout, format!("{what}: it did not end in {} s", DOCUMENT.as_secs())))
    })
}

/// The beginning of an error's words: what comes soon, of at most `most` bytes.
pub async fn words(mut response: Response, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            bytes.extend_from_slice(&piece[..piece.len().min(most - bytes.len())]);
            if bytes.len() == most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(WORDS, read).await;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::registry::{Tls, clients::Clients};
    use std::io::{Read, Write};

    /// An answer in chunks of one byte each, then the end that is told, or none.
    async fn in_chunks(bytes: &'static [u8], end: &'static [u8]) -> Response {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 4096]);
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for byte in bytes {
                answer.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
            }
            answer.extend_from_slice(end);
            let _ = stream.write_all(&answer);
        });
        let clients = Clients::default().of(&Tls::default(), Duration::from_secs(10)).expect("clients");
        clients.of(true).get(format!("http://{address}/")).send().await.expect("an answer")
    }

    async fn gathered(response: Response) -> (Vec<Bytes>, Result<()>) {
        let (mut paced, mut pieces) = (Paced::new(response, Pace::new(10, 1)), Vec::new());
        loop {
            match paced.chunk("read").await {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => return (pieces, Ok(())),
                Err(error) => return (pieces, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn chunks_of_a_byte_are_handed_on_as_large_pieces() {
        let sent: &'static [u8] = Box::leak((0..=255).cycle().take(100_000).collect::<Vec<u8>>().into());
        let (mut response, mut one_by_one) = (in_chunks(sent, b"0\r\n\r\n").await, 0);
        while response.chunk().await.expect("a chunk").is_some() {
            one_by_one += 1;
        }
        let (pieces, ended) = gathered(in_chunks(sent, b"0\r\n\r\n").await).await;
        ended.expect("the end");
        // It depends on how many come while it waits.
        assert!(pieces.len() < one_by_one / 10, "{} pieces instead of {one_by_one}", pieces.len());
        assert_eq!(pieces.concat(), sent);
        // What came before a connection broke off has come.
        let (pieces, ended) = gathered(in_chunks(&sent[..100], b"").await).await;
        ended.expect_err("it broke off");
        assert_eq!(pieces.concat(), &sent[..100]);
    }
}
