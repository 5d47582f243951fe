//! A layer's bytes on their way: hashed as they come, decompressed, bounded, hashed again. It knows nothing of archives.

use super::field::bad;
use crate::error::{Error, Kind, Result};
use crate::image::digest::{Digest, Hasher};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// The largest window of zstd that is taken, 32 MiB: a frame of a few bytes may ask for it, each layer under way has one, and what
/// `zstd -20` makes needs no more. (`zstd -21` and `-22` want 64 and 128.)
const WINDOW_LOG: u32 = 25;
const BUFFER: usize = 64 << 10;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain archive.
    None,
    /// gzip, of one or many members.
    Gzip,
    /// zstd, of one or many frames; zstd:chunked is that.
    Zstd,
}

impl Compression {
    /// By the first bytes of the content: media types of layers are wrong too often.
    pub fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one (zstd:chunked may begin so).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Bytes that are hashed and counted as they are read.
pub struct Hashed<R> {
    input: R,
    hasher: Hasher,
    count: u64,
    most: u64,
}

impl<R: Read> Hashed<R> {
    /// Reading more than `most` bytes is an error.
    pub fn new(input: R, hasher: Hasher, most: u64) -> Self {
        Self { input, hasher, count: 0, most }
    }

    /// What remains is read; then the digest of all, their number, and the reader.
    pub fn finish(mut self) -> io::Result<(Digest, u64, R)> {
        let mut buffer = vec![0; BUFFER];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.hasher.finish(), self.count, self.input))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        self.bounded(0)?;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let more = self.input.fill_buf()?.len();
        self.bounded(more)?;
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What was filled is there, or there is nothing to consume.
        if let Ok(bytes) = self.input.fill_buf() {
            self.hasher.update(&bytes[..amount.min(bytes.len())]);
        }
        self.count += amount as u64;
        self.input.consume(amount);
    }
}

impl<R> Hashed<R> {
    fn bounded(&self, more: usize) -> io::Result<()> {
        match self.count + more as u64 > self.most {
            true => Err(io::Error::other(Bomb { most: self.most })),
            false => Ok(()),
        }
    }
}

/// More bytes than are taken.
#[derive(Debug)]
struct Bomb {
    most: u64,
}

impl std::fmt::Display for Bomb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "it is larger than the {} bytes that are allowed (raise registry.limits.layer_bytes if the image is to be trusted)",
            self.most
        )
    }
}

impl std::error::Error for Bomb {}

/// The decompressor over the compressed bytes.
pub enum Decoder<R: Read> {
    /// None.
    Plain(BufReader<R>),
    /// gzip
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    /// zstd
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes to choose.
    pub fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let compression = Compression::of(io::BufRead::fill_buf(&mut input)?);
        Ok(match compression {
            Compression::None => Self::Plain(input),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// What the bytes come from; what the decompressor left is still in it, or in the buffer that is dropped here.
    pub fn into_inner(self) -> R {
        match self {
            Self::Plain(reader) => reader.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
            Self::Zstd(decoder) => decoder.finish().into_inner(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer).map_err(window),
        }
    }
}

/// zstd's own words of a window that is too large tell nobody what to do.
fn window(error: io::Error) -> io::Error {
    if !error.to_string().contains("too much memory") {
        return error;
    }
    let most = (1u64 << WINDOW_LOG) >> 20;
    let why = format!("it is compressed with a window of more than {most} MiB");
    io::Error::other(bad(&why).cure("compress it with zstd -20 or less, without --long"))
}

/// The digest asked for against the one found.
pub fn expect(what: &str, wanted: &Digest, found: &Digest) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    let text = format!("verify {what}: it should have digest {wanted} and has {found}");
    Err(Error::new(Kind::Invalid, text).cure("the registry, a mirror or a proxy changed it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn through(bytes: &[u8], most: u64) -> io::Result<(Vec<u8>, Digest, Digest)> {
        let compressed = Hashed::new(bytes, Hasher::sha256(), u64::MAX);
        let mut plain = Hashed::new(Decoder::new(compressed)?, Hasher::sha256(), most);
        let mut content = Vec::new();
        plain.read_to_end(&mut content)?;
        let (diff, _, decoder) = plain.finish()?;
        Ok((content, decoder.into_inner().finish()?.0, diff))
    }

    #[test]
    fn each_compression_is_known_by_its_first_bytes_and_hashed_on_both_sides() {
        let text = b"layer ".repeat(40_000);
        let gzip = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let members = [gzip(&text[..1000]), gzip(&text[1000..])].concat();
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        // zstd:chunked ends with skippable frames.
        let chunked = [zstd.clone(), vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]].concat();
        for bytes in [text.clone(), gzip(&text), members, zstd, chunked] {
            let (content, blob, diff) = through(&bytes, u64::MAX).unwrap();
            assert_eq!(content, text);
            assert_eq!((blob, diff), (Digest::of(&bytes), Digest::of(&text)));
        }
    }

    #[test]
    fn a_window_of_zstd_that_is_too_large_is_refused_with_the_cure() {
        let with = |log: u32| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(log)).unwrap();
            encoder.write_all(b"text").unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(through(&with(WINDOW_LOG), 100).unwrap().0, b"text");
        let error = through(&with(WINDOW_LOG + 1), 100).unwrap_err().to_string();
        assert!(error.contains("window of more than 32 MiB") && error.contains("zstd -20"), "{error}");
    }

    #[test]
    fn a_bomb_ends_at_the_bound_and_a_cut_stream_is_an_error() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 10 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let error = through(&bomb, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("larger than the 1048576 bytes"), "{error}");
        assert!(through(&bomb[..bomb.len() - 20], u64::MAX).is_err());
        let zstd = zstd::encode_all(&vec![0; 1 << 20][..], 3).unwrap();
        assert!(through(&zstd[..zstd.len() - 5], u64::MAX).is_err());
    }
}
