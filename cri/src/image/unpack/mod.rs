//! A layer from its compressed stream to a directory that overlayfs takes as a lower one, verified on the way.
//!
//! It fetches nothing and commits nothing: the directory is its caller's to keep or to drop.

mod ahead;
mod archive;
mod attributes;
mod budget;
mod confine;
mod cores;
mod creators;
mod field;
mod pax;
mod place;
mod resolve;
pub mod seal;
mod sparse;
mod stream;
mod sum;
mod times;
mod tree;
mod walk;

pub use archive::{Archive, Kind};
pub use budget::{Account, Budget, Cancel, keeps_room};
pub use cores::Turn;
pub use place::is_whiteout;
pub use resolve::{Fare, open_in_root};
pub use stream::{Compression, Decoder, Hashed, expect};
pub use sum::Pieces;
pub use tree::Grown;
pub use walk::walk;

use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use ahead::Ahead;
use budget::{Costly, Paying};
use rustix::fs::{Mode, OFlags};
use seal::Seals;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use tree::Tree;

/// The list of a layer's files, beside its tree.
pub const SEALS: &str = "files";
/// The list of its directories that have no entry, each with a NUL after it; not there where all have one.
pub const IMPLIED: &str = "implied";

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

/// Unpacks `input` into the new directory `place`/fs. Blocks, while a thread works that has nothing but `place` and `input`, and starts
/// two others, for cores that have nothing to do: one decompresses, one makes small files.
pub fn unpack(
    input: impl Read + Send,
    place: &Path,
    expected: &Expected<'_>,
    account: &Account,
) -> Result<Unpacked> {
    let confined = || {
        confine::confine(place)?;
        unpack_here(input, place, expected, account)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("unpack".into()).spawn_scoped(scope, confined);
        let done = thread.what(|| "start the thread that unpacks")?.join();
        done.map_err(|_| Error::internal("unpack layer: the thread panicked"))?
    })
}

/// The same on this thread, which can then say what broke: no confined one can write a file, nor signal a debugger. For fuzzing.
#[cfg(feature = "fuzzing")]
pub fn unconfined(
    input: impl Read + Send,
    place: &Path,
    expected: &Expected<'_>,
    account: &Account,
) -> Result<Unpacked> {
    unpack_here(input, place, expected, account)
}

fn unpack_here(
    input: impl Read + Send,
    place: &Path,
    expected: &Expected<'_>,
    account: &Account,
) -> Result<Unpacked> {
    let (root, old) = (directory(&place.join("fs"), 0o755)?, directory(&place.join("old"), 0o700)?);
    let again = root.try_clone().what(|| "open layer")?;
    let reading = || "read layer";
    let hasher = expected.blob.map_or_else(Hasher::sha256, Digest::hasher);
    let blob = Hashed::new(Paying { input, account }, hasher, u64::MAX);
    let decoder = Costly { input: Decoder::new(blob).what(reading)?, account, directory: &again };
    std::thread::scope(|scope| {
        let plain = Hashed::new(
            Ahead::new(scope, decoder, cores::to_spare),
            expected.diff.hasher(),
            account.limits().layer_bytes,
        );
        let mut archive = Archive::new(plain);
        let seals = Seals::create(&place.join(SEALS))?;
        let mut tree = Tree::new((root, old), (seals, scope), account)?;
        while let Some(entry) = archive.next_entry()? {
            tree.add(&entry, &mut archive)?;
        }
        let (diff, _, ahead) = archive.into_inner().finish().what(reading)?;
        let decoder = ahead.finish().what(reading)?;
        let (blob, blob_bytes, _) = decoder.input.into_inner().finish().what(reading)?;
        if let Some(wanted) = expected.blob {
            expect("layer", wanted, &blob)?;
        }
        expect("unpacked layer", expected.diff, &diff)?;
        let grown = tree.finish()?;
        if grown.replaced {
            seal::of_tree(&again, &place.join(SEALS), account)?;
        }
        list(&place.join(IMPLIED), &grown.implied)?;
        Ok(Unpacked { grown, blob, blob_bytes })
    })
}

/// Written where there are any.
fn list(path: &Path, implied: &BTreeSet<Vec<u8>>) -> Result<()> {
    if implied.is_empty() {
        return Ok(());
    }
    let what = || format!("write {}", path.display());
    let mut file = BufWriter::new(File::create(path).what(what)?);
    for path in implied {
        file.write_all(path).and_then(|()| file.write_all(b"\0")).what(what)?;
    }
    file.flush().what(what)
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
