//! `exec`: a further process in a container has all that the container has, and its own arguments.
//!
//! Terminals of exec are in `terminal`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use tests::*;

const KINDS: [&str; 7] = ["pid", "ipc", "uts", "mnt", "net", "cgroup", "user"];

fn namespaces(pid: i32) -> Vec<String> {
    let link = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process of ours");
    KINDS.iter().map(|kind| link(kind).display().to_string()).collect()
}

#[test]
fn exec_joins_everything_the_container_has() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&[]);
    let seen: Vec<&str> = KINDS.iter().map(|kind| report.namespace(kind)).collect();
    assert_eq!(seen, namespaces(container.pid()));
    assert_eq!(report["cgroup"].as_str().expect("a cgroup").lines().next_back(), Some("0::/"));
    assert_eq!(
        report["root"]["inode"],
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(bundle.host_path("/")).expect("the rootfs"))
    );
    assert_eq!(report.fds(), [0, 1, 2]);
    assert_eq!(report["hostname"], "box");
    assert_eq!(report["signals"], json!({ "ignored": [], "blocked": [] }));
}

#[test]
fn exec_joins_a_user_namespace() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&["--user", "5:6"]);
    let seen: Vec<&str> = KINDS.iter().map(|kind| report.namespace(kind)).collect();
    assert_eq!(seen, namespaces(container.pid()));
    assert_eq!(report["uid"], json!([5, 5, 5]));
    assert_eq!(report["gid"], json!([6, 6, 6]));
}

#[test]
fn a_user_of_exec_is_a_number_whatever_the_containers_passwd_calls_so() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/passwd", "1000:x:0:0::/:/\n01000:x:0:0::/:/\n").file("/etc/group", "7:x:0:1000\n");
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&["--user", "1000:7"]);
    assert_eq!((&report["uid"], &report["gid"]), (&json!([1000, 1000, 1000]), &json!([7, 7, 7])));
    assert_eq!(container.exec_report(&["--user", "1000"])["uid"], json!([1000, 1000, 1000]));
}

#[test]
fn exec_process_gives_its_exit_code() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    for code in [0, 1, 77, 255] {
        container.exec(&["/probe", "exit", &code.to_string()]).exits(code);
    }
    container.exec(&["/probe", "kill-self", "6"]).exits(134);
}

#[test]
fn exec_takes_process_settings_from_the_container() {
    unless!("crun", "exec starts in / there");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/work").config["process"]["cwd"] = json!("/work");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "FROM=config"]);
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&[]);
    assert_eq!(report["cwd"], "/work");
    assert_eq!(report.env("FROM").as_deref(), Some("config"));
    assert_eq!(report.capabilities("effective").len(), 14);
    assert_eq!(report["no_new_privs"], 1);
}

#[test]
fn exec_options_change_the_process() {
    unless!("crun", "it has no --additional-gids");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/other");
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&[
        "--user",
        "1000:1001",
        "--cwd",
        "/other",
        "--env",
        "NEW=1",
        "--env",
        "WHO=exec",
        "--additional-gids",
        "7",
    ]);
    assert_eq!(report["uid"], json!([1000, 1000, 1000]));
    assert_eq!(report["gid"], json!([1001, 1001, 1001]));
    assert_eq!(report["cwd"], "/other");
    assert_eq!(report.env("NEW").as_deref(), Some("1"));
    assert_eq!(report.env("WHO").as_deref(), Some("exec"));
    assert!(report["groups"].as_array().is_some_and(|g| g.contains(&json!(7))), "{}", report["groups"]);
}

#[test]
fn exec_cap_adds_without_making_it_inheritable() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let report = container.exec_report(&["--cap", "CAP_NET_ADMIN"]);
    assert!(report.capabilities("effective").contains(&"CAP_NET_ADMIN".to_owned()));
    assert!(report.capabilities("bounding").contains(&"CAP_NET_ADMIN".to_owned()));
    assert!(report.capabilities("inheritable").is_empty(), "CVE-2022-29162");
}

#[test]
fn exec_with_a_process_file() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let file = case.dir().join("process.json");
    let process = json!({
        "args": ["/probe", "report"], "cwd": "/etc", "env": ["X=file"], "user": { "uid": 12, "gid": 34, "umask": 63 },
        "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }], "noNewPrivileges": true, "oomScoreAdj": 600,
    });
    std::fs::write(&file, process.to_string()).expect("write");
    let output = case.call(["exec", "--process"]).arg(&file).arg(container.id()).run().ok();
    let report = Report::parse(&output.stdout);
    assert_eq!(report["cwd"], "/etc");
    assert_eq!(report["uid"], json!([12, 12, 12]));
    if !Runtime::under_test().is("runc") {
        assert_eq!(report["umask"], 63);
    }
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!([100, 200]));
    assert_eq!(report.capabilities("bounding"), ["CAP_KILL"]);
    assert_eq!(report.env("X").as_deref(), Some("file"));
    assert_eq!(report.env("WHO"), None, "a process file stands for itself");
    // The others take the container's.
    if Runtime::under_test().is("rt") {
        assert_eq!(report["oom_score_adj"], 600);
    }
}

#[test]
fn detached_exec_returns_and_writes_its_pid() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let file = case.dir().join("pid");
    let path = file.to_string_lossy();
    container.call_with("exec", &["--detach", "--pid-file", &path], &["/probe", "sleep"]).run().ok();
    let pid: i32 = std::fs::read_to_string(&file).expect("the pid file").parse().expect("a number alone");
    container.adopt(pid);
    assert_eq!(namespaces(pid), namespaces(container.pid()));
    container.delete();
    assert_eq!(container.wait_exit(pid), 137);
}

#[test]
fn exec_into_what_does_not_run_is_refused() {
    unless!("crun", "it says so in other words");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    let container = case.start(&bundle);
    container.wait_for("stopped");
    container.exec(&["/probe", "exit", "0"]).exits(255).fails(&["stopped"]);
    case.call(["exec", "nobody", "/probe"]).run().exits(255).fails(&["does not exist"]);
}

#[test]
fn exec_into_a_created_container_works() {
    let case = case!();
    let container = case.create(&case.bundle());
    let report = container.exec_report(&[]);
    assert_eq!(report["hostname"], "box");
    assert_eq!(container.status(), "created");
}

#[test]
fn exec_into_a_paused_container_is_refused() {
    unless!("crun", "1.21 says so in other words");
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    container.call("pause").run().ok();
    container.exec(&["/probe", "exit", "0"]).exits(255).fails(&["paused"]);
    container.call("resume").run().ok();
    container.exec(&["/probe", "exit", "0"]).ok();
}

#[test]
fn exec_of_a_missing_command_says_so() {
    unless!("crun", "it says so in other words");
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let output = container.exec(&["/no/such"]);
    assert!([255, 127, 1].contains(&output.code()), "{output}");
    assert!(output.stderr.contains("no such file or directory"), "engines look for these words: {output}");
    let output = container.exec(&["nowhere"]);
    assert!(output.stderr.contains("executable file not found in $PATH"), "{output}");
}

// As of runc and execve(2): the first that may be executed is the one. A program further back would be another.
#[test]
fn script_without_its_interpreter_is_an_error_and_no_other_program() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/first/look", "#!/no/such\n").mode("/first/look", 0o755).directory("/second");
    copy_program(probe(), &bundle.host_path("/second/look"));
    bundle.config["process"]["env"] = json!(["PATH=/first:/second"]);
    bundle.args(["look", "exit", "7"]);
    let output = case.run(&bundle);
    assert!(output.code() != 7 && output.stderr.contains("no such file or directory"), "{output}");
    let output = case.start_sleeping(&mut bundle).exec(&["look", "exit", "7"]);
    assert!(output.code() != 7 && output.stderr.contains("no such file or directory"), "{output}");
}

// Who executed the runtime may have left it children, in PID namespaces of theirs: they are nobody who has entered the container.
#[test]
fn children_of_the_caller_outlive_an_exec_that_fails() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let call = case.program(probe()).arg("bequeath").arg(Runtime::under_test().path());
    let call = call.arg("--root").arg(case.state_root()).args(["exec", container.id(), "/none"]);
    let output = call.run();
    let output = output.fails(&["/none"]);
    let pid = nix::unistd::Pid::from_raw(output.stdout.trim().parse().expect("the child's pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
}

// -1 is "as it is" to the kernel: root would stay root.
#[test]
fn exec_as_nobodys_id_is_refused() {
    unless!("crun", "it runs as root");
    unless!("runc", "it says so in other words");
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    for user in [json!({ "uid": u32::MAX, "gid": 0 }), json!({ "uid": 5, "gid": u32::MAX })] {
        let process = json!({ "args": ["/probe", "report"], "cwd": "/", "user": user });
        let path = case.dir().join("process.json");
        std::fs::write(&path, process.to_string()).expect("write");
        let call = container.call_with("exec", &["--process", &path.to_string_lossy()], &[]);
        call.run().exits(255).fails(&["4294967295 is nobody's"]);
    }
}

// What is in namespaces that an ordinary user made was put there by him: his /bin/id would be executed as the host's root.
#[test]
fn nobody_enters_namespaces_that_the_container_made_itself() {
    unless!("crun", "it enters them");
    unless!("runc", "it enters them");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox().capabilities(&[]).args(["/bin/sh", "-c", "exec unshare -U -m -n /probe sleep"]);
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let container = case.start(&bundle);
    let user = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("a process");
    until("it is in its own", || (user(&container.pid().to_string()) != user("self")).then_some(()));
    let words = ["gone to a user namespace of its own"];
    let exec = container.call_with("exec", &["--user", "0:0"], &["/probe", "report"]);
    exec.run().exits(255).fails(&words);
    let mut other = case.bundle();
    other.args(["/probe", "exit", "0"]).write();
    let with = format!("{}=net", container.id());
    let run = case.call(["run", "--share", &with, "--bundle"]).arg(other.dir()).arg(other.id());
    run.run().exits(1).fails(&words);
    container.delete();
}

#[test]
fn exec_reads_stdin() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox();
    let container = case.start_sleeping(&mut bundle);
    let output = container.call_with("exec", &[], &["/bin/cat"]).input("fed").run().ok();
    assert_eq!(output.stdout, "fed");
}

#[test]
fn exec_forwards_signals() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let exec = container.call_with("exec", &[], &["/probe", "signal-wait"]).spawn();
    until("the process is ready", || exec.stdout().contains("ready").then_some(()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(exec.pid()), nix::sys::signal::Signal::SIGTERM)
        .expect("signal");
    assert!(exec.wait().ok().stdout.contains("signal 15"));
}

#[test]
fn exec_preserves_descriptors_asked_for() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let file = case.dir().join("given");
    std::fs::write(&file, "").expect("write");
    let shell = |options: &str| {
        case.program(std::path::Path::new("/bin/sh")).arg("-c").arg(format!(
            "exec 3<'{file}' 4<'{file}'; exec '{}' --root '{}' exec {options} {} /probe report",
            Runtime::under_test().path().display(),
            case.state_root().display(),
            container.id(),
            file = file.display(),
        ))
    };
    assert_eq!(Report::parse(&shell("").run().ok().stdout).fds(), [0, 1, 2]);
    assert_eq!(Report::parse(&shell("--preserve-fds 1").run().ok().stdout).fds(), [0, 1, 2, 3]);
}

/// Our end of a gate, and the number of the one that programs inherit.
fn gate() -> (UnixStream, OwnedFd, String) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
    nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).expect("inherit");
    let number = theirs.as_raw_fd().to_string();
    (ours, theirs.into(), number)
}

#[test]
fn behind_a_gate_the_process_is_made_when_it_is_wanted_and_tells_its_pid() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let procs = case.cgroup_dir(bundle.cgroup()).join("cgroup.procs");
    let processes = || std::fs::read_to_string(&procs).expect("the container's processes").lines().count();
    let (ours, theirs, number) = gate();
    let exec = container.call_with("exec", &["--detach", "--gate", &number], &["/probe", "sleep"]).spawn();
    drop(theirs);
    let waits = format!("/proc/{}/wchan", exec.pid());
    until("it waits", || std::fs::read_to_string(&waits).ok().filter(|at| at.contains("unix")));
    assert_eq!(processes(), 1);
    (&ours).write_all(b"x").expect("open the gate");
    let mut line = String::new();
    BufReader::new(&ours).read_line(&mut line).expect("hear the pid");
    exec.wait().ok();
    let pid: i32 = line.trim_end().parse().expect("a pid");
    container.adopt(pid);
    assert_eq!(processes(), 2);
    assert!(std::fs::read_to_string(&procs).expect("procs").lines().any(|of| of == pid.to_string()));

    // Its command can't be had: no pid, and the reason as without a gate.
    let (ours, theirs, number) = gate();
    let exec = container.call_with("exec", &["--detach", "--gate", &number], &["/none"]).spawn();
    drop(theirs);
    (&ours).write_all(b"x").expect("open the gate");
    assert_eq!((&ours).read(&mut [0; 8]).expect("its end"), 0);
    assert!(exec.wait().exits(255).stderr.contains("no such file or directory"));
}

#[test]
fn a_gate_that_is_closed_or_none_makes_no_process() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let (ours, theirs, number) = gate();
    let exec = container.call_with("exec", &["--gate", &number], &["/probe", "exit", "0"]).spawn();
    drop((ours, theirs));
    exec.wait().exits(255).fails(&["nobody wants the process any more: the gate was closed"]);
    let goes_in = case.program(std::path::Path::new("/bin/sh")).arg("-c").arg(format!(
        "exec '{}' --root '{}' exec --preserve-fds 1 --gate 3 {} /probe 3</dev/null",
        Runtime::under_test().path().display(),
        case.state_root().display(),
        container.id(),
    ));
    goes_in.run().exits(255).fails(&["use descriptor 3 as the gate: it would go into the container"]);
    for (given, said) in [
        ("99", "use descriptor 99 as the gate: bad file number (EBADF)"),
        ("1", "use descriptor 1 as the gate: bad file number (EBADF)"),
        ("-1", "use descriptor -1 as the gate: bad file number (EBADF)"),
    ] {
        container
            .call_with("exec", &["--gate", given], &["/probe", "exit", "0"])
            .run()
            .exits(255)
            .fails(&[said]);
    }
}

#[test]
fn execs_side_by_side() {
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    let calls: Vec<_> = (0..6)
        .map(|n| container.call_with("exec", &[], &["/probe", "exit", &n.to_string()]).spawn())
        .collect();
    for (call, code) in calls.into_iter().zip(0..) {
        call.wait().exits(code);
    }
}

#[test]
fn exec_in_a_container_with_a_private_cgroup_view_is_in_its_cgroup() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let file = case.dir().join("pid");
    container
        .call_with("exec", &["--detach", "--pid-file", &file.to_string_lossy()], &["/probe", "sleep"])
        .run()
        .ok();
    let pid = std::fs::read_to_string(&file).expect("the pid file");
    container.adopt(pid.parse().expect("a number"));
    let procs =
        std::fs::read_to_string(case.cgroup_dir(bundle.cgroup()).join("cgroup.procs")).expect("cgroup.procs");
    assert!(procs.lines().any(|p| p == pid), "{procs} lacks {pid}");
    container.delete();
    container.wait_exit(pid.parse().expect("a number"));
}
