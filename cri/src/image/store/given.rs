//! Who gave what is here. Whoever knows a digest does not have the content: an image or a layer that is here is for those whose registry
//! showed that it has it.

use super::disk::{Layer, Names, Record};
use super::{Books, Held, Store, Top};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Repositories that are remembered of a layer; who is forgotten shows it anew.
const REMEMBERED: usize = 64;

/// A blob that a repository gave, all of it, or said that it has where its host had given it all before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Given {
    /// `docker.io/library/busybox`
    pub repository: String,
    /// Of the compressed stream.
    pub blob: Digest,
    /// Its length.
    pub bytes: u64,
}

impl Given {
    fn is_by_host_of(&self, other: &Self) -> bool {
        let host = |given: &Self| given.repository.split('/').next().map(str::to_owned);
        (host(self), &self.blob, self.bytes) == (host(other), &other.blob, other.bytes)
    }
}

impl Store {
    /// The layer for a place (diff id and chain id), kept from garbage collection, where this repository gave it before.
    pub(in crate::image) fn hold_given(
        self: &Arc<Self>,
        place: (&Digest, &Digest),
        given: &Given,
    ) -> Option<Held> {
        let mut books = self.books();
        let number = books.layer_for(place, |layer| layer.given.contains(given))?;
        Some(self.held(&mut books, number))
    }

    /// Whether the repository's host gave this very blob before, maybe of another repository: then it knows what it speaks of when it is
    /// asked whether this one has it too. The word of any other proves nothing.
    pub(in crate::image) fn has_by_host(&self, place: (&Digest, &Digest), given: &Given) -> bool {
        let by_host = |layer: &Layer| layer.given.iter().any(|known| known.is_by_host_of(given));
        self.books().layer_for(place, by_host).is_some()
    }

    /// The layer for a place, kept from garbage collection, for whoever has the stream that `digest_of` reads: only where there is a layer.
    pub(in crate::image) fn hold_had(
        self: &Arc<Self>,
        place: (&Digest, &Digest),
        digest_of: impl FnOnce() -> Result<Digest>,
    ) -> Result<Option<Held>> {
        // The books are not kept while it is read.
        let is_here = self.books().layer_for(place, |_| true).is_some();
        let stream = if is_here { digest_of()? } else { return Ok(None) };
        let mut books = self.books();
        let number = books.layer_for(place, |layer| layer.is_of(&stream));
        Ok(number.map(|number| self.held(&mut books, number)))
    }

    /// The layer for a place, kept from garbage collection, for whoever has just shown that he has it; a repository is noted. Blocks.
    pub(in crate::image) fn hold_shown(
        self: &Arc<Self>,
        place: (&Digest, &Digest),
        given: Option<&Given>,
    ) -> Result<Option<Held>> {
        let mut books = self.books();
        let Some(number) = books.layer_for(place, |_| true) else { return Ok(None) };
        let held = self.held(&mut books, number);
        let noted = given.zip(books.layers.get(&number)).and_then(|(given, layer)| layer.noted(given));
        let written = match noted {
            Some(layer) => self.disk.rewrite_layer(number, &layer).map(|()| {
                books.layers.insert(number, layer);
            }),
            None => Ok(()),
        };
        // ORDER: the books are free before a layer is let go, which needs them.
        drop(books);
        written.map(|()| Some(held))
    }

    fn held(self: &Arc<Self>, books: &mut Books, number: u64) -> Held {
        *books.held.entry(number).or_default() += 1;
        Held { store: self.clone(), number }
    }

    /// The record of the image that the reference's repository gave under this digest before.
    pub(in crate::image) fn present(&self, reference: &Reference, digest: &Digest) -> Option<(Record, Top)> {
        let name = reference.repo_digest(digest);
        let is_it = |names: &Names| !names.removed && names.given.contains(&name);
        let books = self.books();
        let (id, _) = books.index.images.iter().find(|(_, names)| is_it(names))?;
        Some((books.records.get(id)?.clone(), Top(digest.clone())))
    }
}

impl Layer {
    /// With one more who gave it.
    fn noted(&self, given: &Given) -> Option<Self> {
        let mut layer = (!self.given.contains(given)).then(|| self.clone())?;
        let forgotten = (layer.given.len() + 1).saturating_sub(REMEMBERED);
        layer.given.drain(..forgotten);
        layer.given.push(given.clone());
        Some(layer)
    }

    /// Whether this is the digest of what unpacks to it: of the archive, or of a compressed stream.
    fn is_of(&self, stream: &Digest) -> bool {
        *stream == self.diff || *stream == self.blob || self.given.iter().any(|given| given.blob == *stream)
    }
}

impl Books {
    /// The first layer with this content that fits on the chain, of those that are right.
    fn layer_for(&self, (diff, chain): (&Digest, &Digest), is_right: impl Fn(&Layer) -> bool) -> Option<u64> {
        let fits = |layer: &Layer| layer.diff == *diff && layer.chain.as_ref().is_none_or(|own| own == chain);
        let mut fitting = self.layers.iter().filter(|(_, layer)| fits(layer) && is_right(layer));
        fitting.next().map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_whole_name_before_the_first_slash() {
        let given = |repository: &str, bytes| Given {
            repository: repository.to_owned(),
            blob: Digest::of(b"blob"),
            bytes,
        };
        let known = given("q.io/a/b", 4);
        for (other, is_same) in [
            (given("q.io/c", 4), true),
            (given("q.io/a/b", 5), false),
            (given("q.io:443/a/b", 4), false),
            (given("q.io.evil/a/b", 4), false),
            (given("evil/q.io/a/b", 4), false),
            (Given { blob: Digest::of(b"other"), ..given("q.io/a/b", 4) }, false),
        ] {
            assert_eq!(known.is_by_host_of(&other), is_same, "{other:?}");
        }
    }
}
