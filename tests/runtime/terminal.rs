//! Terminals: interactive `run`, `--console-socket`, and the same for `exec`.
//!
//! What is typed and shown is looked at as bytes.

use std::path::Path;
use tests::terminal::{ConsoleSocket, pair};
use tests::*;

/// A bundle whose process has a terminal and a shell.
fn bundle(case: &Case) -> Bundle {
    let mut bundle = case.bundle();
    bundle.with_busybox().config["process"]["terminal"] = json!(true);
    bundle
}

#[test]
fn run_gives_the_process_a_terminal() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/probe", "report", "/seen"]);
    bundle.write();
    let (_ours, theirs) = pair(33, 101);
    case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).run().ok();
    let text = std::fs::read_to_string(bundle.host_path("/seen")).expect("the report");
    let report = Report::parse(&text);
    for end in 0..3 {
        assert!(report["terminal"][end].is_array(), "descriptor {end}: {}", report["terminal"]);
        assert_eq!(report["stdio"][end], "/dev/pts/0");
    }
    assert_eq!(report["controlling_terminal"], true);
    assert_eq!(report.device("/dev/console")["kind"], "char");
    assert_eq!(report.mount("/dev/console").kind(), "devpts");
    assert_eq!(report.fds(), [0, 1, 2]);
    assert_eq!(report["sid"], report["pid"]);
}

#[test]
fn a_terminal_is_the_console_where_the_mount_namespace_is_others_too() {
    unless!("runc", "it leaves its mounts on the host");
    unless!("crun", "it leaves its mounts on the host");
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.without_namespace("mount").args(["/probe", "report", "/seen"]);
    bundle.write();
    let (_ours, theirs) = pair(24, 80);
    case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).run().ok();
    let report = Report::parse(&std::fs::read_to_string(bundle.host_path("/seen")).expect("the report"));
    assert_eq!(report.device("/dev/console")["kind"], "char");
    assert_eq!(report.device("/dev/console")["device"][0], 136);
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("a mount table");
    assert!(!table.contains(&bundle.dir().display().to_string()), "{table}");
}

#[test]
fn run_passes_the_terminals_size_on() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/bin/stty", "size"]);
    bundle.write();
    let (mut ours, theirs) = pair(33, 101);
    let run = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).spawn();
    ours.read_until("33 101");
    run.wait().ok();
}

#[test]
fn what_is_typed_arrives_and_what_is_said_is_shown() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/bin/sh", "-c", "echo ready; read line; echo got $line; exit 3"]);
    bundle.write();
    let (mut ours, theirs) = pair(24, 80);
    let run = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).spawn();
    ours.read_until("ready");
    ours.write("hello\r");
    ours.read_until("got hello");
    run.wait().exits(3);
}

#[test]
fn interrupt_from_the_keyboard_reaches_the_process() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args([
        "/bin/sh",
        "-c",
        "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done",
    ]);
    bundle.write();
    let (mut ours, theirs) = pair(24, 80);
    let run = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).spawn();
    ours.read_until("ready");
    ours.write("\u{3}");
    ours.read_until("interrupted");
    run.wait().exits(5);
}

#[test]
fn terminal_is_as_before_after_run() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/bin/true"]);
    bundle.write();
    let (_ours, theirs) = pair(24, 80);
    let before = rustix::termios::tcgetattr(&theirs).expect("attributes");
    let copy = theirs.try_clone().expect("copy");
    case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(copy).run().ok();
    let after = rustix::termios::tcgetattr(&theirs).expect("attributes");
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[test]
fn terminal_of_a_user_in_a_user_namespace() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.user_namespace(100_000, 65_536);
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.args(["/bin/sh", "-c", "echo to the tty >/dev/tty; test -w /dev/console && echo writable"]);
    bundle.write();
    let (mut ours, theirs) = pair(24, 80);
    let run = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).spawn();
    ours.read_until("writable");
    run.wait().ok();
}

#[test]
fn console_socket_gets_the_terminal() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.config["process"]["consoleSize"] = json!({ "height": 40, "width": 120 });
    bundle.args(["/bin/sh", "-c", "echo ready; read x; stty size; echo got $x; sleep 100"]);
    bundle.write();
    let socket = ConsoleSocket::bind(&case.dir().join("s"));
    let path = case.dir().join("s");
    let call = case
        .call(["create", "--console-socket"])
        .arg(path)
        .arg("--bundle")
        .arg(bundle.dir())
        .arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    let mut terminal = socket.receive();
    container.call("start").run().ok();
    terminal.read_until("ready");
    terminal.write("word\n");
    let said = terminal.read_until("got word");
    if !Runtime::under_test().is("crun 1.8") {
        assert!(said.contains("40 120"), "{said:?}");
    }
}

#[test]
fn detached_terminal_without_a_socket_is_refused() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/bin/true"]);
    bundle.write();
    case.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run().exits(1).fails(&["console"]);
}

#[test]
fn console_socket_without_a_terminal_is_refused() {
    unless!("crun", "it ignores the socket");
    let case = case!();
    let bundle = case.bundle();
    bundle.write();
    let _socket = ConsoleSocket::bind(&case.dir().join("s"));
    let path = case.dir().join("s");
    let call = case
        .call(["create", "--console-socket"])
        .arg(path)
        .arg("--bundle")
        .arg(bundle.dir())
        .arg(bundle.id());
    call.run().exits(1).fails(&["console"]);
}

#[test]
fn exec_has_a_terminal_where_asked() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox();
    let container = case.start_sleeping(&mut bundle);
    let (mut ours, theirs) = pair(30, 90);
    let call = container.call_with(
        "exec",
        &["--tty"],
        &["/bin/sh", "-c", "tty_size=$(stty size); echo size $tty_size; exit 4"],
    );
    let exec = call.terminal(theirs).spawn();
    ours.read_until("size 30 90");
    exec.wait().exits(4);
}

#[test]
fn detached_exec_sends_its_terminal() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox();
    let container = case.start_sleeping(&mut bundle);
    let socket = ConsoleSocket::bind(&case.dir().join("s"));
    let path = case.dir().join("s");
    let file = case.dir().join("pid");
    let options = [
        "--tty",
        "--detach",
        "--console-socket",
        &path.to_string_lossy(),
        "--pid-file",
        &file.to_string_lossy(),
    ];
    container.call_with("exec", &options, &["/bin/sh", "-c", "read x; echo got $x; sleep 100"]).run().ok();
    container.adopt(std::fs::read_to_string(&file).expect("the pid file").parse().expect("a number"));
    let mut terminal = socket.receive();
    terminal.write("word\n");
    terminal.read_until("got word");
}

#[test]
fn terminal_of_another_program_is_not_held_open() {
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/bin/true"]);
    bundle.write();
    let socket = ConsoleSocket::bind(&case.dir().join("s"));
    let path = case.dir().join("s");
    let call = case
        .call(["create", "--console-socket"])
        .arg(path)
        .arg("--bundle")
        .arg(bundle.dir())
        .arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    let mut terminal = socket.receive();
    container.call("start").run().ok();
    // With the process gone nobody has the other end: reading ends instead of waiting for ever.
    assert!(!terminal.read_until("never said").contains("never said"));
    assert!(Path::new("/dev/ptmx").exists());
}

#[test]
fn signals_are_heard_while_nobody_reads_what_is_typed() {
    unless!("crun", "it waits until it is read");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox();
    let container = case.start_sleeping(&mut bundle);
    let (mut ours, theirs) = pair(24, 80);
    let script = "stty raw -echo; echo ready; sleep 30";
    let exec = container.call_with("exec", &["--tty"], &["/bin/sh", "-c", script]).terminal(theirs).spawn();
    ours.read_until("ready");
    std::thread::spawn(move || std::io::Write::write_all(&mut ours.into_file(), &[b'x'; 200_000]));
    // Until all on the way is full.
    std::thread::sleep(std::time::Duration::from_millis(500));
    exec.end(nix::sys::signal::Signal::SIGTERM).exits(128 + 15);
}

// Pipe and terminal are full when the container ends.
#[test]
fn last_words_are_not_offered_for_ever_to_who_does_not_read() {
    only_rt!("others wait");
    let case = case!();
    let mut bundle = bundle(&case);
    bundle.args(["/probe", "fill"]);
    bundle.write();
    let ended = case.dir().join("ended");
    // Whoever holds the other end tells whether it had ended before he let go.
    let script = format!(
        "( '{}' --root '{}' run --bundle '{}' {}; echo $? >'{ended}' ) |
         ( i=0; while test ! -s '{ended}' && test $i -lt 25; do sleep 1; i=$((i + 1)); done; cat '{ended}' >&2 )",
        Runtime::under_test().path().display(),
        case.state_root().display(),
        bundle.dir().display(),
        bundle.id(),
        ended = ended.display(),
    );
    let said = case.program(Path::new("/bin/sh")).args(["-c", &script]).run();
    assert_eq!(said.stderr, "0\n", "{said}");
}
