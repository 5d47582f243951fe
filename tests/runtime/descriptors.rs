//! What init holds at each step, seen from the host: descriptors, root, working directory, executable, namespaces.
//!
//! The rules: from the first step at which a name of the container's is followed (its user's passwd, cwd, program, interpreter) nothing is
//! held but the standard streams, what was asked for, the link and the FIFO; whoever can be seen by a container has nothing of the host.
//! Needs a build of rt with the feature `failpoints`, which stops at every step.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tests::terminal::ConsoleSocket;
use tests::*;

/// The steps by name, from the one place where they are written down.
fn steps() -> Vec<&'static str> {
    let source = include_str!("../../runtime/src/step.rs");
    let list =
        source.split("steps! {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("a list of steps");
    list.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\",")).collect()
}

fn position(step: &str) -> usize {
    steps().iter().position(|name| *name == step).unwrap_or_else(|| panic!("no step {step}"))
}

/// A descriptor of another process.
struct Descriptor {
    number: u32,
    target: String,
    kind: std::fs::FileType,
    identity: String,
    mount: u64,
}

/// A process at a step.
struct Stop {
    step: String,
    descriptors: Vec<Descriptor>,
    root: String,
    cwd: String,
    executable: String,
    mount_namespace: String,
    pid_namespace: String,
    mounts: BTreeSet<u64>,
}

fn mount_ids(pid: &str) -> BTreeSet<u64> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

fn link(pid: &str, name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/{name}"));
    link.map(|to| to.display().to_string()).unwrap_or_default()
}

impl Stop {
    fn of(pid: i32, step: String) -> Self {
        let of = pid.to_string();
        let at = |name: &str| format!("/proc/{pid}/{name}");
        let mut descriptors = Vec::new();
        for entry in std::fs::read_dir(at("fd")).expect("its descriptors").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let stat = std::fs::metadata(entry.path()).expect("a descriptor of a process that is stopped");
            let info = std::fs::read_to_string(at(&format!("fdinfo/{name}"))).expect("fdinfo");
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
            descriptors.push(Descriptor {
                number: name.parse().expect("a number"),
                target: link(&of, &format!("fd/{name}")),
                kind: stat.file_type(),
                identity: format!("{}:{}", stat.dev(), stat.ino()),
                mount: mount.unwrap_or(0),
            });
        }
        Self {
            step,
            descriptors,
            root: identity(Path::new(&at("root"))),
            cwd: identity(Path::new(&at("cwd"))),
            executable: identity(Path::new(&at("exe"))),
            mount_namespace: link(&of, "ns/mnt"),
            pid_namespace: link(&of, "ns/pid"),
            mounts: mount_ids(&of),
        }
    }

    fn at_or_after(&self, step: &str) -> bool {
        position(&self.step) >= position(step)
    }
}

/// The processes of one or more calls, from stop to stop.
struct Walk<'a> {
    victim: &'a Victim<'a>,
    known: BTreeSet<i32>,
    stops: Vec<Stop>,
}

/// The name of a process, if that is a step's.
fn step_of(pid: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = name.trim_end();
    steps().contains(&name).then(|| name.to_owned())
}

fn descendants(pid: i32, found: &mut BTreeSet<i32>) {
    let path = format!("/proc/{pid}/task/{pid}/children");
    for child in std::fs::read_to_string(path).unwrap_or_default().split_whitespace() {
        let child = child.parse().expect("a pid");
        found.insert(child);
        descendants(child, found);
    }
}

impl<'a> Walk<'a> {
    fn new(victim: &'a Victim<'a>) -> Self {
        Self { victim, known: BTreeSet::new(), stops: Vec::new() }
    }

    /// Goes with the call and its children until one of these has been at `last`, and further, and the call has ended if it is to.
    #[track_caller]
    fn follow(&mut self, call: &mut Started, last: &str) {
        self.known.insert(call.pid());
        until(&format!("somebody comes to {last}, after {:?}", self.at()), || {
            descendants(call.pid(), &mut self.known);
            for pid in self.known.clone() {
                let Some(step) = step_of(pid) else { continue };
                if pid != call.pid() {
                    self.stops.push(Stop::of(pid, step.clone()));
                }
                kill(Pid::from_raw(pid), Signal::SIGCONT).expect("a process that waits");
                until("it goes on", || (step_of(pid).as_ref() != Some(&step)).then_some(()));
            }
            let arrived = self.stops.last().is_some_and(|stop| stop.step == last);
            (arrived && call.ended()).then_some(()).or_else(|| {
                assert!(!call.ended() || arrived, "ended before {last}: {}", call.stderr());
                None
            })
        });
    }

    fn at(&self) -> Option<&str> {
        self.stops.last().map(|stop| stop.step.as_str())
    }

    /// What breaks a rule, all of it. `asked`: how many descriptors were.
    #[track_caller]
    fn judge(&self, asked: u32) {
        // With the first step at which it is so.
        let mut wrong = BTreeMap::new();
        let host = Host::new(self.victim);
        for stop in &self.stops {
            let mut say = |what: String| {
                wrong.entry(what).or_insert_with(|| stop.step.clone());
            };
            if stop.executable == host.runtime {
                say("its executable is the host's file".to_owned());
            }
            if stop.pid_namespace != host.pid_namespace && stop.at_or_after("start")
                || host.others.contains(&stop.pid_namespace)
            {
                if stop.root == host.root {
                    say("it is seen with the host's root".to_owned());
                }
                if stop.mount_namespace == host.mount_namespace {
                    say("it is seen in the host's mount namespace".to_owned());
                }
                if host.directories.contains(&stop.cwd) {
                    say("it is seen in a directory of the host".to_owned());
                }
            }
            if stop.at_or_after("user") {
                stop.judge_descriptors(asked, host.others.contains(&stop.pid_namespace), &mut say);
            }
        }
        assert!(self.stops.iter().any(|stop| stop.step == "exec"), "it never came to exec");
        let lines: Vec<String> = wrong.iter().map(|(what, step)| format!("from {step} on: {what}")).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

impl Stop {
    /// `seen`: by others, in their PID namespace.
    fn judge_descriptors(&self, asked: u32, seen: bool, say: &mut impl FnMut(String)) {
        let (mut sockets, mut fifos, mut programs) = (0, 0, 0);
        for fd in self.descriptors.iter().filter(|fd| fd.number >= 3 + asked) {
            let inside = self.mounts.contains(&fd.mount);
            let fine = if fd.kind.is_socket() {
                sockets += 1;
                sockets == 1
            } else if fd.kind.is_fifo() {
                fifos += 1;
                fifos == 1
            } else if fd.kind.is_dir() {
                // The container's root, as it sees it.
                inside && fd.identity == self.root
            } else if fd.kind.is_char_device() {
                // The other end of the container's own terminal, on its way to the parent: one with the parent's, so that nobody may take it.
                inside && fd.target == "/dev/pts/ptmx" && !self.at_or_after("start") && !seen
            } else if fd.kind.is_file() {
                programs += 1;
                inside && programs == 1
            } else {
                false
            };
            if !fine {
                say(format!("descriptor {}: {} ({})", fd.number, fd.target, fd.identity));
            }
        }
    }
}

/// What is the host's.
struct Host {
    root: String,
    runtime: String,
    mount_namespace: String,
    pid_namespace: String,
    directories: Vec<String>,
    /// PID namespaces in which a container lives before.
    others: Vec<String>,
}

impl Host {
    fn new(victim: &Victim<'_>) -> Self {
        let cwd = std::env::current_dir().expect("a working directory");
        Self {
            root: identity(Path::new("/")),
            runtime: victim.identity(),
            mount_namespace: link("thread-self", "ns/mnt"),
            pid_namespace: link("self", "ns/pid"),
            directories: vec![identity(&cwd), identity(Path::new("/"))],
            others: victim.lived_in(),
        }
    }
}

fn stopping(victim: &Victim<'_>, args: &[&str]) -> Call {
    victim.call(args).env("RT_STOP_AT", "all")
}

/// create and start, from step to step.
#[track_caller]
fn created(case: &Case, victim: &Victim<'_>, bundle: &mut Bundle, options: &[&str], asked: u32) {
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let mut walk = Walk::new(victim);
    let mut create = stopping(victim, &["create"])
        .args(options)
        .arg("--bundle")
        .arg(bundle.dir())
        .arg(bundle.id())
        .spawn();
    walk.follow(&mut create, "start");
    let container = Running::new(case, bundle.id(), victim.call(["state", bundle.id()]));
    let mut start = stopping(victim, &["start", bundle.id()]).spawn();
    walk.follow(&mut start, "exec");
    walk.judge(asked);
    container.delete();
}

#[test]
fn create_holds_nothing_of_the_host() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    created(&case, &victim, &mut case.bundle(), &[], 0);
}

#[test]
fn create_with_all_there_is_holds_nothing_of_the_host() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536).directory("/work");
    let volume = case.dir().join("volume");
    std::fs::create_dir(&volume).expect("make a directory");
    bundle.bind(&volume, "/volume", &["idmap"]);
    let config = &mut bundle.config;
    config["process"]["cwd"] = json!("/work");
    config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    config["process"]["terminal"] = json!(true);
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_ERRNO" }] });
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    let hook = |path: &Path| json!([{ "path": path, "args": ["probe", "exit", "0"] }]);
    config["hooks"] = json!({ "createRuntime": hook(probe()), "createContainer": hook(probe()),
        "startContainer": hook(Path::new("/probe")) });
    let path = case.dir().join("s");
    let _socket = ConsoleSocket::bind(&path);
    created(&case, &victim, &mut bundle, &["--console-socket", &path.to_string_lossy()], 0);
}

#[test]
fn create_in_joined_namespaces_holds_nothing_of_the_host() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    for user in [false, true] {
        let mut first = case.bundle();
        if user {
            first.user_namespace(100_000, 65_536);
        }
        first.args(["/probe", "sleep"]);
        let first = victim.start(&first);
        victim.lives(first.pid());
        let mut second = case.bundle();
        if user {
            second.user_namespace(100_000, 65_536);
            second.namespace("user", Some(&format!("/proc/{}/ns/user", first.pid())));
        }
        for kind in ["pid", "ipc", "network"] {
            let name = kind.replace("network", "net");
            second.namespace(kind, Some(&format!("/proc/{}/ns/{name}", first.pid())));
        }
        created(&case, &victim, &mut second, &[], 0);
    }
}

/// A call of rt by a shell that opens some descriptors first.
fn with_open(case: &Case, victim: &Victim<'_>, before: &str, args: &str) -> Call {
    std::fs::write(victim.given(), "").expect("write");
    let line = format!(
        "exec 3<'{given}' 4<'{given}' 5</; {before} exec '{}' --root '{}' {args}",
        victim.runtime().display(),
        case.state_root().display(),
        given = victim.given().display(),
    );
    case.program(Path::new("/bin/sh")).args(["-c", &line]).env("RT_STOP_AT", "all")
}

#[test]
fn run_holds_nothing_of_the_host() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    for (asked, before, options) in [
        (0, "", ""),
        (1, "", "--preserve-fds 1"),
        (2, "export LISTEN_FDS=2;", ""),
        (1, "export LISTEN_FDS=1;", ""),
    ] {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "exit", "0"]).directory("/work");
        bundle.config["process"]["cwd"] = json!("/work");
        bundle.write();
        let line = format!("run {options} --bundle '{}' {}", bundle.dir().display(), bundle.id());
        let mut run = with_open(&case, &victim, before, &line).spawn();
        let mut walk = Walk::new(&victim);
        walk.follow(&mut run, "exec");
        walk.judge(asked);
        run.wait().ok();
    }
}

#[test]
fn exec_holds_nothing_of_the_host() {
    only_rt!("it has fail points");
    let case = case!();
    for user in [false, true] {
        let victim = Victim::with(&case, failpoints());
        let mut bundle = case.bundle();
        bundle.directory("/work").args(["/probe", "sleep"]);
        if user {
            bundle.user_namespace(100_000, 65_536);
        }
        let container = victim.start(&bundle);
        victim.lives(container.pid());
        for options in ["", "--cwd /work --user 1000:1000", "--preserve-fds 1", "--tty"] {
            let line = format!("exec {options} {} /probe exit 0", container.id());
            let mut call = with_open(&case, &victim, "", &line);
            let (_ours, theirs) = terminal::pair(24, 80);
            if options == "--tty" {
                call = call.terminal(theirs);
            }
            let mut exec = call.spawn();
            let mut walk = Walk::new(&victim);
            walk.follow(&mut exec, "exec");
            walk.judge(u32::from(options.contains("preserve")));
            exec.wait().ok();
        }
    }
}

// Nodes that an image brings are the host's devices until the rules are in force.
#[test]
fn nothing_of_the_containers_is_followed_before_its_limits_are_set() {
    only_rt!("it stops at a step of rt");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    let mut run = victim
        .call(["run", "--bundle"])
        .arg(bundle.dir())
        .arg(bundle.id())
        .env("RT_STOP_AT", "place")
        .spawn();
    let waits = || step_of(run.pid()).filter(|step| step == "place");
    until("rt is about to set limits", waits);
    let init = until("init waits for a word", || {
        let mut children = BTreeSet::new();
        descendants(run.pid(), &mut children);
        children.into_iter().find(|pid| {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            call.starts_with(&format!("{} ", nix::libc::SYS_recvmsg))
        })
    });
    let root = identity(Path::new(&format!("/proc/{init}/root")));
    assert_eq!(root, identity(Path::new("/")), "it is in the container's root already");
    kill(Pid::from_raw(run.pid()), Signal::SIGCONT).expect("a process that waits");
    until("it has run", || run.ended().then_some(()));
}
