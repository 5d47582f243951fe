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
use tokio::sync::Semaphore;

use super::{Config, scrape};
use crate::error::{Context, Error, Result};
use crate::node::Node;

/// How long a client may take for its request's head.
const HEAD: Duration = Duration::from_secs(10);

/// Connections at once; more wait.
const CONNECTIONS: usize = 16;

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
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    connection(socket, node).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, node: Arc<Node>) {
    let service = service_fn(|request| {
        let node = Arc::clone(&node);
        async move { Ok::<_, Infallible>(answer(&request, node).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
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
