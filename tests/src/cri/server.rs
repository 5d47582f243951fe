//! The CRI server of one test: ours, or containerd as the reference; its configuration, its life, what it leaves.
//!
//! Chosen by `CRI_UNDER_TEST`: `rt-cri` (the default) or `containerd`. Its state is in `/run`, which is the test's own.

use crate::call::Started;
use crate::case::Case;
use crate::programs::{cri_failpoints, target};
use crate::wait::{until, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which server is under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Ours.
    RtCri,
    /// The reference.
    Containerd,
}

impl Kind {
    /// The one that this run tests.
    pub fn under_test() -> Self {
        match std::env::var("CRI_UNDER_TEST").as_deref() {
            Err(_) | Ok("rt-cri") => Kind::RtCri,
            Ok("containerd") => Kind::Containerd,
            Ok(other) => panic!("CRI_UNDER_TEST={other}: rt-cri or containerd"),
        }
    }

    pub(super) fn program(self) -> PathBuf {
        match self {
            Kind::RtCri => {
                std::env::var_os("RT_CRI").map_or_else(|| target().join("bin/rt-cri"), PathBuf::from)
            }
            Kind::Containerd => target().join("peers/bin/containerd"),
        }
    }

    fn state(self) -> &'static Path {
        Path::new(match self {
            Kind::RtCri => "/run/rt",
            Kind::Containerd => "/run/containerd",
        })
    }
}

/// A server that runs.
pub struct Server {
    kind: Kind,
    root: PathBuf,
    program: Started,
}

impl Server {
    /// Starts it; it accepts connections when this returns. `more`: lines of rt-cri's configuration.
    pub fn start(case: &Case, hosts: &Path, more: &str) -> Self {
        Self::start_with(case, hosts, more, None)
    }

    /// Starts rt-cri so that it kills itself at a fail point, such as `run/make-files`.
    pub fn start_to_die_at(case: &Case, hosts: &Path, point: &str) -> Self {
        Self::start_with(case, hosts, "", Some(point))
    }

    fn start_with(case: &Case, hosts: &Path, more: &str, dies_at: Option<&str>) -> Self {
        let kind = Kind::under_test();
        let root = case.dir().join("root");
        std::fs::create_dir_all(&root).expect("make the server's directory");
        let config = case.dir().join("server.toml");
        let text = match kind {
            Kind::RtCri => rt_cri(&root, hosts) + more,
            Kind::Containerd => containerd(case, &root, hosts),
        };
        std::fs::write(&config, text).expect("write the server's configuration");
        let path = dies_at.map_or_else(|| kind.program(), |_| cri_failpoints().to_owned());
        assert!(path.exists(), "no {}: run hack/build", path.display());
        let call = case.program(&path);
        let call = match kind {
            Kind::RtCri => call.arg("serve").arg("--config").arg(&config),
            Kind::Containerd => call.arg("--config").arg(&config).env("PATH", &peers_first()),
        };
        let programs = target().join("bin");
        let call = match dies_at {
            // Its own directory has not the other programs.
            Some(point) => {
                let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
                call.env("RT_CRI_DIE_AT", point).env("PATH", &path)
            }
            None => call,
        };
        let mut program = call.spawn();
        until("the server listens", || {
            assert!(!program.ended(), "the server ended: {}{}", program.stdout(), program.stderr());
            UnixStream::connect(socket(kind)).ok()
        });
        Self { kind, root, program }
    }

    /// What crictl is told.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", socket(self.kind))
    }

    /// Where it listens.
    pub fn socket(&self) -> &'static str {
        socket(self.kind)
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        format!("{}{}", self.program.stdout(), self.program.stderr())
    }

    /// What it keeps, and what a reboot takes away.
    pub fn places(&self) -> [PathBuf; 2] {
        [self.root.clone(), self.kind.state().to_owned()]
    }

    /// Ends it with a signal.
    pub fn end(self, signal: Signal) {
        self.program.end(signal);
    }

    /// What is there though no pod is: directories of pods and containers, network namespaces, mounts.
    pub fn remains(&self) -> Vec<String> {
        let look = || {
            let mut found = Vec::new();
            let places: &[&str] = match self.kind {
                Kind::RtCri => &["/run/rt/pods", "/run/rt/bundles", "/run/rt/rt", "/run/netns"],
                Kind::Containerd => &["/run/netns", "/run/containerd/io.containerd.runtime.v2.task/k8s.io"],
            };
            for place in places {
                let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
                found.extend(entries.map(|entry| format!("{place}/{}", entry.file_name().to_string_lossy())));
            }
            for kept in ["sandboxes", "containers", "network/attached"] {
                let entries = std::fs::read_dir(self.root.join(kept)).into_iter().flatten().flatten();
                found.extend(entries.map(|entry| format!("{kept}/{}", entry.file_name().to_string_lossy())));
            }
            for place in self.places() {
                found.extend(crate::leaks::mounts_below(&place).into_iter().map(|at| format!("mount {at}")));
            }
            found
        };
        // What is removed behind the answer gets a moment.
        within(Duration::from_secs(2), || look().is_empty().then(Vec::new)).unwrap_or_else(look)
    }
}

/// Kills what a failed test's server left running; gives those that got the signal.
pub fn end_processes_of(case: &Case, failed: bool) -> Vec<Pid> {
    if !failed {
        return Vec::new(); // the leak check is to see them
    }
    let pid =
        |leak: &String| leak.strip_prefix("process ")?.split(' ').next()?.parse().ok().map(Pid::from_raw);
    let found = case.leaks();
    found.iter().filter_map(pid).filter(|pid| kill(*pid, Signal::SIGKILL).is_ok()).collect()
}

fn socket(kind: Kind) -> &'static str {
    match kind {
        Kind::RtCri => "/run/rt/cri.sock",
        Kind::Containerd => "/run/containerd/containerd.sock",
    }
}

fn peers_first() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", target().join("peers/bin").display())
}

fn rt_cri(root: &Path, hosts: &Path) -> String {
    format!(
        "root = {root:?}\n[cgroup]\nmissing = \"ignore\"\n[cni]\nconf_dir = \"/run/no-cni\"\n[registry]\nconfig_path = [{hosts:?}]\n"
    )
}

fn containerd(case: &Case, root: &Path, hosts: &Path) -> String {
    let networks = case.dir().join("net.d");
    std::fs::create_dir_all(&networks).expect("make a directory");
    let leases = case.dir().join("leases");
    let network = format!(
        r#"{{"cniVersion": "1.0.0", "name": "test", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam":
    {{"type": "host-local", "dataDir": {leases:?}, "ranges": [[{{"subnet": "10.88.0.0/16"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
    );
    std::fs::write(networks.join("10-test.conflist"), network).expect("write the network's configuration");
    let cri = "plugins.'io.containerd.cri.v1";
    let peers = target().join("peers");
    let (plugins, runc) = (peers.join("cni"), peers.join("bin/runc"));
    format!(
        "version = 4\nroot = {root:?}\n\
         [{cri}.images'.registry]\nconfig_path = {hosts:?}\n\
         [{cri}.images'.pinned_images]\nsandbox = 'registry.k8s.io/pause:3.10.1'\n\
         [{cri}.runtime']\nrestrict_oom_score_adj = true\n\
         [{cri}.runtime'.cni]\nbin_dirs = [{plugins:?}]\nconf_dir = {networks:?}\n\
         [{cri}.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
         [{cri}.runtime'.containerd.runtimes.runc.options]\nBinaryName = {runc:?}\nSystemdCgroup = false\n"
    )
}
