//! A blocking connection to systemd, with a deadline on everything: its private socket if we may, else the system bus; of a user
//! the same of his own systemd.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::wire::{self, Call, Message, Writer};
use crate::error::{Context, Error, Kind, Result};
use crate::privilege::{in_user_namespace, is_rootless, runtime_dir};

/// Where systemd listens for root alone; there are no names and no Hello there.
const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";

/// The bus itself.
const DAEMON: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};

/// A connection that is authenticated.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
    signals: VecDeque<Message>,
}

/// How a call was refused by the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `org.freedesktop.systemd1.UnitExists`.
    pub name: String,
    /// In words.
    pub text: String,
}

/// Where to look, and whether it is a bus: first where root's systemd listens, be it a container's.
fn places() -> Vec<(PathBuf, bool)> {
    let mut places = vec![(PathBuf::from(PRIVATE), false)];
    if let Some(dir) = runtime_dir().filter(|_| is_rootless()) {
        places.extend([(dir.join("systemd/private"), false), (dir.join("bus"), true)]);
    }
    places.push((PathBuf::from(BUS), true));
    places
}

impl Connection {
    /// Connects. `patience` is for all that is done with it.
    pub fn open(patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        let mut tried = Vec::new();
        let mut last = None;
        for (place, is_bus) in places() {
            let what = format!("talk to systemd at {}", place.display());
            match UnixStream::connect(&place) {
                Ok(stream) if is_bus => return Self::on_bus(stream, deadline).what(|| what),
                Ok(stream) => return Self::authenticate(stream, deadline).what(|| what),
                Err(error) => last = Some(error),
            }
            tried.push(place.display().to_string());
        }
        let error = last.unwrap_or_else(|| ErrorKind::NotFound.into());
        Err(error)
            .what(|| format!("connect to systemd at {}", tried.join(" or ")))
            .map_err(|error| error.cure("is systemd running? Without it, leave out --systemd-cgroup"))
    }

    /// On a bus one has a name, and signals have to be asked for.
    pub fn on_bus(stream: UnixStream, deadline: Instant) -> Result<Self> {
        let mut bus = Self::authenticate(stream, deadline)?;
        bus.call(&Call { member: "Hello", ..DAEMON }, "", &Writer::default())?
            .map_err(|refusal| refused(&refusal))?;
        let mut rule = Writer::default();
        rule.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        bus.call(&Call { member: "AddMatch", ..DAEMON }, "s", &rule)?.map_err(|refusal| refused(&refusal))?;
        Ok(bus)
    }

    /// SPEC: dbus-specification, "Authentication Protocol", EXTERNAL: the kernel vouches for the user id.
    pub fn authenticate(stream: UnixStream, deadline: Instant) -> Result<Self> {
        let mut connection = Self { stream, deadline, serial: 0, signals: VecDeque::new() };
        // In a user namespace the other side knows us by another number: it is to ask (DATA), and to take the kernel's word alone.
        let unnamed = in_user_namespace();
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex = || uid.bytes().map(|digit| format!("{digit:02x}")).collect::<String>();
        let claim = if unnamed { "\r\nDATA".to_owned() } else { format!(" {}", hex()) };
        connection.send(format!("\0AUTH EXTERNAL{claim}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = connection.line()?;
        if unnamed && line.starts_with(b"DATA") {
            line = connection.line()?;
        }
        if line.starts_with(b"OK ") {
            return Ok(connection);
        }
        let said = String::from_utf8_lossy(&line).trim().to_owned();
        Err(Error::new(Kind::Denied, format!("authenticate: the answer is {said:?}")))
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 1024 {
                return Err(Error::new(Kind::Internal, "authenticate: the answer is no D-Bus"));
            }
        }
        Ok(line)
    }

    /// Calls, and waits for the answer. Signals that come meanwhile are kept.
    pub fn call(
        &mut self,
        call: &Call<'_>,
        signature: &str,
        body: &Writer,
    ) -> Result<Result<Message, Refusal>> {
        self.serial += 1;
        let what = || format!("call {}", call.member);
        self.send(&call.encode(self.serial, signature, body)).what(what)?;
        loop {
            let message = self.next().what(what)?;
            match message.kind {
                wire::Kind::Signal => self.signals.push_back(message),
                wire::Kind::Return if message.reply_to == self.serial => return Ok(Ok(message)),
                wire::Kind::Error if message.reply_to == self.serial => {
                    let text = match message.signature.as_str() {
                        "s" => message.body().text().unwrap_or_default(),
                        _ => String::new(),
                    };
                    return Ok(Err(Refusal { name: message.name, text }));
                }
                _ => {}
            }
        }
    }

    /// The next signal.
    pub fn signal(&mut self) -> Result<Message> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.next()?;
            if message.kind == wire::Kind::Signal {
                return Ok(message);
            }
        }
    }

    fn next(&mut self) -> Result<Message> {
        let broken = || Error::new(Kind::Internal, "read a message: it is no D-Bus");
        let mut fixed = [0; wire::FIXED];
        self.receive(&mut fixed)?;
        let mut whole = fixed.to_vec();
        whole.resize(wire::length(&fixed).ok_or_else(broken)?, 0);
        self.receive(&mut whole[wire::FIXED..])?;
        Message::decode(&whole).ok_or_else(broken)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.left()?;
        self.stream.set_write_timeout(Some(left)).what(|| "set a deadline")?;
        self.stream.write_all(bytes).map_err(late).what(|| "send")
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut got = 0;
        while got < buffer.len() {
            let left = self.left()?;
            self.stream.set_read_timeout(Some(left)).what(|| "set a deadline")?;
            match self.stream.read(&mut buffer[got..]) {
                Ok(0) => return Err(Error::os(libc::ECONNRESET, "receive")),
                Ok(len) => got += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(late(error)).what(|| "receive"),
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(Kind::Timeout, "wait for systemd: it does not answer in time"));
        }
        Ok(left)
    }
}

/// A timeout on a socket is EAGAIN.
fn late(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => std::io::Error::from_raw_os_error(libc::ETIMEDOUT),
        _ => error,
    }
}

/// A refusal as an error.
pub fn refused(refusal: &Refusal) -> Error {
    Error::new(Kind::Denied, format!("{} ({})", refusal.text, refusal.name))
}
