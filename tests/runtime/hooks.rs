//! Hooks: all six, when they run, where, with what, and what their failure does.
//!
//! The order among them is taken from the times that the probe writes down.

use std::path::PathBuf;
use tests::*;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// What the hooks of a bundle wrote, one report per call.
struct Hooks {
    file: PathBuf,
}

impl Hooks {
    /// A hook of this kind that reports; `options` as `probe hook` knows them.
    fn add(&self, bundle: &mut Bundle, kind: &str, options: &[&str]) {
        self.add_with(bundle, kind, options, &json!({}));
    }

    fn add_with(&self, bundle: &mut Bundle, kind: &str, options: &[&str], more: &Value) {
        // In the container's own namespaces and root the paths are the container's.
        let inside = kind == "startContainer";
        let path = if inside { PathBuf::from("/probe") } else { probe().to_owned() };
        let file =
            if inside { PathBuf::from(format!("/{kind}.json")) } else { self.file.with_extension(kind) };
        let mut args = vec!["hook-name".to_owned(), "hook".to_owned(), file.to_string_lossy().into_owned()];
        args.extend(options.iter().map(|o| (*o).to_owned()));
        let mut hook = json!({ "path": path, "args": args, "env": ["HOOK=yes", format!("KIND={kind}")] });
        for (key, value) in more.as_object().expect("an object") {
            hook[key] = value.clone();
        }
        let hooks = &mut bundle.config["hooks"][kind];
        match hooks.as_array_mut() {
            Some(list) => list.push(hook),
            None => *hooks = json!([hook]),
        }
    }

    /// The reports of this kind, in the order of the calls.
    fn seen(&self, bundle: &Bundle, kind: &str) -> Vec<Value> {
        let path = match kind {
            "startContainer" => bundle.host_path("/startContainer.json"),
            _ => self.file.with_extension(kind),
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a hook's report")).collect()
    }
}

fn hooks(case: &Case) -> Hooks {
    Hooks { file: case.dir().join("hook") }
}

fn state(report: &Value) -> Value {
    let text = report["stdin"].as_str().expect("stdin");
    serde_json::from_str(text).unwrap_or_else(|e| panic!("no state on stdin ({e}): {text:?}"))
}

fn time(report: &Value) -> u64 {
    report["time_us"].as_str().and_then(|t| t.parse().ok()).expect("a time")
}

#[test]
fn all_six_run_in_order() {
    unless!("runc", "its poststart hooks run before the process starts");
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    for kind in KINDS {
        hooks.add(&mut bundle, kind, &[]);
    }
    bundle.args(["/probe", "sleep"]);
    let container = case.create(&bundle);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        assert_eq!(hooks.seen(&bundle, kind).len(), 1, "{kind} after create");
    }
    for kind in ["startContainer", "poststart", "poststop"] {
        assert_eq!(hooks.seen(&bundle, kind).len(), 0, "{kind} after create");
    }
    container.call("start").run().ok();
    until("startContainer has run", || (hooks.seen(&bundle, "startContainer").len() == 1).then_some(()));
    until("poststart has run", || (hooks.seen(&bundle, "poststart").len() == 1).then_some(()));
    assert_eq!(hooks.seen(&bundle, "poststop").len(), 0);
    container.delete();
    assert_eq!(hooks.seen(&bundle, "poststop").len(), 1);
    let times: Vec<u64> = KINDS.iter().map(|kind| time(&hooks.seen(&bundle, kind)[0])).collect();
    for pair in [(0, 1), (1, 2), (2, 3), (3, 5), (4, 5)] {
        assert!(times[pair.0] <= times[pair.1], "{} before {}: {times:?}", KINDS[pair.0], KINDS[pair.1]);
    }
}

#[test]
fn hooks_get_the_state_on_stdin() {
    unless!("runc", "its poststart hooks get the status created");
    unless!("crun", "its startContainer hooks get / as the bundle");
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    bundle.config["annotations"] = json!({ "org.example.key": "value" });
    for kind in KINDS {
        hooks.add(&mut bundle, kind, &[]);
    }
    bundle.args(["/probe", "sleep"]);
    let container = case.start(&bundle);
    let pid = container.pid();
    until("startContainer has run", || (hooks.seen(&bundle, "startContainer").len() == 1).then_some(()));
    container.delete();
    for (kind, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let state = state(&hooks.seen(&bundle, kind)[0]);
        assert_eq!(state["id"], bundle.id(), "{kind}");
        assert_eq!(state["bundle"], json!(bundle.dir()), "{kind}");
        assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        // Inside, the process may see itself as pid 1.
        let inside = ["createContainer", "startContainer", "poststop"].contains(&kind);
        assert!(inside || state["pid"] == pid, "{kind}: {}", state["pid"]);
    }
}

#[test]
fn hooks_run_with_their_own_arguments_and_environment() {
    unless!("runc", "its createContainer hooks inherit descriptors");
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    for kind in KINDS {
        hooks.add(&mut bundle, kind, &[]);
    }
    case.start_sleeping(&mut bundle).delete();
    for kind in KINDS {
        let seen = &hooks.seen(&bundle, kind)[0];
        assert_eq!(seen["argv"][0], "hook-name", "{kind}");
        let env: Vec<&str> = seen["env"].as_array().expect("env").iter().filter_map(Value::as_str).collect();
        assert!(env.contains(&"HOOK=yes"), "{kind}: {env:?}");
        assert!(
            !env.iter().any(|v| v.starts_with("RT_TEST_CASE=")),
            "{kind}: the caller's environment: {env:?}"
        );
        assert_eq!(seen["fds"], json!([0, 1, 2]), "{kind}");
    }
}

#[test]
fn hooks_run_in_the_namespaces_the_spec_says() {
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    for kind in KINDS {
        hooks.add(&mut bundle, kind, &[]);
    }
    let container = case.start_sleeping(&mut bundle);
    until("startContainer has run", || (hooks.seen(&bundle, "startContainer").len() == 1).then_some(()));
    let inside = std::fs::read_link(format!("/proc/{}/ns/mnt", container.pid())).expect("its namespace");
    container.delete();
    let host = std::fs::read_link("/proc/thread-self/ns/mnt").expect("ours");
    for (kind, expected) in [
        ("prestart", &host),
        ("createRuntime", &host),
        ("createContainer", &inside),
        ("startContainer", &inside),
        ("poststart", &host),
        ("poststop", &host),
    ] {
        assert_eq!(hooks.seen(&bundle, kind)[0]["mnt"], json!(expected), "{kind}");
    }
}

#[test]
fn several_hooks_of_a_kind_run_in_order() {
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    for n in ["n=1", "n=2", "n=3"] {
        hooks.add(&mut bundle, "createRuntime", &[n]);
    }
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
    let order: Vec<Value> =
        hooks.seen(&bundle, "createRuntime").iter().map(|r| r["argv"][3].clone()).collect();
    assert_eq!(order, ["n=1", "n=2", "n=3"]);
}

#[test]
fn failing_hook_before_the_process_ends_the_container() {
    unless!("crun", "it exits with 255");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let case = Case::new(&format!("{}.{kind}", test_name!()));
        let hooks = hooks(&case);
        let mut bundle = case.bundle();
        hooks.add(&mut bundle, kind, &["exit=3", "say=1"]);
        hooks.add(&mut bundle, "poststop", &[]);
        bundle.args(["/probe", "write", "/started", "yes"]);
        let output = case.run(&bundle).fails(&["hook"]);
        assert_eq!(output.code(), 1, "{kind}: {output}");
        assert!(!bundle.host_path("/started").exists(), "{kind}");
    }
}

#[test]
fn failing_start_hook_ends_the_container() {
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    hooks.add(&mut bundle, "startContainer", &["exit=3"]);
    bundle.args(["/probe", "write", "/started", "yes"]);
    let output = case.run(&bundle);
    assert_ne!(output.code(), 0, "{output}");
    assert!(!bundle.host_path("/started").exists());
}

#[test]
fn failing_poststop_hook_does_not_stop_the_removal() {
    unless!("runc", "it fails, and leaves the container");
    unless!("crun", "it says nothing of the failure");
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    hooks.add(&mut bundle, "poststop", &["exit=1"]);
    hooks.add(&mut bundle, "poststop", &[]);
    let container = case.start_sleeping(&mut bundle);
    let output = container.delete();
    assert!(output.stderr.contains("hook"), "a warning: {output}");
    assert_eq!(hooks.seen(&bundle, "poststop").len(), 2, "the others still run");
}

#[test]
fn hook_that_takes_too_long_is_killed_and_fails() {
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    hooks.add_with(&mut bundle, "createRuntime", &["sleep=60"], &json!({ "timeout": 1 }));
    bundle.args(["/probe", "exit", "0"]);
    let begin = std::time::Instant::now();
    case.run(&bundle).exits(1).fails(&["hook"]);
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn hooks_run_with_run_too() {
    let case = case!();
    let hooks = hooks(&case);
    let mut bundle = case.bundle();
    for kind in KINDS {
        hooks.add(&mut bundle, kind, &[]);
    }
    bundle.args(["/probe", "exit", "5"]);
    case.run(&bundle).exits(5);
    for kind in KINDS {
        assert_eq!(hooks.seen(&bundle, kind).len(), 1, "{kind}");
    }
}

#[test]
fn create_runtime_hook_can_change_the_containers_network() {
    let case = case!();
    let mut bundle = case.bundle();
    let script = "p=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); \
        exec nsenter -t $p -n sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'";
    bundle.config["hooks"] = json!({ "createRuntime": [{
        "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] }] });
    assert_eq!(case.act(&mut bundle, ["read", "/proc/sys/net/ipv4/ip_forward"]).trim(), "1");
}

/// Runs the bundle by `run`, or by `create` and `start`.
fn goes(case: &Case, bundle: &Bundle, by_run: bool) -> Output {
    if by_run {
        return case.run(bundle);
    }
    let container = case.create(bundle);
    let pid = container.pid();
    let started = container.call("start").run();
    container.wait_exit(pid);
    started
}

/// A profile that refuses these calls.
fn refuses(names: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO" }],
    })
}

// The program of such a hook is the image's: without the filter, or with the CAP_SYS_ADMIN that loading it takes, it could do more
// than the container, and leave somebody behind who goes on doing so.
#[test]
fn start_hooks_have_no_more_than_the_program() {
    unless!("crun", "its hooks run without the filter");
    let case = case!();
    let default: Value = serde_json::from_str(include_str!("../data/seccomp/moby.json")).expect("JSON");
    // The last two can't be in force while the process waits for its start.
    let profiles =
        [None, Some(default), Some(refuses(&["signalfd4"])), Some(refuses(&["setsid", "sendmsg"]))];
    for (at, profile) in profiles.iter().enumerate() {
        for (nnp, by_run) in [(true, true), (false, true), (true, false), (false, false)] {
            let which = format!("profile {at}, noNewPrivileges {nnp}, run {by_run}");
            let mut bundle = case.bundle();
            bundle.config["process"]["noNewPrivileges"] = json!(nnp);
            if let Some(profile) = profile {
                bundle.config["linux"]["seccomp"] = profile.clone();
            }
            let report = |to: &str| json!({ "path": "/probe", "args": ["probe", "report", to] });
            bundle.config["hooks"] = json!({ "startContainer": [report("/first"), report("/second")] });
            bundle.args(["/probe", "report", "/program"]);
            goes(&case, &bundle, by_run).ok();
            let read = |name: &str| {
                let file = bundle.host_path(name);
                Report::parse(&std::fs::read_to_string(file).expect("a report"))
            };
            let program = read("/program");
            for hook in ["/first", "/second"].map(read) {
                for what in ["seccomp", "no_new_privs", "capabilities"] {
                    assert_eq!(hook[what], program[what], "{which}: {what}");
                }
            }
            assert_eq!(program["seccomp"], if profile.is_some() { 2 } else { 0 }, "{which}");
        }
    }
}

#[test]
fn start_hook_that_the_profile_does_not_let_start_runs_not_at_all() {
    unless!("crun", "its hooks run without the filter");
    unless!("runc", "its start does not wait");
    let case = case!();
    for call in ["clone", "execve", "pipe2"] {
        for by_run in [true, false] {
            let mut bundle = case.bundle();
            bundle.config["linux"]["seccomp"] = refuses(&[call]);
            bundle.config["hooks"] =
                json!({ "startContainer": [{ "path": "/probe", "args": ["probe", "report", "/hook"] }] });
            bundle.args(["/probe", "write", "/started", "yes"]);
            goes(&case, &bundle, by_run).exits(1).fails(&["startContainer[0] /probe", "seccomp profile"]);
            assert!(!bundle.host_path("/hook").exists() && !bundle.host_path("/started").exists(), "{call}");
        }
    }
}

/// They have the host's root, and so are never born where others live; from the user namespace of the container there is no way there.
#[test]
fn create_container_hooks_and_a_pid_namespace_of_another_user_namespace_are_refused() {
    only_rt!("others run them where the container's neighbours see them");
    let case = case!();
    let other = case.start_sleeping(&mut case.bundle());
    let mut bundle = case.bundle();
    let hooks = hooks(&case);
    bundle.user_namespace(100_000, 65_536).args(["/probe", "exit", "0"]);
    bundle.namespace("pid", Some(&format!("/proc/{}/ns/pid", other.pid())));
    case.run(&bundle).ok();
    hooks.add(&mut bundle, "createContainer", &[]);
    case.run(&bundle).exits(1).fails(&[
        "run createContainer hooks outside of the pid namespace that is joined",
        "join that user namespace too, or take out the hooks",
    ]);
    assert!(hooks.seen(&bundle, "createContainer").is_empty());
    other.delete();
}
