//! What streaming needs, done by the pods' shims: execs, attached streams, and connections from inside a pod's network namespace.
//!
//! An exec is forgotten in its shim when it has ended, or when its client has gone.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::sched::{CloneFlags, setns};
use shim::api::pod;
use shim::client::{Client, StreamName};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

use super::backend::{Backend, Exec, Process, Session, Size, Streams};
use crate::container::exec::running;
use crate::error::{Context, Error, Kind, Result};
use crate::node::Node;
use crate::paths;
use crate::record::SandboxStage;

/// No session is longer: a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The pods of a node.
pub struct Pods(pub Arc<Node>);

impl Backend for Pods {
    fn exec<'a>(&'a self, exec: &'a Exec) -> BoxFuture<'a, Result<Session>> {
        async move {
            let begun = begin(&self.0, exec).await;
            begun.map_err(|error| error.during(format!("exec in container {}", exec.container)))
        }
        .boxed()
    }

    fn attach<'a>(&'a self, container: &'a str, streams: Streams) -> BoxFuture<'a, Result<Session>> {
        async move {
            let joined = join(&self.0, container, streams).await;
            joined.map_err(|error| error.during(format!("attach to container {container}")))
        }
        .boxed()
    }

    fn connect<'a>(&'a self, sandbox: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream>> {
        async move {
            let connected = connect(&self.0, sandbox, port).await;
            connected.map_err(|error| error.during(format!("forward port {port} of pod {sandbox}")))
        }
        .boxed()
    }
}

async fn begin(node: &Arc<Node>, exec: &Exec) -> Result<Session> {
    let container = running(node, &exec.container)?;
    let client = node.sandbox_of(&container)?.shim().await?;
    let Streams { stdin, stdout, stderr, tty } = exec.streams;
    let id = paths::new_id()?;
    let request = pod::ExecRequest {
        id: container.id.clone(),
        exec_id: id.clone(),
        args: exec.command.clone(),
        terminal: tty,
        stdin,
        stdout,
        stderr,
        ..Default::default()
    };
    let (begun, started) = oneshot::channel();
    let (told, end) = watch::channel(None);
    let (opening, opened) = oneshot::channel();
    let (here, gone) = oneshot::channel();
    let process = Running {
        client: client.clone(),
        container: container.id.clone(),
        exec: id.clone(),
        end,
        _here: here,
    };
    let (runs, named) = (client.clone(), (container.id.clone(), id));
    // A task of its own: a client that goes while its process is being made leaves it to nobody else.
    shim::client::spawn(async move {
        let answer = runs.exec(&request).await;
        let is_there = answer.is_ok();
        let _ = begun.send(answer); // nobody waits any more: `gone` says so too
        if is_there {
            outlive(runs, named, (opened, gone), told).await;
        }
    });
    let started = started.await.map_err(|_| Error::internal("start the process: its task ended"))??;
    let session = session(&client, &started.token, exec.streams, Box::new(process)).await;
    // Also when nobody waits for the session any more.
    drop::<oneshot::Sender<()>>(opening);
    session
}

/// Waits for an exec's end, tells it, and has the shim forget the exec, once its streams are open: a brief one may end before. When its
/// session goes before that, nobody is left to be told: its place in the shim is given back at once, and the process goes on.
async fn outlive(
    client: Client,
    (container, exec): (String, String),
    (opened, gone): (oneshot::Receiver<()>, oneshot::Receiver<()>),
    told: watch::Sender<Option<Result<i32>>>,
) {
    let wait = || client.wait(&container, &exec, FOREVER);
    let ended = tokio::select! {
        biased;
        ended = wait() => ended,
        _ = gone => match client.let_go(&container, &exec).await {
            Ok(()) => return,
            // An older shim: it keeps it until its end.
            Err(error) => {
                tracing::debug!("let go of an exec: {error}");
                wait().await
            }
        },
    };
    let end = match ended {
        Ok(Some(ended)) => Ok(ended.exit_code),
        Ok(None) => Err(Error::new(Kind::Timeout, "wait for the process: a year is over")),
        Err(status) => Err(Error::from(status)),
    };
    told.send_replace(Some(end));
    let _ = opened.await; // says nothing; its sender goes
    let remove = pod::RemoveRequest { id: container, exec_id: exec, force: false };
    if let Err(error) = client.remove(&remove).await {
        tracing::debug!("forget an exec: {error}");
    }
}

async fn join(node: &Arc<Node>, container: &str, streams: Streams) -> Result<Session> {
    let container = running(node, container)?;
    let client = node.sandbox_of(&container)?.shim().await?;
    let request = pod::AttachRequest {
        id: container.id.clone(),
        exec_id: String::new(),
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let attached = client.attach(&request).await?;
    let watches = streams.stdout || streams.stderr;
    let process = Attached { client: client.clone(), container: container.id.clone(), watches };
    session(&client, &attached.token, streams, Box::new(process)).await
}

async fn session(
    client: &Client,
    token: &str,
    streams: Streams,
    process: Box<dyn Process>,
) -> Result<Session> {
    let open = async |wanted: bool, name| match wanted {
        true => Ok::<_, Error>(Some(client.stream(token, name).await?)),
        false => Ok(None),
    };
    Ok(Session {
        stdin: open(streams.stdin, StreamName::Stdin).await?,
        stdout: open(streams.stdout, StreamName::Stdout).await?,
        stderr: open(streams.stderr, StreamName::Stderr).await?,
        process,
    })
}

/// An exec. Dropped: its session has gone, and [`outlive`] gives back what it had in the shim.
struct Running {
    client: Client,
    container: String,
    exec: String,
    end: watch::Receiver<Option<Result<i32>>>,
    _here: oneshot::Sender<()>,
}

impl Process for Running {
    fn resize(&self, size: Size) -> BoxFuture<'_, Result<()>> {
        resize(&self.client, &self.container, &self.exec, size).boxed()
    }

    fn wait(&self) -> BoxFuture<'_, Result<Option<i32>>> {
        let mut end = self.end.clone();
        async move {
            let known = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
            match known {
                Some(end) => end.map(Some),
                None => Err(Error::internal("wait for the process: nobody waits for it")),
            }
        }
        .boxed()
    }
}

/// A container's own process, seen by a client that may go again.
struct Attached {
    client: Client,
    container: String,
    /// Whether the client gets output: then the end of the output is the end of the session.
    watches: bool,
}

impl Process for Attached {
    fn resize(&self, size: Size) -> BoxFuture<'_, Result<()>> {
        resize(&self.client, &self.container, "", size).boxed()
    }

    fn wait(&self) -> BoxFuture<'_, Result<Option<i32>>> {
        async move {
            if !self.watches {
                self.client.wait(&self.container, "", FOREVER).await?;
            }
            Ok(None)
        }
        .boxed()
    }
}

async fn resize(client: &Client, container: &str, exec: &str, size: Size) -> Result<()> {
    let size = pod::Size { width: size.width.into(), height: size.height.into() };
    let request = pod::ResizeRequest { id: container.to_owned(), exec_id: exec.to_owned(), size: Some(size) };
    Ok(client.resize(&request).await?)
}

async fn connect(node: &Arc<Node>, id: &str, port: u16) -> Result<TcpStream> {
    let sandbox = node.sandbox(id)?;
    if sandbox.stage() != SandboxStage::Ready {
        return Err(Error::new(Kind::WrongStatus, "the pod is not ready"));
    }
    let netns =
        (!sandbox.is_on_host_network()).then(|| PathBuf::from(format!("/run/netns/rt-{}", sandbox.meta.id)));
    let mut refused = None;
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let socket = match socket(netns.clone(), address).await {
            Ok(socket) => socket,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        match socket
            .connect(SocketAddr::new(address, port))
            .await
            .what(|| format!("connect to {address}:{port}"))
        {
            Ok(stream) => {
                let _ = stream.set_nodelay(true); // slower without, no more
                return Ok(stream);
            }
            // What IPv4 says is what people look for first.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| Error::internal("no address to connect to")))
}

/// A socket belongs to the network namespace of the thread that makes it, so a thread of its own goes there to make one.
async fn socket(netns: Option<PathBuf>, address: IpAddr) -> Result<TcpSocket> {
    let make = move || {
        if let Some(path) = netns {
            let there = File::open(&path).what(|| format!("open {}", path.display()))?;
            setns(there, CloneFlags::CLONE_NEWNET).what(|| format!("enter {}", path.display()))?;
        }
        match address {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        }
        .what(|| "make a socket")
    };
    let (answer, made) = oneshot::channel();
    std::thread::Builder::new()
        .name("port-forward".to_owned())
        .stack_size(64 << 10)
        .spawn(move || answer.send(make()).ok())
        .what(|| "start a thread")?;
    made.await.map_err(|_| Error::internal("make a socket: its thread ended"))?
}
