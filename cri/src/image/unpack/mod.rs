//! A layer from its compressed stream to a directory that overlayfs takes as a lower one, verified on the way.
//!
//! It fetches nothing and commits nothing: the directory is its caller's to keep or to drop.

mod ahead;
mod archive;
mod attributes;
mod cores;
mod creators;
mod field;
mod pax;
mod place;
pub mod seal;
mod sparse;
mod stream;
mod tree;

pub use archive::{Archive, Kind};
pub use cores::Turn;
pub use place::{is_whiteout, open_in_root};
pub use stream::{Compression, Decoder, Hashed, expect};
pub use tree::Grown;

use crate::error::{Context, Result};
use crate::image::config::Limits;
use crate::image::digest::{Digest, Hasher};
use ahead::Ahead;
use rustix::fs::{Mode, OFlags};
use seal::Seals;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use tree::Tree;

/// The list of a layer's files, beside its tree.
pub const SEALS: &str = "files";

/// What a layer's stream should turn out to be.
pub struct Expected<'a> {
    /// Of the compressed stream; None where it came from a file that names none.
    pub blob: Option<&'a Digest>,
    /// Of the archive.
    pub diff: &'a Digest,
}

/// What it was.
pub struct Unpacked {
    /// The tree.
    pub grown: Grown,
    /// Digest of the compressed stream.
    pub blob: Digest,
    /// Its length.
    pub blob_bytes: u64,
}

/// Unpacks `input` into the new directory `place`/fs. Blocks; belongs on a thread of its own, and starts two others, for cores that
/// have nothing to do: one decompresses, one makes small files.
pub fn unpack(
    input: impl Read + Send,
    place: &Path,
    expected: &Expected<'_>,
    limits: &Limits,
) -> Result<Unpacked> {
    let (root, old) = (directory(&place.join("fs"), 0o755)?, directory(&place.join("old"), 0o700)?);
    let reading = || "read layer";
    let hasher = expected.blob.map_or_else(Hasher::sha256, Digest::hasher);
    let blob = Hashed::new(input, hasher, u64::MAX);
    let decoder = Decoder::new(blob).what(reading)?;
    std::thread::scope(|scope| {
        let plain = Hashed::new(
            Ahead::new(scope, decoder, cores::to_spare),
            expected.diff.hasher(),
            limits.layer_bytes,
        );
        let mut archive = Archive::new(plain);
        let seals = Seals::create(&place.join(SEALS))?;
        let mut tree = Tree::new((root, old), (seals, scope), limits)?;
        while let Some(entry) = archive.next_entry()? {
            tree.add(&entry, &mut archive)?;
        }
        let (diff, _, ahead) = archive.into_inner().finish().what(reading)?;
        let decoder = ahead.finish().what(reading)?;
        let (blob, blob_bytes, _) = decoder.into_inner().finish().what(reading)?;
        if let Some(wanted) = expected.blob {
            expect("layer", wanted, &blob)?;
        }
        expect("unpacked layer", expected.diff, &diff)?;
        let grown = tree.finish()?;
        if grown.replaced {
            seal::of_tree(&place.join("fs"), &place.join(SEALS))?;
        }
        Ok(Unpacked { grown, blob, blob_bytes })
    })
}

fn directory(path: &Path, mode: u32) -> Result<OwnedFd> {
    let what = || format!("make {}", path.display());
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).what(what)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty()).what(what)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).what(what)?;
    Ok(made)
}

#[cfg(test)]
mod tests;
