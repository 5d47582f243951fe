//! Between create and the first instruction of the program: signals to a created container, what `start` waits for and what it tells.

use tests::*;

/// The executable of a process, as the kernel has it.
fn executable(pid: i32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/exe"));
    link.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

#[test]
fn a_created_container_ends_by_a_signal_as_any_process_does() {
    unless!("crun", "PID 1 is spared by the kernel");
    unless!("runc", "it ends with the codes of its language's runtime");
    let case = case!();
    for own_pids in [true, false] {
        for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10), ("RTMIN+3", 37)] {
            let mut bundle = case.bundle();
            if !own_pids {
                bundle.without_namespace("pid");
            }
            let container = case.create(&bundle);
            container.call_with("kill", &[], &[name]).run().ok();
            assert_eq!(container.wait_exit(container.pid()), 128 + number, "{name}, own pids: {own_pids}");
            assert_eq!(container.status(), "stopped");
            container.call("start").run().exits(1).fails(&["stopped"]);
            container.call("delete").run().ok();
            container.is_gone();
        }
    }
}

#[test]
fn a_created_container_survives_signals_that_end_nobody() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "6"]);
    let container = case.create(&bundle);
    for name in ["WINCH", "CHLD", "URG", "CONT"] {
        container.call_with("kill", &[], &[name]).run().ok();
    }
    assert_eq!(container.status(), "created");
    container.call("start").run().ok();
    assert_eq!(container.wait_exit(container.pid()), 6);
}

#[test]
fn signals_to_a_created_container_do_not_reach_the_program() {
    let case = case!();
    let container = case.create(case.bundle().args(["/probe", "report"]));
    container.call_with("kill", &[], &["WINCH"]).run().ok();
    container.call("start").run().ok();
    let report = container.wait_for_output("\n");
    let report: Value = serde_json::from_str(&report).expect("a report");
    assert_eq!(report["signals"]["blocked"], json!([]), "{report}");
}

#[test]
fn when_start_returns_the_program_has_been_executed() {
    unless!("crun", "its start does not wait");
    unless!("runc", "its start does not wait");
    let case = case!();
    for _ in 0..20 {
        let mut bundle = case.bundle();
        let container = case.start_sleeping(&mut bundle);
        let seen = executable(container.pid());
        assert!(seen.ends_with("/probe"), "{seen}");
        container.delete();
    }
}

#[test]
fn start_tells_why_the_program_could_not_be_executed() {
    unless!("crun", "its start does not wait");
    unless!("runc", "its start does not wait");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/script", "#!/nothing\n").mode("/script", 0o755).args(["/script"]);
    let container = case.create(&bundle);
    container.call("start").run().exits(1).fails(&[
        "exec /script",
        "no such file or directory",
        "interpreter",
    ]);
    assert_eq!(container.status(), "stopped");
    assert_eq!(container.wait_exit(container.pid()), 1);
    container.call("delete").run().ok();
    container.is_gone();
}

#[test]
fn start_tells_which_start_hook_failed() {
    unless!("crun", "its start does not wait");
    unless!("runc", "its start does not wait");
    let case = case!();
    let mut bundle = case.bundle();
    let hook = json!({ "path": "/probe", "args": ["probe", "exit", "7"] });
    bundle.config["hooks"] = json!({ "startContainer": [hook], "poststart": [{ "path": "/bin/false" }] });
    bundle.args(["/probe", "write", "/started", "yes"]);
    let container = case.create(&bundle);
    let said = container.call("start").run().exits(1).fails(&["startContainer[0] /probe", "exit status 7"]);
    assert!(!said.stderr.contains("poststart"), "{said}");
    assert_eq!(container.status(), "stopped");
    assert!(!bundle.host_path("/started").exists());
}

#[test]
fn a_start_hook_that_hangs_does_not_hold_up_delete() {
    unless!("crun", "its start does not wait");
    unless!("runc", "its start does not wait");
    let case = case!();
    let mut bundle = case.bundle();
    let hook = json!({ "path": "/probe", "args": ["probe", "write", "/hook", "yes"] });
    let hang = json!({ "path": "/probe", "args": ["probe", "sleep", "300"] });
    bundle.config["hooks"] = json!({ "startContainer": [hook, hang] });
    let container = case.create(&bundle);
    let start = container.call("start").spawn();
    until("the first hook has run", || bundle.host_path("/hook").exists().then_some(()));
    container.delete();
    start.wait().exits(1).fails(&["its process has died"]);
}

#[test]
fn a_create_that_dies_before_it_is_done_takes_its_process_along() {
    only_rt!("it has fail points");
    let case = case!();
    let bundle = case.bundle();
    bundle.write();
    // Without a cgroup nobody else could find that process: its pid was never written down.
    let create = case
        .program(failpoints())
        .arg("--root")
        .arg(case.state_root())
        .args(["--cgroup-manager", "disabled", "create", "--bundle"])
        .arg(bundle.dir())
        .arg(bundle.id())
        .env("RT_DIE_AT", "console")
        .run();
    assert_ne!(create.code(), 0, "{create}");
    until(&format!("no process is left: {:?}", case.leaks()), || {
        case.leaks().iter().all(|leak| !leak.starts_with("process")).then_some(())
    });
    case.call(["delete", "--force", bundle.id()]).run().ok();
}

#[test]
fn a_start_that_dies_once_it_has_said_so_leaves_a_container_that_runs() {
    only_rt!("it has fail points");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    let container = case.create(&bundle);
    let start = case
        .program(failpoints())
        .arg("--root")
        .arg(case.state_root())
        .args(["start", bundle.id()])
        .env("RT_DIE_AT", "release")
        .run();
    assert_ne!(start.code(), 0, "{start}");
    until("the program is executed", || executable(container.pid()).ends_with("/probe").then_some(()));
    assert_eq!(container.status(), "running");
    container.call("start").run().exits(1).fails(&["already running"]);
}
