//! Somebody in the container stops, traces or freezes whoever comes in: the runtime's commands end in time all the same, and leave nothing.
//!
//! `RT_LACKS=patience` makes the time that a process has 2 s.

use std::time::{Duration, Instant};
use tests::*;

/// Far more than what `patience` is made.
const IN_TIME: Duration = Duration::from_secs(20);

const TOO_LONG: &str = "did not come to its program within 2 s";

/// A container that holds whoever comes in.
fn holder<'a>(victim: &Victim<'a>, case: &Case, how: &str) -> Running<'a> {
    let mut bundle = case.bundle();
    let all: Vec<&str> = config::DEFAULT_CAPABILITIES.iter().chain(&["CAP_SYS_PTRACE"]).copied().collect();
    bundle.capabilities(&all).args(["/probe", "chain", "hold", "60", how, ",", "sleep"]);
    let container = victim.start(&bundle);
    container.wait_for_output("holding");
    container
}

fn impatient(call: Call) -> Call {
    call.env("RT_LACKS", "patience").deadline(IN_TIME)
}

/// It may get through, or be told that it did not.
#[track_caller]
fn ends(output: &Output) -> bool {
    let done = output.code() == 0;
    assert!(done || output.stderr.contains(TOO_LONG), "{output}");
    done
}

#[test]
fn exec_ends_whoever_stops_the_process() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let container = holder(&victim, &case, "stop");
    for _ in 0..5 {
        ends(&impatient(victim.exec(&container, &["--detach"], &["/probe", "exit", "0"])).run());
    }
    assert!(container.stdout().contains("held "), "{}", container.stdout());
    container.delete();
}

// One stop is undone: nobody has to wait until the process is given up.
#[test]
fn exec_lets_the_process_go_on_that_somebody_stopped() {
    only_rt!("others leave it stopped");
    let case = case!();
    let victim = Victim::new(&case);
    let container = holder(&victim, &case, "stop-once");
    for _ in 0..5 {
        victim.exec(&container, &["--detach"], &["/probe", "exit", "0"]).deadline(IN_TIME).run().ok();
    }
    assert!(container.stdout().contains("held "), "nobody was caught: {}", container.stdout());
    container.delete();
}

#[track_caller]
fn exec_ends(case: &Case, how: &str, rounds: usize) {
    let victim = Victim::with(case, failpoints());
    let container = holder(&victim, case, how);
    let mut held = 0;
    for _ in 0..rounds {
        let call = victim.exec(&container, &["--detach"], &["/probe", "exit", "0"]);
        held += u32::from(!ends(&impatient(call).run()));
    }
    assert!(held > 0, "nobody was caught: {}", container.stdout());
    container.delete();
}

#[test]
fn exec_ends_whoever_traces_the_process() {
    only_rt!("it has fail points");
    exec_ends(&case!(), "trace", 5);
}

#[test]
fn exec_ends_whoever_traces_the_process_to_its_end() {
    only_rt!("it has fail points");
    exec_ends(&case!(), "trace-exit", 3);
}

#[track_caller]
fn create_ends(case: &Case, lacks: &str, how: &str) {
    let victim = Victim::with(case, failpoints());
    let container = holder(&victim, case, how);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]).write();
    let with = format!("{}=pid", container.id());
    for _ in 0..3 {
        let create = victim.call(["create", "--share", &with, "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        let create = impatient(create).env("RT_LACKS", lacks).spawn();
        let record = case.state_root().join(bundle.id()).join("state.json");
        until("there is a record", || record.exists().then_some(()));
        // It waits for the lock, and gets it.
        let deleted = victim.call(["delete", "--force", bundle.id()]).deadline(IN_TIME).run();
        let created = create.wait();
        ends(&created);
        assert_eq!(deleted.code(), 0, "{deleted}");
        let _ = victim.call(["delete", "--force", bundle.id()]).deadline(IN_TIME).run();
        assert!(!case.state_root().join(bundle.id()).exists(), "it left its record");
    }
    assert!(container.stdout().contains("held "), "nobody was caught: {}", container.stdout());
    container.delete();
}

#[test]
fn create_with_shared_pids_ends_whoever_stops_the_process() {
    only_rt!("it has fail points");
    create_ends(&case!(), "patience", "stop");
}

#[test]
fn create_with_shared_pids_ends_whoever_traces_the_process() {
    only_rt!("it has fail points");
    create_ends(&case!(), "patience", "trace");
}

#[test]
fn create_ends_whoever_stops_the_maker_of_its_procfs() {
    only_rt!("it has fail points");
    create_ends(&case!(), "patience,procfs-of-a-pid-namespace", "stop");
}

#[test]
fn create_ends_whoever_traces_the_maker_of_its_procfs() {
    only_rt!("it has fail points");
    create_ends(&case!(), "patience,procfs-of-a-pid-namespace", "trace");
}

#[test]
fn exec_ends_whoever_freezes_a_cgroup_below_the_containers() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    let container = victim.start(&bundle);
    let below = case.cgroup_dir(bundle.cgroup()).join("below");
    std::fs::create_dir(&below).expect("make a cgroup");
    std::fs::write(below.join("cgroup.freeze"), "1").expect("freeze it");
    let call = victim.exec(&container, &["--detach", "--cgroup", "below"], &["/probe", "exit", "0"]);
    impatient(call).run().fails(&[TOO_LONG]);
    std::fs::remove_dir(&below).expect("nobody is left in it");
    container.delete();
}

#[test]
fn time_stands_still_while_the_container_is_paused() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    let container = victim.start(&bundle);
    container.call("pause").run().ok();
    let since = Instant::now();
    let call = victim.exec(&container, &["--ignore-paused"], &["/probe", "exit", "7"]);
    let mut exec = impatient(call).spawn();
    until("more than its time is over", || {
        assert!(!exec.ended(), "{}", exec.stderr());
        (since.elapsed() > Duration::from_secs(4)).then_some(())
    });
    container.call("resume").run().ok();
    exec.wait().exits(7);
    container.delete();
}

/// A container whose processes may trace those of others with which it shares its PIDs.
fn neighbour<'a>(victim: &Victim<'a>, case: &Case) -> Running<'a> {
    let mut bundle = case.bundle();
    let all: Vec<&str> = config::DEFAULT_CAPABILITIES.iter().chain(&["CAP_SYS_PTRACE"]).copied().collect();
    bundle.capabilities(&all).args(["/probe", "sleep"]);
    victim.start(&bundle)
}

/// A created container beside it.
fn created_beside<'a>(
    victim: &Victim<'_>,
    neighbour: &Running<'_>,
    case: &'a Case,
    bundle: &Bundle,
) -> Running<'a> {
    bundle.write();
    let with = format!("{}=pid", neighbour.id());
    let create = victim.call(["create", "--share", &with, "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    Running::new(case, bundle.id(), create)
}

/// Somebody in the neighbour does this until he is dropped.
fn in_the_neighbour(victim: &Victim<'_>, neighbour: &Running<'_>, verb: &[&str], says: &str) -> Started {
    let args: Vec<&str> = ["/probe"].iter().chain(verb).copied().collect();
    let exec = victim.exec(neighbour, &[], &args).spawn();
    until("it has begun", || exec.stdout().contains(says).then_some(()));
    exec
}

fn start(victim: &Victim<'_>, container: &Running<'_>) -> Output {
    impatient(victim.call(["start", container.id()])).run()
}

#[test]
fn start_comes_back_whoever_keeps_the_descriptors_of_the_process() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let neighbour = neighbour(&victim, &case);
    let keeps = |container: &Running<'_>| {
        let keeper = in_the_neighbour(&victim, &neighbour, &["keep", "60"], "keeping");
        assert!(keeper.stdout().trim() > "keeping 0", "{}", container.id());
        keeper
    };
    // A program that goes on.
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    let container = created_beside(&victim, &neighbour, &case, &bundle);
    let keeper = keeps(&container);
    start(&victim, &container).ok();
    assert_eq!(container.status(), "running");
    let exe = std::fs::read_link(format!("/proc/{}/exe", container.pid())).expect("it lives");
    assert!(exe.ends_with("probe"), "{}", exe.display());
    keeper.end(nix::sys::signal::Signal::SIGTERM);
    container.delete();
    // One that can't be executed.
    let mut bundle = case.bundle();
    bundle.file("/text", "no program").mode("/text", 0o755).args(["/text"]);
    let container = created_beside(&victim, &neighbour, &case, &bundle);
    let keeper = keeps(&container);
    start(&victim, &container).exits(1).fails(&["exec /text", "exec format error"]);
    assert_eq!(container.status(), "stopped");
    keeper.end(nix::sys::signal::Signal::SIGTERM);
    container.delete();
    // One that is killed before.
    let mut bundle = case.bundle();
    bundle.config["hooks"] = json!({ "startContainer": [
        { "path": "/probe", "args": ["probe", "write", "/hook", "yes"] },
        { "path": "/probe", "args": ["probe", "sleep", "300"] } ] });
    let container = created_beside(&victim, &neighbour, &case, &bundle);
    let keeper = keeps(&container);
    let started = impatient(victim.call(["start", container.id()])).spawn();
    until("the first hook has run", || bundle.host_path("/hook").exists().then_some(()));
    container.delete();
    started.wait().exits(1).fails(&["its process has died"]);
    keeper.end(nix::sys::signal::Signal::SIGTERM);
    neighbour.delete();
}

#[test]
fn start_ends_whoever_takes_its_word_away() {
    only_rt!("it has fail points");
    let case = case!();
    let victim = Victim::with(&case, failpoints());
    let neighbour = neighbour(&victim, &case);
    let mut lost = 0;
    // Who is quicker is a matter of luck.
    for _ in 0..20 {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "sleep"]);
        let container = created_beside(&victim, &neighbour, &case, &bundle);
        let eater = in_the_neighbour(&victim, &neighbour, &["keep", "60", "eat"], "keeping");
        let started = start(&victim, &container);
        if started.code() == 0 {
            assert_eq!(container.status(), "running");
        } else {
            lost += 1;
            assert!([TOO_LONG, "died", "FIFO"].iter().any(|why| started.stderr.contains(why)), "{started}");
            assert_eq!(container.status(), "stopped");
        }
        eater.end(nix::sys::signal::Signal::SIGTERM);
        container.delete();
        if lost == 2 {
            break;
        }
    }
    assert!(lost > 0, "nobody took it");
    neighbour.delete();
}

#[track_caller]
fn start_ends(case: &Case, how: &str, hooks: bool) -> Output {
    let victim = Victim::with(case, failpoints());
    let neighbour = neighbour(&victim, case);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    if hooks {
        bundle.config["hooks"] =
            json!({ "startContainer": [{ "path": "/probe", "args": ["probe", "exit", "0"] }] });
    }
    let container = created_beside(&victim, &neighbour, case, &bundle);
    let pid = container.pid();
    let holder = in_the_neighbour(&victim, &neighbour, &["hold", "60", how], "held");
    until("the process is held", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        stat.contains([") t", ") T"].iter().find(|state| stat.contains(**state))?).then_some(())
    });
    let started = start(&victim, &container);
    let_go(&started, holder, &container, &neighbour);
    started
}

/// However the start ended, the container is as it says, once nobody holds it any more: with `trace-exit` its end is held up, too.
#[track_caller]
fn let_go(started: &Output, holder: Started, container: &Running<'_>, neighbour: &Running<'_>) {
    let done = ends(started);
    holder.end(nix::sys::signal::Signal::SIGTERM);
    container.wait_for(if done { "running" } else { "stopped" });
    container.delete();
    neighbour.delete();
}

#[test]
fn start_ends_whoever_traces_the_process() {
    only_rt!("it has fail points");
    for (how, hooks) in [("all-trace", false), ("all-trace", true), ("all-trace-exit", false)] {
        start_ends(&Case::new(&format!("{}.{how}.{hooks}", test_name!())), how, hooks).fails(&[TOO_LONG]);
    }
}

#[test]
fn start_ends_whoever_stops_the_process() {
    only_rt!("it has fail points");
    for hooks in [false, true] {
        start_ends(&Case::new(&format!("{}.{hooks}", test_name!())), "all-stop", hooks);
    }
}

/// Who comes to the container's processes is held, the hook of its start; its init was there before.
#[track_caller]
fn start_hook_is_held(case: &Case, how: &str) -> Output {
    let victim = Victim::with(case, failpoints());
    let neighbour = neighbour(&victim, case);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.config["hooks"] =
        json!({ "startContainer": [{ "path": "/probe", "args": ["probe", "sleep", "1"] }] });
    let container = created_beside(&victim, &neighbour, case, &bundle);
    let holder = in_the_neighbour(&victim, &neighbour, &["hold", "60", how], "holding");
    let started = start(&victim, &container);
    assert!(holder.stdout().contains("held "), "nobody was held: {}", holder.stdout());
    let_go(&started, holder, &container, &neighbour);
    started
}

#[test]
fn start_ends_whoever_stops_its_hook() {
    only_rt!("it has fail points");
    start_hook_is_held(&case!(), "stop");
}

#[test]
fn start_ends_whoever_traces_its_hook() {
    only_rt!("it has fail points");
    start_hook_is_held(&case!(), "trace").fails(&[TOO_LONG]);
}

// Its hook leaves somebody behind who has the link.
#[test]
fn run_comes_back_whoever_keeps_the_descriptors_of_the_process() {
    let case = case!();
    let mut bundle = case.bundle();
    let all: Vec<&str> = config::DEFAULT_CAPABILITIES.iter().chain(&["CAP_SYS_PTRACE"]).copied().collect();
    bundle.capabilities(&all).args(["/probe", "sleep"]);
    bundle.config["hooks"] =
        json!({ "startContainer": [{ "path": "/probe", "args": ["probe", "leave-keeper", "60"] }] });
    bundle.write();
    let run = case.call(["run", "--detach", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let container = Running::new(&case, bundle.id(), run.deadline(IN_TIME));
    assert_eq!(container.status(), "running");
    container.delete();
}
