//! The streaming server: an HTTP/1.1 listener whose URLs are given out by `Exec`, `Attach` and `PortForward`.
//!
//! Negotiates the transport and its version, then hands the connection on. A request without a valid token gets 404, so that
//! nothing can be learned by trying.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::backend::{Backend, Exec, Streams};
use super::negotiate::{Transport, choose, plain};
use super::socket::Socket;
use super::token::{Tokens, Weight};
use super::wire::Wire;
use super::{Config, forward, remote, spdy, tls, websocket};
use crate::connections::{Connections, Guest};
use crate::descriptors;
use crate::error::{Context, Error, Kind, Result};

/// How long a client may take for its request's head, and before that for TLS.
const HEAD: Duration = Duration::from_secs(10);

/// What is read of a head that does not end. A URL of ours has a hundred bytes, the headers of Kubernetes' clients some hundred.
const HEAD_BYTES: usize = 16 << 10;

/// Connections at once, with sessions or without; fewer where the process may have few descriptors.
const CONNECTIONS: usize = 1024;

/// What a session of exec has: its connection, and three streams of the shim's.
const DESCRIPTORS: usize = 4;

/// How long a connection is silent before the kernel asks whether the client is there, and how often it asks again.
const ALIVE: Duration = Duration::from_secs(60);

/// What a token stands for.
#[derive(Clone)]
enum Asked {
    Exec(Exec),
    Attach { container: String, streams: Streams },
    Forward { sandbox: String },
}

impl Weight for Asked {
    fn bytes(&self) -> usize {
        let words: &[String] = match self {
            Self::Exec(exec) => &exec.command,
            Self::Attach { .. } | Self::Forward { .. } => &[],
        };
        words.iter().map(|word| word.capacity() + size_of::<String>()).sum::<usize>() + size_of::<Self>()
    }

    fn owner(&self) -> &str {
        match self {
            Self::Exec(exec) => &exec.container,
            Self::Attach { container, .. } => container,
            Self::Forward { sandbox } => sandbox,
        }
    }
}

/// The server. It lives as long as the process.
pub struct Server {
    scheme: &'static str,
    address: SocketAddr,
    tokens: Tokens<Asked>,
    backend: Arc<dyn Backend>,
}

impl Server {
    /// Listens where the configuration says and serves from then on.
    ///
    /// # Errors
    /// `Os` if the address can't be listened on, `Invalid` for a certificate that can't be used.
    pub async fn start(config: &Config, backend: Arc<dyn Backend>) -> Result<Arc<Self>> {
        let tls = tls::acceptor(config)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let what = || format!("listen on {} for streaming", config.address);
        let listener = TcpListener::bind(config.address).await.what(what)?;
        let address = listener.local_addr().what(what)?;
        let server = Arc::new(Self { scheme, address, tokens: Tokens::default(), backend });
        let forgets = server.clone();
        tokio::spawn(async move { forgets.tokens.forget().await });
        tokio::spawn(accept(listener, tls, server.clone()));
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for one exec.
    ///
    /// # Errors
    /// `Invalid` for streams that don't go together.
    pub fn exec(&self, exec: Exec) -> Result<String> {
        check(exec.streams)?;
        if exec.command.is_empty() {
            return Err(Error::new(Kind::Invalid, "exec: cmd is empty"));
        }
        self.url("exec", Asked::Exec(exec))
    }

    /// The URL for one attach.
    ///
    /// # Errors
    /// `Invalid` for streams that don't go together.
    pub fn attach(&self, container: String, streams: Streams) -> Result<String> {
        check(streams)?;
        self.url("attach", Asked::Attach { container, streams })
    }

    /// The URL for one session of forwarded ports.
    ///
    /// # Errors
    /// As for tokens.
    pub fn forward(&self, sandbox: String) -> Result<String> {
        self.url("portforward", Asked::Forward { sandbox })
    }

    fn url(&self, verb: &str, asked: Asked) -> Result<String> {
        Ok(format!("{}://{}/{verb}/{}", self.scheme, self.address, self.tokens.put(asked)?))
    }
}

fn check(streams: Streams) -> Result<()> {
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Error::new(Kind::Invalid, "one of stdin, stdout and stderr must be set"));
    }
    if streams.tty && streams.stderr {
        return Err(Error::new(Kind::Invalid, "tty and stderr can't both be set: a terminal has one output"));
    }
    Ok(())
}

/// Connections at once.
pub(super) fn most_connections() -> usize {
    CONNECTIONS.min(descriptors::share() / DESCRIPTORS)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, server: Arc<Server>) {
    let connections = Connections::new(most_connections());
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Some(guest) = connections.enter(Some(peer.ip())) else {
                    tracing::warn!(%peer, "refuse a streaming connection: as many as may be have sessions");
                    continue;
                };
                let _ = socket.set_nodelay(true);
                watch_over(&socket);
                let (server, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    let guest = Arc::new(guest);
                    let socket = Socket::new(socket, guest.clone());
                    tokio::select! {
                        () = serve_guest(socket, tls, server, guest.clone()) => {}
                        () = guest.told_to_leave() => tracing::debug!(%peer, "a silent client made room"),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: what is open goes on, new ones wait.
                tracing::warn!(%error, "accept a streaming connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A client whose machine is gone says nothing: the kernel asks for it, so that its session ends.
fn watch_over(socket: &TcpStream) {
    use rustix::net::sockopt;
    let set = sockopt::set_socket_keepalive(socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(socket, ALIVE))
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, ALIVE));
    if let Err(error) = set {
        tracing::debug!(%error, "watch over a streaming connection");
    }
}

async fn serve_guest(socket: Socket, tls: Option<TlsAcceptor>, server: Arc<Server>, guest: Arc<Guest>) {
    let client = (socket.clone(), guest);
    let Some(tls) = tls else { return connection(socket, server, client).await };
    match timeout(HEAD, tls.accept(socket)).await {
        Ok(Ok(socket)) => connection(socket, server, client).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
        Err(_) => tracing::debug!("TLS handshake: not done in time"),
    }
}

/// One request of a client's, whose bytes may come in TLS.
async fn connection<Io>(socket: Io, server: Arc<Server>, client: (Socket, Arc<Guest>))
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| {
        let answer = server.answer(request, &client);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "streaming request");
    }
}

/// To a request.
pub(super) type Answer = Response<Full<Bytes>>;

impl Server {
    fn answer(&self, mut request: Request<Incoming>, (socket, guest): &(Socket, Arc<Guest>)) -> Answer {
        let mut path = request.uri().path().trim_start_matches('/').splitn(2, '/');
        let (verb, token) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        let Some(asked) = self.tokens.take(token).filter(|asked| asked.verb() == verb) else {
            return plain(StatusCode::NOT_FOUND, "no such token: it was used, or is older than a minute\n");
        };
        let chosen = match choose(request.headers(), matches!(asked, Asked::Forward { .. })) {
            Ok(chosen) => chosen,
            Err(answer) => return *answer,
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let open = (crate::metrics::session(asked.verb()), guest.stay());
        let session = serve(upgrade, asked, chosen.transport, self.backend.clone());
        let (socket, guest) = (socket.clone(), guest.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = session => {}
                () = socket.gone() => tracing::debug!("a streaming client is gone, and nobody took what it said"),
                () = guest.told_to_leave() => tracing::info!("a streaming client that nobody listened to made room"),
            }
            // Whatever else the session had begun ends with its connection, before its place is given back.
            socket.end();
            drop(open);
        });
        chosen.answer
    }
}

impl Asked {
    fn verb(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach { .. } => "attach",
            Self::Forward { .. } => "portforward",
        }
    }
}

/// Waits for the upgrade and serves what was asked for.
async fn serve(upgrade: OnUpgrade, asked: Asked, transport: Transport, backend: Arc<dyn Backend>) {
    let wire = match upgrade.await {
        Ok(upgraded) => wire(upgraded),
        Err(error) => return tracing::debug!(%error, "upgrade a streaming connection"),
    };
    let (streams, asked) = match asked {
        Asked::Forward { sandbox } => {
            let wire = match transport {
                Transport::Spdy(_) => wire,
                Transport::WebSocket(_) => websocket::tunnel(wire).await,
            };
            return spdy::serve(wire, |accept| forward::run(backend, sandbox, accept)).await;
        }
        Asked::Exec(exec) => (exec.streams, Remote::Exec(exec)),
        Asked::Attach { container, streams } => (streams, Remote::Attach(container, streams)),
    };
    match transport {
        Transport::Spdy(version) => {
            spdy::serve(wire, |mut accept| async move {
                match remote::gather(&mut accept, streams, version).await {
                    Ok(client) => remote::run(client, asked.begin(backend.as_ref()).await, version).await,
                    Err(error) => tracing::debug!(%error, "streaming session"),
                }
            })
            .await;
        }
        Transport::WebSocket(version) => {
            websocket::remote(wire, streams, version, |client| async move {
                remote::run(client, asked.begin(backend.as_ref()).await, remote::Version::Status).await;
            })
            .await;
        }
    }
}

enum Remote {
    Exec(Exec),
    Attach(String, Streams),
}

impl Remote {
    async fn begin(&self, backend: &dyn Backend) -> Result<super::backend::Session> {
        match self {
            Self::Exec(exec) => backend.exec(exec).await,
            Self::Attach(container, streams) => backend.attach(container, *streams).await,
        }
    }
}

fn wire(upgraded: Upgraded) -> Wire {
    match upgraded.downcast::<TokioIo<Socket>>() {
        Ok(parts) => Wire::plain(parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => Wire::new(TokioIo::new(upgraded), Bytes::new()),
    }
}
