//! A large blob in pieces: taken up again where it broke off, from the next host where one fails for good. It hashes nothing.

use super::Repository;
use super::connection::{self, Ask};
use super::pace::Paced;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use std::sync::Arc;

/// A blob on its way.
pub struct Download {
    repository: Arc<Repository>,
    digest: Digest,
    size: u64,
    /// Number of the host that is asked now.
    host: usize,
    offset: u64,
    /// Bytes that a host sent though they had come already.
    skip: u64,
    response: Option<Paced>,
    /// Since enough came to count as progress.
    failures: u32,
    /// Bytes since the last failure.
    came: u64,
}

impl Download {
    /// Nothing is sent yet.
    pub(super) fn new(repository: Arc<Repository>, of: &Descriptor, host: usize, kept: u64) -> Self {
        let (digest, size) = (of.digest.clone(), of.size);
        Self { repository, digest, size, host, offset: kept, skip: 0, response: None, failures: 0, came: 0 }
    }

    /// Bytes to come.
    pub fn left(&self) -> u64 {
        self.size - self.offset
    }

    /// The host that was asked last.
    pub fn host(&self) -> usize {
        self.host
    }

    /// The next piece; None when all has come, in the length that was expected.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.offset == self.size {
                return Ok(None);
            }
            let Some(response) = &mut self.response else {
                self.open().await?;
                continue;
            };
            let error = match response.chunk(&format!("read blob {}", self.digest)).await {
                Ok(Some(piece)) => match self.accept(piece)? {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(None) => {
                    let text = format!(
                        "read blob {}: it ended after {} of {} bytes",
                        self.digest, self.offset, self.size
                    );
                    Error::new(Kind::Unavailable, text)
                }
                Err(error) => error,
            };
            self.response = None;
            self.failed(error).await?;
        }
    }

    /// What of a piece is new.
    fn accept(&mut self, mut piece: Bytes) -> Result<Option<Bytes>> {
        let known = piece.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= known as u64;
        let piece = piece.split_off(known);
        if piece.is_empty() {
            return Ok(None);
        }
        self.came += piece.len() as u64;
        if self.came >= self.repository.pace.least {
            self.failures = 0;
        }
        self.offset += piece.len() as u64;
        if self.offset > self.size {
            let text =
                format!("read blob {}: more than the {} bytes of its manifest", self.digest, self.size);
            return Err(Error::invalid(text));
        }
        Ok(Some(piece))
    }

    /// Asks for what is missing.
    async fn open(&mut self) -> Result<()> {
        let able = |host: &usize| self.repository.connections[*host].endpoint.pull;
        let Some(host) = (self.host..self.repository.hosts()).find(able) else {
            return Err(self.repository.all_failed(Vec::new()));
        };
        self.host = host;
        let path = format!("blobs/{}", self.digest);
        let ask = Ask { method: Method::GET, path, accept: None, from: self.offset, is_proved: true };
        let last = host + 1 == self.repository.hosts();
        let attempts = if last { self.repository.attempts } else { 1 };
        match self.repository.connections[host].send(&ask, attempts).await {
            Ok(response) => {
                let begin = self.begin(&response);
                let Some(skip) = self.offset.checked_sub(begin) else {
                    let text = format!(
                        "read blob {}: it answers from byte {begin} on, and was asked from {}",
                        self.digest, self.offset
                    );
                    return self.failed(Error::new(Kind::Unavailable, text)).await;
                };
                self.skip = skip;
                self.response = Some(Paced::new(response, self.repository.pace));
                Ok(())
            }
            Err(error) if last => Err(error),
            Err(error) => {
                tracing::info!(%error, "next host asked for a blob");
                self.host += 1;
                Ok(())
            }
        }
    }

    /// The first byte of an answer: the one asked for, or 0 of a host that knows no ranges.
    fn begin(&self, response: &Response) -> u64 {
        if self.offset == 0 || response.status() != StatusCode::PARTIAL_CONTENT {
            return 0;
        }
        let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let first =
            header.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok());
        // One that doesn't say it sends what it was asked for; the hash shows it.
        first.unwrap_or(self.offset)
    }

    /// Waits a little, or goes to the next host, or gives up.
    async fn failed(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        self.came = 0;
        if self.failures < self.repository.attempts {
            tracing::info!(%error, offset = self.offset, "download taken up again");
            tokio::time::sleep(connection::backoff(self.failures)).await;
            return Ok(());
        }
        if self.host + 1 < self.repository.hosts() {
            (self.host, self.failures) = (self.host + 1, 0);
            return Ok(());
        }
        Err(error)
    }
}
