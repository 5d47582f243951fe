//! A container's log in the CRI format: `TIME STREAM P|F TEXT`. Cuts output into lines and writes them to the file; it blocks
//! as the disk does, so it lives on a thread of its own. Reading the container's output is [`crate::io::output`].

mod file;
mod line;

use std::path::PathBuf;

use file::LogFile;
pub use file::Lost;
use line::Lines;

use crate::error::Result;

/// Written to the file at once, at most (one line can add its prefix and 16 KiB): more than what a full pipe of lines comes to.
const BATCH: usize = 128 << 10;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Also all of a terminal.
    Stdout,
    /// Never of a terminal.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// The pod's directory, above the file; none: the file's. See [`crate::open`].
    pub directory: Option<PathBuf>,
    /// Its size at most; 0: no cap.
    pub max_bytes: u64,
    /// Longest piece of a line in bytes.
    pub line_max: usize,
}

/// A log: what is kept of unfinished lines, and the file.
#[derive(Debug)]
pub struct Log {
    file: LogFile,
    stdout: Lines,
    stderr: Lines,
    batch: Vec<u8>,
}

impl Log {
    /// Opens the file, which is appended to.
    pub fn open(settings: Settings, lost: Lost) -> Result<Self> {
        let line_max = settings.line_max;
        let file = LogFile::open(settings, lost)?;
        Ok(Self { file, stdout: Lines::new(line_max), stderr: Lines::new(line_max), batch: Vec::new() })
    }

    /// Output as it came. What doesn't end with a newline waits for the rest of its line.
    pub fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let prefix = line::prefix(stream);
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = lines.take(rest, &prefix, &mut self.batch, BATCH);
            if !self.batch.is_empty() {
                self.file.write(&mut self.batch);
            }
        }
    }

    /// The stream has ended: an unfinished line is written as a part.
    pub fn end(&mut self, stream: Stream) {
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        lines.finish(&line::prefix(stream), &mut self.batch);
        if !self.batch.is_empty() {
            self.file.write(&mut self.batch);
        }
    }

    /// Opens the file anew, after its rotation.
    pub fn reopen(&mut self) -> Result<()> {
        self.file.reopen()
    }

    /// Gives memory back that is only needed while output flows.
    pub fn rest(&mut self) {
        self.batch = Vec::new();
        self.stdout.rest();
        self.stderr.rest();
    }
}
