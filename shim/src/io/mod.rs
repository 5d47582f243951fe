//! The streams of a process: what it gets as its own, and what the shim keeps of them. It starts no process.

mod attached;
pub mod console;
pub mod fifo;
pub mod output;
pub mod pump;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::error::{Context, Error, Kind, Result};
use crate::log::{Lost, Settings};
use crate::pod::{LogStdio, Size, Stdin, Stdio, StreamName, Streams};
use crate::rt::Ends;
use attached::{Client, Guest};
use fifo::FifoEnds;
use output::{Opened, Output, Sources};
use pump::{Async, Cut, Cutter, asynchronous};

/// How long an exec's output is read after its end, if nobody says.
const DRAIN: Duration = Duration::from_secs(2);

/// Longest piece of a log line, if nobody says: what CRI's readers expect.
const LINE_MAX: usize = 16 << 10;

/// What the shim keeps of a process's streams.
#[derive(Debug)]
pub struct Held {
    stdio: Stdio,
    terminal: Option<Arc<Async>>,
    stdin: Option<Arc<Async>>,
    output: Option<Output>,
    opened: Option<Opened>,
    waiting: BTreeMap<StreamName, Arc<Async>>,
    fifos: Option<FifoEnds>,
    cutter: Cutter,
    lost: Lost,
    guests: Guest,
}

/// Makes the streams: those of the process, which go to `rt`, and those of the shim. With a terminal the rest comes with
/// [`Held::terminal`]. `owner` may open them by name (`/dev/stdout`).
pub fn open(stdio: &Stdio, owner: Option<(u32, u32)>) -> Result<(Ends, Held)> {
    let drain = match stdio {
        Stdio::Streams(streams) if !streams.drain.is_zero() => streams.drain,
        _ => DRAIN,
    };
    let mut held = Held {
        stdio: stdio.clone(),
        terminal: None,
        stdin: None,
        output: None,
        opened: None,
        waiting: BTreeMap::new(),
        fifos: None,
        cutter: Cutter::new(drain),
        lost: Lost::default(),
        guests: Guest::default(),
    };
    let ends = match stdio {
        Stdio::Null => [None, None, None],
        _ if stdio.has_terminal() => {
            match stdio {
                Stdio::Fifos(fifos) => held.fifos = Some(FifoEnds::for_terminal(fifos)?),
                Stdio::Log(log) => drop(held.open_file(log)?),
                Stdio::Null | Stdio::Streams(_) => {}
            }
            [None, None, None]
        }
        Stdio::Log(log) => held.open_log(log, owner)?,
        Stdio::Fifos(fifos) => {
            let (ends, keep) = FifoEnds::direct(fifos, owner)?;
            held.fifos = Some(keep);
            ends
        }
        Stdio::Streams(streams) => held.open_streams(streams, owner)?,
    };
    Ok((ends, held))
}

impl Stdio {
    /// Whether it has a terminal.
    pub fn has_terminal(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Log(log) => log.terminal.is_some(),
            Self::Fifos(fifos) => fifos.terminal,
            Self::Streams(streams) => streams.terminal.is_some(),
        }
    }
}

impl Held {
    fn open_log(&mut self, log: &LogStdio, owner: Option<(u32, u32)>) -> Result<Ends> {
        let stdin = match log.stdin {
            Stdin::Null => None,
            Stdin::Kept | Stdin::Once => {
                let (read, write) = pipe(owner)?;
                self.stdin = Some(Arc::new(asynchronous(write)?));
                Some(read)
            }
        };
        let (stdout, to_stdout) = pipe(owner)?;
        let (stderr, to_stderr) = pipe(owner)?;
        let sources = Sources { stdout: Some(stdout), stderr: Some(stderr) };
        self.open_file(log)?.read(sources)?;
        Ok([stdin, Some(to_stdout), Some(to_stderr)])
    }

    /// The log's thread, which opens it: see [`Self::opened`].
    fn open_file(&mut self, log: &LogStdio) -> Result<&Output> {
        let line_max = if log.line_max == 0 { LINE_MAX } else { log.line_max };
        let settings =
            |path| Settings { path, directory: log.directory.clone(), max_bytes: log.max_bytes, line_max };
        let settings = log.path.clone().map(settings);
        let (output, opened) = Output::start(settings.map(|settings| (settings, self.lost.clone())))?;
        self.opened = Some(opened);
        Ok(self.output.insert(output))
    }

    /// What says whether the log could be opened, if there is one. Once.
    pub fn opened(&mut self) -> Option<Opened> {
        self.opened.take()
    }

    fn open_streams(&mut self, streams: &Streams, owner: Option<(u32, u32)>) -> Result<Ends> {
        let mut stdin = None;
        if streams.stdin {
            let (read, write) = pipe(owner)?;
            self.stdin = Some(Arc::new(asynchronous(write)?));
            stdin = Some(read);
        }
        let mut outputs = [None, None];
        let wanted = [(streams.stdout, StreamName::Stdout), (streams.stderr, StreamName::Stderr)];
        for (end, (wanted, name)) in outputs.iter_mut().zip(wanted) {
            if wanted {
                let (read, write) = pipe(owner)?;
                self.waiting.insert(name, Arc::new(asynchronous(read)?));
                *end = Some(write);
            }
        }
        let [stdout, stderr] = outputs;
        Ok([stdin, stdout, stderr])
    }

    /// The terminal, once `rt` has made it.
    pub fn terminal(&mut self, terminal: OwnedFd) -> Result<()> {
        let copy = rustix::io::fcntl_dupfd_cloexec(&terminal, 3).what(|| "duplicate the terminal")?;
        let terminal = Arc::new(asynchronous(terminal)?);
        self.terminal = Some(terminal.clone());
        match self.stdio.clone() {
            Stdio::Null => {}
            Stdio::Log(log) => {
                if log.stdin != Stdin::Null {
                    self.stdin = Some(terminal);
                }
                let sources = Sources { stdout: Some(copy), stderr: None };
                if let Some(output) = &self.output {
                    output.read(sources)?;
                }
                self.set_size(log.terminal)?;
            }
            Stdio::Fifos(_) => {
                if let Some(fifos) = &mut self.fifos {
                    fifos.join(&terminal, &self.cutter)?;
                }
            }
            Stdio::Streams(streams) => {
                if streams.stdin {
                    self.stdin = Some(terminal.clone());
                }
                self.waiting.insert(StreamName::Stdout, terminal);
                self.set_size(streams.terminal)?;
            }
        }
        Ok(())
    }

    fn set_size(&self, size: Option<Size>) -> Result<()> {
        match size {
            Some(size) if size != Size::default() => self.resize(size),
            _ => Ok(()),
        }
    }

    /// Invalid without a terminal.
    pub fn resize(&self, size: Size) -> Result<()> {
        let Some(terminal) = &self.terminal else { return Err(Error::invalid("it has no terminal")) };
        runtime::sys::process::set_window_size(terminal.get_ref().as_fd(), size.height, size.width)
            .what(|| format!("resize the terminal to {}x{}", size.width, size.height))
    }

    /// Lets go of stdin: it ends when its other writers do.
    pub fn close_stdin(&mut self) {
        if self.terminal.is_none() {
            self.stdin = None;
        }
        if let Some(fifos) = &mut self.fifos {
            fifos.close_stdin();
        }
    }

    /// A client of a container's stdin has ended.
    pub fn stdin_over(&mut self, all_said: bool) {
        let close = match &self.stdio {
            Stdio::Streams(_) => true,
            Stdio::Log(log) => log.stdin == Stdin::Once && all_said,
            Stdio::Null | Stdio::Fifos(_) => false,
        };
        if close {
            self.close_stdin();
        }
    }

    /// A connection for what the process reads. Gives both ends for [`pump::input`], when it ends, and what counts it for as long.
    pub fn input(&self, connection: UnixStream) -> Result<(Async, Weak<Async>, Cut, Guest)> {
        let Some(stdin) = &self.stdin else {
            return Err(Error::new(Kind::WrongStatus, "its stdin is closed, or it never had one"));
        };
        Ok((from_client(connection)?, Arc::downgrade(stdin), self.cutter.cut(), self.guests.clone()))
    }

    /// A connection for what the process prints.
    pub fn show(&mut self, name: StreamName, connection: UnixStream) -> Result<()> {
        if let Some(output) = &self.output {
            let stream = match name {
                StreamName::Stderr => crate::log::Stream::Stderr,
                _ => crate::log::Stream::Stdout,
            };
            let connection = connection.into_std().what(|| "take over a connection")?;
            output.attach(Client { stream, socket: connection.into(), _guest: self.guests.clone() });
            return Ok(());
        }
        let Some(source) = self.waiting.remove(&name) else {
            return Err(Error::not_found("its output is taken already, or was not asked for"));
        };
        let client = Arc::new(from_client(connection)?);
        tokio::spawn(pump::output(source, Some(client), self.cutter.cut()));
        Ok(())
    }

    /// How many connections of clients there are.
    pub fn guests(&self) -> usize {
        self.guests.others()
    }

    /// Whether clients can attach.
    pub fn is_shared(&self) -> bool {
        matches!(self.stdio, Stdio::Log(_))
    }

    /// Nobody has come for these: what is printed is dropped, what would be read has ended.
    pub fn expire(&mut self) {
        for source in std::mem::take(&mut self.waiting).into_values() {
            tokio::spawn(pump::output(source, None, self.cutter.cut()));
        }
    }

    /// See [`Output::reopen`].
    pub fn reopen(&self) -> Result<oneshot::Receiver<Result<()>>> {
        match (&self.output, &self.stdio) {
            (Some(output), Stdio::Log(LogStdio { path: Some(_), .. })) => Ok(output.reopen()),
            _ => Err(Error::invalid("it has no log")),
        }
    }

    /// Bytes of output that could not be logged.
    pub fn lost(&self) -> u64 {
        self.lost.bytes()
    }

    /// The process has ended. Gives what says that its output is written.
    pub fn ended(&mut self) -> Option<oneshot::Receiver<()>> {
        self.cutter.ended();
        self.stdin = None;
        self.fifos = None;
        self.output.as_ref().map(Output::drain)
    }

    /// After [`Self::ended`]: nothing is kept, whoever else may hold the streams open. What is in them already is still written.
    pub fn close(&mut self) {
        self.output = None;
        self.terminal = None;
    }
}

/// Waits for what [`Held::opened`] and [`Held::reopen`] gave.
pub async fn opened(opened: Opened, patience: Duration) -> Result<()> {
    match tokio::time::timeout(patience, opened).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => Err(Error::new(Kind::WrongStatus, "the container's output has ended")),
        Err(_) => {
            let what = format!("open its log: no answer from the file system for {} s", patience.as_secs());
            Err(Error::new(Kind::Timeout, what))
        }
    }
}

fn from_client(connection: UnixStream) -> Result<Async> {
    asynchronous(connection.into_std().what(|| "take over a connection")?.into())
}

/// Read end, write end.
fn pipe(owner: Option<(u32, u32)>) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).what(|| "make a pipe")?;
    own(&read, owner)?;
    Ok((read, write))
}

/// So that a process that is not root can open `/dev/stdout`.
fn own(fd: &OwnedFd, owner: Option<(u32, u32)>) -> Result<()> {
    match owner {
        None | Some((0, 0)) => Ok(()),
        Some((uid, gid)) => rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .what(|| format!("give a stream to {uid}:{gid}")),
    }
}
