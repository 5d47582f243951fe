//! Containers whose first process goes into user namespaces of its own, or has rights over one that others join: `probe burrow`.
//!
//! Each has a binfmt_misc(5) handler there, which runs the container's program in place of every program of the host's (Linux 6.7).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::*;

const GONE: &str = "gone to a user namespace of its own";
/// What the handler says.
const HANDLER: &str = "HANDLER";

/// A bundle that has the handler, and runs `probe burrow` with these words.
fn burrowing(case: &Case, words: &str) -> Bundle {
    let mut bundle = case.bundle();
    let mut handler = std::fs::read(probe()).expect("read the probe");
    handler[15] = 1;
    write_program(&bundle.host_path("/handler"), handler);
    bundle.directory("/tmp");
    let words = words.split(' ').filter(|word| !word.is_empty());
    bundle.args(["/probe", "chain", "burrow"].into_iter().chain(words).chain([",", "sleep"]));
    bundle
}

fn start_burrowing<'a>(case: &'a Case, words: &str) -> Running<'a> {
    let mut bundle = burrowing(case, words);
    let container = case.start(bundle.user_namespace(100_000, 65_536));
    container.wait_for_output("ready");
    container
}

fn namespace_of(pid: i32, kind: &str) -> String {
    format!("/proc/{pid}/ns/{kind}")
}

/// Mounts that root of a namespace with one id can make.
fn mount_as_one_user(bundle: &mut Bundle) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| !["sysfs", "cgroup", "mqueue"].iter().any(|kind| mount["type"] == *kind));
    for mount in mounts {
        mount["options"].as_array_mut().expect("options").retain(|option| *option != "gid=5");
    }
}

/// As an older version left it.
fn forget_the_namespace(state_root: &Path, id: &str) {
    let path = state_root.join(id).join("state.json");
    let text = std::fs::read_to_string(&path).expect("the container's state");
    let mut state: Value = serde_json::from_str(&text).expect("JSON");
    state.as_object_mut().expect("an object").remove("userNamespace").expect("it says which one");
    std::fs::write(&path, state.to_string()).expect("write");
}

fn refused(output: &Output, word: &str) {
    assert!(!output.stderr.contains(HANDLER), "a program of the container ran: {output}");
    assert!(output.stderr.contains(word), "{output}");
}

#[test]
fn nobody_enters_a_user_namespace_that_the_container_made() {
    only_rt!("others enter it");
    let case = case!();
    for words in ["below handler", "below handler below", "wide handler", ""] {
        let container = start_burrowing(&case, words);
        let exec = || container.call_with("exec", &[], &["/probe", "exit", "7"]).run();
        if words.is_empty() {
            exec().exits(7);
        } else {
            refused(&exec().exits(255), GONE);
        }
        forget_the_namespace(&case.state_root(), container.id());
        if words.is_empty() {
            exec().exits(7);
        } else {
            refused(&exec().exits(255), "not in one that rt made here");
        }
        container.delete();
    }
}

#[test]
fn nobody_shares_what_a_container_made_in_a_user_namespace_of_its_own() {
    only_rt!("--share is its own");
    let case = case!();
    for words in ["below handler", "wide handler"] {
        let container = start_burrowing(&case, words);
        let mut other = case.bundle();
        other.user_namespace(100_000, 65_536).args(["/probe", "exit", "7"]);
        other.config["hooks"] =
            json!({ "createContainer": [{ "path": probe(), "args": ["probe", "exit", "0"] }] });
        other.write();
        for with in [format!("{}=net", container.id()), container.id().to_owned()] {
            let run = case.call(["run", "--share", &with, "--bundle"]).arg(other.dir()).arg(other.id());
            refused(&run.run().exits(1), GONE);
        }
        container.delete();
    }
}

/// A user of the host's, his copy of the runtime and his directories.
struct Person<'a> {
    case: &'a Case,
    rt: PathBuf,
    home: PathBuf,
}

const PERSON: u32 = 5001;

impl<'a> Person<'a> {
    fn new(case: &'a Case) -> Self {
        let (rt, home) = (case.dir().join("rt"), case.dir().join("home"));
        copy_program(Runtime::under_test().path(), &rt);
        std::fs::set_permissions(&rt, PermissionsExt::from_mode(0o755)).expect("chmod");
        std::fs::create_dir(&home).expect("make a directory");
        std::os::unix::fs::chown(&home, Some(PERSON), Some(PERSON)).expect("chown");
        Self { case, rt, home }
    }

    fn state_root(&self) -> PathBuf {
        self.home.join("rt")
    }

    fn call(&self, groups: &[&str], args: &[&str]) -> Call {
        let id = PERSON.to_string();
        let call = self.case.program(Path::new("/usr/bin/setpriv")).args(["--reuid", &id, "--regid", &id]);
        let call = call.args(groups).arg(&self.rt).arg("--root").arg(self.state_root()).args(args);
        call.env("XDG_RUNTIME_DIR", &self.home.to_string_lossy())
    }

    /// What he may run.
    fn own(bundle: &mut Bundle) {
        bundle.user_namespace(PERSON, 1);
        let config = &mut bundle.config;
        config["linux"].as_object_mut().expect("an object").remove("cgroupsPath");
        config["linux"]["resources"] = json!({});
        mount_as_one_user(bundle);
        bundle.write();
    }
}

/// Whoever enters a container of his own starts anew above its user namespace: not in one that the container has put above it.
#[test]
fn an_ordinary_users_exec_begins_in_no_namespace_that_the_container_made() {
    only_rt!("how it enters is its own");
    let case = case!();
    let person = Person::new(&case);
    for words in ["below handler below", "below handler", ""] {
        let mut bundle = burrowing(&case, words);
        Person::own(&mut bundle);
        let run =
            person.call(&["--clear-groups"], &["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).spawn();
        until("it is ready", || run.stdout().contains("ready").then_some(()));
        // KERNEL: nobody can drop groups there, and that is no error.
        let exec =
            || person.call(&["--groups", "5001,6"], &["exec", bundle.id(), "/probe", "exit", "7"]).run();
        for word in [GONE, "not in one that rt made here"] {
            if words.is_empty() {
                exec().exits(7);
            } else {
                refused(&exec().exits(255), word);
            }
            if word == GONE {
                forget_the_namespace(&person.state_root(), bundle.id());
            }
        }
        person.call(&["--clear-groups"], &["kill", bundle.id(), "KILL"]).run().ok();
        run.wait();
    }
}

/// Who joins a user namespace in which setgroups(2) is denied keeps for good what he has.
#[test]
fn supplementary_groups_of_the_caller_are_left_behind() {
    only_rt!("others keep them");
    let case = case!();
    let container = start_burrowing(&case, "below");
    let mut joined = case.bundle();
    joined.user_namespace(100_000, 65_536).args(["/probe", "report"]);
    joined.namespace("user", Some(&namespace_of(container.pid(), "user")));
    for maps in ["uidMappings", "gidMappings"] {
        joined.config["linux"].as_object_mut().expect("an object").remove(maps);
    }
    mount_as_one_user(&mut joined);
    joined.write();
    let call = case.program(Path::new("/usr/bin/setpriv")).args(["--groups", "0,4,6"]);
    let call = call.arg(Runtime::under_test().path()).arg("--root").arg(case.state_root());
    let report =
        Report::parse(&call.args(["run", "--bundle"]).arg(joined.dir()).arg(joined.id()).run().ok().stdout);
    assert_eq!((&report["setgroups"], &report["groups"]), (&json!("deny"), &json!([])));
}

/// A container with all rights over its user namespace, and the handler in there.
fn start_reigning(case: &Case) -> Running<'_> {
    let mut bundle = burrowing(case, "handler");
    let mut capabilities = config::DEFAULT_CAPABILITIES.to_vec();
    capabilities.push("CAP_SYS_ADMIN");
    let container = case.start(bundle.user_namespace(100_000, 65_536).capabilities(&capabilities));
    container.wait_for_output("ready");
    container
}

/// A bundle that joins these namespaces of a process, as a pod's containers do, and has a createContainer hook that reports.
fn neighbour(case: &Case, pid: i32, kinds: &[(&str, &str)]) -> (Bundle, PathBuf) {
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536).args(["/probe", "exit", "7"]);
    for (kind, name) in kinds {
        bundle.namespace(kind, Some(&namespace_of(pid, name)));
    }
    let config = &mut bundle.config;
    config.as_object_mut().expect("an object").remove("hostname");
    for maps in ["uidMappings", "gidMappings"] {
        config["linux"].as_object_mut().expect("an object").remove(maps);
    }
    let report = case.dir().join("hook.json");
    let _ = std::fs::remove_file(&report);
    let args = ["probe", "hook", &report.to_string_lossy()].map(str::to_owned);
    config["hooks"] = json!({ "createContainer": [{ "path": probe(), "args": args }] });
    bundle.write();
    (bundle, report)
}

/// They are programs of the host, and whoever has rights over a user namespace says what is executed in it.
#[test]
fn create_container_hooks_run_in_no_user_namespace_that_others_have_rights_in() {
    only_rt!("others run them in it");
    let case = case!();
    let reigning = start_reigning(&case);
    let of = |pid: &str, kind: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        json!(link.expect("a process"))
    };
    let pid = reigning.pid();
    for shared in
        [&[("user", "user"), ("network", "net"), ("uts", "uts")][..], &[("user", "user"), ("pid", "pid")]]
    {
        let (mut bundle, report) = neighbour(&case, pid, shared);
        let output = case.run(&bundle);
        let text = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("{e}: {output}"));
        let seen: Value = serde_json::from_str(&text).expect("a report");
        assert_eq!(seen["user"], of("thread-self", "user"), "the host's");
        for kind in ["net", "uts"] {
            let is_shared = shared.iter().any(|(_, name)| *name == kind);
            assert_eq!(seen[kind] == of(&pid.to_string(), kind), is_shared, "{kind}");
            assert_ne!(seen[kind], of("thread-self", kind), "the container's {kind}");
        }
        assert_ne!(seen["mnt"], of("thread-self", "mnt"), "the container's mounts");
        assert_ne!(seen["pid"], of(&pid.to_string(), "pid"), "where others live");
        assert_eq!(seen["fds"], json!([0, 1, 2]));
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&report).expect("the report"));
        assert_eq!(owner, 100_000, "what it writes is the container's root's");
        let hook = &mut bundle.config["hooks"]["createContainer"][0]["args"];
        hook.as_array_mut().expect("arguments").extend([json!("exit=3"), json!("say=so")]);
        bundle.write();
        let words = ["run hook createContainer[0]", "exit status 3", "hook says why"];
        case.run(&bundle).exits(1).fails(&words);
    }
}

/// The paths of hooks are the host's: in a mount namespace of others they are files of theirs.
#[test]
fn create_container_hooks_and_a_mount_namespace_of_others_are_refused() {
    only_rt!("others run what they find there");
    let case = case!();
    let (mut bundle, mut other) = (case.bundle(), case.bundle());
    // All that it takes is found there.
    bundle.directory(&other.host_path("/").to_string_lossy());
    let container = case.start_sleeping(&mut bundle);
    other.args(["/probe", "exit", "7"]).namespace("mount", Some(&namespace_of(container.pid(), "mnt")));
    other.config["hooks"] =
        json!({ "createContainer": [{ "path": "/probe", "args": ["probe", "write", "/ran", "yes"] }] });
    other.write();
    case.run(&other).exits(1).fails(&["mount namespace that is joined", "make them createRuntime hooks"]);
    assert!(!bundle.host_path("/ran").exists());
}
