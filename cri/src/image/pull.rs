//! A pull, from a reference to an image in the store: resolve, manifest, config, layers side by side, names.
//!
//! How registries are asked is in `registry`, how layers are unpacked in `unpack`, how things are kept in `store`.

use super::blocking::blocking;
use super::digest::{Digest, Verified};
use super::layer::Wanted;
use super::manifest::{self, Descriptor, Manifest, Named, Platform};
use super::policy::Policy;
use super::progress::Progress;
use super::reference::{Asked, Reference};
use super::registry::{Credentials, Document, Repository};
use super::store::disk::Record;
use super::store::given::Given;
use super::store::{Arrived, Held, Store, Top};
use super::unpack::{Budget, Cancel};
use super::{Image, fit};
use crate::error::{Error, Kind, Result};
use futures_util::future::try_join_all;
use std::sync::Arc;

/// Indexes within indexes that are followed.
const NESTED: usize = 3;

impl Store {
    /// Brings the image here, telling `progress` of each layer. Dropping the future cancels what no other caller waits for.
    pub async fn pull_watched(
        self: &Arc<Self>,
        reference: &str,
        credentials: Option<Credentials>,
        progress: Arc<dyn Progress>,
    ) -> Result<Arc<Image>> {
        let parsed = Reference::parse(reference)?;
        let pull = Pull { store: self.clone(), reference: parsed, progress };
        let result = pull.run(credentials.as_ref()).await;
        let Err(error) = result else { return result };
        let full = matches!(error.errno(), Some(libc::ENOSPC | libc::EDQUOT));
        let error = match full {
            true => error.cure(format!("make room on the filesystem of {}", self.disk.root().display())),
            false => error,
        };
        self.flights.given_up().await;
        if full {
            self.give_space_back().await;
        }
        // kubelet looks for these words at the beginning.
        let gone = matches!(error.kind(), Kind::Unavailable | Kind::Timeout);
        let word = match error.kind() {
            Kind::Untrusted => "SignatureValidationFailed: ",
            _ if gone => "RegistryUnavailable: ",
            _ => "",
        };
        Err(error.during(format!("{word}pull image {reference}")))
    }

    /// After a full disk: what the pull had brought goes too.
    async fn give_space_back(self: &Arc<Self>) {
        let store = self.clone();
        if let Err(error) = blocking(move || store.make_room().and_then(|()| store.disk.sweep())).await {
            tracing::warn!(%error, "space of an unfinished pull is not given back yet");
        }
    }
}

/// One pull.
struct Pull {
    store: Arc<Store>,
    reference: Reference,
    progress: Arc<dyn Progress>,
}

impl Pull {
    async fn run(&self, credentials: Option<&Credentials>) -> Result<Arc<Image>> {
        let policy = self.policy().await?;
        let repository = Arc::new(self.store.registries.repository(&self.reference, credentials).await?);
        // Also where the image is here: whoever pulls must be one whom the registry lets, and the registry one that gave it.
        let resolved = repository.resolve(self.reference.wanted()).await?;
        if let Some(digest) = &resolved
            && let Some((record, top)) = self.store.present(&self.reference, digest)
        {
            self.judge(policy.as_ref(), &repository, top.digest()).await?;
            return self.add(record, top).await;
        }
        let wanted = resolved.as_ref().map_or(self.reference.wanted(), Asked::Digest);
        let named = repository.document(wanted).await?;
        let top = Top::of(&named.content);
        self.judge(policy.as_ref(), &repository, top.digest()).await?;
        let (document, manifest) = self.manifest(&repository, named).await?;
        let config = repository.blob(&manifest.config, self.store.config.limits.document_bytes).await?;
        let (_, diffs) = manifest::config(config.bytes(), manifest.layers.len())?;
        let layers = self.layers(&repository, &manifest, &diffs).await?;
        let record = record(document, &manifest, config)?;
        let record = self.finish(record, &layers).await?;
        // Held until the image has them.
        let image = self.add(record, top).await;
        drop(layers);
        image
    }

    /// The policy of this moment, where there is one; what it rejects is not even asked for.
    async fn policy(&self) -> Result<Option<Policy>> {
        let path = self.store.config.policy.clone();
        let policy = blocking(move || Policy::read(&path)).await?;
        policy.iter().try_for_each(|policy| policy.allows(&self.reference))?;
        Ok(policy)
    }

    async fn judge(&self, policy: Option<&Policy>, from: &Repository, digest: &Digest) -> Result<()> {
        match policy {
            Some(policy) => policy.judge(&self.reference, digest, from).await,
            None => Ok(()),
        }
    }

    /// The manifest for this machine, through indexes.
    async fn manifest(
        &self,
        repository: &Repository,
        mut document: Document,
    ) -> Result<(Document, Manifest)> {
        for _ in 0..NESTED {
            let limits = &self.store.config.limits;
            match manifest::parse(document.content.bytes(), &document.media_type, limits)? {
                Named::Manifest(manifest) => return Ok((document, manifest)),
                Named::Index(index) => {
                    let chosen = manifest::choose(&index, &Platform::host())?;
                    document = repository.child(chosen).await?;
                }
            }
        }
        Err(Error::invalid(format!("read manifest: {NESTED} indexes within each other")))
    }

    /// All layers, side by side, lowest first.
    async fn layers(
        &self,
        from: &Arc<Repository>,
        manifest: &Manifest,
        diffs: &[Digest],
    ) -> Result<Vec<Arc<Held>>> {
        let chain = manifest::chain_ids(diffs);
        let budget = Arc::new(Budget::new(&self.store.config.limits));
        let each = manifest.layers.iter().zip(diffs).zip(chain).map(|((descriptor, diff), chain)| {
            let budget = budget.clone();
            let given = self.given(descriptor);
            let wanted = Wanted { descriptor: descriptor.clone(), diff: diff.clone(), chain, given, budget };
            super::layer::bring(self.store.clone(), from.clone(), wanted, self.progress.clone())
        });
        try_join_all(each).await
    }

    /// A blob of the repository, as of who gives it.
    fn given(&self, of: &Descriptor) -> Given {
        Given { repository: self.reference.name(), blob: of.digest.clone(), bytes: of.size }
    }

    /// What can only be known with all layers there.
    async fn finish(&self, mut record: Record, layers: &[Arc<Held>]) -> Result<Record> {
        record.layers = layers.iter().map(|held| held.number).collect();
        let store = self.store.clone();
        let cancel = Cancel::default();
        let _waiting = cancel.on_drop();
        blocking(move || completed(&store, record, &cancel)).await
    }

    async fn add(&self, record: Record, top: Top) -> Result<Arc<Image>> {
        let reference = Some(self.reference.clone());
        let arrived = Arrived { record, reference, top: Some(top), is_given: true };
        let store = self.store.clone();
        blocking(move || store.add(arrived)).await
    }
}

/// A record whose layers are there, with what can only be known then. Blocks.
pub fn completed(store: &Store, record: Record, cancel: &Cancel) -> Result<Record> {
    fit::implied(store, &record.layers, cancel)?;
    Ok(record)
}

/// A record but for its layers.
fn record(document: Document, manifest: &Manifest, config: Verified) -> Result<Record> {
    let text = |content: Verified, what: &str| {
        String::from_utf8(content.into_bytes())
            .map_err(|_| Error::invalid(format!("read {what}: it is not UTF-8")))
    };
    let layers = manifest.layers.iter().fold(0u64, |sum, layer: &Descriptor| sum.saturating_add(layer.size));
    let documents = config.bytes().len() + document.content.bytes().len();
    Ok(Record {
        // Whatever the manifest names it by: ids are sha256.
        id: Digest::of(config.bytes()),
        size: layers.saturating_add(documents as u64),
        manifest: text(document.content, "manifest")?,
        media_type: document.media_type,
        config: text(config, "image config")?,
        layers: Vec::new(),
    })
}
