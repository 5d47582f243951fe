//! A container that lives beyond one call: its state, its process, calls about it; removed when the test is done with it.
//!
//! It knows the command line of a runtime, not its state files.

use crate::call::{Call, Output};
use crate::case::Case;
use crate::wait::until;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

/// A created or started container.
pub struct Running<'a> {
    case: &'a Case,
    id: String,
    output: Option<crate::call::Started>,
    gone: std::cell::Cell<bool>,
}

impl<'a> Running<'a> {
    /// The container that this call of `create` (or `run --detach`) makes.
    #[track_caller]
    pub fn new(case: &'a Case, id: &str, call: Call) -> Self {
        let mut started = call.spawn();
        until(&format!("create {id} ends"), || started.ended().then_some(()));
        // From here on the container is removed whatever happens.
        let container = Self { case, id: id.to_owned(), output: Some(started), gone: false.into() };
        let output =
            container.output.as_ref().map(|s| format!("{}{}", s.stdout(), s.stderr())).unwrap_or_default();
        assert_ne!(container.status(), "", "create {id} made no container: {output}");
        container
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A call of the runtime about this container: `verb ID`.
    pub fn call(&self, verb: &str) -> Call {
        self.case.call([verb, &self.id])
    }

    /// A call with options between the verb and the id, and arguments after it.
    pub fn call_with(&self, verb: &str, options: &[&str], rest: &[&str]) -> Call {
        self.case.call([verb]).args(options).arg(&self.id).args(rest)
    }

    /// Runs a process in it, to its end.
    pub fn exec(&self, args: &[&str]) -> Output {
        self.call_with("exec", &[], args).run()
    }

    /// What a further process in it sees.
    #[track_caller]
    pub fn exec_report(&self, options: &[&str]) -> crate::Report {
        crate::Report::parse(&self.call_with("exec", options, &["/probe", "report"]).run().ok().stdout)
    }

    /// The runtime's state of it; null where it has none.
    pub fn state(&self) -> Value {
        let output = self.call("state").run();
        serde_json::from_str(&output.stdout).unwrap_or(Value::Null)
    }

    /// `creating`, `created`, `running`, `paused`, `stopped`; empty where there is no such container.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a status.
    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        until(&format!("{} is {status}", self.id), || (self.status() == status).then_some(()));
    }

    /// The process's id on the host.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().unwrap_or_else(|| panic!("{} has no pid", self.id));
        i32::try_from(pid).expect("pids are small")
    }

    /// What the container's process has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.output.as_ref().map(crate::call::Started::stdout).unwrap_or_default()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.output.as_ref().map(crate::call::Started::stderr).unwrap_or_default()
    }

    /// Waits until the process has said this.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) -> String {
        until(&format!("{} says {text}", self.id), || Some(self.stdout()).filter(|out| out.contains(text)))
    }

    /// Waits for the process's end and reaps it; its exit code, 128+n after a signal.
    #[track_caller]
    pub fn wait_exit(&self, pid: i32) -> i32 {
        until(&format!("process {pid} of {} ends", self.id), || {
            match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
                Ok(_) => None,
                Err(e) => panic!("process {pid} is not ours to wait for: {e}"),
            }
        })
    }

    /// Ends and removes it; after this, dropping it does nothing.
    #[track_caller]
    pub fn delete(&self) -> Output {
        let output = self.call_with("delete", &["--force"], &[]).run().ok();
        self.gone.set(true);
        output
    }

    /// Says that the test has removed it itself.
    pub fn is_gone(&self) {
        self.gone.set(true);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.gone.get() {
            let _ = self.call_with("delete", &["--force"], &[]).run();
        }
    }
}
