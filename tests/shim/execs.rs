//! Execs as containerd asks for them: added, and started later. Their `rt` is there before the start, and waits for it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::shim::api::task;
use tests::shim::{Client, Shim, TASK, runtimes};
use tests::*;

/// More than a pipe or a socket holds, and as much as one string of an environment may.
const LONG: usize = 100 << 10;
/// Ends with how often it has run.
const COUNTS: &str = "echo x >>/ran; exit $(wc -l </ran)";

/// A container that runs, and a client.
fn sleeping(case: &Case, shim: &Shim<'_>) -> (Bundle, Client) {
    let mut bundle = case.bundle();
    bundle.with_busybox();
    shim.start_sleeping(&mut bundle);
    (bundle, shim.client())
}

fn process(script: &str, more: usize) -> Value {
    json!({
        "args": ["/bin/sh", "-c", script], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "env": ["PATH=/bin", format!("MORE={}", "x".repeat(more))],
    })
}

/// Adds a shell script whose environment has that many bytes more.
fn add(client: &mut Client, id: &str, exec: &str, (script, more): (&str, usize)) {
    let process = process(script, more);
    let spec = prost_types::Any {
        type_url: "types.containerd.io/x".into(),
        value: process.to_string().into_bytes(),
    };
    let request = task::ExecProcessRequest {
        id: id.into(),
        exec_id: exec.into(),
        spec: Some(spec),
        ..Default::default()
    };
    let _: task::ExecProcessResponse = client.ask(TASK, "Exec", &request);
}

/// Starts it; gives its exit code when it has ended and is gone.
fn run(client: &mut Client, id: &str, exec: &str) -> u32 {
    let (id, exec_id) = (id.to_owned(), exec.to_owned());
    let start = task::StartRequest { id: id.clone(), exec_id: exec_id.clone() };
    let _: task::StartResponse = client.ask(TASK, "Start", &start);
    let wait = task::WaitRequest { id: id.clone(), exec_id: exec_id.clone() };
    let ended: task::WaitResponse = client.ask(TASK, "Wait", &wait);
    let _: task::DeleteResponse = client.ask(TASK, "Delete", &task::DeleteRequest { id, exec_id });
    ended.exit_status
}

fn one_waits(shim: &Shim<'_>) -> i32 {
    until("an rt waits", || runtimes(shim.pid()).first().copied())
}

#[test]
fn its_rt_waits_for_the_start() {
    let case = case!();
    let shim = case.shim();
    let (bundle, mut client) = sleeping(&case, &shim);
    let before = shim.files();
    add(&mut client, bundle.id(), "e", ("exit 7", 0));
    let waits = one_waits(&shim);
    let container = &shim.watch(0, 0).containers[0];
    let processes = case.cgroup_dir(&container.cgroup).join("cgroup.procs");
    let processes = std::fs::read_to_string(processes).expect("the container's processes");
    assert_eq!(processes, format!("{}\n", container.pid), "it is in no container yet");
    assert_eq!(run(&mut client, bundle.id(), "e"), 7);
    assert!(!runtimes(shim.pid()).contains(&waits));
    assert_eq!(shim.files(), before);
    // At once, and so often that each comes while the one before goes.
    for code in 0..50 {
        let exec = format!("e{code}");
        add(&mut client, bundle.id(), &exec, (&format!("exit {code}"), 0));
        assert_eq!(run(&mut client, bundle.id(), &exec), code);
    }
    assert_eq!(shim.files(), before);
}

#[test]
fn one_with_a_terminal_waits_too() {
    let case = case!();
    let shim = case.shim();
    let (bundle, mut client) = sleeping(&case, &shim);
    let before = shim.files();
    let stdout = case.dir().join("stdout");
    nix::unistd::mkfifo(&stdout, nix::sys::stat::Mode::S_IRWXU).expect("make a pipe");
    let mut reader = std::fs::File::options();
    let mut reader =
        reader.read(true).custom_flags(nix::libc::O_NONBLOCK).open(&stdout).expect("open its reading end");
    let process = process("test -t 1 && echo hello && exit 9", 0).to_string().into_bytes();
    let request = task::ExecProcessRequest {
        id: bundle.id().into(),
        exec_id: "e".into(),
        terminal: true,
        stdout: stdout.to_string_lossy().into_owned(),
        spec: Some(prost_types::Any { type_url: "types.containerd.io/x".into(), value: process }),
        ..Default::default()
    };
    let _: task::ExecProcessResponse = client.ask(TASK, "Exec", &request);
    let waits = one_waits(&shim);
    assert_eq!(run(&mut client, bundle.id(), "e"), 9);
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("what it said, and the end");
    assert_eq!(said, "hello\r\n");
    assert!(!runtimes(shim.pid()).contains(&waits));
    assert_eq!(shim.files(), before);
}

#[test]
fn one_that_is_never_started_leaves_nothing() {
    let case = case!();
    let mut shim = case.shim();
    let (bundle, mut client) = sleeping(&case, &shim);
    let before = shim.files();
    add(&mut client, bundle.id(), "deleted", ("exit 1", 0));
    let waits = one_waits(&shim);
    let delete = task::DeleteRequest { id: bundle.id().into(), exec_id: "deleted".into() };
    let _: task::DeleteResponse = client.ask(TASK, "Delete", &delete);
    until("its rt is gone", || (!runtimes(shim.pid()).contains(&waits)).then_some(()));
    until("its files are", || (shim.files() == before).then_some(()));

    add(&mut client, bundle.id(), "kept", ("exit 1", 0));
    one_waits(&shim);
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
    until("its rt is gone with the container", || runtimes(shim.pid()).is_empty().then_some(()));
    let _: () = client.ask(TASK, "Shutdown", &task::ShutdownRequest { id: String::new(), now: true });
    assert!(shim.ended().success());
}

#[test]
fn whatever_becomes_of_the_one_that_waits_the_start_does_it() {
    let case = case!();
    let shim = case.shim();
    let (bundle, mut client) = sleeping(&case, &shim);
    add(&mut client, bundle.id(), "killed", ("exit 3", 0));
    let waits = one_waits(&shim);
    kill(Pid::from_raw(waits), Signal::SIGKILL).expect("kill the rt that waits");
    let entry = std::path::PathBuf::from(format!("/proc/{waits}"));
    until("its end is seen", || (!entry.exists()).then_some(()));
    assert_eq!(run(&mut client, bundle.id(), "killed"), 3);

    add(&mut client, bundle.id(), "long", ("exit ${#MORE}", LONG - LONG % 256 + 4));
    one_waits(&shim);
    assert_eq!(run(&mut client, bundle.id(), "long"), 4);

    // Each runs when it is started, and once.
    for number in 1..5 {
        let exec = format!("once-{number}");
        add(&mut client, bundle.id(), &exec, (COUNTS, 0));
        assert_eq!(run(&mut client, bundle.id(), &exec), number);
    }

    let crowd: Vec<_> = (0..20).map(|number| format!("c{number}")).collect();
    for exec in &crowd {
        add(&mut client, bundle.id(), exec, ("exit 5", 0));
    }
    until("some wait", || (runtimes(shim.pid()).len() >= 8).then_some(()));
    assert_eq!(runtimes(shim.pid()).len(), 8, "no more than that");
    for exec in &crowd {
        assert_eq!(run(&mut client, bundle.id(), exec), 5);
    }
}

#[test]
fn a_container_that_is_paused_or_has_ended_is_seen_by_the_start() {
    let case = case!();
    let shim = case.shim();
    let (bundle, mut client) = sleeping(&case, &shim);
    let start = |exec: &str| task::StartRequest { id: bundle.id().into(), exec_id: exec.into() };
    add(&mut client, bundle.id(), "e", ("exit 2", 0));
    one_waits(&shim);
    let _: () = client.ask(TASK, "Pause", &task::PauseRequest { id: bundle.id().into() });
    let refused = client.call::<task::StartResponse>(TASK, "Start", &start("e")).expect_err("it is paused");
    assert!(refused.message.contains("cannot exec in a paused container"), "{refused:?}");
    let _: () = client.ask(TASK, "Resume", &task::ResumeRequest { id: bundle.id().into() });
    assert_eq!(run(&mut client, bundle.id(), "e"), 2);
    add(&mut client, bundle.id(), "late", ("exit 2", 0));
    one_waits(&shim);
    shim.stop(bundle.id(), 0);
    let refused = client.call::<task::StartResponse>(TASK, "Start", &start("late")).expect_err("it is over");
    assert!(refused.message.contains("cannot exec in a stopped container"), "{refused:?}");
    shim.remove(bundle.id());
}
