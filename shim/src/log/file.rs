//! The file of a log: appended to in whole lines. What can't be written is counted, and marked in the log as soon as writing
//! works again; the container is never told. It does not know how lines are made.
//!
//! A pod may have its hands on the directory: the file is opened by [`crate::open`] alone, the first time and each time after.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Settings, Stream, line};
use crate::error::{Context, Error, Result};
use crate::open::Directory;

/// How many bytes of a container's log were lost; shared with whoever reports it.
#[derive(Debug, Clone, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// Until now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub struct LogFile {
    settings: Settings,
    file: File,
    size: u64,
    lost: Lost,
    unmarked: Option<(u64, Error)>,
}

impl LogFile {
    /// Opens or makes it.
    pub fn open(settings: Settings, lost: Lost) -> Result<Self> {
        let (file, size) = append_to(&settings)?;
        Ok(Self { settings, file, size, lost, unmarked: None })
    }

    /// The same path again, which may be another file now. After an error the former file goes on.
    pub fn reopen(&mut self) -> Result<()> {
        (self.file, self.size) = append_to(&self.settings)?;
        Ok(())
    }

    /// Writes whole lines and empties `lines`.
    pub fn write(&mut self, lines: &mut Vec<u8>) {
        let cap = self.settings.max_bytes;
        if cap > 0 && self.size > 0 && self.size + lines.len() as u64 > cap {
            self.begin_anew();
        }
        self.mark();
        if self.unmarked.is_some() {
            self.lose(lines.len() as u64, None);
        } else if let Err(error) = self.put(lines) {
            self.lose(lines.len() as u64, Some(error));
        }
        lines.clear();
    }

    fn lose(&mut self, bytes: u64, error: Option<Error>) {
        self.lost.add(bytes);
        match (&mut self.unmarked, error) {
            (Some((total, _)), _) => *total += bytes,
            (None, Some(error)) => self.unmarked = Some((bytes, error)),
            (None, None) => {}
        }
    }

    /// Says what was lost, if it can be said now.
    fn mark(&mut self) {
        if let Some((bytes, error)) = self.unmarked.take() {
            let text = format!("[{bytes} bytes of log lost: {error}]\n");
            if self.put(&[&line::prefix(Stream::Stderr)[..], text.as_bytes()].concat()).is_err() {
                self.unmarked = Some((bytes, error));
            }
        }
    }

    /// All or nothing: half a line would spoil the next.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let written =
            self.file.write_all(bytes).what(|| format!("write to log {}", self.settings.path.display()));
        match &written {
            Ok(()) => self.size += bytes.len() as u64,
            Err(_) => self.cut_back(),
        }
        written
    }

    fn cut_back(&mut self) {
        // Without effect on a pipe or a full device: then the half line stays.
        let _ = self.file.set_len(self.size);
    }

    /// The file has reached its size: it begins anew, and readers of the old one find its end.
    fn begin_anew(&mut self) {
        let dropped = self.size;
        match replace(&self.settings) {
            Ok(file) => (self.file, self.size) = (file, 0),
            // Better a short log than one without a bound.
            Err(_) if self.file.set_len(0).is_ok() => self.size = 0,
            Err(_) => {}
        }
        let cap = self.settings.max_bytes;
        self.lose(dropped, Some(Error::unsupported(format!("keep more than {cap} bytes"))));
    }
}

fn append_to(settings: &Settings) -> Result<(File, u64)> {
    let open = || -> Result<_> {
        let (dir, name) = Directory::of(&settings.path, settings.directory.as_deref())?;
        let file = dir.append(name)?;
        let size = file.metadata().what(|| "look at its size")?.len();
        Ok((file, size))
    };
    open().what(|| format!("open log {}", settings.path.display()))
}

/// An empty file in the log's place.
fn replace(settings: &Settings) -> Result<File> {
    let replace = || -> Result<_> {
        let (dir, name) = Directory::of(&settings.path, settings.directory.as_deref())?;
        let mut draft = name.to_owned();
        draft.push(".new");
        let file = dir.fresh(&draft)?;
        dir.rename(&draft, name)?;
        Ok(file)
    };
    replace().what(|| format!("replace log {}", settings.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, max_bytes: u64) -> (LogFile, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("shim-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let settings = Settings { path: path.clone(), directory: None, max_bytes, line_max: 9 };
        (LogFile::open(settings, Lost::default()).unwrap(), path)
    }

    #[test]
    fn a_full_disk_is_counted_and_marked_when_it_has_room_again() {
        let (mut log, path) = log("full", 0);
        let good = std::mem::replace(&mut log.file, File::options().append(true).open("/dev/full").unwrap());
        log.write(&mut b"one\n".to_vec());
        log.write(&mut b"three\n".to_vec());
        assert_eq!(log.lost.bytes(), 10);
        log.file = good;
        log.write(&mut b"four\n".to_vec());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (mark, rest) = text.split_once('\n').unwrap();
        assert!(mark.contains(" stderr F [10 bytes of log lost: write to log "), "{mark}");
        assert!(mark.ends_with("(ENOSPC)]"), "{mark}");
        assert_eq!(rest, "four\n");
        assert_eq!(log.lost.bytes(), 10);
    }

    #[test]
    fn a_capped_log_begins_anew_and_says_what_it_dropped() {
        let (mut log, path) = log("cap", 200);
        for _ in 0..22 {
            log.write(&mut b"123456789\n".to_vec());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.contains("[200 bytes of log lost: keep more than 200 bytes]\n"), "{text}");
        assert!(text.ends_with("]\n123456789\n123456789\n"), "{text}");
        assert_eq!(log.lost.bytes(), 200);
    }

    #[test]
    fn after_its_rotation_the_path_is_made_anew() {
        let (mut log, path) = log("rotate", 0);
        log.write(&mut b"old\n".to_vec());
        let rotated = path.with_added_extension("1");
        std::fs::rename(&path, &rotated).unwrap();
        log.write(&mut b"still old\n".to_vec());
        log.reopen().unwrap();
        log.write(&mut b"new\n".to_vec());
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "old\nstill old\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&rotated).unwrap();
    }
}
