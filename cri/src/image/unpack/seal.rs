//! What a layer's files hold, kept beside them in a list, so that a disk which loses or changes content is found out: size and CRC-32 of
//! each regular file. It finds damage, not malice: who can change a layer can change its list.

use super::place::open_in_root;
use crate::error::{Context, Error, Result};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BUFFER: usize = 64 << 10;

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
pub fn of_tree(root: &Path, list: &Path) -> Result<()> {
    let mut seals = Seals::create(list)?;
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let what = || format!("list {}", directory.display());
        for entry in std::fs::read_dir(&directory).what(what)? {
            let entry = entry.what(what)?;
            let kind = entry.file_type().what(what)?;
            let path = entry.path();
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                let what = || format!("read {}", path.display());
                let (size, crc) = File::open(&path).and_then(sum).what(what)?;
                let below = path.strip_prefix(root).unwrap_or(&path);
                seals.add(below.as_os_str().as_bytes(), size, crc)?;
            }
        }
    }
    seals.finish()
}

/// Size and sum of what is read to the end.
pub fn sum(mut file: impl Read) -> std::io::Result<(u64, u32)> {
    let (mut crc, mut buffer, mut size) = (flate2::Crc::new(), vec![0; BUFFER], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, crc.sum())),
            count => {
                crc.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// Reads every file of the list; the first that is not as it was is the error.
pub fn verify(root: &OwnedFd, list: &Path) -> Result<()> {
    let bytes = std::fs::read(list).what(|| format!("read {}", list.display()))?;
    let torn = || Error::invalid(format!("read {}: a line that is none", list.display()));
    let lines = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    for line in lines.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
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
        let file =
            open_in_root(root, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK).what(what)?;
        let found = sum(File::from(file)).what(what)?;
        if found != (size, crc) {
            let why = if found.0 == size {
                "other content".to_owned()
            } else {
                format!("{} bytes instead of {size}", found.0)
            };
            return Err(Error::invalid(format!("{:?} has {why}", String::from_utf8_lossy(path))));
        }
    }
    Ok(())
}
