//! The server: accepts connections from root only, bounds their number, ends when it is told to.
//!
//! What happens on one connection is in `connection`.

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Uid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::connection::{self, Hello};
use super::{Request, Status};

/// Connections that carry calls, or have not said yet what they carry. Streams that were handed over do not count.
const CONNECTIONS: usize = 256;
/// How long a connection waits for another's place: those who came and went at once leave theirs in no time.
const PLACE: Duration = Duration::from_millis(500);
/// How long answers may still be written when the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What to do when the process is out of descriptors: not to spin.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What answers the calls.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one call; the payload of the response, or why not.
    fn answer(&self, request: Request) -> impl Future<Output = Result<Vec<u8>, Status>> + Send;

    /// Whether the call only waits for something: it ends with the connection of its caller. All others are carried out
    /// whether their caller still listens or not.
    fn only_waits(&self, request: &Request) -> bool;

    /// Takes over a connection that is a stream.
    fn stream(&self, hello: Hello, connection: UnixStream) -> impl Future<Output = ()> + Send;
}

/// Tells the server to end: no new connections, what is being answered is answered.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// One that was not told yet.
    pub fn new() -> Self {
        Self(watch::channel(false).0)
    }

    /// Tells it. May be said more than once.
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is told.
    pub async fn told(&self) {
        // The sender lives as long as `self`: this can't fail.
        let _ = self.0.subscribe().wait_for(|stop| *stop).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves until told to stop, and then until the answers that are due are written (for two seconds at most).
pub async fn serve<S: Service>(listener: UnixListener, service: S, stop: &Stop) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let busy = connection::Busy::default();
    loop {
        let accepted = tokio::select! {
            () = stop.told() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Not root, or no place for it: closed, which the other side sees as the end of the connection.
            Ok((stream, _)) if may_call(&stream) => {
                let place = timeout(PLACE, Arc::clone(&places).acquire_owned()).await;
                let Ok(Ok(place)) = place else { continue };
                tokio::spawn(connection::run(stream, service.clone(), place, busy.clone()));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(LAST_ANSWERS, busy.over()).await;
}

/// Only root, and whoever the shim itself runs as.
fn may_call(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw())
}
