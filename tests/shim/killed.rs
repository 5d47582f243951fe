//! `rt` itself dies midway, at each step and at any moment: what was asked for ends in an error or is done, and the pod's truth is true. That nothing is left is seen when the case ends.
//!
//! Needs a build of rt with the feature `failpoints`, which the harness makes.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tests::shim::api::{RuncOptions, pod, task};
use tests::shim::{POD, Refused, Shim, TASK, of, runtimes, shell, task_with};
use tests::*;

const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;

#[test]
fn a_create_that_dies_leaves_nothing_and_is_told() {
    let case = case!();
    for step in ["reserve", "cgroup", "clone", "go", "rootfs", "pivot", "ready", "commit", "pid-file"] {
        let shim = case.shim_with(step, failpoints(), &[("RT_DIE_AT", step)]);
        let mut bundle = case.bundle();
        bundle.args(["/probe", "sleep"]).write();
        let refused = shim.client().call::<pod::CreateResponse>(POD, "Create", &of(&bundle));
        let refused = refused.expect_err(step);
        assert!(![0, UNKNOWN, DEADLINE_EXCEEDED].contains(&refused.code), "{step}: {refused:?}");
        assert!(refused.message.contains("rt create: "), "{step}: {refused:?}");
        assert_eq!(shim.watch(0, 0).containers, [], "{step}");
    }
}

/// A runtime that dies at a step, when there is one in a file.
fn mortal(case: &Case) -> (task::CreateTaskRequest, Bundle, std::path::PathBuf) {
    let (script, step) = (case.dir().join("mortal-rt"), case.dir().join("step"));
    let text = format!(
        "#!/bin/sh\n[ ! -e {step} ] || export RT_DIE_AT=$(cat {step})\nexec {rt} \"$@\"\n",
        step = step.display(),
        rt = failpoints().display()
    );
    write_program(&script, text);
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]).write();
    let options = RuncOptions { binary_name: script.to_string_lossy().into_owned(), ..Default::default() };
    (task_with(&bundle, &options), bundle, step)
}

#[test]
fn a_start_that_dies_is_told_and_can_be_removed() {
    let case = case!();
    let shim = case.shim();
    for at in ["release", "start", "start-hooks", "seccomp", "exec"] {
        let (create, bundle, step) = mortal(&case);
        // Who dies at `release` is the `rt start`; the others are steps of the process that `rt create` has made.
        if at != "release" {
            fs::write(&step, at).expect("name the step");
        }
        let id = || bundle.id().to_owned();
        let made = shim.client().call::<task::CreateTaskResponse>(TASK, "Create", &create);
        fs::write(&step, at).expect("name the step");
        let start = pod::StartRequest { id: id() };
        let started = made.and_then(|_| shim.client().call::<pod::StartResponse>(POD, "Start", &start));
        fs::remove_file(&step).expect("no step any more");
        match started {
            Err(refused) => {
                assert!(![0, UNKNOWN, DEADLINE_EXCEEDED].contains(&refused.code), "{at}: {refused:?}");
            }
            Ok(_) => assert!(shim.wait(bundle.id()).exit_code > 128, "{at}: it ended by a signal"),
        }
        let remove = pod::RemoveRequest { id: id(), force: true, ..Default::default() };
        let _: pod::Empty = shim.client().ask(POD, "Remove", &remove);
        assert_eq!(shim.watch(0, 0).containers, [], "{at}");
    }
}

#[test]
fn an_exec_that_dies_is_told_and_the_container_lives() {
    let case = case!();
    let shim = case.shim();
    let (create, bundle, step) = mortal(&case);
    let _: task::CreateTaskResponse = shim.client().ask(TASK, "Create", &create);
    shim.start(bundle.id());
    let steps = ["go", "join", "session", "limits", "user", "executable", "ready", "seccomp", "exec"];
    for at in steps {
        fs::write(&step, at).expect("name the step");
        let exec = shell(bundle.id(), at, "exit 3");
        let told = shim.client().call::<pod::ExecResponse>(POD, "Exec", &exec);
        fs::remove_file(&step).expect("no step any more");
        let code = match told {
            Err(refused) => {
                assert!(![0, UNKNOWN, DEADLINE_EXCEEDED].contains(&refused.code), "{at}: {refused:?}");
                assert!(refused.message.contains("rt exec: "), "{at}: {refused:?}");
                None
            }
            Ok(_) => shim.end_of(&exec).ended.map(|ended| ended.exit_code),
        };
        assert!(code.is_none_or(|code| code > 128), "{at}: {code:?}");
        let again = shell(bundle.id(), &format!("{at}-again"), "exit 5");
        let _: pod::ExecResponse = shim.client().ask(POD, "Exec", &again);
        assert_eq!(shim.end_of(&again).ended.map(|ended| ended.exit_code), Some(5), "{at}");
        assert_eq!(shim.watch(0, 0).containers[0].status, pod::Status::Running as i32, "{at}");
    }
    let cgroup = case.cgroup_dir(&shim.watch(0, 0).containers[0].cgroup);
    let own = format!("{}\n", shim.watch(0, 0).containers[0].pid);
    until("the container is alone", || {
        (fs::read_to_string(cgroup.join("cgroup.procs")).expect("its processes") == own).then_some(())
    });
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

/// Says so when it goes, also when the test fails: a thread that is waited for must end.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills two of three `rt`s of the shim's that it sees, until told to stop.
fn kill_all(shim: u32, stop: &AtomicBool, killed: &AtomicU32) {
    let (mut pause, mut seen, mut last) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        for pid in runtimes(shim) {
            if last != pid {
                last = pid;
                seen += 1;
                if seen % 3 == 0 {
                    continue;
                }
                // Another moment of its life each time.
                std::thread::sleep(Duration::from_micros(pause % 4000));
                pause += 170;
                let pid = nix::unistd::Pid::from_raw(pid);
                if nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok() {
                    killed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// As far as the killer lets it come.
fn live(shim: &Shim<'_>, bundle: &Bundle, number: u32) -> Result<(), Refused> {
    let id = || bundle.id().to_owned();
    let _: pod::CreateResponse = shim.client().call(POD, "Create", &of(bundle))?;
    let _: pod::StartResponse = shim.client().call(POD, "Start", &pod::StartRequest { id: id() })?;
    let exec = shell(bundle.id(), &format!("e{number}"), "exit 3");
    let _: pod::ExecResponse = shim.client().call(POD, "Exec", &exec)?;
    // What was `rt` a moment ago may be the program by now, and be killed as that.
    let code = shim.end_of(&exec).ended.map(|ended| ended.exit_code);
    assert!(matches!(code, Some(3 | 137)), "{code:?}");
    let _: pod::Empty = shim.client().call(
        POD,
        "Remove",
        &pod::RemoveRequest { id: id(), force: true, ..Default::default() },
    )?;
    Ok(())
}

#[test]
fn whenever_it_dies_the_pod_knows_what_there_is() {
    let case = case!();
    let shim = case.shim();
    let (stop, killed) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]).write();
    std::thread::scope(|threads| {
        threads.spawn(|| kill_all(shim.pid(), &stop, &killed));
        let _stop = AtEnd(&stop);
        for number in 0..40 {
            if let Err(refused) = live(&shim, &bundle, number) {
                assert!(![0, DEADLINE_EXCEEDED].contains(&refused.code), "{refused:?}");
            }
            // Whatever it is now, it can be removed, if not at the first attempt.
            let remove = pod::RemoveRequest { id: bundle.id().to_owned(), force: true, ..Default::default() };
            until("it is removed", || shim.client().call::<pod::Empty>(POD, "Remove", &remove).ok());
            assert_eq!(shim.watch(0, 0).containers, []);
        }
    });
    assert!(killed.load(Ordering::Relaxed) > 10, "{killed:?} were killed");
}
