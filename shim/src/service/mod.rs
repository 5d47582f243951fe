//! What answers the calls on the shim's socket: containerd's task service in both versions, and the pod service.
//!
//! Finds the method and turns errors into statuses. What the methods do is in `task` and `pod`; the work is the pod's.

mod convert;
mod pod;
mod stats;
mod task;

pub(crate) use convert::{any, fifos, mounts, timestamp};
pub(crate) use task::exit_status;

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;
use tokio::net::UnixStream;

use crate::error::{Error, Kind, Result};
use crate::pod::Pod;
use crate::request;
use crate::ttrpc::{Code, Hello, Request, Service, Status};

/// The services' full names; both versions of the task service have the same methods and messages.
const TASK: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// What is the same for all calls.
#[derive(Debug)]
pub struct Place {
    /// containerd's namespace; empty under another manager.
    pub namespace: String,
    /// The socket that the shim listens on, as far as it is the shim's to remove.
    pub socket: Option<Socket>,
}

/// A socket's file: its path, and the device and inode that tell it from a later shim's at the same path.
#[derive(Debug)]
pub struct Socket {
    /// Where it is.
    pub path: PathBuf,
    /// Device and inode.
    pub file: (u64, u64),
}

impl Socket {
    /// Removes the file, unless another shim's has taken its place.
    pub fn remove(&self) {
        use std::os::unix::fs::MetadataExt;
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            // Someone else may have removed it in between: then it is gone as well.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// All services of one shim.
#[derive(Clone, Debug)]
pub struct Services {
    pod: Pod,
    place: Arc<Place>,
}

impl Services {
    /// Services that act on `pod`.
    pub fn new(pod: Pod, place: Place) -> Self {
        Self { pod, place: Arc::new(place) }
    }

    /// The socket's file goes before the answer to a shutdown: who starts the same container next makes a new one.
    pub fn leave(&self) {
        if let Some(socket) = &self.place.socket {
            socket.remove();
        }
    }
}

impl Service for Services {
    async fn answer(&self, request: Request) -> Result<Vec<u8>, Status> {
        request::within(request::of(&request), self.call(request)).await
    }

    fn only_waits(&self, request: &Request) -> bool {
        matches!(request.method.as_str(), "Wait" | "Watch")
    }

    async fn stream(&self, hello: Hello, connection: UnixStream) {
        if let Err(error) = self.pod.stream(&hello.token, hello.name, connection).await {
            tracing::debug!("connect {:?}: {error}", hello.name);
        }
    }
}

impl Services {
    async fn call(&self, request: Request) -> Result<Vec<u8>, Status> {
        let Request { service, method, payload, .. } = request;
        let answer = if TASK.contains(&service.as_str()) {
            self.task(&method, &payload).await
        } else if service == crate::client::SERVICE {
            self.pod(&method, &payload).await
        } else {
            return Err(Status::new(
                Code::Unimplemented,
                format!("call {service}/{method}: no such service"),
            ));
        };
        answer.map_err(|error| {
            tracing::debug!("{method}: {error}");
            Status::from(&error)
        })
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        let code = match error.kind() {
            Kind::NotFound => Code::NotFound,
            Kind::Exists => Code::AlreadyExists,
            Kind::Invalid => Code::InvalidArgument,
            Kind::WrongStatus => Code::FailedPrecondition,
            Kind::Unsupported => Code::Unimplemented,
            Kind::Denied => Code::PermissionDenied,
            Kind::Timeout => Code::DeadlineExceeded,
            Kind::Unavailable => Code::Unavailable,
            Kind::Os(
                libc::EUSERS | libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM,
            ) => Code::ResourceExhausted,
            Kind::Os(_) => Code::Unknown,
            Kind::Internal => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// Reads a method's request.
fn decode<A: Message + Default>(payload: &[u8]) -> Result<A> {
    A::decode(payload).map_err(|error| Error::invalid(format!("read the request: {error}")))
}

/// An id that names something; where it is used it becomes part of paths and arguments.
fn named(id: String, what: &str) -> Result<String> {
    if id.is_empty() { Err(Error::invalid(format!("read the request: no {what}"))) } else { Ok(id) }
}

/// No such method in a service.
fn unknown(method: &str) -> Error {
    Error::unsupported(format!("call {method}: no such method"))
}
