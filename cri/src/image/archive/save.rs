//! Images from the store into an OCI archive. Compressed layers are written as they came, so they must have been kept.

use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::image::store::Store;
use crate::image::store::disk::Record;
use crate::image::unpack::Hashed;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes the images that `names` name to `output`. Blocks.
pub fn save(store: &Store, names: &[String], output: &Path) -> Result<()> {
    let new = output.with_extension("part");
    let what = || format!("write {}", output.display());
    let file = File::create(&new).what(what)?;
    let written = write(store, names, &file).what(what);
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
        return written;
    }
    file.sync_all().what(what)?;
    std::fs::rename(&new, output).what(what)
}

fn write(store: &Store, names: &[String], file: &File) -> Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
    add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut written = BTreeSet::new();
    let mut manifests = Vec::new();
    for name in names {
        let missing = || Error::not_found(format!("find image {name}"));
        let image = store.find(name).ok_or_else(missing)?;
        let record = store.record(&image.id).ok_or_else(missing)?;
        let manifest = Digest::of(record.manifest.as_bytes());
        for (digest, content) in [(&record.id, &record.config), (&manifest, &record.manifest)] {
            if written.insert(digest.clone()) {
                add(&mut archive, &format!("blobs/sha256/{}", digest.hex()), content.as_bytes())?;
            }
        }
        layers(store, &record, (&mut archive, &mut written)).what(|| format!("save image {name}"))?;
        let entry = serde_json::json!({"mediaType": record.media_type, "digest": manifest, "size": record.manifest.len()});
        if image.repo_tags.is_empty() {
            manifests.push(entry.clone());
        }
        for tag in &image.repo_tags {
            let mut named = entry.clone();
            let short = tag.rsplit(':').next().unwrap_or_default();
            named["annotations"] = serde_json::json!({"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": short});
            manifests.push(named);
        }
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests});
    add(&mut archive, "index.json", index.to_string().as_bytes())?;
    let mut output = archive.into_inner().what(|| "end archive")?;
    output.flush().what(|| "end archive")
}

/// The compressed layers that the manifest names.
fn layers<W: Write>(
    store: &Store,
    record: &Record,
    (archive, written): (&mut tar::Builder<W>, &mut BTreeSet<Digest>),
) -> Result<()> {
    for number in &record.layers {
        let Some(layer) = store.layer(*number) else { continue };
        if !written.insert(layer.blob.clone()) {
            continue;
        }
        let blob = open(&store.disk.blob(&layer.blob)).map_err(|_| {
            Error::unsupported(format!("write layer {}: its compressed form was not kept", layer.blob))
                .cure("set keep_blobs under [registry] and pull the image anew")
        })?;
        let mut header = header(layer.blob_bytes);
        let name = format!("blobs/{}/{}", layer.blob.algorithm(), layer.blob.hex());
        let mut blob = Hashed::new(blob.take(layer.blob_bytes), layer.blob.hasher(), u64::MAX);
        let what = || format!("write layer {}", layer.blob);
        archive.append_data(&mut header, name, &mut blob).what(what)?;
        // What is kept is on a disk, and may have been changed there.
        let (found, bytes, _) = blob.finish().what(what)?;
        if (found, bytes) != (layer.blob.clone(), layer.blob_bytes) {
            let error = Error::invalid(format!("{}: what was kept of it has other content", what()));
            return Err(error.cure("remove the image, and pull it anew"));
        }
    }
    Ok(())
}

/// A regular file.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn add<W: Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8]) -> Result<()> {
    archive.append_data(&mut header(content.len() as u64), name, content).what(|| format!("write {name}"))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
