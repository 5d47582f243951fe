//! The life of a pod's containers through the pod service, and of the shim itself.

use std::io::Read;

use tests::shim::api::{pod, task};
use tests::shim::{POD, TASK, shell};
use tests::*;

#[test]
fn a_container_runs_and_its_output_is_logged() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]);
    let log = shim.create(&bundle);
    assert_eq!(shim.start(bundle.id()).pid, shim.watch(0, 0).containers[0].pid);
    let ended = shim.wait(bundle.id());
    assert_eq!((ended.exit_code, ended.oom_killed, ended.reason.as_str()), (3, false, ""));
    let text = std::fs::read_to_string(log).expect("the log");
    let mut lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F err", "stdout F out"], "{text}");
    shim.remove(bundle.id());
    assert_eq!(shim.watch(0, 0).containers, []);
}

#[test]
fn stop_sends_the_signal_first_and_kills_after_the_grace() {
    let case = case!();
    let shim = case.shim();
    for (script, grace, code) in [
        ("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done", 20_000, 9),
        ("trap '' TERM; echo ready; while :; do sleep 0.01; done", 50, 137),
    ] {
        let mut bundle = case.bundle();
        bundle.with_busybox().args(["/bin/sh", "-c", script]);
        let log = shim.create(&bundle);
        shim.start(bundle.id());
        until("it is ready", || std::fs::read_to_string(&log).ok().filter(|text| text.contains("ready")));
        assert_eq!(shim.stop(bundle.id(), grace).exit_code, code);
        shim.remove(bundle.id());
    }
}

#[test]
fn an_exec_has_streams_and_an_exit_code() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let script = shell(bundle.id(), "e", "cat; echo err >&2; exit 4");
    let exec = pod::ExecRequest { stdin: true, stdout: true, stderr: true, ..script };
    let started: pod::ExecResponse = shim.client().ask(POD, "Exec", &exec);
    let [stdin, mut stdout, mut stderr] =
        ["stdin", "stdout", "stderr"].map(|name| shim.client().into_stream(&started.token, name));
    std::io::Write::write_all(&mut &stdin, b"typed").expect("write to its stdin");
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).expect("its stdout");
    stderr.read_to_string(&mut text).expect("its stderr");
    assert_eq!(text, "typederr\n");
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(4));
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn a_requests_id_is_in_the_shims_lines_and_in_rts() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/no/such/program"]).write();
    let request = tests::shim::of(&bundle);
    let refused = shim.client().labelled("r-4711").call::<pod::CreateResponse>(POD, "Create", &request);
    refused.expect_err("there is no such program");
    let log = shim.log();
    let own = log.lines().find(|line| line.contains("msg=\"Create: ")).unwrap_or_else(|| panic!("{log}"));
    assert!(own.ends_with(" request=\"r-4711\""), "{own}");
    let rts = log.lines().find(|line| line.contains("msg=\"rt: {")).unwrap_or_else(|| panic!("{log}"));
    assert!(rts.contains(r#"\"request\":\"r-4711\""#), "{rts}");
    // Another caller's work has no such label.
    let _: pod::VersionResponse = shim.client().ask(POD, "Version", &pod::VersionRequest {});
    assert_eq!(shim.client().call::<()>(POD, "Dance", &()).map_err(|refused| refused.code), Err(12));
    let other = shim.log();
    let other = other.lines().find(|line| line.contains("Dance")).expect("a line").to_owned();
    assert!(!other.contains("request="), "{other}");
}

#[test]
fn what_rt_refuses_has_the_code_of_its_kind() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.config["linux"]["namespaces"] = serde_json::json!([{ "type": "no-such" }]);
    bundle.write();
    let create = |bundle: &Bundle| {
        let refused = shim.client().call::<pod::CreateResponse>(POD, "Create", &tests::shim::of(bundle));
        refused.map_err(|refused| (refused.code, refused.message))
    };
    let (code, message) = create(&bundle).expect_err("there is no such namespace");
    assert_eq!(code, 3, "{message}");
    let mut bundle = case.bundle();
    bundle.args(["/no/such/program"]).write();
    let (code, message) = create(&bundle).expect_err("there is no such program");
    assert_eq!(code, 3, "{message}");
    assert!(message.contains("/no/such/program"), "{message}");
}

#[test]
fn both_services_see_the_same_container() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    let pid = shim.start_sleeping(&mut bundle).pid;
    for service in [TASK, "containerd.task.v2.Task"] {
        let request = task::StateRequest { id: bundle.id().to_owned(), exec_id: String::new() };
        let state: task::StateResponse = shim.client().ask(service, "State", &request);
        assert_eq!((state.pid, state.status), (pid, 2), "{service}");
    }
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn watch_returns_when_something_changes() {
    let case = case!();
    let shim = case.shim();
    let before = shim.watch(0, 0).version;
    let mut waiting = shim.client();
    waiting.send(POD, "Watch", &pod::WatchRequest { after: before, wait_ms: 20_000 });
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    shim.create(&bundle);
    let (_, answer) = waiting.answer();
    let seen: pod::WatchResponse = prost_decode(&answer.expect("the truth"));
    assert!(seen.version > before, "{seen:?}");
    // A version that is not the present one is answered at once.
    assert_eq!(shim.watch(before, 20_000).containers.len(), 1);
}

fn prost_decode<M: prost::Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("a message")
}

#[test]
fn shutdown_waits_for_the_last_container() {
    let case = case!();
    let mut shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let refused = shim.client().call::<pod::Empty>(POD, "Shutdown", &pod::ShutdownRequest { force: false });
    assert_eq!(refused.map_err(|refused| refused.code), Err(9));
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
    let _: pod::Empty = shim.client().ask(POD, "Shutdown", &pod::ShutdownRequest { force: false });
    assert!(!shim.socket().exists(), "the socket goes before the answer");
    assert!(shim.ended().success(), "{}", shim.log());
}

#[test]
fn sigterm_ends_the_pod_with_its_containers() {
    let case = case!();
    let mut shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(shim.pid()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("send SIGTERM");
    assert!(shim.ended().success(), "{}", shim.log());
    assert_eq!(case.leaks(), Vec::<String>::new());
}
