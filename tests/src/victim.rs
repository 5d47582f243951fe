//! A host to be attacked: a copy of the runtime, a file and a program that no container is given, and what tells them from the container's.
//!
//! Real files of the machine are never the aim.

use crate::bundle::Bundle;
use crate::call::{Call, Output};
use crate::case::Case;
use crate::programs::{copy_program, probe};
use crate::running::Running;
use crate::runtime::Runtime;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is set in the environment of each call, and should be seen by no container.
const SECRET: &str = "of-the-host-alone-7391";

/// The source of a mount that only the host has.
const MOUNT: &str = "rt-tests-mark-of-the-host";

/// A copy of the runtime under test and things of the host around it.
pub struct Victim<'a> {
    case: &'a Case,
    runtime: PathBuf,
    before: Vec<u8>,
    outside: PathBuf,
    lived_in: RefCell<Vec<String>>,
    lacks: &'static str,
}

impl<'a> Victim<'a> {
    /// Makes them in the case's directory.
    pub fn new(case: &'a Case) -> Self {
        Self::with(case, Runtime::under_test().path())
    }

    /// The same where it is not the runtime that is attacked but the things beside it: through a shim or a server.
    pub fn of_programs(case: &'a Case) -> Self {
        Self::with(case, probe())
    }

    /// The same with another build of the runtime.
    pub fn with(case: &'a Case, program: &Path) -> Self {
        let runtime = case.dir().join("runtime");
        copy_program(program, &runtime);
        let before = std::fs::read(&runtime).expect("read the copy");
        let outside = case.dir().join("outside");
        std::fs::create_dir_all(outside.join("mount")).expect("make a directory");
        std::fs::write(outside.join("secret"), "host").expect("write");
        copy_program(probe(), &outside.join("program"));
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some(MOUNT), &outside.join("mount"), Some("tmpfs"), none, None::<&str>)
            .expect("mount a tmpfs");
        Self { case, runtime, before, outside, lived_in: RefCell::default(), lacks: "" }
    }

    /// The same with a runtime that is told to do without something that this kernel has; see `step.rs` there.
    pub fn lacking(case: &'a Case, what: &'static str) -> Self {
        let mut victim = Self::with(case, crate::programs::failpoints());
        victim.lacks = what;
        victim
    }

    /// A file of the host.
    pub fn marker(&self) -> String {
        self.outside.join("secret").to_string_lossy().into_owned()
    }

    /// A directory of the host, with the marker in it.
    pub fn outside(&self) -> &Path {
        &self.outside
    }

    /// A static program of the host: the probe.
    pub fn program(&self) -> String {
        self.outside.join("program").to_string_lossy().into_owned()
    }

    /// Where a test may put a file that a container is given.
    pub fn given(&self) -> PathBuf {
        self.case.dir().join("given")
    }

    /// The copy of the runtime.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// A call of the copy, with the case's `--root`.
    pub fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let call = self.case.program(&self.runtime).env("RT_TEST_SECRET", SECRET);
        let call = if self.lacks.is_empty() { call } else { call.env("RT_LACKS", self.lacks) };
        call.arg("--root").arg(self.case.state_root()).args(args)
    }

    /// Runs the bundle to its end.
    pub fn run(&self, bundle: &Bundle) -> Output {
        bundle.write();
        self.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run()
    }

    /// Creates the container.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Running<'a> {
        bundle.write();
        let call = self.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        Running::new(self.case, bundle.id(), call)
    }

    /// Creates and starts it.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) -> Running<'a> {
        let container = self.create(bundle);
        self.call(["start", bundle.id()]).run().ok();
        container
    }

    /// A process in the container, with options of `exec`.
    pub fn exec(&self, container: &Running<'_>, options: &[&str], args: &[&str]) -> Call {
        self.call(["exec"]).args(options).arg(container.id()).args(args)
    }

    /// Says that a process of a container lives: others in its PID namespace are seen from now on.
    pub fn lives(&self, pid: i32) {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/pid")).expect("a process that lives");
        self.lived_in.borrow_mut().push(link.display().to_string());
    }

    /// PID namespaces in which containers live, as `/proc/PID/ns/pid` shows them.
    pub fn lived_in(&self) -> Vec<String> {
        self.lived_in.borrow().clone()
    }

    /// How the probe's `watch` tells the host from the container: its arguments. `others`: bundles whose files may be seen as well.
    pub fn facts(&self, others: &[&Bundle]) -> Vec<String> {
        let runtime = identity(&self.runtime);
        let mut facts = vec![
            format!("marker={}", self.marker()),
            format!("rt={runtime}"),
            format!("secret={SECRET}"),
            format!("mount={MOUNT}"),
        ];
        for kind in ["mnt", "pid", "net", "uts", "ipc", "cgroup", "user", "time"] {
            // The thread's: it has a mount namespace of its own, and what it starts has that too.
            let link = std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("a namespace");
            facts.push(format!("ns={}", link.display()));
        }
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("the mount table");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let devices = points.filter_map(|point| std::fs::metadata(point).ok()).map(|stat| stat.dev());
        facts.extend(
            devices.collect::<std::collections::BTreeSet<_>>().iter().map(|dev| format!("dev={dev}")),
        );
        for bundle in others {
            let mut own = Vec::new();
            walk(&bundle.host_path("/"), &mut own);
            facts.extend(own.into_iter().map(|file| format!("own={file}")));
        }
        facts
    }

    /// Makes sure that nothing was made, changed or removed.
    #[track_caller]
    pub fn is_unharmed(&self) {
        let now = std::fs::read(&self.runtime).expect("read the copy");
        assert!(now == self.before, "the runtime's file was overwritten");
        let mut names: Vec<String> = std::fs::read_dir(&self.outside)
            .expect("the directory")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["mount", "program", "secret"]);
        assert_eq!(std::fs::read_to_string(self.marker()).expect("the marker"), "host");
        assert_eq!(std::fs::read_dir(self.outside.join("mount")).expect("the mount").count(), 0);
    }

    /// `DEV:INO` of the copy of the runtime.
    pub fn identity(&self) -> String {
        identity(&self.runtime)
    }
}

impl Drop for Victim<'_> {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.outside.join("mount"), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// `DEV:INO` of a file, links followed.
pub fn identity(path: &Path) -> String {
    let stat = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    format!("{}:{}", stat.dev(), stat.ino())
}

fn walk(path: &Path, own: &mut Vec<String>) {
    let Ok(stat) = std::fs::symlink_metadata(path) else { return };
    own.push(format!("{}:{}", stat.dev(), stat.ino()));
    if stat.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), own);
        }
    }
}

/// How long a test of random timing goes on: `RT_SOAK_SECONDS`, or this many.
pub fn seconds(usual: u64) -> u64 {
    std::env::var("RT_SOAK_SECONDS")
        .ok()
        .map_or(usual, |text| text.parse().expect("RT_SOAK_SECONDS: a number"))
}
