//! Files with holes in a tar stream: GNU's old form and PAX forms 0.0, 0.1 and 1.0. It writes nothing.

use super::field::{REBUILD, bad, beyond, decimal};
use crate::error::{Context, Error, Result};
use std::io::Read;
use tar::{GnuExtSparseHeader, Header};

/// Chunks of content a file may have: the map is kept in memory while the file is made, a megabyte of it.
const CHUNKS: usize = 1 << 16;

/// Content that stands together: where in the file, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes from the file's beginning.
    pub offset: u64,
    /// Bytes of content.
    pub length: u64,
}

/// What PAX records say of a file with holes.
#[derive(Default)]
pub struct Said {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    major: u64,
    present: bool,
    chunks: Vec<Chunk>,
    offset: Option<u64>,
}

/// A file with holes.
pub struct Sparse {
    /// Its name, where the records say it.
    pub name: Option<Vec<u8>>,
    /// Bytes with the holes.
    pub size: u64,
    /// Where the content lies.
    pub chunks: Vec<Chunk>,
}

impl Said {
    /// Takes the record `GNU.sparse.NAME`.
    pub fn record(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        let number = || decimal(value).ok_or_else(|| bad("a sparse record that is no number"));
        match name {
            b"major" => (self.major, self.present) = (number()?, true),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => (self.size, self.present) = (Some(number()?), true),
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(|| bad("a sparse length without an offset"))?;
                self.push(offset, number()?)?;
            }
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<_>>>();
                let numbers = numbers.filter(|numbers| numbers.len().is_multiple_of(2));
                for pair in numbers.ok_or_else(|| bad("a sparse map that is none"))?.chunks_exact(2) {
                    self.push(pair[0], pair[1])?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<()> {
        if self.chunks.len() == CHUNKS {
            return Err(too_many());
        }
        self.chunks.push(Chunk { offset, length });
        Ok(())
    }

    /// Whether any record said so.
    pub fn is_sparse(&self) -> bool {
        self.present || !self.chunks.is_empty()
    }

    /// All that is known; in form 1.0 the map stands before the content.
    pub fn finish(mut self, content: &mut impl Read) -> Result<Sparse> {
        if self.major == 1 {
            let mut block = Block { content, bytes: [0; 512], at: 512 };
            let count = block.number()?;
            for _ in 0..count {
                let offset = block.number()?;
                let length = block.number()?;
                self.push(offset, length)?;
            }
        }
        let size = self.size.ok_or_else(|| bad("a sparse file without its size"))?;
        Ok(Sparse { name: self.name, size, chunks: self.chunks })
    }
}

/// Decimal numbers, a line each, in whole blocks.
struct Block<'a, R> {
    content: &'a mut R,
    bytes: [u8; 512],
    at: usize,
}

impl<R: Read> Block<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.bytes.len() {
                self.content.read_exact(&mut self.bytes).what(|| "read layer")?;
                self.at = 0;
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            if byte == b'\n' {
                return decimal(&digits).ok_or_else(|| bad("a sparse map that is none"));
            }
            if digits.len() == 20 {
                return Err(bad("a sparse map that is none"));
            }
            digits.push(byte);
        }
    }
}

fn too_many() -> Error {
    beyond("more pieces of content in a file with holes", CHUNKS, REBUILD)
}

/// The map and size in a GNU header and in the blocks after it, which are read.
pub fn gnu(header: &Header, input: &mut impl Read) -> Result<(Vec<Chunk>, u64)> {
    let header = header.as_gnu().ok_or_else(|| bad("a sparse entry that is not GNU's"))?;
    let size = header.real_size().map_err(|error| bad(&error.to_string()))?;
    let mut chunks = Vec::new();
    let mut add = |part: &tar::GnuSparseHeader| {
        if part.is_empty() {
            return Ok(());
        }
        let read = |field: std::io::Result<u64>| field.map_err(|error| bad(&error.to_string()));
        chunks.push(Chunk { offset: read(part.offset())?, length: read(part.length())? });
        if chunks.len() > CHUNKS { Err(too_many()) } else { Ok(()) }
    };
    header.sparse.iter().try_for_each(&mut add)?;
    let mut more = header.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        input.read_exact(block.as_mut_bytes()).what(|| "read layer")?;
        block.sparse.iter().try_for_each(&mut add)?;
        more = block.is_extended();
    }
    Ok((chunks, size))
}

/// Chunks in order, without overlap, inside the file, and together as long as the content that is left.
pub fn check(chunks: &[Chunk], size: u64, left: u64) -> Result<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for chunk in chunks {
        let next = chunk.offset.checked_add(chunk.length).filter(|next| chunk.offset >= end && *next <= size);
        end = next.ok_or_else(|| bad("a sparse map that leaves its file"))?;
        sum += chunk.length;
    }
    if sum == left { Ok(()) } else { Err(bad("a sparse map that is not as long as its content")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_in_each_form_and_checked() {
        let mut old = Said::default();
        for (key, value) in
            [("size", "10"), ("offset", "2"), ("numbytes", "3"), ("offset", "6"), ("numbytes", "1")]
        {
            old.record(key.as_bytes(), value.as_bytes()).unwrap();
        }
        let chunks = [Chunk { offset: 2, length: 3 }, Chunk { offset: 6, length: 1 }];
        assert_eq!(old.finish(&mut &b""[..]).unwrap().chunks, chunks);
        let mut new = Said::default();
        for (key, value) in [("major", "1"), ("minor", "0"), ("realsize", "10"), ("name", "n")] {
            new.record(key.as_bytes(), value.as_bytes()).unwrap();
        }
        let mut map = b"2\n2\n3\n6\n1\n".to_vec();
        map.resize(512, 0);
        map.extend(b"abcd");
        let mut rest = map.as_slice();
        let sparse = new.finish(&mut rest).unwrap();
        assert_eq!((sparse.chunks.as_slice(), sparse.size, rest), (&chunks[..], 10, &b"abcd"[..]));
        assert!(check(&chunks, 10, 4).is_ok());
        assert!(check(&chunks, 6, 4).is_err() && check(&chunks, 10, 5).is_err());
        assert!(check(&[chunks[1], chunks[0]], 10, 4).is_err());
        assert!(check(&[Chunk { offset: u64::MAX, length: 2 }], u64::MAX, 2).is_err());
    }
}
