//! Streams: logs in the CRI format, clients that attach, execs whose output someone else holds.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tests::shim::api::pod;
use tests::shim::{POD, shell};
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
    let disk = Small::new(&case, 64 << 10);
    fs::write(disk.0.join("other"), vec![0; 128 << 10]).expect_err("it is full");
    let log_path = disk.0.join("log").to_string_lossy().into_owned();
    shim.create_with(&bundle, pod::Stdio { log_path, ..Default::default() });
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
    shim.start_sleeping(&mut bundle);
    let begin = Instant::now();
    let (exec, started) = shim.exec(&bundle, "e", "sleep 1000 & echo said; exit 5");
    let mut stdout = shim.client().into_stream(&started.token, "stdout");
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(5));
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
    shim.start_sleeping(&mut bundle);
    let (exec, started) = shim.exec(&bundle, "e", "head -c 3000000 /dev/zero");
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
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(0));
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn an_exec_that_takes_too_long_is_killed_with_what_it_started_and_says_so() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    let own = shim.start_sleeping(&mut bundle).pid;
    let cgroup = &shim.watch(0, 0).containers[0].cgroup;
    let processes = case.cgroup_dir(cgroup).join("cgroup.procs");
    let processes = || fs::read_to_string(&processes).expect("the container's processes");
    // A child, one in a session of its own, and one whose parent is gone.
    let script = "sleep 1000 & setsid sleep 1000 & (sleep 1000 &) ; exec sleep 1000";
    let exec = pod::ExecRequest { timeout_ms: 500, ..shell(bundle.id(), "e", script) };
    let _: pod::ExecResponse = shim.client().ask(POD, "Exec", &exec);
    until("they all run", || (processes().lines().count() == 5).then_some(()));
    let ended = shim.end_of(&exec);
    assert_eq!((ended.timed_out, ended.ended.map(|ended| ended.exit_code)), (true, Some(137)));
    until("the container is alone", || (processes() == format!("{own}\n")).then_some(()));
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

/// A tmpfs with room for so many bytes, gone with this value.
struct Small(std::path::PathBuf);

impl Small {
    fn new(case: &Case, bytes: usize) -> Self {
        let place = case.dir().join("small");
        fs::create_dir(&place).expect("make a directory");
        let (kind, size) = (Some("tmpfs"), format!("size={bytes}"));
        nix::mount::mount(kind, &place, kind, nix::mount::MsFlags::empty(), Some(size.as_str()))
            .expect("mount a tmpfs");
        Self(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_has_a_mark_where_lines_are_missing() {
    let case = case!();
    let shim = case.shim();
    let disk = Small::new(&case, 1 << 20);
    let other = disk.0.join("other");
    fs::write(&other, vec![0; 900 << 10]).expect("fill most of the disk");
    let mut bundle = case.bundle();
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; touch /full; \
        while [ ! -e /room ]; do sleep 0.05; done; echo again; exit 6";
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    let log = disk.0.join("log");
    shim.create_with(
        &bundle,
        pod::Stdio { log_path: log.to_string_lossy().into_owned(), ..Default::default() },
    );
    shim.start(bundle.id());
    until("the container goes on", || bundle.host_path("/full").exists().then_some(()));
    fs::remove_file(&other).expect("make room");
    fs::write(bundle.host_path("/room"), "").expect("say so");
    assert_eq!(shim.wait(bundle.id()).exit_code, 6);
    let lines = lines(&log);
    // Whole lines, in order; those that are missing are so at a mark; the marks' numbers come to what the shim counts.
    let (mut next, mut at_mark, mut marked) = (0, false, 0);
    for line in &lines[..lines.len() - 1] {
        if let Some(mark) = line.strip_prefix("stderr F [") {
            marked += mark.split(' ').next().and_then(|bytes| bytes.parse::<u64>().ok()).expect(mark);
            at_mark = true;
            continue;
        }
        let number: u32 =
            line.strip_prefix("stdout F line ").and_then(|number| number.parse().ok()).expect(line);
        assert!(number == next || at_mark && number > next, "{number} instead of {next}");
        (next, at_mark) = (number + 1, false);
    }
    assert_eq!(lines.last().map(String::as_str), Some("stdout F again"));
    let lost = shim.watch(0, 0).containers[0].log_bytes_lost;
    assert!(lost > 0 && lost == marked, "{lost} bytes lost, {marked} marked");
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
    shim.create_with(&bundle, pod::Stdio { stdin: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    for word in ["one", "two"] {
        let request = pod::AttachRequest {
            id: bundle.id().to_owned(),
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
        // Stdin first, and typed once: what is typed waits for the output's connection.
        let mut stdin = shim.client().into_stream(&attached.token, "stdin");
        stdin.write_all(format!("{word}\n").as_bytes()).expect("type");
        let mut stdout = shim.client().into_stream(&attached.token, "stdout");
        let mut seen = vec![0; format!("got {word}\n").len()];
        stdout.read_exact(&mut seen).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&seen), format!("got {word}\n"));
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
fn clients_that_leave_while_a_container_prints_take_nobody_along() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "while :; do echo; done"]);
    let log = shim.create(&bundle);
    shim.start(bundle.id());
    let attach = || {
        let request = pod::AttachRequest { id: bundle.id().to_owned(), stdout: true, ..Default::default() };
        let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
        shim.client().into_stream(&attached.token, "stdout")
    };
    let mut stays = attach();
    for _ in 0..200 {
        let mut leaves = attach();
        leaves.read_exact(&mut [0; 8]).expect("output");
        drop(leaves);
        stays.read_exact(&mut [0; 8]).expect("output");
    }
    fs::write(&log, "").expect("empty the log");
    shim.stop(bundle.id(), 0);
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
    shim.create_with(&bundle, pod::Stdio { stdin: true, stdin_once: true, log_path, ..Default::default() });
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
    shim.create_with(&bundle, pod::Stdio { stdin: true, log_path, ..Default::default() });
    shim.start(bundle.id());
    let request =
        pod::AttachRequest { id: bundle.id().to_owned(), stdin: true, stdout: true, ..Default::default() };
    let attached: pod::AttachResponse = shim.client().ask(POD, "Attach", &request);
    let deaf = shim.client().into_stream(&attached.token, "stdout");
    let mut stdin = shim.client().into_stream(&attached.token, "stdin");
    stdin.write_all(b"go\n").expect("type");
    assert_eq!(shim.wait(bundle.id()).exit_code, 2);
    // The end is told after a second at most, though the log may still wait for the client.
    until("all is in the log", || (lines(&log).len() == 400_000).then_some(()));
    drop(deaf);
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
    shim.create_with(&bundle, pod::Stdio { terminal: true, size, log_path, ..Default::default() });
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
