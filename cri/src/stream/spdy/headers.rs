//! Header blocks: name and value pairs, compressed by one zlib stream per direction with SPDY's dictionary. Bounded on both sides.

#[cfg(any(test, feature = "fuzzing"))]
use flate2::{Compress, Compression, FlushCompress};
use flate2::{Decompress, FlushDecompress};

/// SPDY's dictionary (draft 3.1, section 2.6.10.1): a constant of the protocol.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

/// The longest decompressed block that is taken: a bomb ends here.
pub const BLOCK_MAX: usize = 64 * 1024;

/// The most pairs in a block.
const PAIRS_MAX: u32 = 64;

/// What the headers say that mean something here, and the longest that their values are: of thousands of streams nothing else is kept.
const KNOWN: [&str; 3] = ["streamtype", "port", "requestid"];
const VALUE_MAX: usize = 128;

/// Names (lower case) and values of a stream's headers.
pub type Headers = Vec<(String, String)>;

/// Reads the blocks of one connection, in their order.
pub struct Reader {
    inflate: Decompress,
}

/// The blocks of one connection in its other direction, in their order: without any pair, which is all that a server has to say.
#[derive(Default)]
pub struct Empty {
    has_begun: bool,
}

/// Writes blocks as a client does.
#[cfg(any(test, feature = "fuzzing"))]
pub struct Writer {
    deflate: Compress,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// The state before the first block.
    pub fn new() -> Self {
        Self { inflate: Decompress::new(true) }
    }

    /// Decompresses a block and takes it apart.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, String> {
        parse(&self.inflate_block(block)?)
    }

    fn inflate_block(&mut self, block: &[u8]) -> Result<Vec<u8>, String> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = (self.inflate.total_in(), plain.len());
            let done = self.inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            rest = &rest[(self.inflate.total_in() - before.0) as usize..];
            match done {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(DICTIONARY)
                        .map_err(|error| format!("header block with another dictionary: {error}"))?;
                    continue;
                }
                Err(error) => return Err(format!("header block that doesn't decompress: {error}")),
            }
            if plain.len() < plain.capacity() && rest.is_empty() {
                return Ok(plain);
            }
            if plain.len() == plain.capacity() {
                if plain.len() >= BLOCK_MAX {
                    return Err(format!("header block of more than {BLOCK_MAX} bytes"));
                }
                plain.reserve(plain.len());
            } else if before == (self.inflate.total_in(), plain.len()) {
                return Err("header block with bytes after its end".to_owned());
            }
        }
    }
}

/// Of a block, what means something here, each once. An error if that is longer than any client's.
pub fn known(headers: &Headers) -> Result<Headers, String> {
    let mut known = Headers::new();
    for name in KNOWN {
        match headers.iter().find(|(other, _)| other == name).map(|(_, value)| value) {
            Some(value) if value.len() > VALUE_MAX => {
                return Err(format!("header {name} of {} bytes, at most {VALUE_MAX} are taken", value.len()));
            }
            Some(value) => known.push((name.to_owned(), value.clone())),
            None => {}
        }
    }
    Ok(known)
}

impl Empty {
    /// zlib's head (RFC 1950) with SPDY's dictionary's checksum, then for each block four zeros that are stored and an empty stored block
    /// (RFC 1951, 3.2.4), as a compressor that is flushed writes them. A compressor would take 300 kB of each connection for that.
    pub fn block(&mut self) -> Vec<u8> {
        const HEAD: [u8; 6] = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
        const NO_PAIRS: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        let head = if std::mem::replace(&mut self.has_begun, true) { &[][..] } else { &HEAD };
        [head, &NO_PAIRS].concat()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Writer {
    /// The state before the first block.
    pub fn new() -> Self {
        let mut deflate = Compress::new(Compression::best(), true);
        // A new compressor takes any dictionary.
        let set = deflate.set_dictionary(DICTIONARY);
        debug_assert!(set.is_ok());
        Self { deflate }
    }

    /// A compressed block of these pairs.
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let begun = self.deflate.total_in();
        loop {
            let used = (self.deflate.total_in() - begun) as usize;
            // Compressing into a growing buffer can only fail by misuse.
            let done = self.deflate.compress_vec(&plain[used..], &mut block, FlushCompress::Sync);
            debug_assert!(done.is_ok());
            if block.len() < block.capacity() || done.is_err() {
                return block;
            }
            block.reserve(block.len());
        }
    }
}

/// Takes a decompressed block apart.
fn parse(block: &[u8]) -> Result<Headers, String> {
    let (count, mut rest) = number(block)?;
    if count > PAIRS_MAX {
        return Err(format!("{count} headers, at most {PAIRS_MAX} are taken"));
    }
    let mut headers = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (name, after) = text(rest)?;
        let (value, after) = text(after)?;
        rest = after;
        headers.push((name.to_ascii_lowercase(), value));
    }
    Ok(headers)
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or("header block that ends too early")?;
    Ok((u32::from_be_bytes(*number), rest))
}

fn text(bytes: &[u8]) -> Result<(String, &[u8]), String> {
    let (length, rest) = number(bytes)?;
    let text = rest.get(..length as usize).ok_or("header block that ends too early")?;
    let text = std::str::from_utf8(text).map_err(|_| "header that is not UTF-8")?;
    Ok((text.to_owned(), &rest[length as usize..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_dictionary_is_spdys() {
        let digest: String = Sha256::digest(DICTIONARY).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(digest, "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02");
    }

    #[test]
    fn blocks_share_one_compressed_stream() {
        let (mut writer, mut reader) = (Writer::new(), Reader::new());
        for number in 0..200 {
            let port = number.to_string();
            let pairs = [("streamtype", "data"), ("port", port.as_str()), ("requestid", "7")];
            let block = writer.block(&pairs);
            let read = reader.read(&block).expect("a block");
            let expected: Headers = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(read, expected);
        }
        assert_eq!(reader.read(&writer.block(&[])), Ok(Vec::new()));
    }

    #[test]
    fn what_a_server_says_is_understood_as_nothing() {
        let (mut empty, mut reader) = (Empty::default(), Reader::new());
        for _ in 0..3 {
            assert_eq!(reader.read(&empty.block()), Ok(Vec::new()));
        }
    }

    #[test]
    fn of_headers_the_known_are_kept_and_none_of_them_is_long() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut pairs = vec![pair("other", &"x".repeat(60_000)), pair("port", "80")];
        pairs.extend((0..60).map(|_| pair("requestid", &"7".repeat(128))));
        let kept = known(&pairs).expect("none is long");
        assert_eq!(kept, [pair("port", "80"), pair("requestid", &"7".repeat(128))]);
        assert!(known(&vec![pair("port", &"8".repeat(129))]).expect_err("too long").contains("129 bytes"));
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        let mut writer = Writer::new();
        let long = "a".repeat(1024 * 1024);
        let block = writer.block(&[("streamtype", &long)]);
        assert!(block.len() < 8192, "{}", block.len());
        let error = Reader::new().read(&block).expect_err("a bomb");
        assert!(error.contains("more than 65536 bytes"), "{error}");
    }

    #[test]
    fn hostile_blocks_are_errors_and_never_panic() {
        let mut writer = Writer::new();
        let block = writer.block(&[("streamtype", "stdin")]);
        for cut in 0..block.len() {
            let _ = Reader::new().read(&block[..cut]);
        }
        for at in 0..block.len() {
            for bit in 0..8 {
                let mut changed = block.clone();
                changed[at] ^= 1 << bit;
                let _ = Reader::new().read(&changed);
            }
        }
        for plain in
            [&[][..], &[0, 0, 0, 1], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff]]
        {
            assert!(parse(plain).is_err(), "{plain:?}");
        }
    }
}
