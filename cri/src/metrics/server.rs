//! `GET /metrics`, over plain HTTP. It answers nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Config, scrape};
use crate::connections::{Connections, Guest};
use crate::error::{Context, Error, Result};
use crate::node::Node;

/// How long a client may take for its request's head, and what it may have.
const HEAD: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 << 10;

/// Connections at once; those that ask for nothing make room.
const CONNECTIONS: usize = 16;

/// How long a connection may last in all: a client that takes no answer holds no place. Prometheus comes again.
const LIFE: Duration = Duration::from_secs(60);

/// Serves from now on, if the configuration says where. Gives the address: port 0 is any that is free.
///
/// # Errors
/// `Invalid` for what is no address, `Os` if it can't be listened on.
pub async fn start(config: &Config, node: &Arc<Node>) -> Result<Option<SocketAddr>> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let listen: SocketAddr = config.listen.parse().map_err(|_| {
        Error::invalid(format!("metrics.listen is {:?}", config.listen)).cure("give ADDRESS:PORT, or nothing")
    })?;
    let what = || format!("listen on {listen} for metrics");
    let listener = TcpListener::bind(listen).await.what(what)?;
    let address = listener.local_addr().what(what)?;
    tracing::info!(%address, "metrics");
    tokio::spawn(accept(listener, Arc::clone(node)));
    Ok(Some(address))
}

async fn accept(listener: TcpListener, node: Arc<Node>) {
    let connections = Connections::new(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Some(guest) = connections.enter(Some(peer.ip())).map(Arc::new) else {
                    tracing::debug!(%peer, "refuse a connection for metrics: as many as may be are being answered");
                    continue;
                };
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = timeout(LIFE, connection(socket, node, Arc::clone(&guest))) => {}
                        () = guest.told_to_leave() => tracing::debug!(%peer, "a silent client made room"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, node: Arc<Node>, guest: Arc<Guest>) {
    let service = service_fn(|request| {
        let (node, stay) = (Arc::clone(&node), guest.stay());
        async move {
            let answer = answer(&request, node).await;
            drop(stay);
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics");
    }
}

async fn answer(request: &Request<Incoming>, node: Arc<Node>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "only /metrics is here\n".to_owned());
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET\n".to_owned());
    }
    // It reads a file for each shim.
    let text = tokio::task::spawn_blocking(move || scrape::text(&node)).await;
    match text.map_err(|error| Error::internal(error.to_string())).and_then(|text| text) {
        Ok(text) => {
            let mut answer = plain(StatusCode::OK, text);
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Err(error) => {
            tracing::warn!("{error}");
            plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer
}
