//! `--share`: containers around a pause container, with one network, IPC and UTS namespace, and one /dev/shm.
//!
//! Joining by path is in `namespaces`.

use std::ffi::OsStr;

use tests::*;

/// Creates and starts the bundle with `--share WITH`.
fn start<'a>(case: &'a Case, bundle: &Bundle, with: &str) -> Running<'a> {
    bundle.write();
    let call = case.call(["create", "--share", with, "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let container = Running::new(case, bundle.id(), call);
    container.call("start").run().ok();
    container
}

/// Runs the bundle with `--share WITH` to its end.
fn run(case: &Case, bundle: &Bundle, with: &str) -> Output {
    bundle.write();
    case.call(["run", "--share", with, "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run()
}

fn namespace(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process of ours").display().to_string()
}

/// A container that only holds namespaces.
fn pause<'a>(case: &'a Case) -> Running<'a> {
    let mut bundle = case.bundle();
    bundle.config["hostname"] = json!("pod");
    case.start_sleeping(&mut bundle)
}

/// A bundle that leaves its hostname to the pause container.
fn member(case: &Case) -> Bundle {
    let mut bundle = case.bundle();
    bundle.config.as_object_mut().expect("an object").remove("hostname");
    bundle
}

#[test]
fn shared_namespaces_are_the_pause_containers() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let mut bundle = member(&case);
    let report = Report::parse(&run(&case, bundle.args(["/probe", "report"]), pause.id()).ok().stdout);
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(report.namespace(kind), namespace(pause.pid(), kind), "{kind}");
    }
    for kind in ["pid", "mnt", "cgroup"] {
        assert_ne!(report.namespace(kind), namespace(pause.pid(), kind), "{kind}");
    }
    assert_eq!(report["hostname"], "pod");
}

#[test]
fn only_the_namespaces_named_are_shared() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let mut bundle = case.bundle();
    let with = format!("{}=net", pause.id());
    let report = Report::parse(&run(&case, bundle.args(["/probe", "report"]), &with).ok().stdout);
    assert_eq!(report.namespace("net"), namespace(pause.pid(), "net"));
    for kind in ["ipc", "uts", "pid"] {
        assert_ne!(report.namespace(kind), namespace(pause.pid(), kind), "{kind}");
    }
    assert_eq!(report["hostname"], "box");
}

#[test]
fn containers_talk_over_localhost() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let mut server = member(&case);
    server.args(["/probe", "listen", "8080"]);
    let server = start(&case, &server, pause.id());
    server.wait_for_output("listening");
    let mut client = member(&case);
    client.args(["/probe", "connect", "8080", "over localhost"]);
    assert_eq!(run(&case, &client, pause.id()).ok().stdout.trim(), "over localhost");
}

#[test]
fn a_port_taken_by_one_is_taken_for_the_other() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let mut server = member(&case);
    server.args(["/probe", "listen", "80"]);
    let server = start(&case, &server, pause.id());
    server.wait_for_output("listening");
    let mut second = member(&case);
    second.args(["/probe", "listen", "80"]);
    run(&case, &second, pause.id()).exits(1).fails(&["Address in use"]);
}

#[test]
fn containers_share_posix_and_sysv_memory() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let mut writer = member(&case);
    writer.args([
        "/probe",
        "chain",
        "shm-write",
        "note",
        "posix",
        ",",
        "sysv-write",
        "77",
        "sysv",
        ",",
        "sleep",
    ]);
    let writer = start(&case, &writer, pause.id());
    writer.wait_for_output("sysv");
    let mut reader = member(&case);
    reader.args(["/probe", "chain", "shm-read", "note", ",", "sysv-read", "77"]);
    assert_eq!(run(&case, &reader, pause.id()).ok().stdout, "posixsysv\n");
    let seen = pause.exec(&["/probe", "shm-read", "note"]).ok();
    assert_eq!(seen.stdout, "posix", "the pause container's own /dev/shm is the same");
}

/// What a container puts at its /dev/shm is lent to nobody, but the mount that was made there.
#[test]
fn what_a_container_has_put_in_place_of_its_memory_is_not_shared() {
    only_rt!("--share is its own");
    let case = case!();
    for (call, says) in [
        (["symlinkat", "s:../../..", "-100", "s:/dev/shm"], "symbolic link"),
        (["symlinkat", "s:/proc/self/cwd", "-100", "s:/dev/shm"], "symbolic link"),
        (["mkdirat", "-100", "s:/dev/shm", "493"], "nothing is mounted there"),
        (["mknodat", "-100", "s:/dev/shm", "4480"], "a tmpfs there in its config"),
    ] {
        let mut lender = case.bundle();
        lender.file("/of-the-lender", "its own");
        lender.config["mounts"].as_array_mut().expect("mounts").retain(|m| m["destination"] != "/dev/shm");
        let [name, rest @ ..] = call;
        lender.args(["/probe", "chain", "try-syscall", name].into_iter().chain(rest).chain([",", "sleep"]));
        let lender = case.start(&lender);
        lender.wait_for_output("ok 0");
        let mut borrower = member(&case);
        borrower.args(["/probe", "list", "/dev/shm"]);
        let seen = run(&case, &borrower, lender.id());
        assert!(!seen.stdout.contains("of-the-lender"), "{seen}");
        seen.exits(1).fails(&["share with container", "/dev/shm", says]);
        lender.delete();
    }
}

#[test]
fn stopping_one_leaves_the_rest() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let mut bundles = [member(&case), member(&case)];
    let [one, two] = &mut bundles;
    let one = start(&case, one.args(["/probe", "chain", "shm-write", "kept", "x", ",", "sleep"]), pause.id());
    let two = start(&case, two.args(["/probe", "sleep"]), pause.id());
    one.delete();
    assert_eq!(pause.status(), "running");
    assert_eq!(two.status(), "running");
    assert_eq!(two.exec(&["/probe", "shm-read", "kept"]).ok().stdout, "x");
    two.delete();
    assert_eq!(pause.status(), "running");
}

#[test]
fn with_a_shared_pid_namespace_the_pause_process_is_pid_1_and_reaps() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let with = format!("{}=net,ipc,uts,pid", pause.id());
    let mut bundle = member(&case);
    bundle.args(["/probe", "chain", "orphan", ",", "read", "/proc/1/cmdline", ",", "sleep"]);
    let container = start(&case, &bundle, &with);
    let said = container.wait_for_output("sleep");
    assert!(said.contains("/probe\0sleep"), "{said:?}");
    let orphan: i32 = said.lines().next().and_then(|l| l.parse().ok()).expect("a pid");
    let parent = container.exec(&["/probe", "read", &format!("/proc/{orphan}/status")]).ok().stdout;
    assert!(parent.contains("PPid:\t1\n"), "{parent}");
    let kill = pause.call_with("exec", &[], &["/probe", "read", "/proc/self/status"]).run().ok();
    assert!(kill.stdout.contains("NSpid:"), "{kill}");
    container.delete();
    until("the orphan is gone, and reaped", || {
        let gone = pause.exec(&["/probe", "stat", &format!("/proc/{orphan}")]).ok().stdout;
        gone.contains("errno").then_some(())
    });
    assert_eq!(pause.status(), "running");
}

#[test]
fn proc_of_a_shared_pid_namespace_is_made_by_a_process_in_it_where_it_can_not_be_named() {
    only_rt!("the fail points are its own");
    let case = case!();
    let pause = pause(&case);
    for kind in ["pid", "net,ipc,uts,pid"] {
        let mut bundle = member(&case);
        bundle.args(["/probe", "read", "/proc/1/cmdline"]);
        bundle.write();
        let run = case
            .program(failpoints())
            .args([OsStr::new("--root"), case.state_root().as_os_str(), OsStr::new("run")])
            .args(["--share", &format!("{}={kind}", pause.id())])
            .arg("--bundle")
            .arg(bundle.dir())
            .arg(bundle.id())
            .env("RT_LACKS", "procfs-of-a-pid-namespace")
            .run();
        assert!(run.ok().stdout.contains("/probe\0sleep"), "the pause process is its PID 1");
    }
}

#[test]
fn sharing_under_a_user_namespace() {
    only_rt!("--share is its own");
    let case = case!();
    let mut first = case.bundle();
    first.user_namespace(100_000, 65_536);
    let pause = case.start_sleeping(&mut first);
    let mut bundle = member(&case);
    bundle.user_namespace(100_000, 65_536);
    bundle.namespace("user", Some(&format!("/proc/{}/ns/user", pause.pid())));
    let linux = bundle.config["linux"].as_object_mut().expect("an object");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    bundle.args(["/probe", "chain", "shm-write", "note", "mine", ",", "report"]);
    let report = Report::parse(&run(&case, &bundle, pause.id()).ok().stdout);
    assert_eq!(report.namespace("user"), namespace(pause.pid(), "user"));
    assert_eq!(pause.exec(&["/probe", "shm-read", "note"]).ok().stdout, "mine");
}

#[test]
fn sharing_with_what_does_not_run_is_refused() {
    only_rt!("--share is its own");
    let case = case!();
    let bundle = case.bundle();
    run(&case, &bundle, "nobody").exits(1).fails(&["nobody", "does not exist"]);
    let mut first = case.bundle();
    first.args(["/probe", "exit", "0"]);
    let stopped = case.start(&first);
    stopped.wait_for("stopped");
    run(&case, &bundle, stopped.id()).exits(1).fails(&[stopped.id(), "stopped"]);
    run(&case, &bundle, &format!("{}=user", stopped.id())).exits(1).fails(&["user", "can't be shared"]);
}

#[test]
fn with_a_shared_pid_namespace_sigkill_ends_all_of_one_container_and_none_of_another() {
    only_rt!("--share is its own");
    let case = case!();
    let pause = pause(&case);
    let with = format!("{}=pid", pause.id());
    let mut bundles = [member(&case), member(&case)];
    let [one, two] = &mut bundles;
    let one = start(&case, one.args(["/probe", "chain", "orphan", ",", "sleep"]), &with);
    let orphan = one.wait_for_output("\n").trim().to_owned();
    let two = start(&case, two.args(["/probe", "sleep"]), &with);
    one.call_with("kill", &[], &["KILL"]).run().ok();
    assert_eq!(one.wait_exit(one.pid()), 137);
    until("the orphan is gone too", || {
        pause
            .exec(&["/probe", "stat", &format!("/proc/{orphan}")])
            .ok()
            .stdout
            .contains("errno")
            .then_some(())
    });
    one.call("delete").run().ok();
    one.is_gone();
    assert_eq!((two.status().as_str(), pause.status().as_str()), ("running", "running"));
}
