//! One layer on its way: one download for all who want it from the same repository, unpacked as it comes, committed when it is on disk.
//! What is here already is for those whose registry shows that it has it (`store/given.rs`). Nobody waits for what another's registry sends: of two that bring the same layer, the first to end is taken.
//!
//! Dropping all futures that wait for a layer ends its download and removes what was unpacked of it.

use super::blocking::blocking;
use super::digest::Digest;
use super::flights::Working;
use super::manifest::Descriptor;
use super::progress::{Event, Progress};
use super::registry::{Download, Repository};
use super::slots::Slot;
use super::store::disk::{Layer, Part};
use super::store::given::Given;
use super::store::partial::Partial;
use super::store::{Held, Store};
use super::unpack::{Account, Budget, Cancel, Expected, Turn, unpack};
use crate::error::{Context, Error, Kind, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// Pieces of a download that wait for the decompressor, each of up to 400 kB: more of them would only take memory.
const AHEAD: usize = 1;
/// Compressed layers from this size on are kept on disk while they come, so that a download goes on after a crash.
const KEPT: u64 = 1 << 20;
/// But for those whose first bytes come so fast that fetching them anew costs less than writing them: 20 MB/s.
const PROBE: u64 = 2 << 20;
const SLOW: Duration = Duration::from_millis(100);

/// So much longer than it works a layer may wait for the network before it gives its turn to another.
const PATIENCE: Duration = Duration::from_millis(50);

/// A layer that an image needs.
#[derive(Clone)]
pub struct Wanted {
    /// The compressed stream.
    pub descriptor: Descriptor,
    /// The archive.
    pub diff: Digest,
    /// The archive upon those below it.
    pub chain: Digest,
    /// The stream as its repository's.
    pub given: Given,
    /// What the image may cost.
    pub budget: Arc<Budget>,
}

/// What a download is shared by: the same blob for the same place, from the same hosts of the same repository, which are shown the same.
#[derive(PartialEq, Eq, Hash)]
pub struct Source {
    asked: Digest,
    given: Given,
    place: (Digest, Digest),
}

impl Source {
    fn new(from: &Repository, wanted: &Wanted) -> Self {
        let place = (wanted.diff.clone(), wanted.chain.clone());
        Self { asked: from.asked.clone(), given: wanted.given.clone(), place }
    }
}

impl Wanted {
    /// Diff id and chain id.
    fn place(&self) -> (&Digest, &Digest) {
        (&self.diff, &self.chain)
    }
}

/// The layer that is here, where the repository gave it before, or shows that it has it.
async fn here(store: &Arc<Store>, from: &Repository, wanted: &Wanted) -> Result<Option<Held>> {
    if let Some(held) = store.hold_given(wanted.place(), &wanted.given) {
        return Ok(Some(held));
    }
    if !store.has_by_host(wanted.place(), &wanted.given) || !from.has(&wanted.descriptor).await {
        return Ok(None);
    }
    let (store, wanted) = (store.clone(), wanted.clone());
    blocking(move || store.hold_shown(wanted.place(), Some(&wanted.given))).await
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
        if let Some(held) = here(&store, &from, &wanted).await? {
            progress.layer(&digest, Event::Done);
            return Ok(Arc::new(held));
        }
        progress.layer(&digest, Event::Waiting(wanted.descriptor.size));
        let (way, watcher) = ((store.clone(), from.clone()), progress.clone());
        let start = |working| fly(way, wanted.clone(), watcher, working).boxed();
        let (flight, own) = store.flights.join(Source::new(&from, &wanted), start);
        match flight.await {
            // It may have been the other image's trouble: what all its layers may cost.
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
    (store, from): (Arc<Store>, Arc<Repository>),
    wanted: Wanted,
    progress: Arc<dyn Progress>,
    working: Working,
) -> Result<Arc<Held>> {
    let mut host = 0;
    loop {
        let slot = store.slots.take(&from.host).await?;
        // ORDER: before the download: a registry does not wait for long with an answer that nobody reads.
        let turn = Arc::new(blocking(|| Ok(Turn::begin())).await?);
        let partial = partial(&store, &wanted).await?;
        let kept = partial.as_ref().map_or(0, Partial::length);
        let mut download = from.download(&wanted.descriptor, host, kept);
        progress.layer(&wanted.descriptor.digest, Event::Received(kept));
        let making = Making {
            store: store.clone(),
            wanted: wanted.clone(),
            partial,
            slot,
            turn,
            working: working.clone(),
            cancel: Cancel::default(),
        };
        let error = match one_host(making, &mut download, &*progress).await {
            Ok(held) => return Ok(Arc::new(held)),
            Err(error) => error,
        };
        // What was kept may be what is wrong; it has been removed.
        let again = error.kind() == Kind::Invalid && kept > 0;
        host = if again { download.host() } else { download.host() + 1 };
        if error.kind() != Kind::Invalid || host >= from.hosts() {
            return Err(error.during(format!("bring layer {}", wanted.descriptor.digest)));
        }
        tracing::warn!(%error, host, "layer downloaded anew");
    }
}

/// What has come of the layer before; None for those that are sooner downloaded anew.
async fn partial(store: &Arc<Store>, wanted: &Wanted) -> Result<Option<Partial>> {
    let Descriptor { digest, size, .. } = wanted.descriptor.clone();
    if size < KEPT && !store.config.keep_blobs {
        return Ok(None);
    }
    let store = store.clone();
    let repository = wanted.given.repository.clone();
    blocking(move || store.disk.partial((&digest, size), &repository)).await
}

async fn one_host(making: Making, download: &mut Download, progress: &dyn Progress) -> Result<Held> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let digest = making.wanted.descriptor.digest.clone();
    let input = Pieces {
        receiver,
        piece: Bytes::new(),
        left: download.left(),
        waited: Duration::ZERO,
        turn: making.turn.clone(),
        idle: Duration::ZERO,
        fed: Instant::now(),
        runtime: Handle::current(),
    };
    let (answer, made) = oneshot::channel();
    let payer = making.slot.payer();
    // Dropped with this future, when all who waited for it are gone.
    let _waiting = making.cancel.on_drop();
    tokio::task::spawn_blocking(move || {
        let working = making.working.clone();
        // Where nobody waits any more the layer is let go here.
        let _ = answer.send(making.run(input));
        // ORDER: last, so that who waits for it finds the layer whole, gone, or somebody's.
        drop(working);
    });
    let fed = loop {
        let came = |sent: &Result<Option<Bytes>>| {
            sent.as_ref().ok().and_then(Option::as_ref).map_or(0, |piece| piece.len() as u64)
        };
        match payer.pays(download.piece(), came).await.flatten() {
            Ok(Some(piece)) => {
                progress.layer(&digest, Event::Received(piece.len() as u64));
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
    let made = made.await.map_err(|_| Error::internal("unpack layer: the thread panicked"))?;
    fed?;
    made
}

/// What a thread that unpacks has.
struct Making {
    store: Arc<Store>,
    wanted: Wanted,
    partial: Option<Partial>,
    /// Among those that are brought.
    slot: Slot,
    /// Among those that are unpacked.
    turn: Arc<Turn>,
    working: Working,
    /// Whether anybody waits.
    cancel: Cancel,
}

impl Making {
    /// Unpacks and commits. Blocks.
    fn run(self, input: Pieces) -> Result<Held> {
        let Self { store, wanted, partial, slot, turn, cancel, .. } = self;
        let part = store.disk.begin_layer()?;
        let expected = Expected { blob: Some(&wanted.descriptor.digest), diff: &wanted.diff };
        let (given_up, fast) = (AtomicBool::new(false), AtomicBool::new(false));
        let input = Resumed {
            partial: partial.as_ref(),
            input,
            at: 0,
            given_up: &given_up,
            fast: &fast,
            keep: store.config.keep_blobs,
            free_bytes: store.free_bytes(),
        };
        let account = Account::new(&wanted.budget, cancel.clone());
        let made = unpack_in(&part, (input, &expected), (&wanted.chain, &account));
        let goes_on = (given_up.into_inner() || cancel.is_cancelled()) && !fast.into_inner();
        if made.is_err() && !goes_on {
            // What came is wrong, or there is no room for it, or nothing was kept.
            partial.iter().try_for_each(Partial::remove)?;
        }
        let layer = Layer { given: vec![wanted.given.clone()], ..made? };
        if wanted.descriptor.size >= KEPT {
            // Pieces and buffers of this layer, before the next one takes its own.
            runtime::sys::memory::give_back();
        }
        // The disk is waited for without keeping others from their turn.
        drop((slot, turn));
        // It was here for others, or another registry was faster.
        let (held, blob) = match store.hold_shown(wanted.place(), Some(&wanted.given))? {
            Some(held) => {
                let blob = store.layer(held.number).map(|layer| layer.blob);
                drop(part);
                (held, blob)
            }
            None => (commit(&store, part, layer.clone())?, Some(layer.blob.clone())),
        };
        match partial {
            Some(partial) if store.config.keep_blobs && blob.as_ref() == Some(&layer.blob) => {
                partial.keep(&store.disk.blob(&layer.blob))?;
            }
            Some(partial) => partial.remove()?,
            None => {}
        }
        Ok(held)
    }
}

/// Unpacks and commits what needs no download; its compressed digest may be unknown. Blocks.
pub fn make(
    store: &Arc<Store>,
    (input, expected): (impl Read + Send, &Expected<'_>),
    (chain, account): (&Digest, &Account),
) -> Result<Held> {
    let part = store.disk.begin_layer()?;
    let copy = part.path.join("blob");
    let file = store.config.keep_blobs.then(|| std::fs::File::create(&copy)).transpose();
    let input = Tee { input, copy: file.what(|| format!("make {}", copy.display()))? };
    let layer = {
        let _turn = Turn::begin();
        unpack_in(&part, (input, expected), (chain, account))?
    };
    let blob = store.disk.blob(&layer.blob);
    // It was here for others.
    if let Some(held) = store.hold_shown((expected.diff, chain), None)? {
        return Ok(held);
    }
    let held = commit(store, part, layer)?;
    if store.config.keep_blobs {
        let copy = store.disk.layer(held.number).join("blob");
        std::fs::rename(copy, &blob).what(|| format!("keep {}", blob.display()))?;
    }
    Ok(held)
}

fn unpack_in(
    part: &Part<'_>,
    (input, expected): (impl Read + Send, &Expected<'_>),
    (chain, account): (&Digest, &Account),
) -> Result<Layer> {
    let unpacked = unpack(input, &part.path, expected, account).map_err(|error| {
        // What a decompressor can't read is what was sent, and no fault in here.
        if error.kind() == Kind::Internal { error.with_kind(Kind::Invalid) } else { error }
    })?;
    account.keep();
    let grown = unpacked.grown;
    Ok(Layer {
        diff: expected.diff.clone(),
        chain: (!grown.implied.is_empty()).then(|| chain.clone()),
        blob: unpacked.blob,
        blob_bytes: unpacked.blob_bytes,
        bytes: grown.bytes,
        inodes: grown.inodes,
        opaque_root: grown.opaque_root,
        exact: grown.exact,
        given: Vec::new(),
        implied: Vec::new(),
    })
}

fn commit(store: &Arc<Store>, part: Part<'_>, layer: Layer) -> Result<Held> {
    let number = part.commit(&layer)?;
    Ok(store.add_layer(number, layer))
}

/// A download as a reader for the thread that unpacks it.
struct Pieces {
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
struct Resumed<'a> {
    partial: Option<&'a Partial>,
    input: Pieces,
    at: u64,
    given_up: &'a AtomicBool,
    /// Whether it came so fast that nothing is kept.
    fast: &'a AtomicBool,
    /// To the end, however fast it comes.
    keep: bool,
    /// Of the filesystem, for others.
    free_bytes: u64,
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
