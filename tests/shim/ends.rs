//! How containers end: stops that overtake each other, starts that fail, companions, memory, and ends that outlive the shim.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::shim::api::pod;
use tests::shim::{POD, Shim, of};
use tests::*;

fn start_stubborn(shim: &Shim<'_>, bundle: &mut Bundle) {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    let log = shim.create(bundle);
    shim.start(bundle.id());
    until("it is ready", || std::fs::read_to_string(&log).ok().filter(|text| text.contains("ready")));
}

#[test]
fn a_second_stop_with_less_grace_shortens_the_first() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    start_stubborn(&shim, &mut bundle);
    let begin = Instant::now();
    let mut patient = shim.client();
    let long = pod::StopRequest { id: bundle.id().to_owned(), signal: String::new(), grace_ms: 600_000 };
    patient.send(POD, "Stop", &long);
    assert_eq!(shim.stop(bundle.id(), 10).exit_code, 137);
    let (_, first) = patient.answer();
    let first: pod::StopResponse = prost::Message::decode(&*first.expect("its end too")).expect("an answer");
    assert_eq!(first.ended.map(|ended| ended.exit_code), Some(137));
    assert!(begin.elapsed() < Duration::from_secs(60));
    // A stop of what has ended says how it had.
    assert_eq!(shim.stop(bundle.id(), 10).exit_code, 137);
    shim.remove(bundle.id());
}

#[test]
fn a_container_that_was_never_started_can_be_removed() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    shim.create(&bundle);
    shim.remove(bundle.id());
    assert_eq!(shim.watch(0, 0).containers, []);
    // The id is free again.
    shim.create(&bundle);
    shim.remove(bundle.id());
}

#[test]
fn force_removes_what_runs() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    start_stubborn(&shim, &mut bundle);
    let request = |force| pod::RemoveRequest { id: bundle.id().to_owned(), exec_id: String::new(), force };
    let refused = shim.client().call::<pod::Empty>(POD, "Remove", &request(false)).expect_err("it runs");
    assert_eq!(refused.code, 9, "{refused:?}");
    let _: pod::Empty = shim.client().ask(POD, "Remove", &request(true));
    assert_eq!(shim.watch(0, 0).containers, []);
}

#[test]
fn a_program_that_is_not_there_is_named_and_leaves_nothing() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/there/is/none"]);
    bundle.write();
    let made = shim.client().call::<pod::CreateResponse>(POD, "Create", &of(&bundle));
    let start = pod::StartRequest { id: bundle.id().to_owned() };
    let refused = match made {
        Err(refused) => refused,
        Ok(_) => {
            let refused =
                shim.client().call::<pod::StartResponse>(POD, "Start", &start).expect_err("there is none");
            shim.wait(bundle.id());
            shim.remove(bundle.id());
            refused
        }
    };
    assert!(refused.message.contains("/there/is/none"), "{refused:?}");
    assert!(refused.message.contains("no such file or directory"), "{refused:?}");
    assert_eq!(shim.watch(0, 0).containers, []);
}

#[test]
fn who_shares_a_pid_namespace_takes_its_own_processes_along_and_no_others() {
    let case = case!();
    let shim = case.shim();
    let mut first = case.bundle();
    first.args(["/probe", "sleep"]);
    shim.create(&first);
    let pid = shim.start(first.id()).pid;
    let mut second = case.bundle();
    second.with_busybox().args(["/bin/sh", "-c", "sleep 1000 & echo ready; exec sleep 1000"]);
    second.namespace("pid", Some(&format!("/proc/{pid}/ns/pid")));
    let log = shim.create(&second);
    shim.start(second.id());
    until("it is ready", || std::fs::read_to_string(&log).ok().filter(|text| text.contains("ready")));
    let cgroup =
        shim.watch(0, 0).containers.into_iter().find(|one| one.id == second.id()).expect("it").cgroup;
    assert_eq!(shim.stop(second.id(), 0).exit_code, 137);
    let procs = case.cgroup_dir(&cgroup).join("cgroup.procs");
    until("its other process ends", || {
        std::fs::read_to_string(&procs).is_ok_and(|procs| procs.is_empty()).then_some(())
    });
    shim.remove(second.id());
    assert_eq!(shim.watch(0, 0).containers[0].status, pod::Status::Running as i32);
    shim.stop(first.id(), 0);
    shim.remove(first.id());
}

#[test]
fn an_end_outlives_the_shim_until_it_is_removed() {
    let case = case!();
    let mut shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "exit 7"]);
    shim.create(&bundle);
    shim.start(bundle.id());
    shim.wait(bundle.id());
    shim.kill();
    let record = case.dir().join("shim/dir/exits").join(format!("{}.json", bundle.id()));
    let record = std::fs::read_to_string(&record).unwrap_or_else(|e| panic!("{}: {e}", record.display()));
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(record["exitCode"], 7);
    assert!(record["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000_000_000), "{record}");
    case.call(["delete", "--force"]).arg(bundle.id()).run().ok();
}

#[test]
fn a_kill_for_memory_is_told_with_its_cgroup() {
    let case = case!();
    let controllers =
        std::fs::read_to_string(case.cgroup_dir("/").join("cgroup.controllers")).expect("controllers");
    if !controllers.split_whitespace().any(|controller| controller == "memory") {
        skip!("cgroup2 has no {} controller here", "memory");
    }
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "x=a; while :; do x=$x$x; done"]);
    bundle.config["linux"]["resources"]["memory"]["limit"] = (32 << 20).into();
    shim.create(&bundle);
    shim.start(bundle.id());
    let ended = shim.wait(bundle.id());
    assert!(ended.oom_killed && ended.oom_cgroup.contains(bundle.id()), "{ended:?}");
    shim.remove(bundle.id());
}

/// A cgroup of version 1's freezer: who is in it minds no signal, like one that hangs in the kernel.
struct Ice {
    mount: std::path::PathBuf,
    cgroup: std::path::PathBuf,
}

impl Ice {
    /// None if the kernel has no such thing.
    fn make(case: &Case) -> Option<Self> {
        use nix::mount::{MsFlags, mount};
        let place = case.dir().join("freezer");
        std::fs::create_dir_all(&place).expect("make a directory");
        mount(Some("cgroup"), &place, Some("cgroup"), MsFlags::empty(), Some("freezer")).ok()?;
        let cgroup = place.join(format!("rt-tests-{}", std::process::id()));
        std::fs::create_dir_all(&cgroup).expect("make a cgroup");
        Some(Self { mount: place, cgroup })
    }

    fn freeze(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
        self.write("freezer.state", "FROZEN");
        let state = || std::fs::read_to_string(self.cgroup.join("freezer.state")).ok();
        until("it is frozen", || state().filter(|state| state == "FROZEN\n"));
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.cgroup.join(file), text).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        let _ = std::fs::write(self.cgroup.join("freezer.state"), "THAWED");
        let _ = std::fs::remove_dir(&self.cgroup); // not while someone is in it, after a failure
        let _ = nix::mount::umount(&self.mount);
    }
}

#[test]
fn a_kill_that_does_not_take_is_told_with_what_it_waits_for() {
    let case = case!();
    let Some(ice) = Ice::make(&case) else { skip!("the kernel has no freezer of cgroup v1") };
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    shim.create(&bundle);
    ice.freeze(shim.start(bundle.id()).pid);
    let request = pod::StopRequest { id: bundle.id().to_owned(), signal: String::new(), grace_ms: 0 };
    let refused = shim.client().call::<pod::StopResponse>(POD, "Stop", &request).expect_err("it survives");
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.message.contains("probe (pid "), "{refused:?}");
    let stuck = &shim.watch(0, 0).containers[0].stuck;
    assert!(stuck.contains("state ") && refused.message.ends_with(stuck.as_str()), "{stuck} {refused:?}");
    // When it comes loose, the kill takes, and the report is taken back.
    ice.write("freezer.state", "THAWED");
    assert_eq!(shim.wait(bundle.id()).exit_code, 137);
    assert_eq!(shim.watch(0, 0).containers[0].stuck, "");
    shim.remove(bundle.id());
}

/// A number is good for as long as its process: what a manager has read of a container that has ended since leads to whoever has the
/// number now, the host's processes too.
#[test]
fn only_who_runs_in_the_pod_is_joined_by_number() {
    let case = case!();
    let shim = case.shim();
    let mut first = case.bundle();
    let first_pid = shim.start_sleeping(&mut first).pid;
    let mut stranger = std::process::Command::new("sleep").arg("100").spawn().expect("run sleep");
    let join = |name: &str, pid: u32| {
        let mut bundle = case.bundle();
        bundle.with_busybox().args(["/probe", "sleep"]);
        bundle.namespace("pid", Some(&format!("/proc/{pid}/ns/pid")));
        bundle.write();
        let log = case.dir().join(format!("{name}.log"));
        let stdio = pod::Stdio { log_path: log.to_string_lossy().into_owned(), ..Default::default() };
        let request = pod::CreateRequest { stdio: Some(stdio), ..of(&bundle) };
        let made = shim.client().call::<pod::CreateResponse>(POD, "Create", &request);
        (bundle, made)
    };
    let (_, refused) = join("joins-a-stranger", stranger.id());
    let refused = refused.expect_err("a process of the host");
    assert!(refused.message.contains("no container of this pod runs with it"), "{refused:?}");
    let (second, made) = join("joins", first_pid);
    made.unwrap_or_else(|refused| panic!("{refused:?}"));
    shim.stop(second.id(), 10);
    shim.remove(second.id());
    shim.stop(first.id(), 10);
    let (_, refused) = join("joins-the-dead", first_pid);
    assert!(refused.expect_err("it has ended").message.contains("no container of this pod"));
    stranger.kill().expect("end it");
    stranger.wait().expect("wait for it");
}

#[test]
fn who_is_joined_by_number_keeps_it_and_its_end_is_told() {
    let case = case!();
    let shim = case.shim();
    let mut first = case.bundle();
    let pid = shim.start_sleeping(&mut first).pid;
    let mut second = case.bundle();
    second.with_busybox().args(["/probe", "sleep"]);
    second.namespace("ipc", Some(&format!("/proc/{pid}/ns/ipc")));
    let hook = second.hook_that_waits(case.dir());
    second.write();
    let log = case.dir().join("second.log");
    let stdio = pod::Stdio { log_path: log.to_string_lossy().into_owned(), ..Default::default() };
    let mut creator = shim.client();
    creator.send(POD, "Create", &pod::CreateRequest { stdio: Some(stdio), ..of(&second) });
    hook.runs();
    assert_eq!(shim.stop(first.id(), 0).exit_code, 137);
    let stat = Path::new("/proc").join(pid.to_string()).join("stat");
    let state = std::fs::read_to_string(&stat).expect("its number is another's, or free");
    assert!(state.contains(") Z "), "{state}");
    hook.let_go();
    creator.answer().1.unwrap_or_else(|refused| panic!("{refused:?}"));
    until("it is reaped", || (!stat.exists()).then_some(()));
    shim.stop(second.id(), 10);
}
