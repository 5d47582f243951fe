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
    unless!("crun", "--keep came with 1.15");
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
fn list_shows_all_containers() {
    let case = case!();
    let mut one = case.bundle();
    let running = case.start_sleeping(&mut one);
    let other = case.bundle();
    let _created = case.create(&other);
    let table = case.call(["list"]).run().ok().stdout;
    let header = table.lines().next().unwrap_or_default().to_owned();
    for word in ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"] {
        assert!(header.contains(word) || Runtime::under_test().is("crun"), "{header}");
    }
    let line = table.lines().find(|l| l.starts_with(one.id())).expect("the first container's line");
    assert!(line.contains("running") && line.contains(&running.pid().to_string()), "{line}");
    let quiet = case.call(["list", "--quiet"]).run().ok().stdout;
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    let mut expected = [one.id(), other.id()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let json: Value =
        serde_json::from_str(&case.call(["list", "--format", "json"]).run().ok().stdout).expect("JSON");
    assert_eq!(json.as_array().expect("a list").len(), 2);
    let entry = json.as_array().expect("a list").iter().find(|c| c["id"] == one.id()).expect("the first");
    assert_eq!(entry["status"], "running");
    assert_eq!(entry["pid"], running.pid());
    assert_eq!(entry["bundle"], json!(one.dir()));
}

#[test]
fn list_of_nothing_is_empty() {
    unless!("crun", "it writes an empty list over three lines");
    let case = case!();
    assert_eq!(case.call(["list", "--quiet"]).run().ok().stdout.trim(), "");
    let json = case.call(["list", "--format", "json"]).run().ok().stdout;
    assert!(["null", "[]"].contains(&json.trim()), "{json}");
}

#[test]
fn ps_lists_the_processes() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let exec = container.call_with("exec", &["--detach"], &["/probe", "sleep"]).run().ok();
    let json = container.call_with("ps", &["--format", "json"], &[]).run().ok().stdout;
    let pids: Vec<i32> = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json} {exec}"));
    pids.iter().for_each(|pid| container.adopt(*pid));
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&container.pid()));
    let table = container.call("ps").run().ok().stdout;
    assert!(table.contains("PID") && table.contains(&container.pid().to_string()), "{table}");
}

#[test]
fn paused_container_stands_still() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    container.call("pause").run().ok();
    assert_eq!(container.status(), "paused");
    let events =
        std::fs::read_to_string(case.cgroup_dir(bundle.cgroup()).join("cgroup.events")).expect("events");
    assert!(events.contains("frozen 1"), "{events}");
    container.call("resume").run().ok();
    assert_eq!(container.status(), "running");
    let events =
        std::fs::read_to_string(case.cgroup_dir(bundle.cgroup()).join("cgroup.events")).expect("events");
    assert!(events.contains("frozen 0"), "{events}");
}

#[test]
fn paused_container_can_be_killed_and_deleted() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    container.call("pause").run().ok();
    container.call_with("kill", &[], &["KILL"]).run().ok();
    container.wait_for("stopped");
    container.call("delete").run().ok();
    container.is_gone();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    container.call("pause").run().ok();
    container.delete();
}

#[test]
fn pause_and_resume_refuse_the_wrong_status() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    let container = case.start(&bundle);
    container.wait_for("stopped");
    container.call("pause").run().exits(1);
    container.call("resume").run().exits(1);
}

#[test]
fn spec_writes_a_config_that_runs() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox();
    case.call(["spec"]).cwd(bundle.dir()).run().ok();
    let path = bundle.dir().join("config.json");
    let text = std::fs::read_to_string(&path).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["process"]["terminal"], true);
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "exit 9"]);
    std::fs::write(&path, config.to_string()).expect("write");
    case.call(["run", bundle.id()]).cwd(bundle.dir()).run().exits(9);
    case.call(["spec"]).cwd(bundle.dir()).run().exits(1).fails(&["exist"]);
}

#[test]
fn version_begins_as_engines_parse_it() {
    let case = case!();
    let text = case.program(Runtime::under_test().path()).arg("--version").run().ok().stdout;
    let first: Vec<&str> = text.lines().next().expect("a line").split(' ').collect();
    assert_eq!(first[1], "version", "{text}");
    assert!(text.lines().any(|l| l.starts_with("spec: 1.")), "{text}");
}

#[test]
fn features_is_json_that_says_the_spec_versions() {
    unless!("crun 1.8", "its features are of 1.8.6");
    let case = case!();
    let text = case.call(["features"]).run().ok().stdout;
    let features: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().is_some_and(|v| v.starts_with("1.")));
    let hooks = features["hooks"].as_array().expect("hooks");
    assert_eq!(hooks.len(), 6);
    assert!(features["mountOptions"].as_array().is_some_and(|o| o.iter().any(|m| m == "rro")));
    assert!(features["linux"]["namespaces"].as_array().is_some_and(|n| n.iter().any(|x| x == "pid")));
}

#[test]
fn log_file_holds_the_error_as_json() {
    unless!("crun", "it says so in other words");
    let case = case!();
    let log = case.dir().join("log.json");
    let output = case
        .program(Runtime::under_test().path())
        .arg("--root")
        .arg(case.state_root())
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "state", "nobody"])
        .run()
        .exits(1);
    let text = std::fs::read_to_string(&log).expect("the log");
    let last: Value = text
        .lines()
        .last()
        .and_then(|l| serde_json::from_str(l).ok())
        .unwrap_or_else(|| panic!("{text} {output}"));
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().is_some_and(|m| m.contains("does not exist")), "{last}");
    assert!(last["time"].is_string(), "{last}");
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
