//! A container that lives beyond one call: its state, its process, calls about it; removed when the test is done with it.
//!
//! It knows the command line of a runtime, not its state files.

use crate::call::{Call, Output};
use crate::case::Case;
use crate::wait::until;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

/// A created or started container.
pub struct Running<'a> {
    case: &'a Case,
    id: String,
    output: Option<crate::call::Started>,
    pid: i32,
    /// Processes that end up as this test's children, with their exit codes once they are reaped.
    children: RefCell<BTreeMap<i32, Option<i32>>>,
    gone: Cell<bool>,
}

impl<'a> Running<'a> {
    /// The container that this call of `create` (or `run --detach`) makes.
    #[track_caller]
    pub fn new(case: &'a Case, id: &str, call: Call) -> Self {
        let mut started = call.spawn();
        until(&format!("create {id} ends"), || started.ended().then_some(()));
        // From here on the container is removed whatever happens.
        let mut container = Self {
            case,
            id: id.to_owned(),
            output: Some(started),
            pid: 0,
            children: RefCell::default(),
            gone: false.into(),
        };
        let output =
            container.output.as_ref().map(|s| format!("{}{}", s.stdout(), s.stderr())).unwrap_or_default();
        let state = container.state();
        assert!(state.is_object(), "create {id} made no container: {output}");
        container.pid = state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        container.adopt(container.pid);
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

    /// The process's id on the host, as the runtime said when the container was new.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        assert_ne!(self.pid, 0, "{} had no process", self.id);
        self.pid
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

    /// A process of the container that this test is to reap: a zombie holds the pid namespace it is in, and so its first process.
    pub fn adopt(&self, pid: i32) {
        if pid > 0 {
            self.children.borrow_mut().entry(pid).or_default();
        }
    }

    /// Waits for the process's end and reaps it; its exit code, 128+n after a signal.
    #[track_caller]
    pub fn wait_exit(&self, pid: i32) -> i32 {
        self.adopt(pid);
        until(&format!("process {pid} of {} ends", self.id), || {
            self.reap();
            self.children.borrow().get(&pid).copied().flatten()
        })
    }

    /// Ends and removes it; after this, dropping it does nothing.
    #[track_caller]
    pub fn delete(&self) -> Output {
        let output = self.remove().ok();
        self.is_gone();
        output
    }

    /// Says that the test has removed it itself.
    pub fn is_gone(&self) {
        self.gone.set(true);
        crate::wait::within(Duration::from_secs(1), || self.reap().then_some(()));
    }

    /// `delete --force`, reaping meanwhile as a supervisor does.
    fn remove(&self) -> Output {
        let mut call = self.call_with("delete", &["--force"], &[]).spawn();
        let begin = std::time::Instant::now();
        crate::wait::within(crate::DEADLINE, || {
            self.reap();
            if begin.elapsed() > PATIENCE {
                reap_orphans();
            }
            call.ended().then_some(())
        });
        call.wait()
    }

    /// Reaps those that have ended; true if all have.
    fn reap(&self) -> bool {
        let mut all = true;
        for (pid, code) in self.children.borrow_mut().iter_mut().filter(|(_, code)| code.is_none()) {
            match waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, exit)) => *code = Some(exit),
                Ok(WaitStatus::Signaled(_, signal, _)) => *code = Some(128 + signal as i32),
                _ => all = false,
            }
        }
        all
    }
}

/// How long a removal may take before it is held up by who must be thought to be nobody's.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reaps what has ended in PID namespaces of containers and came to this process, whose own parent was killed: a supervisor does.
fn reap_orphans() {
    let own = format!("PPid:\t{}", std::process::id());
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let nested = status
            .lines()
            .any(|line| line.strip_prefix("NSpid:").is_some_and(|ids| ids.split_whitespace().count() > 1));
        if nested && status.contains("State:\tZ") && status.lines().any(|line| line == own) {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.gone.get() {
            let _ = self.remove();
            self.is_gone();
        }
    }
}
