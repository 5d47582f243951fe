//! One layer on its way: one download for all who want it from the same repository, unpacked as it comes, committed when it is on disk.
//! What is here already is for those whose registry shows that it has it (`store/given.rs`). Nobody waits for what another's registry sends: of two that bring the same layer, the first to end is taken.
//!
//! Dropping all futures that wait for a layer ends its download and removes what was unpacked of it.

use super::blocking::blocking;
use super::digest::Digest;
use super::flights::Working;
use super::incoming::{Pieces, Resumed, Tee};
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
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{mpsc, oneshot};

/// Pieces of a download that wait for the decompressor, each of up to 400 kB: more of them would only take memory.
const AHEAD: usize = 1;
/// Compressed layers from this size on are kept on disk while they come, so that a download goes on after a crash.
const KEPT: u64 = 1 << 20;

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
    let input = Pieces::new(receiver, download.left(), making.turn.clone());
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
