//! gRPC over HTTP/2 on the accepted connections. Clients' deadlines are the clients' own: work goes on when they go away, and no answer
//! is cut short here (tonic's own server would answer `Cancelled` when a deadline passes, where Kubernetes wants `DeadlineExceeded`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Code;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;
use tracing::Instrument;

use super::in_flight::InFlight;
use crate::connections::{Connections, Guest};
use crate::descriptors;

/// Connections at once. A kubelet has two; who opens more than these makes the idle ones leave.
const CONNECTIONS: usize = 256;

/// Requests at once on one connection: a kubelet has one for each probe that runs and each container that is being stopped.
const STREAMS: u32 = 1000;

/// Of one request, when its head is decompressed. gRPC's clients send some hundred bytes.
const HEADERS: u32 = 16 << 10;

/// Requests that a client has given up and that nobody has looked at yet (CVE-2023-44487). A kubelet gives up as many at once as it has
/// pods, 110 as a rule, when this server had no turn meanwhile.
const GIVEN_UP: usize = 128;

/// Streams that this side resets because a frame was wrong, came for a stream that had its answer, or opened one too many. HTTP/2's
/// library counts them as long as the connection lives and then ends it: a kubelet's lives for weeks. Who makes us reset streams whose
/// requests still run (CVE-2025-8671) gets as many again as he may have anyway.
const RESETS: usize = STREAMS as usize;

/// Serves connections until `stop` is true; returns when those that were open have ended.
pub async fn serve(mut connections: UnixListenerStream, routes: Routes, stop: watch::Receiver<bool>) {
    let mut open = tokio::task::JoinSet::new();
    let guests = Connections::new(CONNECTIONS.min(descriptors::share()));
    let in_flight = Arc::new(InFlight::default());
    let mut stopped = stop.clone();
    loop {
        tokio::select! {
            connection = connections.next() => match connection {
                Some(Ok(stream)) => {
                    let Some(guest) = guests.enter(None).map(Arc::new) else {
                        tracing::warn!("refuse a connection: as many as may be are being served");
                        continue;
                    };
                    let (routes, stop, in_flight) = (routes.clone(), stop.clone(), Arc::clone(&in_flight));
                    open.spawn(async move {
                        tokio::select! {
                            () = one(stream, (routes, in_flight), Arc::clone(&guest), stop) => {}
                            () = guest.told_to_leave() => tracing::debug!("an idle client made room"),
                        }
                    });
                }
                // Out of descriptors, say: the next one may do.
                Some(Err(error)) => {
                    tracing::warn!("accept a connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                None => break,
            },
            Some(_) = open.join_next() => {}
            () = until(&mut stopped) => break,
        }
    }
    drop(connections);
    while open.join_next().await.is_some() {}
}

async fn until(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn one(
    stream: UnixStream,
    (routes, in_flight): (Routes, Arc<InFlight>),
    guest: Arc<Guest>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut routes = routes.clone();
        let bytes = in_flight.begin();
        let stay = guest.stay();
        let id = id();
        let span = span(&request, &id);
        let work = async move {
            let (path, began) = (request.uri().path().to_owned(), Instant::now());
            let answer = routes.call(request.map(|body| Body::new(bytes.count(body)))).await;
            // An error is said in the head; what has none there went well, or is a stream that has begun.
            let code = answer.as_ref().map_or(Code::Internal, |answer| {
                answer.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
            });
            crate::metrics::rpc(&path, code, began.elapsed());
            // What is answered by a stream is being served as long as somebody listens.
            answer.map(blame).map(|answer| answer.map(|body| InFlight::until_sent(body, bytes, stay)))
        };
        shim::client::with_request(Some(id.into()), work).instrument(span)
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .max_pending_accept_reset_streams(GIVEN_UP)
        .max_local_error_reset_streams(RESETS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection: {error}");
    }
}

/// A message that can't be decoded is the client's mistake; tonic calls it Internal.
fn blame(mut answer: Response<Body>) -> Response<Body> {
    const STATUS: &str = "grpc-status";
    let headers = answer.headers_mut();
    let is_undecoded = headers.get(STATUS).is_some_and(|code| code == "13")
        && headers
            .get("grpc-message")
            .is_some_and(|said| said.as_bytes().starts_with(b"failed%20to%20decode%20Protobuf%20message"));
    if is_undecoded {
        headers.insert(STATUS, HeaderValue::from(tonic::Code::InvalidArgument as i32));
    }
    answer
}

/// Each request has an id that all its lines carry, the shim's too.
fn id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn span(request: &Request<Incoming>, id: &str) -> tracing::Span {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    tracing::info_span!("request", id, method)
}
