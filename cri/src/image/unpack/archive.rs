//! The entries of a tar stream: ustar, GNU and PAX, with bounds on everything that the stream says of itself.
//!
//! Fields of a header block and PAX records are read by the crate `tar`; what follows what is decided here, because that crate
//! keeps a long name or a PAX header of any size in memory. It touches no file.

use super::field::{REBUILD, bad, beyond};
use super::pax::{Said, records_of};
use super::sparse::{self, Chunk};
use crate::error::{Context, Result};
use std::io::{self, BufRead, Read};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// The most bytes that describe one entry: all its long names and PAX headers together. Go's reader takes so much for each.
const DESCRIPTION: u64 = 1 << 20;
/// The most of such headers before one entry. Archivers write three: a long name, a long link, and a PAX header.
const HEADERS: usize = 16;
/// Device numbers: bits of the kernel's dev_t. Larger ones would come out as others.
const MAJOR: u32 = 1 << 12;
const MINOR: u32 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// Another name of an entry before it.
    Link,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// One entry, without its content.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As written.
    pub path: Vec<u8>,
    /// Target of a link, as written.
    pub link: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// The twelve lowest bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the file as it will be.
    pub size: u64,
    /// Where content lies in a file with holes.
    pub sparse: Option<Vec<Chunk>>,
}

impl Entry {
    /// Bytes of what is said of it.
    pub fn described(&self) -> u64 {
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len());
        (self.path.len() + self.link.len() + xattrs.sum::<usize>()) as u64
    }
}

/// A tar stream, read entry by entry; the content of the present entry is read from it as `Read`.
pub struct Archive<R> {
    input: R,
    /// Content of the present entry that has not been read.
    left: u64,
    /// Zeros after it.
    padding: u64,
    /// Headers before the next entry, and their bytes.
    headers: usize,
    described: u64,
}

impl<R: Read> Archive<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, headers: 0, described: 0 }
    }

    /// The stream itself.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// The stream after its end mark.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next entry; None at the end mark, or where the stream ends between entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut said = Said::default();
        (self.headers, self.described) = (0, 0);
        loop {
            self.pass_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header.as_old().size, header.entry_size())?;
            match header.entry_type() {
                EntryType::GNULongName => said.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => said.link = Some(self.long_name(size)?),
                EntryType::XHeader => {
                    let records = self.special(size)?;
                    records_of(&records, &mut said)?;
                }
                // Git's commit id and the like; Go's reader passes it over too.
                EntryType::XGlobalHeader => self.begin_special(size)?,
                _ => return self.entry(&header, said, size).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, said: Said, size: u64) -> Result<Entry> {
        let path = said.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind_of(header.entry_type(), &path)?;
        let old = header.as_old();
        let owner = |(raw, field): (&[u8], io::Result<u64>), record: Option<u64>| {
            let value = record.map_or_else(|| number(raw, field), Ok)?;
            // KERNEL: -1 is "no change" for chown(2), so the last id is none.
            let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| bad(&format!("an owner of {value}")))
        };
        let stored = said.size.unwrap_or(size);
        // Links and devices have no content whatever their header says; Go's reader reads none either.
        let content = matches!(kind, Kind::File);
        self.left = if content { stored } else { 0 };
        self.padding = (BLOCK - self.left % BLOCK) % BLOCK;
        let mut entry = Entry {
            kind,
            link: said.link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default(),
            mode: number(&old.mode, header.mode())? & 0o7777,
            uid: owner((&old.uid, header.uid()), said.uid)?,
            gid: owner((&old.gid, header.gid()), said.gid)?,
            mtime: match said.mtime {
                Some(time) => time,
                None => (i64::try_from(number(&old.mtime, header.mtime())?).unwrap_or(i64::MAX), 0),
            },
            device: match kind {
                Kind::Char | Kind::Block => {
                    let part = |field: io::Result<Option<u32>>| {
                        field.map(Option::unwrap_or_default).map_err(|error| bad(&error.to_string()))
                    };
                    let (major, minor) = (part(header.device_major())?, part(header.device_minor())?);
                    if major >= MAJOR || minor >= MINOR {
                        return Err(bad(&format!("a device of the numbers {major} and {minor}")));
                    }
                    (major, minor)
                }
                _ => (0, 0),
            },
            xattrs: said.xattrs,
            size: self.left,
            sparse: None,
            path,
        };
        if header.entry_type() == EntryType::GNUSparse {
            let (chunks, size) = sparse::gnu(header, &mut self.input)?;
            (entry.sparse, entry.size) = (Some(chunks), size);
        } else if content && said.sparse.is_sparse() {
            let sparse = said.sparse.finish(self)?;
            (entry.sparse, entry.size) = (Some(sparse.chunks), sparse.size);
            entry.path = sparse.name.unwrap_or(entry.path);
        }
        if let Some(chunks) = &entry.sparse {
            sparse::check(chunks, entry.size, self.left)?;
        }
        Ok(entry)
    }

    /// The next header block; None at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]).what(|| "read layer")? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(bad("it ends inside a header")),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = |from: &[u8]| from.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let own = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        if header.cksum().ok() != Some(own) {
            return Err(bad("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// A GNU long name, without the NUL at its end.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.special(size)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// The content of an entry that describes the next one.
    fn special(&mut self, size: u64) -> Result<Vec<u8>> {
        self.begin_special(size)?;
        let mut content = Vec::new();
        self.read_to_end(&mut content).what(|| "read layer")?;
        Ok(content)
    }

    /// Its content is what is read next.
    fn begin_special(&mut self, size: u64) -> Result<()> {
        self.headers += 1;
        self.described = self.described.saturating_add(size);
        if self.headers > HEADERS {
            return Err(beyond("more headers before one entry", HEADERS, REBUILD));
        }
        if self.described > DESCRIPTION {
            let what = format!("extended headers of {} bytes before one entry", self.described);
            return Err(beyond(what, DESCRIPTION, REBUILD));
        }
        (self.left, self.padding) = (size, (BLOCK - size % BLOCK) % BLOCK);
        Ok(())
    }

    fn pass_content(&mut self) -> Result<()> {
        io::copy(self, &mut io::sink()).what(|| "read layer")?;
        let mut padding = [0; BLOCK as usize];
        let padding = &mut padding[..self.padding as usize];
        self.padding = 0;
        self.input.read_exact(padding).what(|| "read layer")
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(torn());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Archive<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = self.input.fill_buf()?;
        if bytes.is_empty() {
            return Err(torn());
        }
        Ok(&bytes[..usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len())])
    }

    fn consume(&mut self, amount: usize) {
        self.left = self.left.saturating_sub(amount as u64);
        self.input.consume(amount);
    }
}

/// There is less than its header said.
pub fn torn() -> io::Error {
    io::Error::other("the archive ends inside a file")
}

/// A number of a header; archivers leave fields empty that they mean to be 0.
fn number<T: Default>(raw: &[u8], field: io::Result<T>) -> Result<T> {
    match raw.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(T::default()),
        false => field.map_err(|error| bad(&error.to_string())),
    }
}

fn kind_of(kind: EntryType, path: &[u8]) -> Result<Kind> {
    Ok(match kind {
        // Before POSIX a directory was a file whose name ends with a slash.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::Link,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Directory,
        EntryType::Char => Kind::Char,
        EntryType::Block => Kind::Block,
        EntryType::Fifo => Kind::Fifo,
        other => {
            let path = String::from_utf8_lossy(path);
            return Err(bad(&format!("{path:?} is of type {:?}", char::from(other.as_byte()))));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn record(key: &str, value: &str) -> String {
        let mut length = key.len() + value.len() + 3;
        length += length.to_string().len();
        if format!("{length} {key}={value}\n").len() != length {
            length = format!("{length} {key}={value}\n").len();
        }
        format!("{length} {key}={value}\n")
    }

    fn all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut archive = Archive::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let mut content = Vec::new();
            archive.read_to_end(&mut content).what(|| "read")?;
            found.push((entry, content));
        }
        Ok(found)
    }

    #[test]
    fn pax_records_describe_the_next_file_and_no_other() {
        let mut bytes = block(
            "x",
            EntryType::XHeader,
            (record("path", "long/name")
                + &record("uid", "70000")
                + &record("mtime", "-1.25")
                + &record("SCHILY.xattr.user.a", "v=\n")
                + &record("size", "3"))
                .as_bytes(),
        );
        // A long link between: the size record must not be taken for its size.
        bytes.extend(block("y", EntryType::GNULongLink, b"somewhere else\0"));
        bytes.extend(block("short", EntryType::Regular, b"abc"));
        bytes.extend(block("next", EntryType::Regular, b"z"));
        bytes.extend([0; 1024]);
        let found = all(&bytes).unwrap();
        let (entry, content) = &found[0];
        assert_eq!((entry.path.as_slice(), content.as_slice()), (&b"long/name"[..], &b"abc"[..]));
        assert_eq!((entry.uid, entry.gid, entry.mtime), (70000, 2, (-2, 750_000_000)));
        assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"v=\n".to_vec())]);
        assert_eq!((found[1].0.path.as_slice(), found[1].0.uid, found.len()), (&b"next"[..], 1, 2));
    }

    #[test]
    fn absurd_archives_are_errors_and_cost_no_memory() {
        let huge = |kind| {
            let mut header = Header::new_ustar();
            header.set_path("x").unwrap();
            header.set_entry_type(kind);
            header.set_size(1 << 40);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let mut wrong = block("a", EntryType::Regular, b"");
        wrong[0] = b'b';
        let cut = block("a", EntryType::Regular, &[7; 600]);
        for (bytes, why) in [
            (huge(EntryType::GNULongName), "extended headers of"),
            (huge(EntryType::XHeader), "extended headers of"),
            (huge(EntryType::Regular), "ends inside a file"),
            (wrong, "checksum"),
            (cut[..1000].to_vec(), "ends inside a file"),
            (cut[..300].to_vec(), "inside a header"),
            (block("a", EntryType::XHeader, b"99 path=x\n"), "PAX record"),
            (block("a", EntryType::XHeader, b"5 a=b"), "PAX record"),
            (block("a", EntryType::XHeader, record("path", "a\0b").as_bytes()), "NUL"),
            (block("a", EntryType::new(b'V'), b""), "is of type 'V'"),
        ] {
            let error = all(&bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn any_bytes_whatsoever_end_in_a_result() {
        let mut seed = block("x", EntryType::XHeader, record("GNU.sparse.map", "0,1,5,2").as_bytes());
        seed.extend(block("f", EntryType::Regular, b"abc"));
        seed.extend(block("l", EntryType::Link, b""));
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            // Half of them with checksums that are right, so that more than the checksum is tried.
            if state & 1 == 0 {
                for start in (0..bytes.len()).step_by(512) {
                    let sum: u32 = bytes[start..start + 512]
                        .iter()
                        .enumerate()
                        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                        .sum();
                    bytes[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
            let _ = all(&bytes);
        }
    }
}
