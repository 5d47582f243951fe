//! What comes of a layer, as a reader for the thread that unpacks it: pieces of a download, behind what had come of it before, and kept
//! in case it is broken off too.

use super::store::partial::Partial;
use super::unpack::Turn;
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// Nothing is kept of downloads whose first bytes come so fast that fetching them anew costs less than writing them: 20 MB/s.
const PROBE: u64 = 2 << 20;
const SLOW: Duration = Duration::from_millis(100);

/// So much longer than it works a layer may wait for the network before it gives its turn to another.
const PATIENCE: Duration = Duration::from_millis(50);

/// A download as a reader for the thread that unpacks it.
pub struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
    left: u64,
    /// For the network.
    waited: Duration,
    turn: Arc<Turn>,
    /// How much longer it has waited than worked, of late.
    idle: Duration,
    /// When it last had something to work at.
    fed: Instant,
    runtime: Handle,
}

impl Pieces {
    /// Of a download that has so many bytes left.
    pub fn new(receiver: mpsc::Receiver<Bytes>, left: u64, turn: Arc<Turn>) -> Self {
        let (waited, idle) = (Duration::ZERO, Duration::ZERO);
        let runtime = Handle::current();
        Self { receiver, piece: Bytes::new(), left, waited, turn, idle, fed: Instant::now(), runtime }
    }

    /// The next piece; None at the end, or where the download broke off.
    fn next(&mut self) -> Option<Bytes> {
        let began = Instant::now();
        self.idle = self.idle.saturating_sub(began - self.fed);
        let next = match self.receiver.try_recv() {
            Ok(piece) => {
                self.turn.let_older();
                Some(piece)
            }
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let patience = PATIENCE.saturating_sub(self.idle);
                let soon = async { tokio::time::timeout(patience, self.receiver.recv()).await };
                let next = self.runtime.block_on(soon);
                next.unwrap_or_else(|_| self.turn.apart(|| self.receiver.blocking_recv()))
            }
        };
        self.fed = Instant::now();
        self.waited += self.fed - began;
        self.idle = (self.idle + (self.fed - began)).min(PATIENCE * 2);
        next
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.next() {
                Some(piece) => self.piece = piece,
                None if self.left == 0 => return Ok(0),
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

/// What has come before, and then the download, which is kept in case it is broken off too.
pub struct Resumed<'a> {
    pub(super) partial: Option<&'a Partial>,
    pub(super) input: Pieces,
    pub(super) at: u64,
    pub(super) given_up: &'a AtomicBool,
    /// Whether it came so fast that nothing is kept.
    pub(super) fast: &'a AtomicBool,
    /// To the end, however fast it comes.
    pub(super) keep: bool,
    /// Of the filesystem, for others.
    pub(super) free_bytes: u64,
}

impl Read for Resumed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(partial) = self.partial.filter(|partial| self.at < partial.length()) {
            let count = partial.read_at(buffer, self.at)?;
            self.at += count as u64;
            return Ok(count);
        }
        let count = self.input.read(buffer).inspect_err(|_| self.given_up.store(true, Ordering::Relaxed))?;
        if let Some(partial) = self.partial {
            partial.write_at(&buffer[..count], self.at, self.free_bytes)?;
        }
        self.at += count as u64;
        self.forget_if_fast();
        Ok(count)
    }
}

impl Resumed<'_> {
    /// What comes fast is not worth keeping: it would only be written to be removed again.
    fn forget_if_fast(&mut self) {
        let Some(partial) =
            self.partial.filter(|partial| partial.length() == 0 && !self.keep && self.at >= PROBE)
        else {
            return;
        };
        // Its name goes when the layer is unpacked.
        if self.input.waited < SLOW && partial.empty().is_ok() {
            self.fast.store(true, Ordering::Relaxed);
            self.partial = None;
        }
        self.keep = true;
    }
}

/// A reader whose bytes are kept too.
pub struct Tee<R> {
    pub(super) input: R,
    pub(super) copy: Option<std::fs::File>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Some(copy) = &mut self.copy {
            io::Write::write_all(copy, &buffer[..count])?;
        }
        Ok(count)
    }
}
