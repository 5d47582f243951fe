//! Clients that are attached to a container's output and don't keep up, or are too many; and an exec whose client has gone.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tests::shim::api::{pod, task};
use tests::shim::{POD, TASK, runtimes, shell};
use tests::*;

/// Attached to a container's output; what it has to read.
fn attached(shim: &tests::shim::Shim<'_>, id: &str) -> std::os::unix::net::UnixStream {
    let request = pod::AttachRequest { id: id.to_owned(), stdout: true, ..Default::default() };
    let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
    shim.client().into_stream(&attached.token, "stdout")
}

/// A container that prints so many bytes when it is told to, and ends with 2.
fn printer(case: &Case, shim: &tests::shim::Shim<'_>, bytes: usize) -> Bundle {
    let mut bundle = case.bundle();
    let script = format!("read x; head -c {bytes} /dev/zero | tr '\\0' '\\n'; exit 2");
    bundle.with_busybox().args(["/bin/sh", "-c", &script]);
    let log_path = case.dir().join("printed.log").to_string_lossy().into_owned();
    shim.create_with(&bundle, pod::Stdio { stdin: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    bundle
}

/// Tells it.
fn tell(shim: &tests::shim::Shim<'_>, id: &str) {
    let request = pod::AttachRequest { id: id.to_owned(), stdin: true, ..Default::default() };
    let types: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
    shim.client().into_stream(&types.token, "stdin").write_all(b"go\n").expect("type");
}

#[test]
fn many_clients_that_never_read_cost_others_no_more_than_one() {
    const BYTES: usize = 10_000_000;
    let case = case!();
    let shim = case.shim();
    let bundle = printer(&case, &shim, BYTES);
    let deaf: Vec<_> = (0..50).map(|_| attached(&shim, bundle.id())).collect();
    let mut hears = attached(&shim, bundle.id());
    let begin = Instant::now();
    tell(&shim, bundle.id());
    let (mut seen, mut piece) = (0, vec![0; 100_000]);
    while seen < BYTES {
        let read = hears.read(&mut piece).expect("its output");
        assert!(read > 0, "the end after {seen} bytes");
        seen += read;
    }
    // All together are waited for as long as one; one after the other it would be 100 s.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(shim.wait(bundle.id()).exit_code, 2);
    drop(deaf);
    shim.remove(bundle.id());
}

#[test]
fn a_client_that_reads_slowly_but_steadily_gets_all() {
    const BYTES: usize = 4_000_000;
    let case = case!();
    let shim = case.shim();
    let bundle = printer(&case, &shim, BYTES);
    let deaf: Vec<_> = (0..3).map(|_| attached(&shim, bundle.id())).collect();
    let mut slow = attached(&shim, bundle.id());
    tell(&shim, bundle.id());
    let (mut seen, mut piece) = (0, vec![0; 40_000]);
    while seen < BYTES {
        let read = slow.read(&mut piece).expect("its output");
        assert!(read > 0, "let go after {seen} bytes");
        seen += read;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(shim.wait(bundle.id()).exit_code, 2);
    drop(deaf);
    shim.remove(bundle.id());
}

#[test]
fn a_client_that_comes_late_to_its_output_gets_all_that_was_kept_for_it() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    let script = "read x; i=0; while [ $i -lt 50000 ]; do echo $i; i=$((i+1)); done; touch /done; read x";
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    let log_path = case.dir().join("late.log").to_string_lossy().into_owned();
    shim.create_with(&bundle, pod::Stdio { stdin: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    let mut late = attached(&shim, bundle.id());
    let request = pod::AttachRequest { id: bundle.id().to_owned(), stdin: true, ..Default::default() };
    let types: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
    let mut stdin = shim.client().into_stream(&types.token, "stdin");
    stdin.write_all(b"go\n").expect("type");
    // More than the socket holds: the container is not held up by it.
    until("all is printed", || bundle.host_path("/done").exists().then_some(()));
    let wanted: String = (0..50_000).map(|i| format!("{i}\n")).collect();
    let mut seen = vec![0; wanted.len()];
    late.read_exact(&mut seen).expect("its output");
    assert!(seen == wanted.as_bytes());
    shim.stop(bundle.id(), 0);
    assert_eq!(late.read(&mut [0]).expect("the end"), 0);
    shim.remove(bundle.id());
}

#[test]
fn those_who_attach_are_counted() {
    const MOST: usize = 512;
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let request = pod::AttachRequest { id: bundle.id().to_owned(), stdout: true, ..Default::default() };
    let mut client = shim.client();
    let mut attach = || client.call::<pod::AttachResponse>(POD, "Attach", &request);
    let all: Vec<_> = (0..MOST)
        .map(|_| shim.client().into_stream(&attach().expect("there is room").token, "stdout"))
        .collect();
    let refused = attach().expect_err("there is none");
    assert!(refused.code == 8 && refused.message.contains("512 connections"), "{refused:?}");
    drop(all);
    until("there is room again", || attach().ok());
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

/// Who ran it has gone, as an ExecSync without a limit whose client leaves: it is removed with all that it started.
#[test]
fn an_exec_that_is_removed_by_force_takes_along_what_it_started() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    let own = shim.start_sleeping(&mut bundle).pid;
    let cgroup = &shim.watch(0, 0).containers[0].cgroup;
    let processes = case.cgroup_dir(cgroup).join("cgroup.procs");
    let processes = || fs::read_to_string(&processes).expect("the container's processes");
    let (exec, started) =
        shim.exec(&bundle, "e", "sleep 1000 & setsid sleep 1000 & (sleep 1000 &); sleep 1000; true");
    let mut stdout = shim.client().into_stream(&started.token, "stdout");
    until("they all run", || (processes().lines().count() == 6).then_some(()));
    let remove = pod::RemoveRequest { id: exec.id, exec_id: exec.exec_id, force: true };
    let _: pod::Empty = shim.client().ask(POD, "Remove", &remove);
    until("the container is alone", || (processes() == format!("{own}\n")).then_some(()));
    assert_eq!(stdout.read(&mut [0]).expect("the end"), 0);
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

/// A client that types what nobody reads, and goes: neither its places nor its descriptors are kept, while its processes go on.
#[test]
fn an_exec_whose_client_has_gone_gives_all_back_and_goes_on() {
    const MOST: usize = 1024;
    const LEFT: usize = 10;
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let cgroup = &shim.watch(0, 0).containers[0].cgroup;
    let processes = case.cgroup_dir(cgroup).join("cgroup.procs");
    let processes = || fs::read_to_string(&processes).expect("the container's processes").lines().count();
    let small = json!({ "args": ["/bin/true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    let spec =
        prost_types::Any { type_url: "types.containerd.io/x".into(), value: small.to_string().into_bytes() };
    let mut client = shim.client();
    for number in 1..MOST {
        let (id, exec_id) = (bundle.id().to_owned(), format!("e{number}"));
        let request =
            task::ExecProcessRequest { id, exec_id, spec: Some(spec.clone()), ..Default::default() };
        let _: task::ExecProcessResponse = client.ask(TASK, "Exec", &request);
    }
    until("those that were launched ahead are given up", || runtimes(shim.pid()).is_empty().then_some(()));
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", shim.pid())).expect("its descriptors").count();
    let before = descriptors();
    for (round, terminal) in (0..LEFT).zip([false, true].into_iter().cycle()) {
        // The one place that is left, by the same name.
        let script = shell(bundle.id(), "left", "trap '' HUP; echo on; sleep 1000");
        let exec = pod::ExecRequest { stdin: true, stdout: true, stderr: !terminal, terminal, ..script };
        let started: pod::ExecResponse = client.ask(POD, "Exec", &exec);
        let names = if terminal { &["stdout", "stdin"][..] } else { &["stdin", "stdout", "stderr"] };
        let streams: Vec<_> =
            names.iter().map(|name| shim.client().into_stream(&started.token, name)).collect();
        (&streams[usize::from(!terminal)]).read_exact(&mut [0; 2]).expect("its word");
        let mut types = &streams[usize::from(terminal)];
        types.set_nonblocking(true).expect("a socket");
        // More than the pipe and the socket hold.
        while types.write(&[b'x'; 60_000]).is_ok() {}
        drop(streams);
        let gone = pod::LetGoRequest { id: bundle.id().to_owned(), exec_id: "left".to_owned() };
        let _: pod::Empty = client.ask(POD, "LetGo", &gone);
        assert!(processes() >= 2 + round, "its processes go on");
    }
    until("no descriptor is kept", || (descriptors() <= before).then_some(()));
    assert!(processes() > LEFT, "they go on");
    let started = pod::LetGoRequest { id: bundle.id().to_owned(), exec_id: "e1".to_owned() };
    let refused = client.call::<pod::Empty>(POD, "LetGo", &started).expect_err("it has not been started");
    assert_eq!(refused.code, 9, "{refused:?}");
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}
