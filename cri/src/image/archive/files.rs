//! The files of an archive or a directory by name, bounded. It understands none of them.

use crate::error::{Context, Error, Result};
use crate::image::unpack::{Archive, Kind, open_in_root};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Files an archive may have.
const FILES: usize = 100_000;
/// Symlinks within an archive that are followed.
const LINKS: usize = 8;

/// Where the files are.
pub enum Files {
    /// In a directory.
    Directory(OwnedFd),
    /// In a tar archive.
    Archive {
        /// The archive.
        file: Arc<File>,
        /// By name.
        places: HashMap<String, Place>,
    },
}

/// Where an archive has a file.
pub enum Place {
    /// Offset and length.
    Content(u64, u64),
    /// Another name, beside this one.
    Link(String),
}

impl Files {
    /// Opens a directory, or reads an archive through for what is in it.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("open {}", path.display());
        if path.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            return Ok(Self::Directory(rustix::fs::open(path, flags, Mode::empty()).what(what)?));
        }
        let file = File::open(path).what(what)?;
        if !file.metadata().what(what)?.is_file() {
            let error =
                Error::unsupported(format!("open {}: it is neither a file nor a directory", path.display()));
            return Err(error.cure("write it to a file first"));
        }
        let places = places(&file).what(|| format!("read {}", path.display()))?;
        Ok(Self::Archive { file: Arc::new(file), places })
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        self.reader(name).is_ok()
    }

    /// A file's content.
    pub fn reader(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let missing = || Error::not_found(format!("find {name} in archive"));
        match self {
            Self::Directory(directory) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                let file = open_in_root(directory, name.as_bytes(), flags, &|_| Ok(()))?;
                Ok(Box::new(File::from(file.map_err(|_| missing())?)))
            }
            Self::Archive { file, places } => {
                let mut name = clean(name);
                for _ in 0..LINKS {
                    match places.get(&name).ok_or_else(missing)? {
                        Place::Content(offset, length) => {
                            return Ok(Box::new(Part { file: file.clone(), offset: *offset, left: *length }));
                        }
                        Place::Link(target) => name = target.clone(),
                    }
                }
                Err(missing())
            }
        }
    }

    /// A small file, whole.
    pub fn read(&self, name: &str, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let what = || format!("read {name} in archive");
        self.reader(name)?.take(most as u64 + 1).read_to_end(&mut bytes).what(what)?;
        if bytes.len() > most {
            return Err(Error::invalid(format!("{}: it has more than {most} bytes", what())));
        }
        Ok(bytes)
    }
}

fn places(file: &File) -> Result<HashMap<String, Place>> {
    let mut archive = Archive::new(Counted { input: BufReader::with_capacity(1 << 20, file), count: 0 });
    let mut places = HashMap::new();
    while let Some(entry) = archive.next_entry()? {
        let name = clean(&String::from_utf8_lossy(&entry.path));
        let place = match entry.kind {
            Kind::File if entry.sparse.is_none() => Place::Content(archive.input().count, entry.size),
            Kind::Symlink | Kind::Link => {
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                let beside =
                    name.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
                let relative = entry.kind == Kind::Symlink && !target.starts_with('/');
                Place::Link(clean(&if relative { beside + &target } else { target }))
            }
            _ => continue,
        };
        if places.len() == FILES {
            return Err(Error::invalid(format!("it has more than {FILES} files")));
        }
        places.insert(name, place);
    }
    Ok(places)
}

/// Without `.`, and with `..` resolved: names in an archive, not of files.
fn clean(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

struct Counted<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

struct Part {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        (self.offset, self.left) = (self.offset + count as u64, self.left - count as u64);
        Ok(count)
    }
}
