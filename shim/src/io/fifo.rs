//! Streams that are named pipes of containerd's. Without a terminal the process gets them as they are, and the shim only keeps
//! them from ending while containerd is away: no byte passes through here. It makes no pipes.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::own;
use super::pump::{self, Async, Cutter, asynchronous};
use crate::error::{Context, Error, Result};
use crate::open::{self, Directory};
use crate::pod::Fifos;
use crate::rt::Ends;

/// What the shim keeps open.
#[derive(Debug, Default)]
pub struct FifoEnds {
    /// A writer, so that a client that comes and goes is not the end of stdin.
    stdin: Option<OwnedFd>,
    /// Readers and writers at once, so that nobody who prints is told that the pipe is broken.
    outputs: Vec<OwnedFd>,
    /// With a terminal: what it is to be joined with.
    terminal_input: Option<OwnedFd>,
    terminal_output: Option<OwnedFd>,
}

impl FifoEnds {
    /// For a process without a terminal.
    pub fn direct(fifos: &Fifos, owner: Option<(u32, u32)>) -> Result<(Ends, Self)> {
        let mut keep = Self::default();
        let mut ends: Ends = [None, None, None];
        if !fifos.stdin.is_empty() {
            let read = open_fifo(&fifos.stdin, OFlags::RDONLY)?;
            keep.stdin = Some(open_fifo(&fifos.stdin, OFlags::WRONLY)?);
            own(&read, owner)?;
            ends[0] = Some(blocking(read)?);
        }
        let same = fifos.stdout == fifos.stderr;
        for (index, name) in [(1, &fifos.stdout), (2, &fifos.stderr)] {
            if index == 2 && same {
                ends[2] = ends[1]
                    .as_ref()
                    .map(|end| rustix::io::fcntl_dupfd_cloexec(end, 3))
                    .transpose()
                    .what(|| "duplicate a stream")?;
                continue;
            }
            ends[index] = match scheme(name)? {
                Place::Nowhere => None,
                Place::File(path) => Some(append_to(path)?),
                Place::Fifo(path) => {
                    keep.outputs.push(open_fifo(path, OFlags::RDWR)?);
                    let write = open_fifo(path, OFlags::WRONLY)?;
                    own(&write, owner)?;
                    Some(blocking(write)?)
                }
            };
        }
        Ok((ends, keep))
    }

    /// For a terminal that is yet to come.
    pub fn for_terminal(fifos: &Fifos) -> Result<Self> {
        let mut keep = Self::default();
        if !fifos.stdin.is_empty() {
            keep.terminal_input = Some(open_fifo(&fifos.stdin, OFlags::RDONLY)?);
            keep.stdin = Some(open_fifo(&fifos.stdin, OFlags::WRONLY)?);
        }
        keep.terminal_output = match scheme(&fifos.stdout)? {
            Place::Nowhere => None,
            Place::File(_) => return Err(Error::unsupported("write a terminal's output to a file")),
            Place::Fifo(path) => Some(open_fifo(path, OFlags::RDWR)?),
        };
        Ok(keep)
    }

    /// It has come.
    pub fn join(&mut self, terminal: &Arc<Async>, cutter: &Cutter) -> Result<()> {
        if let Some(input) = self.terminal_input.take() {
            let (input, terminal, cut) = (asynchronous(input)?, Arc::downgrade(terminal), cutter.cut());
            tokio::spawn(async move {
                pump::input(input, terminal, cut).await;
            });
        }
        let output = self.terminal_output.take().map(asynchronous).transpose()?.map(Arc::new);
        tokio::spawn(pump::output(terminal.clone(), output, cutter.cut()));
        Ok(())
    }

    /// Stdin ends when its other writers do.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

enum Place<'a> {
    Nowhere,
    Fifo(&'a str),
    File(&'a Path),
}

fn scheme(name: &str) -> Result<Place<'_>> {
    match name.split_once("://") {
        None if name.is_empty() => Ok(Place::Nowhere),
        None | Some(("fifo", _)) => Ok(Place::Fifo(name.strip_prefix("fifo://").unwrap_or(name))),
        Some(("file", path)) => Ok(Place::File(Path::new(path.split('?').next().unwrap_or(path)))),
        Some((scheme, _)) => Err(Error::unsupported(format!("send output to {scheme}:// ({name})"))),
    }
}

fn open_fifo(path: &str, access: OFlags) -> Result<OwnedFd> {
    open::fifo(Path::new(path), access).what(|| format!("open the named pipe {path}"))
}

/// As programs expect their streams.
fn blocking(fd: OwnedFd) -> Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, false).what(|| "make a stream blocking")?;
    Ok(fd)
}

fn append_to(path: &Path) -> Result<OwnedFd> {
    let append = || -> Result<_> {
        let (dir, name) = Directory::of(path, None)?;
        blocking(dir.append(name)?.into())
    };
    append().what(|| format!("open {}", path.display()))
}
