//! Nothing is left behind: a failure, and a SIGKILL of the runtime, at every step of create, start and delete.
//!
//! Needs a build of rt with the feature `failpoints`, which the harness makes.

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

/// A bundle that takes every step: user namespace, terminal, hooks, filter, kernel parameters, limits.
fn bundle(case: &Case) -> Bundle {
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536).args(["/probe", "sleep"]);
    let config = &mut bundle.config;
    config["process"]["terminal"] = json!(true);
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_ERRNO" }] });
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        config["hooks"][kind] = json!([{ "path": "/bin/true" }]);
    }
    for kind in ["createContainer", "startContainer"] {
        let path = if kind == "startContainer" { Path::new("/probe") } else { probe() };
        config["hooks"][kind] = json!([{ "path": path, "args": ["probe", "exit", "0"] }]);
    }
    bundle
}

/// What one life of a container came to.
struct Life {
    /// Everything that was said on stderr.
    said: String,
    /// Calls that did not end well.
    failed: usize,
}

/// create, start, delete --force, with a variable set for all of it.
fn live(case: &Case, bundle: &Bundle, variable: &str, step: &str) -> Life {
    let socket_path = case.dir().join("s");
    let _ = std::fs::remove_file(&socket_path);
    let _socket = ConsoleSocket::bind(&socket_path);
    let pid_file = case.dir().join("pid");
    bundle.write();
    let call = |args: &[&str]| {
        case.program(failpoints()).arg("--root").arg(case.state_root()).args(args).env(variable, step)
    };
    let create = call(&["create"])
        .arg("--console-socket")
        .arg(&socket_path)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg("--bundle")
        .arg(bundle.dir())
        .arg(bundle.id())
        .run();
    let mut life = Life { said: create.stderr.clone(), failed: usize::from(create.code() != 0) };
    if create.code() == 0 {
        let output = call(&["start", bundle.id()]).run();
        life.take(&output);
        if AFTER_START.contains(&step) && output.code() == 0 {
            // `start` has returned before it comes to that: what can be seen is that the container stops.
            let state = || case.call(["state", bundle.id()]).run().stdout;
            until(&format!("{step} ends the container"), || state().contains("\"stopped\"").then_some(()));
            life.failed += 1;
        }
    }
    life.take(&call(&["delete", "--force", bundle.id()]).run());
    life
}

impl Life {
    fn take(&mut self, output: &Output) {
        self.said.push_str(&output.stderr);
        self.failed += usize::from(output.code() != 0);
    }
}

/// Steps of the process that wait for `start` or come after it.
const AFTER_START: [&str; 4] = ["start", "start-hooks", "seccomp", "exec"];

/// Steps that the bundle above doesn't take: labels need a kernel that has them.
const NOT_TAKEN: [&str; 1] = ["labels"];

#[test]
fn failure_at_any_step_leaves_nothing() {
    only_rt!("it has fail points");
    let case = case!();
    let mut missed = Vec::new();
    for step in steps() {
        let bundle = bundle(&case);
        let life = live(&case, &bundle, "RT_FAIL_AT", step);
        let failed = life.said.contains(&format!("fail point {step}"))
            || AFTER_START.contains(&step) && life.failed > 0;
        if !failed && !NOT_TAKEN.contains(&step) {
            missed.push(format!("{step}: {}", life.said));
        }
        // A delete that failed half-way is done again, as anyone would.
        case.call(["delete", "--force", bundle.id()]).run().ok();
        until(&format!("nothing is left after {step}: {:?}", case.leaks()), || {
            case.leaks().is_empty().then_some(())
        });
    }
    assert!(missed.is_empty(), "did not fail where they should:\n{}", missed.join("\n"));
}

#[test]
fn failed_create_cleans_up_by_itself() {
    only_rt!("it has fail points");
    let case = case!();
    for step in steps() {
        let bundle = bundle(&case);
        let socket = case.dir().join("s");
        let _ = std::fs::remove_file(&socket);
        let _listening = ConsoleSocket::bind(&socket);
        bundle.write();
        let create = case
            .program(failpoints())
            .arg("--root")
            .arg(case.state_root())
            .arg("create")
            .arg("--console-socket")
            .arg(&socket)
            .arg("--bundle")
            .arg(bundle.dir())
            .arg(bundle.id())
            .env("RT_FAIL_AT", step)
            .run();
        if create.code() == 0 {
            case.call(["delete", "--force", bundle.id()]).run().ok();
        }
        until(&format!("nothing is left after {step}: {create} {:?}", case.leaks()), || {
            case.leaks().is_empty().then_some(())
        });
    }
}

#[test]
fn killed_at_any_step_delete_force_removes_all() {
    only_rt!("it has fail points");
    let case = case!();
    for step in steps() {
        let bundle = bundle(&case);
        let life = live(&case, &bundle, "RT_DIE_AT", step);
        case.call(["delete", "--force", bundle.id()]).run().ok();
        until(&format!("nothing is left after {step}: {} {:?}", life.said, case.leaks()), || {
            case.leaks().is_empty().then_some(())
        });
        assert!(life.failed > 0 || NOT_TAKEN.contains(&step), "{step} killed nobody: {}", life.said);
    }
}

#[test]
fn failed_run_cleans_up_by_itself() {
    only_rt!("it has fail points");
    let case = case!();
    for step in steps() {
        let mut bundle = bundle(&case);
        bundle.config["process"]["terminal"] = json!(false);
        bundle.args(["/probe", "exit", "0"]);
        bundle.write();
        let run = case
            .program(failpoints())
            .arg("--root")
            .arg(case.state_root())
            .args(["run", "--bundle"])
            .arg(bundle.dir())
            .arg(bundle.id())
            .env("RT_FAIL_AT", step)
            .run();
        case.call(["delete", "--force", bundle.id()]).run().ok();
        until(&format!("nothing is left after {step}: {run} {:?}", case.leaks()), || {
            case.leaks().is_empty().then_some(())
        });
    }
}

#[test]
fn run_killed_at_any_step_leaves_what_delete_force_removes() {
    only_rt!("it has fail points");
    let case = case!();
    for step in steps() {
        for mut bundle in [bundle(&case), case.bundle()] {
            bundle.config["process"]["terminal"] = json!(false);
            bundle.args(["/probe", "sleep"]).write();
            let run = case
                .program(failpoints())
                .arg("--root")
                .arg(case.state_root())
                .args(["run", "--detach", "--bundle"])
                .arg(bundle.dir())
                .arg(bundle.id())
                .env("RT_DIE_AT", step)
                .run();
            case.call(["delete", "--force", bundle.id()]).run().ok();
            until(&format!("nothing is left after {step}: {run} {:?}", case.leaks()), || {
                case.leaks().is_empty().then_some(())
            });
        }
    }
}

#[test]
fn run_killed_from_outside_leaves_what_delete_force_removes() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let run = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).spawn();
    until("it runs", || case.call(["state", bundle.id()]).run().stdout.contains("\"running\"").then_some(()));
    let pid = nix::unistd::Pid::from_raw(run.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill the runtime");
    let _ = run.wait();
    case.call(["delete", "--force", bundle.id()]).run().ok();
}

#[test]
fn bundle_of_these_tests_works() {
    let case = case!();
    let bundle = bundle(&case);
    bundle.write();
    let socket = case.dir().join("s");
    let _listening = ConsoleSocket::bind(&socket);
    let call = case
        .call(["--debug", "create", "--console-socket"])
        .arg(&socket)
        .arg("--bundle")
        .arg(bundle.dir())
        .arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    container.call("start").run().ok();
    assert_eq!(container.status(), "running");
}
