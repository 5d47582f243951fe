//! What a layer's files hold, kept beside them in a list, so that a disk which loses or changes content is found out: size and CRC-32 of
//! each regular file. It finds damage, not malice: who can change a layer can change its list.

use super::budget::{Account, Cancel};
use super::resolve::open_in_root;
use super::sum;
use super::walk::walk;
use crate::error::{Context, Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const BUFFER: usize = 64 << 10;
/// The longest line that is read: a path of 4096 bytes and two numbers.
const LINE: u64 = 8 << 10;
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Files with several names that are known again, 2 MiB of them. More are read for each name, and paid for.
const LINKED: usize = 1 << 16;
/// What reading costs, beside making what is read.
const READING: u64 = 8;

/// Size and sum of files by inode, so that one with several names is read once.
#[derive(Default)]
struct Links(HashMap<u64, (u64, u32)>);

impl Links {
    /// What is known of a file that was read by another name.
    fn known(&self, file: &File) -> io::Result<Option<(u64, u32)>> {
        let stat = file.metadata()?;
        Ok(self.0.get(&stat.ino()).filter(|_| stat.nlink() > 1).copied())
    }

    /// Reads a file.
    fn read(&mut self, file: &File, go_on: impl FnMut(u64) -> io::Result<()>) -> io::Result<(u64, u32)> {
        let (stat, found) = (file.metadata()?, sum::of_file(file, go_on)?);
        if stat.nlink() > 1 && self.0.len() < LINKED {
            self.0.insert(stat.ino(), found);
        }
        Ok(found)
    }
}

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

/// The list of a finished tree, read back: for layers in which an entry took another's place. Of a file's names one is listed.
pub fn of_tree(root: &OwnedFd, list: &Path, account: &Account) -> Result<()> {
    let (mut seals, mut links) = (Seals::create(list)?, Links::default());
    walk(root, |found| {
        account.check()?;
        if found.kind != FileType::RegularFile {
            return Ok(());
        }
        let what = || format!("read {:?}", String::from_utf8_lossy(found.path));
        let file = rustix::fs::openat(found.parent, found.name, FILE, Mode::empty()).what(what)?;
        let file = File::from(file);
        if links.known(&file).what(what)?.is_some() {
            return Ok(());
        }
        let go_on = |bytes: u64| account.spend(bytes / READING, root).map_err(io::Error::other);
        let (size, crc) = links.read(&file, go_on).what(what)?;
        seals.add(found.path, size, crc)
    })?;
    seals.finish()
}

/// Reads every file of the list, once, for as long as somebody waits; the first that is not as it was is the error.
pub fn verify(root: &OwnedFd, list: &Path, cancel: &Cancel) -> Result<()> {
    let what = || format!("read {}", list.display());
    let mut input = BufReader::with_capacity(BUFFER, File::open(list).what(what)?);
    let torn = || Error::invalid(format!("{}: a line that is none", what()));
    let (mut line, mut links) = (Vec::new(), Links::default());
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
        let file = File::from(open_in_root(root, path, FILE, &|_| cancel.check()).what(what)?.what(what)?);
        let found = match links.known(&file).what(what)? {
            Some(known) => known,
            None => links.read(&file, |_| cancel.check().map_err(io::Error::other)).what(what)?,
        };
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
