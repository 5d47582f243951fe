//! The pod service as a manager of pods sees it: typed calls with deadlines on one connection to a shim, and streams beside it.
//!
//! Works on any tokio runtime. Does not start shims and does not connect again: a connection that breaks means that the shim is
//! gone, and what then has to be done is its owner's affair.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::pod as api;
use crate::ttrpc::{Channel, Hello};

pub use crate::pod::StreamName;
pub use crate::ttrpc::{Code, Status};

/// Calls of any client made in `work` carry this id of the manager's request: the shim's log lines about them end in it. Tasks that
/// `work` spawns don't inherit it, unless they are spawned by [`spawn`].
pub async fn with_request<F: Future>(id: Option<Arc<str>>, work: F) -> F::Output {
    crate::request::within(id, work).await
}

/// A task of its own, which goes on when its caller goes away; its calls carry the id of the request that began it.
pub fn spawn<F>(work: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(with_request(crate::request::current(), work))
}

/// What a call may come back with: a code to branch on and the whole chain of causes as a sentence.
pub type Result<T> = std::result::Result<T, Status>;

/// The service's full name.
pub const SERVICE: &str = "run.rt.pod.v1.Pod";

/// For what needs no work of the kernel's.
const QUICK: Duration = Duration::from_secs(10);
/// For what runs `rt`.
const WORK: Duration = Duration::from_secs(120);
/// What a stop may take beyond its grace: SIGKILL, cgroup.kill, and the report about what survives both.
const ESCALATION: Duration = Duration::from_secs(60);

/// A connection to one shim. Cheap to clone; all clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    path: Arc<PathBuf>,
}

impl Client {
    /// Connects to the shim's socket.
    ///
    /// # Errors
    /// `Unavailable` when nobody listens there: the shim is dead.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let channel = Channel::connect(path).await?;
        Ok(Self { channel, path: Arc::new(path.to_owned()) })
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// What answers there.
    ///
    /// # Errors
    /// As all calls here: the shim's status, `Unavailable` when the connection broke, `DeadlineExceeded`.
    pub async fn version(&self) -> Result<api::VersionResponse> {
        self.call("Version", &api::VersionRequest {}, QUICK).await
    }

    /// Makes a container; its process waits for `start`.
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidArgument` for a config that makes no sense, and what `rt create` failed with.
    pub async fn create(&self, request: &api::CreateRequest) -> Result<api::CreateResponse> {
        self.call("Create", request, WORK).await
    }

    /// Starts a container's process.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition`, or why its program could not be executed.
    pub async fn start(&self, id: &str) -> Result<api::StartResponse> {
        self.call("Start", &api::StartRequest { id: id.to_owned() }, WORK).await
    }

    /// Ends a container: `signal` (empty: SIGTERM), `grace`, SIGKILL. Returns when it has ended.
    ///
    /// # Errors
    /// `NotFound`; `DeadlineExceeded` with the stuck process's name and wait channel if it survives all of that.
    pub async fn stop(&self, id: &str, signal: &str, grace: Duration) -> Result<api::Ended> {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let request = api::StopRequest { id: id.to_owned(), signal: signal.to_owned(), grace_ms };
        let response: api::StopResponse =
            self.call("Stop", &request, grace.saturating_add(ESCALATION)).await?;
        Ok(response.ended.unwrap_or_default())
    }

    /// Sends one signal.
    ///
    /// # Errors
    /// `NotFound` when nothing of that name runs.
    pub async fn kill(&self, request: &api::KillRequest) -> Result<()> {
        self.done("Kill", request, QUICK).await
    }

    /// Removes what is left of a container or an exec. Unknown: fine.
    ///
    /// # Errors
    /// `FailedPrecondition` when it runs and `force` is not set.
    pub async fn remove(&self, request: &api::RemoveRequest) -> Result<()> {
        self.done("Remove", request, WORK).await
    }

    /// Forgets an exec that runs and whose client has gone; its process goes on. Unknown: fine.
    ///
    /// # Errors
    /// `Unimplemented` of an older shim; `FailedPrecondition` before it was started.
    pub async fn let_go(&self, id: &str, exec_id: &str) -> Result<()> {
        let request = api::LetGoRequest { id: id.to_owned(), exec_id: exec_id.to_owned() };
        self.done("LetGo", &request, QUICK).await
    }

    /// Changes a container's limits; `resources` is the runtime-spec's LinuxResources as JSON.
    ///
    /// # Errors
    /// What `rt update` failed with.
    pub async fn update(&self, id: &str, resources: Vec<u8>) -> Result<()> {
        self.done("Update", &api::UpdateRequest { id: id.to_owned(), resources }, WORK).await
    }

    /// Starts an extra process; its streams wait ten seconds for [`Client::stream`].
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition`, `AlreadyExists`, or why its program could not be executed.
    pub async fn exec(&self, request: &api::ExecRequest) -> Result<api::ExecResponse> {
        self.call("Exec", request, WORK).await
    }

    /// Waits for the end of a container's process, or of an exec; `None` when it still runs after `limit`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn wait(&self, id: &str, exec_id: &str, limit: Duration) -> Result<Option<api::Ended>> {
        let request = api::WaitRequest { id: id.to_owned(), exec_id: exec_id.to_owned() };
        match self.call::<_, api::WaitResponse>("Wait", &request, limit).await {
            Ok(response) => Ok(Some(response.ended.unwrap_or_default())),
            Err(status) if status.code == Code::DeadlineExceeded as i32 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Asks for further streams of a running container.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition`.
    pub async fn attach(&self, request: &api::AttachRequest) -> Result<api::AttachResponse> {
        self.call("Attach", request, QUICK).await
    }

    /// Sets the size of a terminal.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` without a terminal.
    pub async fn resize(&self, request: &api::ResizeRequest) -> Result<()> {
        self.done("Resize", request, QUICK).await
    }

    /// Opens the log file anew, after its rotation.
    ///
    /// # Errors
    /// `NotFound`, or why the file can't be opened.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        self.done("ReopenLog", &api::ReopenLogRequest { id: id.to_owned() }, QUICK).await
    }

    /// The whole truth about the pod: at once if its version is not `after`, else when it changes, or after `wait`.
    ///
    /// # Errors
    /// Only those that all calls have.
    pub async fn watch(&self, after: u64, wait: Duration) -> Result<api::WatchResponse> {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        self.call("Watch", &api::WatchRequest { after, wait_ms }, wait.saturating_add(QUICK)).await
    }

    /// Ends the shim; with `force` its containers before that.
    ///
    /// # Errors
    /// `FailedPrecondition` when containers are left and `force` is not set.
    pub async fn shutdown(&self, request: api::ShutdownRequest) -> Result<()> {
        self.done("Shutdown", &request, WORK).await
    }

    /// Opens a stream that `exec` or `attach` gave the token of: raw bytes from here on, half-closed at the stream's end.
    ///
    /// # Errors
    /// `Unavailable` when the shim is gone. A token that it does not know shows as a stream that ends at once.
    pub async fn stream(&self, token: &str, name: StreamName) -> Result<UnixStream> {
        let failed = |why: &dyn std::fmt::Display| {
            Status::new(Code::Unavailable, format!("open {name:?} of {}: {why}", self.path.display()))
        };
        let opening = async {
            let mut stream = UnixStream::connect(self.path.as_ref()).await?;
            stream.write_all(Hello { token: token.to_owned(), name }.line().as_bytes()).await?;
            Ok::<_, std::io::Error>(stream)
        };
        timeout(QUICK, opening).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    async fn done(&self, method: &str, request: &impl Message, deadline: Duration) -> Result<()> {
        self.call::<_, api::Empty>(method, request, deadline).await.map(drop)
    }

    async fn call<A: Message, R: Message + Default>(
        &self,
        method: &str,
        request: &A,
        deadline: Duration,
    ) -> Result<R> {
        self.channel.call((SERVICE, method), request, deadline).await
    }
}
