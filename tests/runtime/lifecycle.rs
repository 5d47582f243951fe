//! The life of a container: create, start, state, kill, delete, run, list, ps, pause, resume; options and exit codes.
//!
//! Resources are in `cgroup`, further processes in `exec`, messages in `bad_input`.

use std::path::Path;
use std::time::Duration;
use tests::*;

#[test]
fn create_start_kill_delete() {
    unless!("crun", "it says so in other words");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "signal-wait"]);
    let container = case.create(&bundle);
    assert_eq!(container.status(), "created");
    container.call("start").run().ok();
    assert_eq!(container.status(), "running");
    container.wait_for_output("ready");
    container.call_with("kill", &[], &["TERM"]).run().ok();
    assert_eq!(container.wait_exit(container.pid()), 0);
    container.wait_for("stopped");
    container.call("delete").run().ok();
    container.is_gone();
    container.call("state").run().exits(1).fails(&["does not exist"]);
}

#[test]
fn state_says_what_the_spec_asks() {
    unless!("crun", "its rootfs is as the config has it, relative");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["annotations"] = json!({ "a": "b", "org.example/c": "" });
    let container = case.start_sleeping(&mut bundle);
    let state = container.state();
    assert_eq!(state["id"], bundle.id());
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], json!(bundle.dir()));
    assert_eq!(state["rootfs"], json!(bundle.dir().join("rootfs")));
    assert_eq!(state["annotations"], json!({ "a": "b", "org.example/c": "" }));
    assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{state}");
    assert!(state["created"].as_str().is_some_and(|c| c.starts_with("20") && c.contains('T')), "{state}");
    assert_eq!(state["owner"].as_str().unwrap_or_default(), "");
    let exe = std::fs::read_link(format!("/proc/{}/exe", container.pid())).expect("its process");
    assert!(exe.ends_with("probe"), "{}", exe.display());
}

#[test]
fn stopped_container_has_pid_0() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "3"]);
    let container = case.start(&bundle);
    assert_eq!(container.wait_exit(container.pid()), 3);
    container.wait_for("stopped");
    assert_eq!(container.state()["pid"], 0);
}

#[test]
fn a_dead_process_that_nobody_reaped_counts_as_stopped() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "3"]);
    let container = case.start(&bundle);
    container.wait_for("stopped");
    container.call("delete").run().ok();
    container.is_gone();
}

#[test]
fn killed_created_container_is_stopped() {
    let case = case!();
    let container = case.create(&case.bundle());
    container.call_with("kill", &[], &["KILL"]).run().ok();
    container.wait_for("stopped");
    container.call("delete").run().ok();
    container.is_gone();
}

#[test]
fn delete_refuses_a_running_container_and_force_ends_it() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    container.call("delete").run().exits(1).fails(&[bundle.id()]);
    assert_eq!(container.status(), "running");
    container.delete();
    assert!(!case.cgroup_dir(bundle.cgroup()).exists());
}

#[test]
fn delete_force_of_what_is_not_there_is_fine() {
    unless!("crun", "it says so in other words");
    let case = case!();
    case.call(["delete", "--force", "nobody"]).run().ok();
    case.call(["delete", "nobody"]).run().exits(1).fails(&["does not exist"]);
}

#[test]
fn delete_force_ends_all_processes_of_the_container() {
    unless!("runc 1.1", "it leaves the cgroup when a process is not reaped at once");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("pid").args(["/probe", "chain", "orphan", ",", "sleep"]);
    let container = case.start(&bundle);
    let text = container.wait_for_output("\n");
    let orphan: i32 = text.trim().parse().expect("a pid");
    assert!(Path::new(&format!("/proc/{orphan}")).exists());
    container.delete();
    container.wait_exit(orphan);
}

#[test]
fn kill_all_reaches_every_process() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("pid").args(["/probe", "chain", "orphan", ",", "sleep"]);
    let container = case.start(&bundle);
    let orphan: i32 = container.wait_for_output("\n").trim().parse().expect("a pid");
    container.call_with("kill", &["--all"], &["KILL"]).run().ok();
    assert_eq!(container.wait_exit(orphan), 137);
    assert_eq!(container.wait_exit(container.pid()), 137);
}

#[test]
fn kill_takes_names_and_numbers() {
    unless!("crun", "it knows no lower-case names");
    let case = case!();
    for signal in ["USR1", "SIGUSR1", "10", "usr1"] {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "signal-wait"]);
        let container = case.start(&bundle);
        container.wait_for_output("ready");
        container.call_with("kill", &[], &[signal]).run().ok();
        container.wait_for_output("signal 10");
    }
}

#[test]
fn kill_sends_term_by_default() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "signal-wait"]);
    let container = case.start(&bundle);
    container.wait_for_output("ready");
    container.call("kill").run().ok();
    container.wait_for_output("signal 15");
}

#[test]
fn kill_of_a_stopped_container_says_not_running() {
    unless!("crun", "it says so in other words");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    let container = case.start(&bundle);
    container.wait_for("stopped");
    container.call_with("kill", &[], &["TERM"]).run().exits(1).fails(&["container not running"]);
}

#[test]
fn start_twice_is_refused() {
    unless!("crun", "it says so in other words");
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    container.call("start").run().exits(1).fails(&["running"]);
}

#[test]
fn start_of_a_stopped_container_is_refused() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    let container = case.start(&bundle);
    container.wait_for("stopped");
    container.call("start").run().exits(1).fails(&["stopped"]);
}

#[test]
fn the_process_does_not_run_before_start() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "write", "/started", "yes"]);
    let container = case.create(&bundle);
    assert_eq!(container.status(), "created");
    assert!(!bundle.host_path("/started").exists());
    container.call("start").run().ok();
    container.wait_for("stopped");
    assert!(bundle.host_path("/started").exists());
}

#[test]
fn config_changed_after_create_has_no_effect() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "write", "/first", "yes"]);
    let container = case.create(&bundle);
    bundle.args(["/probe", "write", "/second", "yes"]);
    bundle.write();
    container.call("start").run().ok();
    container.wait_for("stopped");
    assert!(bundle.host_path("/first").exists());
    assert!(!bundle.host_path("/second").exists());
}

#[test]
fn id_that_is_taken_is_refused_and_the_other_lives_on() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let again = case.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run();
    again.exits(1).fails(&["exists"]);
    assert_eq!(container.status(), "running");
}

#[test]
fn pid_file_holds_the_process() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let file = case.dir().join("pid");
    let call =
        case.call(["create", "--pid-file"]).arg(&file).arg("--bundle").arg(bundle.dir()).arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    let text = std::fs::read_to_string(&file).expect("the pid file");
    assert_eq!(text, container.pid().to_string());
}

#[test]
fn options_are_taken_before_and_after_the_id() {
    unless!("crun", "its options end at the first argument");
    unless!("runc 1.1", "its options end at the first argument");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let file = case.dir().join("pid");
    let call = case.call(["create", bundle.id(), "--bundle"]).arg(bundle.dir()).arg("--pid-file").arg(&file);
    let container = Running::new(&case, bundle.id(), call);
    assert!(file.exists());
    case.call(["kill", bundle.id(), "KILL"]).run().ok();
    container.wait_for("stopped");
    case.call(["delete", bundle.id(), "--force"]).run().ok();
    container.is_gone();
}

#[test]
fn bundle_is_the_current_directory_by_default() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "4"]);
    bundle.write();
    case.call(["run", bundle.id()]).cwd(bundle.dir()).run().exits(4);
}

#[test]
fn detached_run_returns_while_the_process_lives() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "signal-wait"]);
    bundle.write();
    let call = case.call(["run", "--detach", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    assert_eq!(container.status(), "running");
    container.wait_for_output("ready");
    container.call_with("kill", &[], &["TERM"]).run().ok();
    assert_eq!(container.wait_exit(container.pid()), 0);
    container.wait_for("stopped");
}

#[test]
fn run_removes_the_container_and_keep_leaves_it() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "2"]);
    case.run(&bundle).exits(2);
    case.call(["state", bundle.id()]).run().exits(1);
    let call = case.call(["run", "--keep", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    assert_eq!(container.status(), "stopped");
}

#[test]
fn run_forwards_signals() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "signal-wait", "2"]);
    bundle.write();
    let run = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).spawn();
    until("the process is ready", || run.stdout().contains("ready").then_some(()));
    let pid = nix::unistd::Pid::from_raw(run.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("signal the runtime");
    until("it gets SIGHUP", || run.stdout().contains("signal 1\n").then_some(()));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal the runtime");
    let output = run.wait().ok();
    assert!(output.stdout.contains("signal 15\n"), "{output}");
}

#[test]
fn create_with_the_caller_gone_still_starts() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "12"]);
    let container = case.create(&bundle);
    // What created it has ended; its process waits on for start.
    container.call("start").deadline(Duration::from_secs(10)).run().ok();
    assert_eq!(container.wait_exit(container.pid()), 12);
}

#[test]
fn many_containers_side_by_side() {
    let case = case!();
    let mut containers = Vec::new();
    for _ in 0..8 {
        containers.push(case.start_sleeping(&mut case.bundle()));
    }
    let ids = case.call(["list", "--quiet"]).run().ok().stdout;
    assert_eq!(ids.lines().count(), 8);
    for container in &containers {
        container.delete();
    }
}

#[test]
fn started_process_is_no_child_of_the_runtime() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("its status");
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).map(str::trim);
    assert_eq!(parent, Some(std::process::id().to_string().as_str()), "the subreaper is this test");
}
