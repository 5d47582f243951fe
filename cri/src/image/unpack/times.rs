//! Times of a layer's directories, until nothing is put into them any more. In the archive's order each path shares most of itself with
//! the one before, so only the rest is kept; where that is much, in a file.

use super::budget::{Account, BLOCK};
use super::resolve::open_in_root;
use crate::error::{Context, Error, Result};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

/// Bytes kept in memory: the directories of some hundred thousand files.
const MEMORY: usize = 1 << 20;
const NAME: &str = "times";

/// The times of directories.
#[derive(Default)]
pub struct Times {
    memory: Vec<u8>,
    file: Option<File>,
    last: Vec<u8>,
}

impl Times {
    /// One more; a list that grows too long goes into a file in `beside`.
    pub fn add(
        &mut self,
        path: &[u8],
        times: &Timestamps,
        (account, beside): (&Account, &OwnedFd),
    ) -> Result<()> {
        let shared = path.iter().zip(&self.last).take_while(|(one, other)| one == other).count();
        let rest = &path[shared..];
        // Paths have a few thousand bytes.
        for length in [shared, rest.len()] {
            let length = u16::try_from(length).map_err(|_| Error::internal("a path of more than 64 KiB"))?;
            self.memory.extend(length.to_le_bytes());
        }
        self.memory.extend(rest);
        self.memory.extend(times.last_modification.tv_sec.to_le_bytes());
        self.memory.extend((times.last_modification.tv_nsec as u32).to_le_bytes());
        self.last.truncate(shared);
        self.last.extend(rest);
        if self.memory.len() >= MEMORY { self.spill(account, beside) } else { Ok(()) }
    }

    fn spill(&mut self, account: &Account, beside: &OwnedFd) -> Result<()> {
        let what = || "keep times of directories";
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(beside, NAME, flags, Mode::from_raw_mode(0o600)).what(what)?;
                none.insert(File::from(made))
            }
        };
        account.spend((self.memory.len() as u64).next_multiple_of(BLOCK), beside)?;
        file.write_all(&self.memory).what(what)?;
        self.memory.clear();
        Ok(())
    }

    /// Sets them all below `root`.
    pub fn set(mut self, root: &OwnedFd, account: &Account) -> Result<()> {
        let what = || "read times of directories";
        let mut path = Vec::new();
        if let Some(mut file) = self.file.take() {
            file.seek(SeekFrom::Start(0)).what(what)?;
            let length = file.metadata().what(what)?.len();
            let mut input = BufReader::with_capacity(64 << 10, file).take(length);
            while input.limit() > 0 {
                one(&mut input, &mut path, (root, account))?;
            }
        }
        let mut input = self.memory.as_slice();
        while !input.is_empty() {
            one(&mut input, &mut path, (root, account))?;
        }
        Ok(())
    }
}

fn one(input: &mut impl Read, path: &mut Vec<u8>, (root, account): (&OwnedFd, &Account)) -> Result<()> {
    account.check()?;
    let what = || "read times of directories";
    let (mut lengths, mut seconds, mut nanoseconds) = ([0; 4], [0; 8], [0; 4]);
    input.read_exact(&mut lengths).what(what)?;
    let [shared, rest] = [[lengths[0], lengths[1]], [lengths[2], lengths[3]]].map(u16::from_le_bytes);
    path.truncate(shared.into());
    let begin = path.len();
    path.resize(begin + usize::from(rest), 0);
    input.read_exact(&mut path[begin..]).what(what)?;
    input.read_exact(&mut seconds).what(what)?;
    input.read_exact(&mut nanoseconds).what(what)?;
    let time =
        Timespec { tv_sec: i64::from_le_bytes(seconds), tv_nsec: u32::from_le_bytes(nanoseconds).into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let what = || format!("set times of {:?}", String::from_utf8_lossy(path));
    let walk = |parts| account.walk(parts, root);
    match open_in_root(root, path, OFlags::RDONLY | OFlags::DIRECTORY, &walk).what(what)? {
        Ok(directory) => rustix::fs::futimens(directory, &times).what(what),
        // Replaced by a later entry.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(errno) => Err(errno).what(what),
    }
}
