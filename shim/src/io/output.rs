//! The output of a container with a log, on a thread of its own: from its pipes or terminal to the log and to those who are
//! attached. A disk that is slow slows this thread, and so the container, and nobody else: the log is opened here, too. It makes no pipes.
//!
//! Memory is taken while output flows and given back a second after; a container that is quiet wakes nobody.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::attached::{self, Attached, Client};
use crate::error::{Context, Error, Result};
use crate::log::{Log, Lost, Settings, Stream};

/// Read at once.
const CHUNK: usize = 64 << 10;

/// What a pipe holds while its container prints faster than it is read, so that the two take turns less often; if the system allows it.
const WIDE: usize = 1 << 20;

/// What a pipe holds otherwise.
const NARROW: usize = 64 << 10;

/// How long buffers are kept for a container that has gone quiet.
const QUIET: Duration = Duration::from_secs(1);

const STACK: usize = 192 << 10;

/// The thread, seen from outside. Dropped: the thread reads no more and ends.
#[derive(Debug)]
pub struct Output {
    clients: Sender<Client>,
    orders: Sender<Order>,
    wake: OwnedFd,
}

/// Whether the log could be opened.
pub type Opened = oneshot::Receiver<Result<()>>;

enum Order {
    Read(Vec<Source>),
    Reopen(oneshot::Sender<Result<()>>),
    Drain(oneshot::Sender<()>),
}

/// Where output comes from; made non-blocking here.
#[derive(Debug, Default)]
pub struct Sources {
    /// A pipe, or the terminal.
    pub stdout: Option<OwnedFd>,
    /// A pipe.
    pub stderr: Option<OwnedFd>,
}

impl Output {
    /// Starts the thread, which opens the log first, and ends if it can't.
    pub fn start(log: Option<(Settings, Lost)>) -> Result<(Self, Opened)> {
        let what = || "start the thread of a log";
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).what(what)?;
        let (clients, arrivals) = channel();
        let (orders, inbox) = channel();
        let (opened, is_open) = oneshot::channel();
        let mut worker = Worker {
            sources: Vec::new(),
            log: None,
            attached: Attached::default(),
            arrivals,
            inbox,
            wake: rustix::io::fcntl_dupfd_cloexec(&wake, 3).what(what)?,
            buffer: Vec::new(),
        };
        let work = move || {
            let open = log.map(|(settings, lost)| Log::open(settings, lost)).transpose();
            let is_open = open.map(|log| worker.log = log);
            let is_wanted = is_open.is_ok();
            let _ = opened.send(is_open); // whoever waited may have given up
            if is_wanted {
                worker.run();
            }
        };
        std::thread::Builder::new().name("log".into()).stack_size(STACK).spawn(work).what(what)?;
        Ok((Self { clients, orders, wake }, is_open))
    }

    /// Where the output comes from. Once.
    pub fn read(&self, sources: Sources) -> Result<()> {
        let mut all = Vec::new();
        for (stream, fd) in [(Stream::Stdout, sources.stdout), (Stream::Stderr, sources.stderr)] {
            let Some(fd) = fd else { continue };
            rustix::io::ioctl_fionbio(&fd, true).what(|| "wait for a container's output")?;
            all.push(Source { stream, fd, wide: false });
        }
        self.order(Order::Read(all));
        Ok(())
    }

    /// What is printed after this call goes to this socket too. After the end of the stream the socket is closed at once.
    pub fn attach(&self, client: Client) {
        if self.clients.send(client).is_ok() {
            wake(&self.wake);
        }
    }

    /// See [`Log::reopen`].
    pub fn reopen(&self) -> oneshot::Receiver<Result<()>> {
        let (done, reply) = oneshot::channel();
        self.order(Order::Reopen(done));
        reply
    }

    /// Says when all that has been printed until now is written.
    pub fn drain(&self) -> oneshot::Receiver<()> {
        let (done, reply) = oneshot::channel();
        self.order(Order::Drain(done));
        reply
    }

    /// An order to a thread that has ended is answered by the end of its channel.
    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            wake(&self.wake);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // ORDER: the channel first, so that the thread, once awake, finds it closed.
        self.orders = channel().0;
        wake(&self.wake);
    }
}

fn wake(event: &OwnedFd) {
    let _ = rustix::io::write(event, &1u64.to_ne_bytes()); // full means awake
}

struct Worker {
    sources: Vec<Source>,
    log: Option<Log>,
    attached: Attached,
    arrivals: Receiver<Client>,
    inbox: Receiver<Order>,
    wake: OwnedFd,
    buffer: Vec<u8>,
}

struct Source {
    stream: Stream,
    fd: OwnedFd,
    wide: bool,
}

impl Source {
    /// The kernel's memory is taken while output flows, as ours is. A terminal has no such size, and not everyone may have the wide one:
    /// then it stays as it is.
    fn resize(&mut self, wide: bool) {
        if self.wide != wide {
            self.wide = wide;
            let _ = rustix::pipe::fcntl_setpipe_size(&self.fd, if wide { WIDE } else { NARROW });
        }
    }
}

/// Whether the container's side of this is still wanted.
#[derive(PartialEq, Eq)]
enum Wanted {
    Yes,
    No,
}

impl Worker {
    fn run(&mut self) {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            };
            // ORDER: before anything is read: what is read goes to clients, and those of them that are gone go then as well.
            self.attached.attend(&ready.clients);
            for index in ready.sources.into_iter().rev() {
                self.read(index);
            }
            if ready.orders && self.obey() == Wanted::No {
                break;
            }
        }
        while !self.sources.is_empty() {
            self.end(0);
        }
        std::mem::take(&mut self.attached).farewell();
    }

    fn wait(&mut self) -> nix::Result<Ready> {
        loop {
            let patience = self.attached.wait_for_them();
            let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            let ready = |source: &Source| !self.attached.is_full(source.stream);
            let sources: Vec<usize> =
                (0..self.sources.len()).filter(|at| ready(&self.sources[*at])).collect();
            fds.extend(sources.iter().map(|at| PollFd::new(self.sources[*at].fd.as_fd(), PollFlags::POLLIN)));
            fds.extend(self.attached.interests());
            let busy = !self.buffer.is_empty();
            let timeout = [patience, busy.then_some(QUIET)].into_iter().flatten().min();
            let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
                // A part of a millisecond is one: a wait of none at all would turn round and round.
                PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            if poll(&mut fds, timeout)? > 0 {
                return Ok(Ready::of(&fds, &sources));
            }
            drop(fds);
            if patience.is_none() {
                self.buffer = Vec::new();
                self.sources.iter_mut().for_each(|source| source.resize(false));
                self.log.iter_mut().for_each(Log::rest);
            }
        }
    }

    /// Reads once from a source; forgets it at its end.
    fn read(&mut self, index: usize) {
        self.buffer.resize(CHUNK, 0);
        let source = &mut self.sources[index];
        match rustix::io::read(&source.fd, &mut self.buffer[..]) {
            // A terminal whose other ends are all closed says EIO.
            Ok(0) | Err(rustix::io::Errno::IO) => self.end(index),
            Ok(length) => {
                if length == CHUNK {
                    source.resize(true);
                }
                let stream = source.stream;
                // ORDER: after reading: who was attached before these bytes were printed has arrived by now.
                self.welcome();
                self.spread(stream, length);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.end(index),
        }
    }

    /// Takes in those who have attached.
    fn welcome(&mut self) {
        while let Ok(client) = self.arrivals.try_recv() {
            self.attached.welcome(client);
        }
    }

    fn spread(&mut self, stream: Stream, length: usize) {
        let bytes = &self.buffer[..length];
        if let Some(log) = &mut self.log {
            log.append(stream, bytes);
        }
        self.attached.give(stream, bytes);
    }

    fn end(&mut self, index: usize) {
        let Source { stream, .. } = self.sources.remove(index);
        if let Some(log) = &mut self.log {
            log.end(stream);
        }
        self.attached.end(stream);
    }

    fn obey(&mut self) -> Wanted {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count[..]);
        self.welcome();
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Read(sources)) => self.begin(sources),
                Ok(Order::Reopen(done)) => {
                    let reopened = match &mut self.log {
                        Some(log) => log.reopen(),
                        None => Err(Error::invalid("the container has no log")),
                    };
                    let _ = done.send(reopened);
                }
                Ok(Order::Drain(done)) => {
                    self.drain();
                    let _ = done.send(());
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return Wanted::Yes,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    self.drain();
                    return Wanted::No;
                }
            }
        }
    }

    /// A stream that has no source is over.
    fn begin(&mut self, sources: Vec<Source>) {
        self.sources = sources;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.sources.iter().all(|source| source.stream != stream) {
                self.attached.end(stream);
            }
        }
    }

    /// Reads what is there, though never for ever: someone may go on printing.
    fn drain(&mut self) {
        for index in (0..self.sources.len()).rev() {
            let mut most = (1 << 20) / CHUNK;
            while most > 0 && self.sources.get(index).is_some_and(|source| readable(&source.fd)) {
                let before = self.sources.len();
                self.read(index);
                if self.sources.len() < before {
                    break;
                }
                most -= 1;
            }
        }
    }
}

struct Ready {
    orders: bool,
    sources: Vec<usize>,
    clients: Vec<PollFlags>,
}

impl Ready {
    /// The first is for orders, then come these sources, then all clients.
    fn of(fds: &[PollFd<'_>], sources: &[usize]) -> Self {
        let is = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let ready = fds[1..].iter().zip(sources).filter(|(fd, _)| is(fd)).map(|(_, index)| *index);
        Self {
            orders: is(&fds[0]),
            sources: ready.collect(),
            clients: attached::flags(&fds[1 + sources.len()..]),
        }
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::attached::Guest;
    use super::*;

    fn output() -> (Output, std::fs::File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (output, _) = Output::start(None).unwrap();
        output.read(Sources { stdout: Some(read), stderr: None }).unwrap();
        (output, write.into())
    }

    fn attach(output: &Output) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        theirs.set_nonblocking(true).unwrap();
        output.attach(Client { stream: Stream::Stdout, socket: theirs.into(), _guest: Guest::default() });
        ours
    }

    #[test]
    fn what_is_printed_after_someone_has_attached_reaches_him() {
        let (output, mut printer) = output();
        for turn in 0..2000 {
            let mut client = attach(&output);
            let line = format!("{turn}\n");
            printer.write_all(line.as_bytes()).unwrap();
            let mut seen = vec![0; line.len()];
            client.read_exact(&mut seen).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
            assert_eq!(String::from_utf8_lossy(&seen), line);
        }
    }

    #[test]
    fn clients_that_leave_while_output_flows_take_nobody_along() {
        let (output, mut printer) = output();
        let mut stays = attach(&output);
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            stays.read_to_end(&mut seen).unwrap();
            seen.len()
        });
        for _ in 0..2000 {
            let leaves = attach(&output);
            printer.write_all(b"x").unwrap();
            drop(leaves);
            printer.write_all(b"y").unwrap();
        }
        drop(printer);
        assert_eq!(reader.join().unwrap(), 4000);
    }
}
