//! The streaming server: an HTTP/1.1 listener whose URLs are given out by `Exec`, `Attach` and `PortForward`.
//!
//! Negotiates the transport and its version, then hands the connection on. A request without a valid token gets 404, so that
//! nothing can be learned by trying.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
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
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::backend::{Backend, Exec, Streams};
use super::socket::Socket;
use super::token::{Tokens, Weight};
use super::wire::Wire;
use super::{Config, forward, remote, spdy, tls, websocket};
use crate::connections::{Connections, Guest};
use crate::descriptors;
use crate::error::{Context, Error, Kind, Result};

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

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

const REMOTE_SPDY: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const REMOTE_WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const FORWARD_SPDY: [&str; 1] = ["portforward.k8s.io"];
const FORWARD_WEBSOCKET: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];

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

type Answer = Response<Full<Bytes>>;

impl Server {
    fn answer(&self, mut request: Request<Incoming>, (socket, guest): &(Socket, Arc<Guest>)) -> Answer {
        let mut path = request.uri().path().trim_start_matches('/').splitn(2, '/');
        let (verb, token) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        let Some(asked) = self.tokens.take(token).filter(|asked| asked.verb() == verb) else {
            return plain(StatusCode::NOT_FOUND, "no such token: it was used, or is older than a minute\n");
        };
        let chosen = match choose(request.headers(), &asked) {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Spdy(remote::Version),
    WebSocket(websocket::Version),
}

struct Chosen {
    transport: Transport,
    answer: Answer,
}

/// Finds the transport and its version, and the answer that says so. The first version of the client's that we speak is taken.
fn choose(headers: &HeaderMap, asked: &Asked) -> std::result::Result<Chosen, Box<Answer>> {
    let forwards = matches!(asked, Asked::Forward { .. });
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("websocket") {
        let known: &[&str] = if forwards { &FORWARD_WEBSOCKET } else { &REMOTE_WEBSOCKET };
        let offered = offered(headers, &SEC_WEBSOCKET_PROTOCOL);
        let protocol = first_spoken(&offered, known)?;
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            return Err(Box::new(plain(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n")));
        };
        let mut answer = switching("websocket");
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        answer.headers_mut().extend(accept.ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let version =
            if protocol == REMOTE_WEBSOCKET[0] { websocket::Version::V5 } else { websocket::Version::V4 };
        return Ok(Chosen { transport: Transport::WebSocket(version), answer });
    }
    if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        let known: &[&str] = if forwards { &FORWARD_SPDY } else { &REMOTE_SPDY };
        let offered = offered(headers, &PROTOCOL);
        let protocol = first_spoken(&offered, known)?;
        let mut answer = switching("SPDY/3.1");
        answer.headers_mut().insert(PROTOCOL, HeaderValue::from_static(protocol));
        let version =
            if protocol == REMOTE_SPDY[0] { remote::Version::Status } else { remote::Version::Text };
        return Ok(Chosen { transport: Transport::Spdy(version), answer });
    }
    Err(Box::new(plain(StatusCode::BAD_REQUEST, "neither Upgrade: SPDY/3.1 nor Upgrade: websocket\n")))
}

/// The protocols that a client names: headers may be repeated, or hold a list.
fn offered<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn first_spoken(offered: &[&str], known: &[&'static str]) -> std::result::Result<&'static str, Box<Answer>> {
    if offered.is_empty() {
        return Err(Box::new(plain(StatusCode::BAD_REQUEST, "no protocol version is asked for\n")));
    }
    let found = offered.iter().find_map(|name| known.iter().find(|ours| *ours == name));
    found.copied().ok_or_else(|| {
        let mut answer =
            plain(StatusCode::FORBIDDEN, "none of the protocol versions asked for is spoken here\n");
        for name in known {
            answer.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        Box::new(answer)
    })
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    // A URL is good for one connection.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn switching(to: &'static str) -> Answer {
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    answer
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn exec() -> Asked {
        let streams = Streams { stdin: false, stdout: true, stderr: false, tty: false };
        Asked::Exec(Exec { container: "c".to_owned(), command: vec!["true".to_owned()], streams })
    }

    #[test]
    fn the_first_version_of_the_client_that_is_known_is_chosen() {
        let spdy = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v9.channel.k8s.io, v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ]);
        let chosen = choose(&spdy, &exec()).expect("a transport");
        assert_eq!(chosen.transport, Transport::Spdy(remote::Version::Status));
        assert_eq!(chosen.answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(chosen.answer.headers()[PROTOCOL], "v4.channel.k8s.io");
    }

    #[test]
    fn websocket_answers_with_its_key_and_protocol() {
        let websocket = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), // RFC 6455, section 1.3
            ("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io"),
        ]);
        let chosen = choose(&websocket, &exec()).expect("a transport");
        assert_eq!(chosen.transport, Transport::WebSocket(websocket::Version::V5));
        assert_eq!(chosen.answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn requests_that_cannot_be_served_say_why() {
        for (pairs, expected) in [
            (&[][..], StatusCode::BAD_REQUEST),
            (&[("upgrade", "SPDY/3.1")], StatusCode::BAD_REQUEST),
            (
                &[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v9.channel.k8s.io")],
                StatusCode::FORBIDDEN,
            ),
            (
                &[("upgrade", "websocket"), ("sec-websocket-protocol", "v5.channel.k8s.io")],
                StatusCode::BAD_REQUEST,
            ),
        ] {
            let Err(answer) = choose(&headers(pairs), &exec()) else { panic!("{pairs:?}") };
            assert_eq!(answer.status(), expected, "{pairs:?}");
            if expected == StatusCode::FORBIDDEN {
                assert_eq!(answer.headers().get_all(ACCEPTED).iter().count(), 4);
            }
        }
    }
}
