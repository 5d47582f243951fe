//! containerd's end of the events: takes what a shim forwards, answers, and keeps the order of arrival.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;

use super::api::containerd::services::events::ttrpc::v1::ForwardRequest;
use super::api::containerd::types::Envelope;
use super::client::{frame, payload};

/// A socket on which events are taken; nobody is there any more when this is dropped.
pub struct Receiver {
    path: std::path::PathBuf,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    events: Vec<Envelope>,
    connections: Vec<UnixStream>,
}

impl Receiver {
    /// Listens.
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("make the receiver's socket");
        let taken = Arc::<Mutex<Taken>>::default();
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let again = connection.try_clone().expect("duplicate the connection");
                lock(&shared).connections.push(again);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || take(connection, &shared));
            }
        });
        Self { path: path.to_owned(), taken }
    }

    /// The topics of what came, in order.
    pub fn topics(&self) -> Vec<String> {
        lock(&self.taken).events.iter().map(|event| event.topic.clone()).collect()
    }

    /// What came, in order.
    pub fn events(&self) -> Vec<Envelope> {
        lock(&self.taken).events.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Who connects finds nobody, though a thread of ours still listens.
        let _ = std::fs::remove_file(&self.path);
        for connection in &lock(&self.taken).connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the connection ends.
fn take(mut connection: UnixStream, taken: &Mutex<Taken>) {
    let mut header = [0; 10];
    while connection.read_exact(&mut header).is_ok() {
        let [l0, l1, l2, l3, s0, s1, s2, s3, ..] = header;
        let mut message = vec![0; u32::from_be_bytes([l0, l1, l2, l3]) as usize];
        connection.read_exact(&mut message).expect("a whole request");
        let request = ForwardRequest::decode(payload(&message).as_slice()).expect("a ForwardRequest");
        lock(taken).events.push(request.envelope.expect("an envelope"));
        // An empty response: success.
        let answer = frame(u32::from_be_bytes([s0, s1, s2, s3]), 2, 0, &[]);
        if connection.write_all(&answer).is_err() {
            return;
        }
    }
}
