//! Images from archives into the store: verified and unpacked as a pull does it, by one layer after the other.

use super::files::Files;
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher, Verified};
use crate::image::layer::make;
use crate::image::manifest::{self, Descriptor, Manifest, Named, Platform};
use crate::image::reference::Reference;
use crate::image::store::disk::Record;
use crate::image::store::{Arrived, Held, Store, Top};
use crate::image::unpack::{Account, Budget, Cancel, Expected, Hashed};
use crate::image::{Image, pull};
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;

/// Reads all images of the file or directory. Blocks.
pub fn load(store: &Arc<Store>, path: &Path, cancel: &Cancel) -> Result<Vec<Arc<Image>>> {
    let files = Files::open(path)?;
    let loading = Loading { store, files, cancel };
    let images = match loading.files.has("manifest.json") {
        true => loading.docker(),
        false if loading.files.has("index.json") => loading.oci(),
        false => Err(Error::invalid("read archive: it has neither manifest.json nor index.json")
            .cure("docker-archive, OCI archives and OCI layouts can be loaded")),
    };
    images.what(|| format!("load {}", path.display()))
}

struct Loading<'a> {
    store: &'a Arc<Store>,
    files: Files,
    /// Whether anybody waits.
    cancel: &'a Cancel,
}

/// Digests and lengths of compressed layers.
type Sizes = Vec<(Digest, u64)>;

/// A layer's file, and its digest where it is known.
struct Piece {
    name: String,
    blob: Option<Digest>,
}

/// An entry of docker's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct OciIndex {
    manifests: Vec<Annotated>,
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
}

impl Loading<'_> {
    /// `docker save`'s form.
    fn docker(&self) -> Result<Vec<Arc<Image>>> {
        let text = self.small("manifest.json")?;
        let saved: Vec<Saved> = serde_json::from_slice(&text).what(|| "read manifest.json")?;
        let mut images = Vec::new();
        for image in saved {
            let config = self.small(&image.config)?;
            let pieces: Vec<_> = image.layers.into_iter().map(|name| Piece { name, blob: None }).collect();
            let (layers, sizes) = self.layers(&config, &pieces)?;
            let manifest = made_manifest(&config, &sizes);
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let record = self.record((manifest, media_type), config, &layers)?;
            images.push(self.add(&record, &image.repo_tags.unwrap_or_default(), None)?);
        }
        Ok(images)
    }

    /// The OCI image layout.
    fn oci(&self) -> Result<Vec<Arc<Image>>> {
        let index: OciIndex =
            serde_json::from_slice(&self.small("index.json")?).what(|| "read index.json")?;
        let mut images = Vec::new();
        for entry in index.manifests {
            let top = self.blob(&entry.descriptor)?;
            let named = Top::of(&top);
            let (bytes, media_type, manifest) = self.manifest(top, entry.descriptor.media_type)?;
            let config = self.blob(&manifest.config)?.into_bytes();
            let piece = |layer: &Descriptor| Piece {
                name: blob_name(&layer.digest),
                blob: Some(layer.digest.clone()),
            };
            let pieces: Vec<_> = manifest.layers.iter().map(piece).collect();
            let (layers, _) = self.layers(&config, &pieces)?;
            let text = String::from_utf8(bytes.into_bytes())
                .map_err(|_| Error::invalid("read manifest: it is not UTF-8"))?;
            let record = self.record((text, &media_type), config, &layers)?;
            let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
                .map(|key| entry.annotations.get(key));
            // A tag alone names no image.
            let name = name.into_iter().flatten().find(|name| name.contains([':', '/'])).cloned();
            images.push(self.add(&record, name.as_slice(), Some(&named))?);
        }
        Ok(images)
    }

    fn manifest(&self, top: Verified, media_type: String) -> Result<(Verified, String, Manifest)> {
        let (mut content, mut media_type) = (top, media_type);
        for _ in 0..3 {
            match manifest::parse(content.bytes(), &media_type, &self.store.config.limits)? {
                Named::Manifest(manifest) => return Ok((content, media_type, manifest)),
                Named::Index(index) => {
                    let chosen = manifest::choose(&index, &Platform::host())?;
                    content = self.blob(chosen)?;
                    media_type.clone_from(&chosen.media_type);
                }
            }
        }
        Err(Error::invalid("read manifest: too many indexes within each other"))
    }

    /// All layers, and what their compressed forms are.
    fn layers(&self, config: &[u8], pieces: &[Piece]) -> Result<(Vec<Held>, Sizes)> {
        let (_, diffs) = manifest::config(config, pieces.len())?;
        let chain = manifest::chain_ids(&diffs);
        let budget = Arc::new(Budget::new(&self.store.config.limits));
        let mut layers = Vec::new();
        for ((piece, diff), chain) in pieces.iter().zip(&diffs).zip(&chain) {
            // A layer that is here is for archives that have it too.
            let had = || self.digest(piece);
            let held = match self.store.hold_had((diff, chain), had)? {
                Some(held) => held,
                None => {
                    let expected = Expected { blob: piece.blob.as_ref(), diff };
                    let input = self.files.reader(&piece.name)?;
                    let account = Account::new(&budget, self.cancel.clone());
                    let made = make(self.store, (input, &expected), (chain, &account));
                    made.what(|| format!("unpack {}", piece.name))?
                }
            };
            layers.push(held);
        }
        let sizes = layers.iter().filter_map(|held| self.store.layer(held.number));
        let sizes = sizes.map(|layer| (layer.blob, layer.blob_bytes)).collect();
        Ok((layers, sizes))
    }

    /// What a layer's file is.
    fn digest(&self, piece: &Piece) -> Result<Digest> {
        let hasher = piece.blob.as_ref().map_or_else(Hasher::sha256, Digest::hasher);
        let what = || format!("read {}", piece.name);
        let (found, ..) =
            Hashed::new(self.files.reader(&piece.name)?, hasher, u64::MAX).finish().what(what)?;
        Ok(found)
    }

    fn record(
        &self,
        (manifest, media_type): (String, &str),
        config: Vec<u8>,
        layers: &[Held],
    ) -> Result<Record> {
        let sizes =
            layers.iter().filter_map(|held| self.store.layer(held.number)).map(|layer| layer.blob_bytes);
        let record = Record {
            id: Digest::of(&config),
            size: sizes.sum::<u64>() + (config.len() + manifest.len()) as u64,
            manifest,
            media_type: media_type.to_owned(),
            config: String::from_utf8(config)
                .map_err(|_| Error::invalid("read image config: it is not UTF-8"))?,
            layers: layers.iter().map(|held| held.number).collect(),
        };
        pull::completed(self.store, record, self.cancel)
    }

    /// Gives the image its names; without any it is found by its id.
    fn add(&self, record: &Record, names: &[String], top: Option<&Top>) -> Result<Arc<Image>> {
        let mut image = None;
        for name in names {
            let reference = Some(Reference::parse(name)?);
            let arrived = Arrived { record: record.clone(), reference, top: top.cloned(), is_given: false };
            image = Some(self.store.add(arrived)?);
        }
        match image {
            Some(image) => Ok(image),
            None => {
                let record = record.clone();
                self.store.add(Arrived { record, reference: None, top: None, is_given: false })
            }
        }
    }

    fn blob(&self, of: &Descriptor) -> Result<Verified> {
        Verified::asked("blob", self.small(&blob_name(&of.digest))?, (&of.digest, Some(of.size)))
    }

    fn small(&self, name: &str) -> Result<Vec<u8>> {
        self.files.read(name, self.store.config.limits.document_bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// docker-archives have no manifest: one that names what they have.
fn made_manifest(config: &[u8], layers: &[(Digest, u64)]) -> String {
    let kind = "application/vnd.oci.image";
    let layer = |(digest, size): &(Digest, u64)| serde_json::json!({"mediaType": format!("{kind}.layer.v1.tar"), "digest": digest, "size": size});
    let config = serde_json::json!({"mediaType": format!("{kind}.config.v1+json"), "digest": Digest::of(config),
        "size": config.len()});
    serde_json::json!({"schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"), "config": config,
        "layers": layers.iter().map(layer).collect::<Vec<_>>()})
    .to_string()
}
