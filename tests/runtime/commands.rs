//! The commands beside a container's life: list, ps, pause, resume, spec, features, version, and the log.

use tests::*;

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
fn log_says_what_kind_of_error_it_was() {
    only_rt!("their logs have a message only");
    let case = case!();
    let last = |arguments: &[&str]| -> Value {
        let log = case.dir().join("kinds.json");
        let call = case.program(Runtime::under_test().path());
        let call =
            call.arg("--root").arg(case.state_root()).arg("--log").arg(&log).args(["--log-format", "json"]);
        call.args(arguments).env("RT_REQUEST_ID", "req-1").run().exits(1);
        let text = std::fs::read_to_string(&log).expect("the log");
        text.lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("{text}"))
    };
    let nowhere = last(&["state", "nobody"]);
    assert_eq!(nowhere["request"], "req-1", "{nowhere}");
    assert_eq!((nowhere["kind"].as_str(), nowhere.get("errno")), (Some("not-found"), None), "{nowhere}");
    let invalid = last(&["state", "no/body"]);
    assert_eq!(invalid["kind"], "invalid", "{invalid}");
    let missing = last(&["create", "--bundle", "/nonexistent", "a"]);
    assert_eq!(
        (missing["kind"].as_str(), missing["errno"].as_str()),
        (Some("os"), Some("ENOENT")),
        "{missing}"
    );

    let mut bundle = case.bundle();
    let running = case.start_sleeping(&mut bundle);
    let path = bundle.dir().to_string_lossy().into_owned();
    let taken = last(&["create", "--bundle", &path, running.id()]);
    assert_eq!(taken["kind"], "exists", "{taken}");
    let started = last(&["start", running.id()]);
    assert_eq!(started["kind"], "wrong-status", "{started}");
}
