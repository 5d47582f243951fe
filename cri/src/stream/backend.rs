//! What streaming needs of the rest of the server: processes with their streams, and connections into pods.

use futures_util::future::BoxFuture;
use tokio::net::{TcpStream, UnixStream};

use crate::error::Result;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// To the process.
    pub stdin: bool,
    /// From the process.
    pub stdout: bool,
    /// From the process; never with a terminal, which has one output only.
    pub stderr: bool,
    /// The process has a terminal.
    pub tty: bool,
}

/// A process to be started in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The container's id.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Which streams are wanted.
    pub streams: Streams,
}

/// A process with its streams, as the shim gives them: those that were asked for are there.
pub struct Session {
    /// To the process; half-closed at the end.
    pub stdin: Option<UnixStream>,
    /// From the process.
    pub stdout: Option<UnixStream>,
    /// From the process.
    pub stderr: Option<UnixStream>,
    /// What else can be done with it.
    pub process: Box<dyn Process>,
}

/// A process that is talked to. Dropping it leaves the process alone.
pub trait Process: Send + Sync {
    /// Changes the size of its terminal.
    fn resize(&self, size: Size) -> BoxFuture<'_, Result<()>>;

    /// Waits for its end: the exit code, 128 + signal for a signal. None where the client watched only (attach).
    fn wait(&self) -> BoxFuture<'_, Result<Option<i32>>>;
}

/// The rest of the server.
pub trait Backend: Send + Sync + 'static {
    /// Starts a process in a running container.
    fn exec<'a>(&'a self, exec: &'a Exec) -> BoxFuture<'a, Result<Session>>;

    /// Joins the streams of a container's own process.
    fn attach<'a>(&'a self, container: &'a str, streams: Streams) -> BoxFuture<'a, Result<Session>>;

    /// Connects to a port of a pod's loopback, IPv4 first, then IPv6.
    fn connect<'a>(&'a self, sandbox: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream>>;
}
