//! One test's private surroundings: directory, mount namespace, cgroup, state root; and the leak check at its end.
//!
//! It makes no container itself (`Bundle`, `Running`) and judges nothing but leaks.

use crate::bundle::Bundle;
use crate::call::{Call, Output};
use crate::leaks::Traces;
use crate::report::Report;
use crate::running::Running;
use crate::runtime::Runtime;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where processes of cgroup2 are found on this test's "host".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cgroups {
    /// cgroup2 at `/sys/fs/cgroup`, as on today's distributions.
    Unified,
    /// The machine's own arrangement, cgroup v1 with a cgroup2 beside it perhaps.
    AsFound,
}

/// The surroundings of one test; dropping it checks that nothing is left.
pub struct Case {
    name: String,
    dir: PathBuf,
    cgroup_root: PathBuf,
    cgroup: String,
    over: bool,
    calls: AtomicU32,
    before: Traces,
}

impl Case {
    /// Surroundings in which cgroup2 is at `/sys/fs/cgroup`; use `case!()`.
    pub fn new(name: &str) -> Self {
        Self::on(name, Cgroups::Unified)
    }

    /// Surroundings with cgroups as chosen.
    pub fn on(name: &str, cgroups: Cgroups) -> Self {
        // Orphans of the containers come to us, so that their exit codes can be asked for.
        nix::sys::prctl::set_child_subreaper(true).expect("become subreaper");
        let plain = name.replace("::", ".");
        let run = std::process::id();
        let dir = std::env::temp_dir().join(format!("rt-tests.{run}")).join(&plain);
        for part in ["state", "tmp", "out", "bundles"] {
            std::fs::create_dir_all(dir.join(part)).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        // This thread alone: what its children mount or leak is seen here and nowhere else.
        unshare(CloneFlags::CLONE_NEWNS).expect("tests need root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make / private");
        let over = cgroups == Cgroups::Unified && !is_cgroup2(Path::new("/sys/fs/cgroup"));
        if over {
            mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)
                .expect("mount cgroup2");
        }
        let cgroup_root = cgroup2_place().expect("a cgroup2 mount");
        let cgroup = format!("/rt-tests.{run}/{plain}");
        std::fs::create_dir_all(join(&cgroup_root, &cgroup)).expect("make the test's cgroup");
        let before = Traces::take(&plain, &dir, &cgroup);
        Self { name: plain, dir, cgroup_root, cgroup, over, calls: AtomicU32::new(0), before }
    }

    /// The test's name, as it marks what it starts.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This test's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The runtime's `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The test's cgroup as configs name it; containers go below it.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The directory of a cgroup named as in configs.
    pub fn cgroup_dir(&self, name: &str) -> PathBuf {
        join(&self.cgroup_root, name)
    }

    /// A new bundle with a root filesystem and an engine's config; its id is unique.
    pub fn bundle(&self) -> Bundle {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{}-{number}", self.name.rsplit('.').next().unwrap_or("c"), std::process::id());
        Bundle::create(&self.dir.join("bundles").join(format!("b{number}")), id, &self.cgroup)
    }

    /// A call of the runtime under test, with this case's `--root`.
    pub fn call<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        self.program(Runtime::under_test().path()).arg("--root").arg(self.state_root()).args(args)
    }

    /// A call of any program in these surroundings.
    pub fn program(&self, path: &Path) -> Call {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        Call::new(path, &self.dir.join("out").join(number.to_string()))
            .env("RT_TEST_CASE", &self.name)
            .env("TMPDIR", &self.dir.join("tmp").to_string_lossy())
    }

    /// Runs the bundle in the foreground, to its end.
    pub fn run(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run()
    }

    /// Runs the bundle with `probe report` as its process: what it saw.
    #[track_caller]
    pub fn see(&self, bundle: &mut Bundle) -> Report {
        bundle.args(["/probe", "report"]);
        Report::parse(&self.run(bundle).ok().stdout)
    }

    /// Runs the bundle with these arguments of the probe: its stdout.
    #[track_caller]
    pub fn act<const N: usize>(&self, bundle: &mut Bundle, verb: [&str; N]) -> String {
        bundle.args(["/probe"].into_iter().chain(verb));
        self.run(bundle).ok().stdout
    }

    /// Creates the container.
    #[track_caller]
    pub fn create<'a>(&'a self, bundle: &Bundle) -> Running<'a> {
        bundle.write();
        let call = self.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        Running::new(self, bundle.id(), call)
    }

    /// Creates and starts the container.
    #[track_caller]
    pub fn start<'a>(&'a self, bundle: &Bundle) -> Running<'a> {
        let container = self.create(bundle);
        container.call("start").run().ok();
        container
    }

    /// Starts the bundle with a process that waits for SIGTERM.
    #[track_caller]
    pub fn start_sleeping<'a>(&'a self, bundle: &mut Bundle) -> Running<'a> {
        bundle.args(["/probe", "sleep"]);
        self.start(bundle)
    }

    /// What is there now and was not at the start; for tests that check before their end.
    pub fn leaks(&self) -> Vec<String> {
        Traces::take(&self.name, &self.dir, &self.cgroup).beyond(&self.before, &self.cgroup_dir(&self.cgroup))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let mut leaks = self.leaks();
        // A process that has just been killed needs a moment to go.
        if crate::wait::within(std::time::Duration::from_secs(2), || self.leaks().is_empty().then_some(()))
            .is_some()
        {
            leaks.clear();
        }
        let keep = std::env::var_os("RT_TEST_KEEP").is_some();
        self.remove_all(keep);
        if !leaks.is_empty() && !std::thread::panicking() {
            panic!("{} left behind:\n  {}", self.name, leaks.join("\n  "));
        }
    }
}

impl Case {
    /// Ends and removes everything, whatever the test did.
    fn remove_all(&self, keep: bool) {
        let top = self.cgroup_dir(&self.cgroup);
        let _ = std::fs::write(top.join("cgroup.kill"), "1");
        crate::leaks::remove_cgroups(&top);
        let _ = std::fs::remove_dir(top.parent().unwrap_or(&top));
        if self.over {
            let _ = umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH);
        }
        for point in crate::leaks::mounts_below(&self.dir) {
            let _ = umount2(point.as_str(), MntFlags::MNT_DETACH);
        }
        if !keep {
            let _ = std::fs::remove_dir_all(&self.dir);
            let _ = std::fs::remove_dir(self.dir.parent().unwrap_or(&self.dir));
        }
    }
}

fn join(root: &Path, cgroup: &str) -> PathBuf {
    root.join(cgroup.trim_start_matches('/'))
}

fn is_cgroup2(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

fn cgroup2_place() -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from).into_iter().find(|p| is_cgroup2(p))
}
