//! Containers whose cgroups systemd makes, and removes as soon as their last process is gone. Needs systemd as PID 1 and a memory
//! controller: these tests run in the VM tier (`hack/vm run --systemd`).

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;
use tests::shim::api::io::containerd::cgroups::v2::Metrics;
use tests::shim::api::{RuncOptions, pod, task};
use tests::shim::{POD, Shim, TASK, task_with};
use tests::*;

macro_rules! needs_systemd {
    () => {
        if !Path::new("/run/systemd/system").exists() {
            skip!("systemd is not PID 1 here");
        }
    };
}

/// How often a kill for memory is looked at: `RT_SHIM_TIMES`, or five times.
fn times() -> usize {
    std::env::var("RT_SHIM_TIMES").map_or(5, |text| text.parse().expect("RT_SHIM_TIMES is a number"))
}

const HOG: &str = "x=a; while :; do x=$x$x; done";

/// A bundle whose cgroup is a scope of its own in the test's slice: neighbours there matter.
fn bundle(case: &Case, script: &str) -> (Bundle, PathBuf) {
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    // Not a `-`, which would be a slice in a slice.
    let slice = case.name().replace(['.', '_', '-'], "");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{slice}.slice:rt:{}", bundle.id()));
    bundle.config["linux"]["resources"]["memory"]["limit"] = (32 << 20).into();
    let scope = format!("/sys/fs/cgroup/{slice}.slice/rt-{}.scope", bundle.id()).into();
    (bundle, scope)
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().expect("a pid")), signal).expect("send a signal");
}

/// Runs the script while the shim sleeps, until systemd has removed the scope; `then` may help it end.
fn end_unseen(shim: &Shim<'_>, case: &Case, script: &str, then: impl FnOnce(u32)) -> pod::Ended {
    let (bundle, scope) = bundle(case, script);
    shim.create(&bundle);
    let pid = shim.start(bundle.id()).pid;
    send(shim.pid(), Signal::SIGSTOP);
    fs::write(bundle.host_path("/go"), "").expect("let it go on");
    then(pid);
    until("systemd removes the scope", || (!scope.exists()).then_some(()));
    send(shim.pid(), Signal::SIGCONT);
    let ended = shim.wait(bundle.id());
    shim.remove(bundle.id());
    ended
}

fn when_told(script: &str) -> String {
    format!("while [ ! -e /go ]; do sleep 0.05; done; {script}")
}

#[test]
fn a_container_in_a_scope_lives_and_ends() {
    let case = case!();
    needs_systemd!();
    let shim = case.shim_of_systemd("shim");
    let (bundle, scope) = bundle(&case, "exec sleep 1000");
    shim.create(&bundle);
    let pid = shim.start(bundle.id()).pid;
    assert_eq!(fs::read_to_string(scope.join("cgroup.procs")).expect("its processes"), format!("{pid}\n"));
    assert_eq!(fs::read_to_string(scope.join("memory.max")).expect("its limit").trim(), "33554432");
    let stats: task::StatsResponse =
        shim.client().ask(TASK, "Stats", &task::StatsRequest { id: bundle.id().to_owned() });
    let metrics = Metrics::decode(stats.stats.expect("metrics").value.as_slice()).expect("Metrics");
    assert_eq!(metrics.memory.expect("memory").usage_limit, 32 << 20);
    let (exec, _) =
        shim.exec(&bundle, "e", "grep -q rt-.*scope /proc/self/cgroup || cat /proc/self/cgroup; exit 4");
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(4));
    let resources = json!({ "memory": { "limit": 48 << 20 } }).to_string().into_bytes();
    let update = pod::UpdateRequest { id: bundle.id().to_owned(), resources };
    let _: pod::Empty = shim.client().ask(POD, "Update", &update);
    assert_eq!(fs::read_to_string(scope.join("memory.max")).expect("its limit").trim(), "50331648");
    let ended = shim.stop(bundle.id(), 100);
    assert_eq!((ended.exit_code, ended.oom_killed), (137, false));
    shim.remove(bundle.id());
    assert!(!scope.exists());
}

#[test]
fn the_option_that_containerd_sends_asks_systemd() {
    let case = case!();
    needs_systemd!();
    let shim = case.shim();
    let (bundle, scope) = bundle(&case, "exec sleep 1000");
    bundle.write();
    let request = task_with(&bundle, &RuncOptions { systemd_cgroup: true, ..Default::default() });
    let made: task::CreateTaskResponse = shim.client().ask(TASK, "Create", &request);
    shim.start(bundle.id());
    assert_eq!(
        fs::read_to_string(scope.join("cgroup.procs")).expect("its processes"),
        format!("{}\n", made.pid)
    );
    let (_, exec) = shim.exec(&bundle, "e", "exec sleep 1000");
    let inside = fs::read_to_string(scope.join("cgroup.procs")).expect("its processes");
    assert!(inside.lines().any(|pid| pid == exec.pid.to_string()), "{} in {inside:?}", exec.pid);
    shim.stop(bundle.id(), 100);
    shim.remove(bundle.id());
    assert!(!scope.exists());
}

#[test]
fn every_kill_for_memory_is_told_though_the_scope_goes_with_it() {
    let case = case!();
    needs_systemd!();
    let shim = case.shim_of_systemd("shim");
    let (keeper, _) = bundle(&case, "exec sleep 1000");
    shim.create(&keeper);
    shim.start(keeper.id());
    for turn in 0..times() {
        let (bundle, scope) = bundle(&case, HOG);
        shim.create(&bundle);
        shim.start(bundle.id());
        let ended = shim.wait(bundle.id());
        let told = (ended.exit_code, ended.oom_killed, ended.oom_cgroup.clone());
        assert_eq!(told, (137, true, scope.display().to_string()), "turn {turn}");
        shim.remove(bundle.id());
    }
    let ended = shim.stop(keeper.id(), 0);
    assert!(!ended.oom_killed, "{ended:?}");
    shim.remove(keeper.id());
}

/// The shim sleeps while it happens, so that its cgroup is gone for certain before it can be read.
#[test]
fn a_kill_for_memory_is_told_and_no_other_is_though_the_scope_is_gone() {
    let case = case!();
    needs_systemd!();
    let shim = case.shim_of_systemd("shim");
    let (keeper, _) = bundle(&case, "exec sleep 1000");
    shim.create(&keeper);
    shim.start(keeper.id());
    let look = |script: &str| {
        let ended = end_unseen(&shim, &case, &when_told(script), |_| {});
        (ended.exit_code, ended.oom_killed)
    };
    let round = || {
        assert_eq!(look(HOG), (137, true));
        assert_eq!(look("exit 5"), (5, false));
        let killed = end_unseen(&shim, &case, "exec sleep 1000", |pid| send(pid, Signal::SIGKILL));
        assert_eq!((killed.exit_code, killed.oom_killed), (137, false), "killed by somebody else");
    };
    for _ in 0..3 {
        round();
        assert_eq!(look(&format!("sh -c '{HOG}'; exit 6")), (6, true), "its child was killed");
    }
    // Beside a container of another pod, which the shim can't ask.
    let other = case.shim_of_systemd("other");
    let (stranger, _) = bundle(&case, "exec sleep 1000");
    other.create(&stranger);
    other.start(stranger.id());
    for _ in 0..3 {
        round();
    }
    other.stop(stranger.id(), 0);
    other.remove(stranger.id());
    shim.stop(keeper.id(), 0);
    shim.remove(keeper.id());
}
