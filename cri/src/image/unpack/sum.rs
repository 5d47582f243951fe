//! CRC-32 of files with holes: what is not there counts as the zeros that are read from it, without reading them.

use flate2::Crc;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A hole up to this length is counted byte by byte: that takes as long as to reckon it.
const SHORT: u64 = 16 << 10;
const BUFFER: usize = 64 << 10;

/// Adds `count` zeros: by doubling, in some forty steps for any count.
pub fn zeros(to: &mut Crc, mut count: u64) {
    if count <= SHORT {
        to.update(&[0; SHORT as usize][..usize::try_from(count).unwrap_or_default()]);
        return;
    }
    let mut power = Crc::new();
    power.update(&[0]);
    loop {
        if count & 1 == 1 {
            to.combine(&power);
        }
        count >>= 1;
        if count == 0 {
            return;
        }
        let mut twice = Crc::new();
        twice.combine(&power);
        twice.combine(&power);
        power = twice;
    }
}

/// Size and sum of a file; `go_on` is asked before each piece that is read, with its bytes.
pub fn of_file(file: &File, mut go_on: impl FnMut(u64) -> io::Result<()>) -> io::Result<(u64, u32)> {
    let (mut crc, mut buffer, mut at) = (Crc::new(), Vec::new(), 0);
    for data in Pieces::of(file)? {
        let (from, end) = data?;
        zeros(&mut crc, from - at);
        at = from;
        buffer.resize(BUFFER, 0);
        while at < end {
            let most = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            go_on(most as u64)?;
            match file.read_at(&mut buffer[..most], at)? {
                // It shrinks meanwhile: its size says so.
                0 => return Ok((at, crc.sum())),
                count => {
                    crc.update(&buffer[..count]);
                    at += count as u64;
                }
            }
        }
    }
    Ok((at, crc.sum()))
}

/// The pieces of a file that are not holes: begin and end. The last one ends where the file ends, and is empty if that is in a hole.
pub struct Pieces<'a> {
    file: &'a File,
    at: u64,
    size: u64,
    ended: bool,
}

impl<'a> Pieces<'a> {
    /// Of a regular file.
    pub fn of(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, at: 0, size: file.metadata()?.len(), ended: false })
    }

    fn seek(&self, to: SeekFrom) -> io::Result<Option<u64>> {
        match rustix::fs::seek(self.file, to) {
            Ok(at) => Ok(Some(at.min(self.size))),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn find(&mut self) -> io::Result<(u64, u64)> {
        let from = self.seek(SeekFrom::Data(self.at))?.unwrap_or(self.size);
        let end = if from < self.size { self.seek(SeekFrom::Hole(from))?.unwrap_or(self.size) } else { from };
        self.at = end;
        self.ended = end == self.size;
        Ok((from, end))
    }
}

impl Iterator for Pieces<'_> {
    type Item = io::Result<(u64, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = self.find();
        self.ended |= found.is_err();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn read(bytes: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn zeros_that_are_reckoned_count_as_those_that_are_read() {
        for count in [0, 1, 2, 3, 1000, SHORT - 1, SHORT, SHORT + 1, 100_000, (1 << 20) + 7] {
            let mut crc = Crc::new();
            crc.update(b"before");
            zeros(&mut crc, count);
            crc.update(b"after");
            let all = [&b"before"[..], &vec![0; count as usize], b"after"].concat();
            assert_eq!(crc.sum(), read(&all), "{count}");
        }
        let began = Instant::now();
        let mut crc = Crc::new();
        for _ in 0..1000 {
            zeros(&mut crc, u64::MAX >> 12);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn a_file_with_holes_has_the_sum_of_its_bytes() {
        let path = std::env::temp_dir().join(format!("rt-sum.{}", std::process::id()));
        for (pieces, size) in [
            (vec![], 0),
            (vec![], 3 << 20),
            (vec![(0, 5)], 5),
            (vec![(1 << 20, 7)], 3 << 20),
            (vec![(0, 4096), (2 << 20, 100_000)], (2 << 20) + 100_000),
        ] {
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
            let file = file.expect("a file");
            file.set_len(size).expect("a size");
            for (offset, length) in &pieces {
                file.write_all_at(&vec![7; *length], *offset).expect("written");
            }
            let all = std::fs::read(&path).expect("read");
            assert_eq!(of_file(&file, |_| Ok(())).expect("a sum"), (size, read(&all)), "{pieces:?} {size}");
        }
        let huge = File::create(&path).and_then(|file| file.set_len(1 << 43).map(|()| file));
        drop(huge.expect("a hole"));
        let began = Instant::now();
        let file = File::open(&path).expect("open");
        assert_eq!(of_file(&file, |_| Ok(())).expect("a sum").0, 1 << 43);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        std::fs::remove_file(path).expect("removed");
    }
}
