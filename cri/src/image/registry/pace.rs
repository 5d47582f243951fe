//! How fast bytes must come to count as coming: who sends one now and then would hold what others wait for.

use super::follow::unreachable;
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use reqwest::Response;
use std::time::{Duration, Instant};

/// How long a manifest, a config, a token or the like may take in all.
const DOCUMENT: Duration = Duration::from_secs(300);
/// And the words of an error.
const WORDS: Duration = Duration::from_secs(10);

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
}

impl Paced {
    /// From its first byte.
    pub fn new(response: Response, pace: Pace) -> Self {
        Self { response, pace, waited: Duration::ZERO, came: 0 }
    }

    /// The next piece; None at the end.
    pub async fn chunk(&mut self, what: &str) -> Result<Option<Bytes>> {
        let began = Instant::now();
        let left = self.pace.window.saturating_sub(self.waited);
        let piece = match tokio::time::timeout(left, self.response.chunk()).await {
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
