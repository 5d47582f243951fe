//! A pull, from a reference to an image in the store: resolve, manifest, config, layers side by side, users, names.
//!
//! How registries are asked is in `registry`, how layers are unpacked in `unpack`, how things are kept in `store`.

use super::blocking::blocking;
use super::digest::Digest;
use super::layer::Wanted;
use super::manifest::{self, Descriptor, Manifest, Named, Platform};
use super::merged::Merged;
use super::policy::Policy;
use super::progress::Progress;
use super::reference::Reference;
use super::registry::{Credentials, Document, Repository};
use super::store::disk::Record;
use super::store::{Arrived, Held, Store};
use super::{Image, fit};
use crate::error::{Error, Kind, Result};
use futures_util::future::try_join_all;
use std::path::PathBuf;
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
        // Also where the image is here: whoever pulls must be one whom the registry lets.
        let resolved = repository.resolve(self.reference.wanted()).await?;
        if let Some(digest) = &resolved
            && let Some(record) = self.present(digest)
        {
            self.judge(policy.as_ref(), &repository, digest).await?;
            return self.add(record, digest).await;
        }
        let wanted = resolved.as_ref().map_or(self.reference.wanted(), Digest::as_str);
        let named = repository.document(wanted).await?;
        let top = named.digest.clone();
        self.judge(policy.as_ref(), &repository, &top).await?;
        let (document, manifest) = self.manifest(&repository, named).await?;
        let config = repository.blob(&manifest.config.digest).await?;
        let (_, diffs) = manifest::config(&config, manifest.layers.len())?;
        let layers = self.layers(&repository, &manifest, &diffs).await?;
        let record = record(&document, &manifest, &config)?;
        let record = self.finish(record, &layers).await?;
        // Held until the image has them.
        let image = self.add(record, &top).await;
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

    /// The record of an image that is here under the same digest, whatever repository it came from.
    fn present(&self, digest: &Digest) -> Option<Record> {
        let end = format!("@{digest}");
        let here = self
            .store
            .list()
            .into_iter()
            .find(|image| image.repo_digests.iter().any(|name| name.ends_with(&end)))?;
        self.store.record(&here.id)
    }

    /// The manifest for this machine, through indexes.
    async fn manifest(
        &self,
        repository: &Repository,
        mut document: Document,
    ) -> Result<(Document, Manifest)> {
        for _ in 0..NESTED {
            let limits = &self.store.config.limits;
            match manifest::parse(&document.bytes, &document.media_type, limits)? {
                Named::Manifest(manifest) => return Ok((document, manifest)),
                Named::Index(index) => {
                    let chosen = manifest::choose(&index, &Platform::host())?;
                    document = repository.document(chosen.digest.as_str()).await?;
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
        let each = manifest.layers.iter().zip(diffs).zip(chain).map(|((descriptor, diff), chain)| {
            let wanted = Wanted { descriptor: descriptor.clone(), diff: diff.clone(), chain };
            super::layer::bring(self.store.clone(), from.clone(), wanted, self.progress.clone())
        });
        try_join_all(each).await
    }

    /// What can only be known with all layers there.
    async fn finish(&self, mut record: Record, layers: &[Arc<Held>]) -> Result<Record> {
        record.layers = layers.iter().map(|held| held.number).collect();
        let store = self.store.clone();
        blocking(move || completed(&store, record)).await
    }

    async fn add(&self, record: Record, top: &Digest) -> Result<Arc<Image>> {
        let tag = self.reference.repo_tag();
        let digest = Some(self.reference.repo_digest(top));
        let store = self.store.clone();
        blocking(move || store.add(Arrived { record, tag, digest })).await
    }
}

/// A record whose layers are there, with what can only be known then. Blocks.
pub fn completed(store: &Store, mut record: Record) -> Result<Record> {
    fit::implied(store, &record.layers)?;
    let roots: Vec<PathBuf> = record.layers.iter().map(|number| store.layer_root(*number)).collect();
    record.users = Merged::open(&roots)?.users()?;
    Ok(record)
}

/// A record but for its layers and users.
fn record(document: &Document, manifest: &Manifest, config: &[u8]) -> Result<Record> {
    let text = |bytes: &[u8], what: &str| {
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::invalid(format!("read {what}: it is not UTF-8")))
    };
    let layers: u64 = manifest.layers.iter().map(|layer: &Descriptor| layer.size).sum();
    Ok(Record {
        id: manifest.config.digest.clone(),
        size: layers + config.len() as u64 + document.bytes.len() as u64,
        manifest: text(&document.bytes, "manifest")?,
        media_type: document.media_type.clone(),
        config: text(config, "image config")?,
        layers: Vec::new(),
        users: super::Users::default(),
    })
}
