//! One CRI test's private surroundings: those of a `Case`, with its own network, its own `/run`, a registry of images and a
//! CRI server of its own; crictl to talk to it.
//!
//! It makes no pod by itself and judges nothing but what is left when the test ends.

pub mod api;
pub mod fields;
mod pod;
mod registry;
mod server;

pub use pod::{Container, Pod};
pub use server::Kind;

use crate::call::{Call, Output};
use crate::case::{Case, Cgroups};
use crate::programs::target;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, waitpid};
use registry::Registry;
use serde_json::Value;
use server::Server;
use std::path::PathBuf;
use std::process::Command;

/// The image that most tests run: busybox, its applets, three users.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

/// A web server on port 80; a manifest list.
pub const NGINX: &str = "registry.k8s.io/e2e-test-images/nginx:1.14-2";

/// The server's program, for its other commands.
pub fn program() -> PathBuf {
    Kind::under_test().program()
}

/// The surroundings of one test; dropping them removes all pods and checks that nothing is left.
pub struct Surroundings {
    // In the order in which they end.
    server: Option<Server>,
    registry: Option<Registry>,
    case: Case,
}

impl Surroundings {
    /// A registry and a server that answers; use `surroundings!()`.
    pub fn new(name: &str) -> Self {
        let cgroups = match Kind::under_test() {
            // It sets CPU weights come what may, and they exist in cgroup v1 only on some machines.
            Kind::Containerd => Cgroups::AsFound,
            Kind::RtCri => Cgroups::Unified,
        };
        let case = Case::on(name, cgroups);
        fresh_network_and_run();
        let registry = Registry::start(&case);
        let server = Server::start(&case, &registry.hosts(), "");
        let made = Self { server: Some(server), registry: Some(registry), case };
        made.pull(BUSYBOX);
        made
    }

    /// The directory, cgroup and programs that it is built on.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// The server's own directories: what it keeps, and what a reboot takes away.
    pub fn places(&self) -> [PathBuf; 2] {
        self.server().places()
    }

    /// The server's process.
    pub fn server_pid(&self) -> i32 {
        self.server().pid()
    }

    /// All that the server has logged.
    pub fn server_log(&self) -> String {
        self.server().log()
    }

    /// A call of crictl.
    pub fn crictl<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let endpoint = self.server().endpoint();
        let call = self.case.program(&target().join("peers/bin/crictl"));
        call.args(["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint, "--timeout", "20s"])
            .args(args)
    }

    /// A client of our own.
    pub fn client(&self) -> api::Client {
        api::Client::new(self.server().socket())
    }

    /// What crictl prints as JSON.
    #[track_caller]
    pub fn json<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        let output = self.crictl(args).run().ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"))
    }

    /// The words that crictl prints: ids, with `-q`.
    #[track_caller]
    pub fn words<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Vec<String> {
        let output = self.crictl(args).run().ok();
        output.stdout.split_whitespace().map(str::to_owned).collect()
    }

    /// Pulls an image.
    #[track_caller]
    pub fn pull(&self, image: &str) -> Output {
        self.crictl(["pull", image]).run().ok()
    }

    /// A pod's configuration, to be altered and then run.
    pub fn pod(&self, name: &str) -> Pod<'_> {
        Pod::new(self, name)
    }

    /// Kills the server with SIGKILL and starts it again.
    pub fn crash_server(&mut self) {
        self.end_server(nix::sys::signal::Signal::SIGKILL);
        self.start_server();
    }

    /// Ends the server with a signal.
    pub fn end_server(&mut self, signal: nix::sys::signal::Signal) {
        self.server.take().expect("a server runs").end(signal);
    }

    /// Starts it again.
    pub fn start_server(&mut self) {
        self.start_server_with("");
    }

    /// Starts it with more lines of rt-cri's configuration.
    pub fn start_server_with(&mut self, more: &str) {
        let hosts = self.registry.as_ref().expect("a registry runs").hosts();
        self.server = Some(Server::start(&self.case, &hosts, more));
    }

    /// What a restart of the machine leaves: no process, no network, an empty /run, another boot id; and then the server.
    pub fn reboot(&mut self) {
        self.end_server(nix::sys::signal::Signal::SIGKILL);
        self.registry.take();
        let pods = self.case.cgroup_dir(self.case.cgroup());
        let running = || {
            let left = self.case.leaks();
            left.into_iter().filter(|leak| leak.starts_with("process ")).collect::<Vec<_>>()
        };
        // They become children of this process, which is a subreaper: a PID namespace ends with the last zombie in it.
        let mut orphans = std::collections::BTreeSet::new();
        let ended = crate::wait::within(crate::wait::DEADLINE, || {
            orphans.extend(server::end_processes_of(&self.case, true));
            let _ = std::fs::write(pods.join("cgroup.kill"), "1");
            for orphan in &orphans {
                let _ = waitpid(*orphan, Some(WaitPidFlag::WNOHANG));
            }
            running().is_empty().then_some(())
        });
        assert!(ended.is_some(), "processes that can't be ended: {:?}", running());
        crate::leaks::remove_cgroups(&pods);
        std::fs::create_dir_all(&pods).expect("make the test's cgroup");
        umount2("/run", MntFlags::MNT_DETACH).expect("unmount /run");
        fresh_network_and_run();
        let id = self.case.dir().join("boot_id");
        std::fs::write(&id, "00000000-0000-4000-8000-000000000000\n").expect("write a boot id");
        mount(Some(&id), BOOT_ID, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("mount a boot id");
        self.registry = Some(Registry::start(&self.case));
        self.start_server();
    }

    /// Ends the server and starts one that kills itself at a fail point.
    pub fn restart_server_to_die_at(&mut self, point: &str) {
        self.end_server(nix::sys::signal::Signal::SIGTERM);
        let hosts = self.registry.as_ref().expect("a registry runs").hosts();
        self.server = Some(Server::start_to_die_at(&self.case, &hosts, point));
    }

    /// What is left on the host though no pod is.
    pub fn remains(&self) -> Vec<String> {
        self.server().remains()
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("a server runs")
    }

    /// Removes every pod, ends the programs; gives what a server should have removed and has not.
    fn remove_all(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(server) = self.server.take() {
            self.server = Some(server);
            let output = self.crictl(["rmp", "--all", "--force"]).run();
            if output.code() != 0 && !output.stdout.contains("No pods") && !output.stderr.contains("No pods")
            {
                left.push(format!("pods that can't be removed: {output}"));
            }
            left.extend(self.server().remains());
            self.end_server(nix::sys::signal::Signal::SIGTERM);
        }
        self.registry.take();
        left
    }
}

/// In the kernel's words, which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Of this thread, and of what it starts.
fn fresh_network_and_run() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network of our own");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
    assert!(up.success(), "lo can't be set up");
    let options = Some("mode=755");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), options).expect("a /run of our own");
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let log = self.server.as_ref().map(Server::log).unwrap_or_default();
        let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove_all()));
        server::end_processes_of(&self.case, left.is_err() || failing);
        let _ = umount2("/run", MntFlags::MNT_DETACH);
        let _ = umount2(BOOT_ID, MntFlags::MNT_DETACH); // there after a `reboot`
        if failing {
            let end = log.len().saturating_sub(6000);
            eprintln!("the server's log:\n{}", log.get(end..).unwrap_or(&log));
            return;
        }
        match left {
            Ok(left) => assert!(left.is_empty(), "the server left behind:\n  {}", left.join("\n  ")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
