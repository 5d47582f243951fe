//! One layer on its way: one download for all who want it, unpacked as it comes, committed when it is on disk.
//!
//! Dropping all futures that wait for a layer ends its download and removes what was unpacked of it.

use super::digest::Digest;
use super::manifest::Descriptor;
use super::progress::{Event, Progress};
use super::pull::blocking;
use super::registry::{Download, Repository};
use super::store::disk::{Layer, Part};
use super::store::{Held, Store};
use super::unpack::{Expected, unpack};
use crate::error::{Context, Error, Kind, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc};

/// Pieces of a download that wait for the decompressor, each of up to 400 kB: more of them would only take memory.
const AHEAD: usize = 1;

type Flight = BoxFuture<'static, Result<Arc<Held>>>;

/// Downloads under way, by content and place.
pub struct Flights {
    under_way: Mutex<HashMap<(Digest, Digest), WeakShared<Flight>>>,
    slots: Semaphore,
}

impl Flights {
    /// So many layers at a time.
    pub fn new(most: usize) -> Self {
        Self { under_way: Mutex::default(), slots: Semaphore::new(most.max(1)) }
    }

    /// The flight that is under way, or else `start`, and whether it is that one.
    fn join(&self, key: (Digest, Digest), start: impl FnOnce() -> Flight) -> (Shared<Flight>, bool) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, flight| flight.upgrade().is_some_and(|flight| flight.peek().is_none()));
        if let Some(flight) = under_way.get(&key).and_then(WeakShared::upgrade) {
            return (flight, false);
        }
        let flight = start().shared();
        under_way.extend(flight.downgrade().map(|weak| (key, weak)));
        (flight, true)
    }
}

/// A layer that an image needs.
#[derive(Clone)]
pub struct Wanted {
    /// The compressed stream.
    pub descriptor: Descriptor,
    /// The archive.
    pub diff: Digest,
    /// The archive upon those below it.
    pub chain: Digest,
}

/// The layer in the store: there already, or brought by this caller or by another.
pub async fn bring(
    store: Arc<Store>,
    from: Arc<Repository>,
    wanted: Wanted,
    progress: Arc<dyn Progress>,
) -> Result<Arc<Held>> {
    let digest = wanted.descriptor.digest.clone();
    loop {
        if let Some(held) = store.hold_layer(&wanted.diff, &wanted.chain) {
            progress.layer(&digest, Event::Done);
            return Ok(Arc::new(held));
        }
        progress.layer(&digest, Event::Waiting(wanted.descriptor.size));
        let start = || fly(store.clone(), from.clone(), wanted.clone(), progress.clone()).boxed();
        let (flight, own) = store.flights.join((wanted.diff.clone(), wanted.chain.clone()), start);
        match flight.await {
            // It may have been another repository's trouble, or another caller's credentials.
            Err(error) if !own => {
                tracing::debug!(%error, "a download that was shared failed; starting an own one");
            }
            result => {
                progress.layer(&digest, Event::Done);
                return result;
            }
        }
    }
}

/// Downloads and unpacks; from the next host where one sends something else.
async fn fly(
    store: Arc<Store>,
    from: Arc<Repository>,
    wanted: Wanted,
    progress: Arc<dyn Progress>,
) -> Result<Arc<Held>> {
    let _slot = store.flights.slots.acquire().await.map_err(|error| Error::internal(error.to_string()))?;
    let mut host = 0;
    loop {
        let mut download = from.download(&wanted.descriptor.digest, wanted.descriptor.size, host);
        let error = match one_host(&store, &mut download, (&wanted, &*progress)).await {
            Ok(held) => return Ok(Arc::new(held)),
            Err(error) => error,
        };
        host = download.host() + 1;
        if error.kind() != Kind::Invalid || host >= from.hosts() {
            return Err(error.during(format!("bring layer {}", wanted.descriptor.digest)));
        }
        tracing::warn!(%error, "next host asked for a layer");
    }
}

async fn one_host(
    store: &Arc<Store>,
    download: &mut Download,
    (wanted, progress): (&Wanted, &dyn Progress),
) -> Result<Held> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (maker, layer) = (store.clone(), wanted.clone());
    let input = Pieces { receiver, piece: Bytes::new(), left: wanted.descriptor.size };
    let making = tokio::spawn(blocking(move || make(&maker, input, &layer)));
    let fed = loop {
        match download.piece().await {
            Ok(Some(piece)) => {
                progress.layer(&wanted.descriptor.digest, Event::Received(piece.len() as u64));
                // Closed: unpacking failed and says why.
                if sender.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(sender);
    let made = making.await.map_err(|error| Error::internal(format!("unpack layer: {error}")))?;
    fed?;
    made
}

/// Unpacks and commits. Blocks.
fn make(store: &Arc<Store>, input: impl Read + Send, wanted: &Wanted) -> Result<Held> {
    let part = store.disk.begin_layer()?;
    let expected = Expected { blob: Some(&wanted.descriptor.digest), diff: &wanted.diff };
    make_in(store, part, (input, &expected), &wanted.chain)
}

/// The same for a layer whose compressed digest may be unknown.
pub fn make_in(
    store: &Arc<Store>,
    part: Part<'_>,
    (input, expected): (impl Read + Send, &Expected<'_>),
    chain: &Digest,
) -> Result<Held> {
    let kept = part.path.join("blob");
    let keep = store.config.keep_blobs.then(|| std::fs::File::create(&kept)).transpose();
    let input = Tee { input, copy: keep.what(|| format!("make {}", kept.display()))? };
    let unpacked = unpack(input, &part.path, expected, &store.config.limits).map_err(|error| {
        // What a decompressor can't read is what was sent, and no fault in here.
        if error.kind() == Kind::Internal { error.with_kind(Kind::Invalid) } else { error }
    })?;
    let grown = unpacked.grown;
    let layer = Layer {
        diff: expected.diff.clone(),
        chain: (!grown.implied.is_empty()).then(|| chain.clone()),
        blob: unpacked.blob,
        blob_bytes: unpacked.blob_bytes,
        bytes: grown.bytes,
        inodes: grown.inodes,
        opaque_root: grown.opaque_root,
        exact: grown.exact,
        implied: grown.implied,
    };
    let number = part.commit(&layer)?;
    let blob = layer.blob.clone();
    let held = store.add_layer(number, layer);
    if store.config.keep_blobs {
        let from = store.disk.layer(number).join("blob");
        std::fs::rename(&from, store.disk.blob(&blob)).what(|| format!("keep {blob}"))?;
    }
    Ok(held)
}

/// A download as a reader for the thread that unpacks it.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
    left: u64,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None if self.left == 0 => return Ok(0),
                None => return Err(io::Error::other("the download was given up")),
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

/// A reader whose bytes are kept too.
struct Tee<R> {
    input: R,
    copy: Option<std::fs::File>,
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
