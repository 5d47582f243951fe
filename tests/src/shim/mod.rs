//! The shim under test, as a manager of pods starts it, and clients of its socket. Speaks ttrpc by itself: frames are part of what is
//! tested.
//!
//! Says nothing about what the answers should be; that is for the topic files.

mod client;
mod receiver;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

pub use client::{Client, Refused, frame, request};
pub use receiver::Receiver;

use crate::programs::target;
use crate::wait::{until, within};
use crate::{Bundle, Case, Runtime};

/// The protocols' types.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod api {
    include!(concat!(env!("OUT_DIR"), "/protocols.rs"));

    pub use containerd::runc::v1::Options as RuncOptions;
    pub use containerd::task::v3 as task;
    pub use run::rt::pod::v1 as pod;
}

use api::{RuncOptions, pod, task};

/// The pod service's name.
pub const POD: &str = "run.rt.pod.v1.Pod";
/// The task service's.
pub const TASK: &str = "containerd.task.v3.Task";

/// A running shim; ended, with all its containers, when the test is done with it.
pub struct Shim<'a> {
    case: &'a Case,
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Case {
    /// Starts a shim that has the test's state root.
    pub fn shim(&self) -> Shim<'_> {
        self.shim_named("shim")
    }

    /// Starts one of several.
    pub fn shim_named(&self, name: &str) -> Shim<'_> {
        self.shim_with(name, Runtime::under_test().path(), &[])
    }

    /// Starts one that runs this `rt`, with these variables.
    pub fn shim_with(&self, name: &str, rt: &Path, variables: &[(&str, &str)]) -> Shim<'_> {
        self.start_shim(name, rt, variables, &[])
    }

    /// Starts one that has systemd make its containers' cgroups.
    pub fn shim_of_systemd(&self, name: &str) -> Shim<'_> {
        self.start_shim(name, Runtime::under_test().path(), &[], &["--systemd-cgroup"])
    }

    /// Starts one as containerd does: in a namespace, and with a socket for its events.
    pub fn shim_with_events(&self, name: &str, events: &Path) -> Shim<'_> {
        let events = events.to_string_lossy();
        let more = ["--namespace", "default", "--events", &events];
        self.start_shim(name, Runtime::under_test().path(), &[], &more)
    }

    fn start_shim(&self, name: &str, rt: &Path, variables: &[(&str, &str)], more: &[&str]) -> Shim<'_> {
        let place = self.dir().join(name);
        std::fs::create_dir_all(&place).expect("make the shim's place");
        let socket = place.join("s");
        let listener = UnixListener::bind(&socket).expect("make the socket");
        let log = std::fs::File::create(place.join("log")).expect("make its log");
        let mut command = Command::new(program());
        command.args(["serve", "--id", "pod", "--listen", "0", "--log-level", "debug"]).args(more);
        command.arg("--dir").arg(place.join("dir")).arg("--rt").arg(rt);
        command.arg("--rt-root").arg(self.state_root()).arg("--socket").arg(&socket);
        command.env("RT_TEST_CASE", self.name()).env("TMPDIR", self.dir().join("tmp"));
        command.envs(variables.iter().copied());
        let child = command.stdin(OwnedFd::from(listener)).stderr(log).spawn().expect("start the shim");
        Shim { case: self, child, socket, log: place.join("log") }
    }
}

/// The pause program that the shim brings: `target/bin/pause`, or `$PAUSE_UNDER_TEST`.
pub fn pause() -> PathBuf {
    built("PAUSE_UNDER_TEST", "pause")
}

/// `target/bin/containerd-shim-rt-v2`, or `$SHIM_UNDER_TEST`.
pub fn program() -> PathBuf {
    built("SHIM_UNDER_TEST", "containerd-shim-rt-v2")
}

fn built(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| target().join("bin").join(name), PathBuf::from);
    assert!(path.exists(), "{} is not there; build it with hack/build", path.display());
    path
}

impl Shim<'_> {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// What is in its directory.
    pub fn files(&self) -> Vec<String> {
        let entries = self.socket.with_file_name("dir").read_dir().expect("read its directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// What it wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// Creates the bundle's container with a log file; gives the file's path.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> PathBuf {
        let log = self.case.dir().join(format!("{}.log", bundle.id()));
        self.create_with(bundle, pod::Stdio { log_path: text(&log), ..Default::default() });
        log
    }

    /// Creates the bundle's container with these streams.
    #[track_caller]
    pub fn create_with(&self, bundle: &Bundle, stdio: pod::Stdio) {
        bundle.write();
        let request = pod::CreateRequest { stdio: Some(stdio), ..of(bundle) };
        let made: pod::CreateResponse = self.client().ask(POD, "Create", &request);
        assert!(made.pid > 0, "no pid");
    }

    /// Creates and starts a container that does nothing.
    #[track_caller]
    pub fn start_sleeping(&self, bundle: &mut Bundle) -> pod::StartResponse {
        bundle.with_busybox().args(["/probe", "sleep"]);
        self.create(bundle);
        self.start(bundle.id())
    }

    /// Runs a shell script in a container, with its output; what was asked, and the answer.
    #[track_caller]
    pub fn exec(
        &self,
        bundle: &Bundle,
        exec_id: &str,
        script: &str,
    ) -> (pod::ExecRequest, pod::ExecResponse) {
        let exec = pod::ExecRequest { stdout: true, ..shell(bundle.id(), exec_id, script) };
        let started = self.client().ask(POD, "Exec", &exec);
        (exec, started)
    }

    /// Waits for an exec's end.
    #[track_caller]
    pub fn end_of(&self, exec: &pod::ExecRequest) -> pod::WaitResponse {
        let request = pod::WaitRequest { id: exec.id.clone(), exec_id: exec.exec_id.clone() };
        self.client().ask(POD, "Wait", &request)
    }

    /// Starts what was created.
    #[track_caller]
    pub fn start(&self, id: &str) -> pod::StartResponse {
        self.client().ask(POD, "Start", &pod::StartRequest { id: id.to_owned() })
    }

    /// Waits for a container's end.
    #[track_caller]
    pub fn wait(&self, id: &str) -> pod::Ended {
        let request = pod::WaitRequest { id: id.to_owned(), exec_id: String::new() };
        let response: pod::WaitResponse = self.client().ask(POD, "Wait", &request);
        response.ended.expect("how it ended")
    }

    /// Ends a container: signal, then SIGKILL after this many milliseconds.
    #[track_caller]
    pub fn stop(&self, id: &str, grace_ms: i64) -> pod::Ended {
        let request = pod::StopRequest { id: id.to_owned(), signal: String::new(), grace_ms };
        let response: pod::StopResponse = self.client().ask(POD, "Stop", &request);
        response.ended.expect("how it ended")
    }

    /// Removes a container.
    #[track_caller]
    pub fn remove(&self, id: &str) {
        let request = pod::RemoveRequest { id: id.to_owned(), exec_id: String::new(), force: false };
        let _: pod::Empty = self.client().ask(POD, "Remove", &request);
    }

    /// The pod's truth now.
    #[track_caller]
    pub fn watch(&self, after: u64, wait_ms: i64) -> pod::WatchResponse {
        self.client().ask(POD, "Watch", &pod::WatchRequest { after, wait_ms })
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at the shim").is_none()
    }

    /// Waits until the shim itself has ended.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until("the shim ends", || self.child.try_wait().expect("wait for the shim"))
    }

    /// SIGKILL to the shim.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the shim");
        self.child.wait().expect("wait for the shim");
    }
}

/// A request for the bundle's container, without streams.
pub fn of(bundle: &Bundle) -> pod::CreateRequest {
    pod::CreateRequest { id: bundle.id().to_owned(), bundle: text(bundle.dir()), ..Default::default() }
}

/// A request of containerd's for the bundle's container, without streams, with these options of runc's.
pub fn task_with(bundle: &Bundle, options: &RuncOptions) -> task::CreateTaskRequest {
    let options = prost_types::Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: prost::Message::encode_to_vec(options),
    };
    task::CreateTaskRequest {
        id: bundle.id().to_owned(),
        bundle: text(bundle.dir()),
        options: Some(options),
        ..Default::default()
    }
}

/// A request for a shell script beside a container's process, without streams.
pub fn shell(id: &str, exec_id: &str, script: &str) -> pod::ExecRequest {
    pod::ExecRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..Default::default()
    }
}

/// The pids of a shim's `rt`s that run.
pub fn runtimes(shim: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap_or_default();
    let is_rt = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with("rt\0"))
    };
    children.split_whitespace().filter(is_rt).map(|pid| pid.parse().expect("a pid")).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Drop for Shim<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let told = Client::try_connect(&self.socket).is_some_and(|mut client| {
            client.call::<pod::Empty>(POD, "Shutdown", &pod::ShutdownRequest { force: true }).is_ok()
        });
        let limit = std::time::Duration::from_secs(10);
        let ended = within(limit, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if !std::thread::panicking() {
            assert!(told && ended.is_some(), "the shim did not end when it was told to: {}", self.log());
        } else {
            eprintln!("the shim said:\n{}", self.log());
        }
    }
}
