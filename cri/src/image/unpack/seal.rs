//! What a layer's files hold, kept beside them in a list, so that a disk which loses or changes content is found out: size and CRC-32 of
//! each regular file. It finds damage, not malice: who can change a layer can change its list.

use super::budget::Account;
use super::resolve::open_in_root;
use super::sum;
use super::walk::walk;
use crate::error::{Context, Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

const BUFFER: usize = 64 << 10;
/// The longest line that is read: a path of 4096 bytes and two numbers.
const LINE: u64 = 8 << 10;
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The list while a layer is being made: `CRC SIZE PATH` and a NUL for each file.
pub struct Seals {
    output: BufWriter<File>,
}

impl Seals {
    /// A new list.
    pub fn create(path: &Path) -> Result<Self> {
        let made = File::create(path).what(|| format!("make {}", path.display()))?;
        Ok(Self { output: BufWriter::with_capacity(BUFFER, made) })
    }

    /// One more file.
    pub fn add(&mut self, path: &[u8], size: u64, crc: u32) -> Result<()> {
        let mut write = || {
            write!(self.output, "{crc:08x} {size} ")?;
            self.output.write_all(path)?;
            self.output.write_all(b"\0")
        };
        write().what(|| "write list of files")
    }

    /// All of it is with the kernel.
    pub fn finish(mut self) -> Result<()> {
        self.output.flush().what(|| "write list of files")
    }
}

/// The list of a finished tree, read back: for layers in which an entry took another's place.
pub fn of_tree(root: &OwnedFd, list: &Path, account: &Account) -> Result<()> {
    let mut seals = Seals::create(list)?;
    walk(root, |found| {
        account.check()?;
        if found.kind != FileType::RegularFile {
            return Ok(());
        }
        let what = || format!("read {:?}", String::from_utf8_lossy(found.path));
        let file = rustix::fs::openat(found.parent, found.name, FILE, Mode::empty()).what(what)?;
        let go_on = || account.check().map_err(io::Error::other);
        let (size, crc) = sum::of_file(&File::from(file), go_on).what(what)?;
        seals.add(found.path, size, crc)
    })?;
    seals.finish()
}

/// Reads every file of the list; the first that is not as it was is the error.
pub fn verify(root: &OwnedFd, list: &Path) -> Result<()> {
    let what = || format!("read {}", list.display());
    let mut input = BufReader::with_capacity(BUFFER, File::open(list).what(what)?);
    let torn = || Error::invalid(format!("{}: a line that is none", what()));
    let mut line = Vec::new();
    loop {
        line.clear();
        input.by_ref().take(LINE).read_until(0, &mut line).what(what)?;
        if line.is_empty() {
            return Ok(());
        }
        line.pop_if(|last| *last == 0).ok_or_else(torn)?;
        let mut fields =
            line.splitn(3, |byte| *byte == b' ').map(|field| (field, std::str::from_utf8(field)));
        let (Some((_, Ok(crc))), Some((_, Ok(size))), Some((path, _))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(torn());
        };
        let crc = u32::from_str_radix(crc, 16).map_err(|_| torn())?;
        let size: u64 = size.parse().map_err(|_| torn())?;
        let what = || format!("read {:?}", String::from_utf8_lossy(path));
        let file = open_in_root(root, path, FILE, &|_| Ok(())).what(what)?.what(what)?;
        let found = sum::of_file(&File::from(file), || Ok(())).what(what)?;
        if found != (size, crc) {
            let why = if found.0 == size {
                "other content".to_owned()
            } else {
                format!("{} bytes instead of {size}", found.0)
            };
            return Err(Error::invalid(format!("{:?} has {why}", String::from_utf8_lossy(path))));
        }
    }
}
