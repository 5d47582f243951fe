//! Streams: logs in the CRI format, clients that attach, execs whose output someone else holds.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tests::shim::api::pod;
use tests::shim::{POD, Shim};
use tests::*;

/// The lines of a log without their times, which are checked.
fn lines(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).expect("the log");
    let line = |line: &str| {
        let (time, rest) = line.split_once(' ').expect("a time");
        assert_eq!((time.len(), &time[10..11], &time[29..]), (30, "T", "Z"), "{line}");
        rest.to_owned()
    };
    text.lines().map(line).collect()
}

fn create(shim: &Shim<'_>, bundle: &Bundle, stdio: pod::Stdio) {
    bundle.write();
    let request = pod::CreateRequest {
        id: bundle.id().to_owned(),
        bundle: bundle.dir().to_string_lossy().into_owned(),
        stdio: Some(stdio),
        cgroup: String::new(),
    };
    let _: pod::CreateResponse = shim.client().ask(POD, "Create", &request);
}

fn exec(
    shim: &Shim<'_>,
    bundle: &Bundle,
    exec_id: &str,
    script: &str,
) -> (pod::ExecRequest, pod::ExecResponse) {
    let exec = pod::ExecRequest {
        id: bundle.id().to_owned(),
        exec_id: exec_id.to_owned(),
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        stdout: true,
        ..Default::default()
    };
    let started = shim.client().ask(POD, "Exec", &exec);
    (exec, started)
}

fn end_of(shim: &Shim<'_>, exec: &pod::ExecRequest) -> pod::Ended {
    let request = pod::WaitRequest { id: exec.id.clone(), exec_id: exec.exec_id.clone() };
    let ended: pod::WaitResponse = shim.client().ask(POD, "Wait", &request);
    ended.ended.expect("how it ended")
}

#[test]
fn long_and_unfinished_lines_are_parts() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    // 16384 a's and a b; a line that fits exactly; one that never ends.
    let script = "a=$(head -c 16384 /dev/zero | tr '\\0' a); echo ${a}b; echo $a; printf end";
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    let log = shim.create(&bundle);
    shim.start(bundle.id());
    assert_eq!(shim.wait(bundle.id()).exit_code, 0);
    let full = "a".repeat(16384);
    let wanted =
        [format!("stdout P {full}"), "stdout F b".into(), format!("stdout F {full}"), "stdout P end".into()];
    assert_eq!(lines(&log), wanted);
    shim.remove(bundle.id());
}

#[test]
fn a_rotated_log_is_made_anew_and_no_line_is_lost() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; echo done; exec sleep 1000";
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    let log = shim.create(&bundle);
    shim.start(bundle.id());
    let mut rotated = Vec::new();
    for turn in 0..5 {
        until("there is something to rotate", || {
            fs::metadata(&log).is_ok_and(|file| file.len() > 0).then_some(())
        });
        let old = log.with_added_extension(turn.to_string());
        fs::rename(&log, &old).expect("rotate");
        rotated.push(old);
        let request = pod::ReopenLogRequest { id: bundle.id().to_owned() };
        let _: pod::Empty = shim.client().ask(POD, "ReopenLog", &request);
        assert!(log.exists());
        if turn == 4 || lines(rotated.last().expect("one")).iter().any(|line| line == "stdout F done") {
            break;
        }
    }
    let all = || -> Vec<String> { rotated.iter().chain([&log]).flat_map(|log| lines(log)).collect() };
    let all =
        until("all is printed", || Some(all()).filter(|all| all.iter().any(|line| line == "stdout F done")));
    let wanted: Vec<String> =
        (0..2000).map(|i| format!("stdout F {i}")).chain(["stdout F done".into()]).collect();
    assert_eq!(all, wanted);
    shim.stop(bundle.id(), 0);
    let refused = shim
        .client()
        .call::<pod::Empty>(POD, "ReopenLog", &pod::ReopenLogRequest { id: bundle.id().to_owned() })
        .expect_err("it has ended");
    assert_eq!(refused.code, 9, "{refused:?}");
    shim.remove(bundle.id());
}

#[test]
fn a_full_disk_stops_no_container_and_is_told() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' '\\n'; exit 6"]);
    create(&shim, &bundle, pod::Stdio { log_path: "/dev/full".into(), ..Default::default() });
    shim.start(bundle.id());
    assert_eq!(shim.wait(bundle.id()).exit_code, 6);
    let lost = shim.watch(0, 0).containers[0].log_bytes_lost;
    assert!(lost >= 1_000_000, "{lost}");
    shim.remove(bundle.id());
}

#[test]
fn a_background_child_that_holds_stdout_does_not_hold_the_exec() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]);
    shim.create(&bundle);
    shim.start(bundle.id());
    let begin = Instant::now();
    let (exec, started) = exec(&shim, &bundle, "e", "sleep 1000 & echo said; exit 5");
    let mut stdout = shim.client().into_stream(&started.token, "stdout");
    assert_eq!(end_of(&shim, &exec).exit_code, 5);
    let mut text = String::new();
    stdout.read_to_string(&mut text).expect("its output");
    assert_eq!(text, "said\n");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn a_slow_reader_gets_all_of_an_execs_output() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]);
    shim.create(&bundle);
    shim.start(bundle.id());
    let (exec, started) = exec(&shim, &bundle, "e", "head -c 3000000 /dev/zero");
    let mut stdout = shim.client().into_stream(&started.token, "stdout");
    // Someone who does not read holds up the exec, and nobody else.
    assert_eq!(shim.watch(0, 0).containers.len(), 1);
    let mut length = 0;
    let mut chunk = vec![0; 100_000];
    loop {
        let read = stdout.read(&mut chunk).expect("its output");
        if read == 0 {
            break;
        }
        length += read;
    }
    assert_eq!(length, 3_000_000);
    assert_eq!(end_of(&shim, &exec).exit_code, 0);
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn an_exec_that_takes_too_long_is_killed_and_says_so() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]);
    shim.create(&bundle);
    shim.start(bundle.id());
    let exec = pod::ExecRequest {
        id: bundle.id().to_owned(),
        exec_id: "e".into(),
        args: ["/bin/sleep", "1000"].map(str::to_owned).to_vec(),
        timeout_ms: 100,
        ..Default::default()
    };
    let _: pod::ExecResponse = shim.client().ask(POD, "Exec", &exec);
    let request = pod::WaitRequest { id: exec.id, exec_id: exec.exec_id };
    let ended: pod::WaitResponse = shim.client().ask(POD, "Wait", &request);
    assert_eq!((ended.timed_out, ended.ended.map(|ended| ended.exit_code)), (true, Some(137)));
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn clients_attach_type_see_and_go() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "while read line; do echo got $line; done; echo over"]);
    let log = case.dir().join("attached.log");
    let log_path = log.to_string_lossy().into_owned();
    create(&shim, &bundle, pod::Stdio { stdin: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    for word in ["one", "two"] {
        let request = pod::AttachRequest {
            id: bundle.id().to_owned(),
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
        let mut stdout = shim.client().into_stream(&attached.token, "stdout");
        let mut stdin = shim.client().into_stream(&attached.token, "stdin");
        // The output's connection may be taken up after the first word: ask until it shows.
        let mut seen = String::new();
        stdout.set_read_timeout(Some(Duration::from_millis(100))).expect("set a deadline");
        until("it answers", || {
            stdin.write_all(format!("{word}\n").as_bytes()).expect("type");
            let mut chunk = [0; 1000];
            if let Ok(read) = stdout.read(&mut chunk) {
                seen.push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
            seen.contains(&format!("got {word}\n")).then_some(())
        });
    }
    assert_eq!(shim.watch(0, 0).containers[0].status, pod::Status::Running as i32, "stdin stays open");
    shim.stop(bundle.id(), 0);
    let logged = lines(&log);
    assert!(
        logged.contains(&"stdout F got one".to_owned()) && logged.contains(&"stdout F got two".to_owned())
    );
    shim.remove(bundle.id());
}

#[test]
fn stdin_once_ends_with_its_first_client() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "cat; echo over; exit 3"]);
    let log = case.dir().join("once.log");
    let log_path = log.to_string_lossy().into_owned();
    create(&shim, &bundle, pod::Stdio { stdin: true, stdin_once: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    let request = pod::AttachRequest { id: bundle.id().to_owned(), stdin: true, ..Default::default() };
    let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
    let mut stdin = shim.client().into_stream(&attached.token, "stdin");
    stdin.write_all(b"typed\n").expect("type");
    drop(stdin);
    assert_eq!(shim.wait(bundle.id()).exit_code, 3);
    assert_eq!(lines(&log), ["stdout F typed", "stdout F over"]);
    shim.remove(bundle.id());
}

#[test]
fn a_client_that_never_reads_holds_up_nothing_for_long() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args([
        "/bin/sh",
        "-c",
        "read x; head -c 400000 /dev/zero | tr '\\0' '\\n'; exit 2",
    ]);
    let log = case.dir().join("slow.log");
    let log_path = log.to_string_lossy().into_owned();
    create(&shim, &bundle, pod::Stdio { stdin: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    let request =
        pod::AttachRequest { id: bundle.id().to_owned(), stdin: true, stdout: true, ..Default::default() };
    let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
    let deaf = shim.client().into_stream(&attached.token, "stdout");
    let mut stdin = shim.client().into_stream(&attached.token, "stdin");
    stdin.write_all(b"go\n").expect("type");
    assert_eq!(shim.wait(bundle.id()).exit_code, 2);
    drop(deaf);
    assert_eq!(lines(&log).len(), 400_000);
    shim.remove(bundle.id());
}

#[test]
fn a_terminal_has_a_size_and_its_lines_are_logged_without_carriage_returns() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args([
        "/bin/sh",
        "-c",
        "trap 'stty size; exit 4' WINCH; stty size; while :; do sleep 0.01; done",
    ]);
    bundle.config["process"]["terminal"] = true.into();
    let log = case.dir().join("tty.log");
    let log_path = log.to_string_lossy().into_owned();
    let size = Some(pod::Size { width: 99, height: 33 });
    create(&shim, &bundle, pod::Stdio { terminal: true, size, log_path, ..Default::default() });
    shim.start(bundle.id());
    until("it says its size", || fs::read_to_string(&log).ok().filter(|text| text.contains("33 99")));
    let request = pod::ResizeRequest {
        id: bundle.id().to_owned(),
        exec_id: String::new(),
        size: Some(pod::Size { width: 120, height: 40 }),
    };
    let _: pod::Empty = shim.client().ask(POD, "Resize", &request);
    assert_eq!(shim.wait(bundle.id()).exit_code, 4);
    assert_eq!(lines(&log), ["stdout F 33 99", "stdout F 40 120"]);
    shim.remove(bundle.id());
}
