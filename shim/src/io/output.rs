//! The output of a container with a log, on a thread of its own: from its pipes or terminal to the log and to those who are
//! attached. A disk that is slow slows this thread, and so the container, and nobody else. It makes no pipes.
//!
//! Memory is taken while output flows and given back a second after; a container that is quiet wakes nobody.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use crate::error::{Context, Error, Kind, Result};
use crate::log::{Log, Stream};

/// Read at once.
const CHUNK: usize = 64 << 10;

/// What a pipe holds while its container prints faster than it is read, so that the two take turns less often; if the system allows it.
const WIDE: usize = 1 << 20;

/// What a pipe holds otherwise.
const NARROW: usize = 64 << 10;

/// How long buffers are kept for a container that has gone quiet.
const QUIET: Duration = Duration::from_secs(1);

/// How long an attached client may take nothing while it holds up the container; then it is let go.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);

const STACK: usize = 192 << 10;

/// The thread, seen from outside. Dropped: the thread reads no more and ends.
#[derive(Debug)]
pub struct Output {
    clients: Sender<Client>,
    orders: Sender<Order>,
    wake: OwnedFd,
}

/// A socket that gets what is printed to a stream.
#[derive(Debug)]
struct Client {
    stream: Stream,
    socket: OwnedFd,
}

enum Order {
    Reopen(oneshot::Sender<Result<()>>),
    Drain(oneshot::Sender<()>),
}

/// Where output comes from; made non-blocking here.
#[derive(Debug)]
pub struct Sources {
    /// A pipe, or the terminal.
    pub stdout: Option<OwnedFd>,
    /// A pipe.
    pub stderr: Option<OwnedFd>,
}

impl Output {
    /// Starts the thread.
    pub fn start(sources: Sources, log: Option<Log>) -> Result<Self> {
        let what = || "start the thread of a log";
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).what(what)?;
        let (clients, arrivals) = channel();
        let (orders, inbox) = channel();
        let mut worker = Worker {
            sources: Vec::new(),
            log,
            clients: Vec::new(),
            arrivals,
            inbox,
            wake: rustix::io::fcntl_dupfd_cloexec(&wake, 3).what(what)?,
            buffer: Vec::new(),
        };
        for (stream, fd) in [(Stream::Stdout, sources.stdout), (Stream::Stderr, sources.stderr)] {
            let Some(fd) = fd else { continue };
            rustix::io::ioctl_fionbio(&fd, true).what(what)?;
            worker.sources.push(Source { stream, fd, wide: false });
        }
        let thread = std::thread::Builder::new().name("log".into()).stack_size(STACK);
        thread.spawn(move || worker.run()).what(what)?;
        Ok(Self { clients, orders, wake })
    }

    /// What is printed after this call goes to this socket too. After the end of the stream the socket is closed at once.
    pub fn attach(&self, stream: Stream, socket: OwnedFd) {
        if self.clients.send(Client { stream, socket }).is_ok() {
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
    clients: Vec<Client>,
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
            for index in ready.gone.into_iter().rev() {
                self.clients.remove(index);
            }
            for index in ready.sources.into_iter().rev() {
                self.read(index);
            }
            if ready.orders && self.obey() == Wanted::No {
                break;
            }
        }
        self.end_all();
    }

    fn end_all(&mut self) {
        while !self.sources.is_empty() {
            self.end(0);
        }
    }

    fn wait(&mut self) -> nix::Result<Ready> {
        loop {
            let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.sources.iter().map(|source| PollFd::new(source.fd.as_fd(), PollFlags::POLLIN)));
            fds.extend(
                self.clients.iter().map(|client| PollFd::new(client.socket.as_fd(), PollFlags::empty())),
            );
            let busy = !self.buffer.is_empty();
            let timeout = if busy {
                PollTimeout::try_from(QUIET).unwrap_or(PollTimeout::MAX)
            } else {
                PollTimeout::NONE
            };
            if poll(&mut fds, timeout)? > 0 {
                return Ok(Ready::of(&fds, self.sources.len()));
            }
            drop(fds);
            self.buffer = Vec::new();
            self.sources.iter_mut().for_each(|source| source.resize(false));
            self.log.iter_mut().for_each(Log::rest);
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
            if self.sources.iter().any(|source| source.stream == client.stream) {
                self.clients.push(client);
            }
        }
    }

    fn spread(&mut self, stream: Stream, length: usize) {
        let bytes = &self.buffer[..length];
        if let Some(log) = &mut self.log {
            log.append(stream, bytes);
        }
        self.clients.retain(|client| client.stream != stream || give(&client.socket, bytes).is_ok());
    }

    fn end(&mut self, index: usize) {
        let Source { stream, .. } = self.sources.remove(index);
        if let Some(log) = &mut self.log {
            log.end(stream);
        }
        self.clients.retain(|client| client.stream != stream);
    }

    fn obey(&mut self) -> Wanted {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count[..]);
        self.welcome();
        loop {
            match self.inbox.try_recv() {
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
    gone: Vec<usize>,
}

impl Ready {
    fn of(fds: &[PollFd<'_>], sources: usize) -> Self {
        let is = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let ready = |range: &[PollFd<'_>]| {
            range.iter().enumerate().filter(|(_, fd)| is(fd)).map(|(index, _)| index).collect()
        };
        Self { orders: is(&fds[0]), sources: ready(&fds[1..=sources]), gone: ready(&fds[1 + sources..]) }
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Writes all of it to a client's socket. Error if the client has gone or takes nothing for too long.
fn give(client: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    let mut deadline = Instant::now() + CLIENT_PATIENCE;
    while !bytes.is_empty() {
        match rustix::io::write(client, bytes) {
            Ok(written) => {
                bytes = &bytes[written..];
                deadline = Instant::now() + CLIENT_PATIENCE;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let millis = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, millis) {
                    Ok(0) => return Err(Error::new(Kind::Timeout, "write to an attached client")),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno).what(|| "wait for an attached client"),
                }
            }
            Err(errno) => return Err(errno).what(|| "write to an attached client"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn output() -> (Output, std::fs::File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let sources = Sources { stdout: Some(read), stderr: None };
        (Output::start(sources, None).unwrap(), write.into())
    }

    fn attach(output: &Output) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        theirs.set_nonblocking(true).unwrap();
        output.attach(Stream::Stdout, theirs.into());
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
