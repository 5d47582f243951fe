//! What runc had of processes: the runtime's own, looked into and overwritten, and what a program is given.

use super::outside;
use std::path::PathBuf;
use tests::*;

/// What a container saw, by `probe hunt`, of processes that entered it `times` times; the runtime is a copy of its own.
fn hunted(case: &Case, capabilities: &[&str], times: usize, program: &[&str]) -> Vec<String> {
    let (outside, runtime) = (outside(case), own_copy(case));
    let mut bundle = case.bundle();
    let mut given = config::DEFAULT_CAPABILITIES.to_vec();
    given.extend(capabilities);
    bundle.with_busybox().capabilities(&given);
    bundle.file("/trap", "#!/proc/self/exe --version\n").mode("/trap", 0o755);
    bundle.args(["/probe", "hunt", &outside.join("secret").to_string_lossy()]);
    let container = case.start(&bundle);
    container.wait_for_output("ready");
    for _ in 0..times {
        let call = case.program(&runtime).arg("--root").arg(case.state_root());
        let _ = call.arg("exec").arg(container.id()).args(program).run();
    }
    container.call("kill").arg("TERM").run().ok();
    container.wait_exit(container.pid());
    container.stdout().lines().map(str::to_owned).collect()
}

/// The runtime where it may be overwritten without harm to anybody.
fn own_copy(case: &Case) -> PathBuf {
    let copy = case.dir().join("runtime");
    copy_program(Runtime::under_test().path(), &copy);
    copy
}

// 2016-9962: what enters a container is stopped and looked into by those inside before it is one of them: its descriptors lead to
// the host.
// Bites: rt before it entered the mount namespace first (a container with CAP_SYS_PTRACE).
#[test]
fn cve_2016_9962_a_process_that_enters_is_looked_into() {
    unless!("crun", "1.21 can be looked into");
    for capabilities in [&[][..], &["CAP_SYS_PTRACE"]] {
        let case = case!();
        let seen = hunted(&case, capabilities, 40, &["/probe", "exit", "0"]);
        let host: Vec<_> = seen.iter().filter(|line| line.contains("of the host")).collect();
        assert!(host.is_empty(), "with {capabilities:?}: {host:?}");
    }
}

/// What a process that enters leaves visible inside has only its stdio.
#[test]
fn cve_2016_9962_descriptors_of_a_process_that_entered() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.capabilities(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]);
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&[]);
    assert_eq!(report.fds(), [0, 1, 2]);
    for fd in report["fds"].as_array().expect("descriptors") {
        let target = fd["target"].as_str().unwrap_or_default();
        assert!(!target.contains("state"), "{fd}");
    }
}

// 2019-5736: the runtime's executable, caught through /proc/PID/exe while a process enters, is overwritten when it has ended.
#[test]
fn cve_2019_5736_the_runtime_is_overwritten_through_proc_exe() {
    for program in [&["/probe", "exit", "0"][..], &["/proc/self/exe", "--version"], &["/trap"]] {
        for capabilities in [&[][..], &["CAP_SYS_PTRACE"]] {
            let case = case!();
            let before = std::fs::read(Runtime::under_test().path()).expect("the runtime");
            let seen = hunted(&case, capabilities, 10, program);
            let after = std::fs::read(case.dir().join("runtime")).expect("the copy");
            assert!(before == after, "{program:?} with {capabilities:?}: {seen:?}");
        }
    }
}

// Whoever names the runtime itself is refused.
#[test]
fn cve_2019_5736_a_program_that_is_the_runtime_is_refused() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/trap", "#!/proc/self/exe\n").mode("/trap", 0o755);
    for command in ["/proc/self/exe", "/trap"] {
        bundle.args([command, "--version"]);
        let output = case.run(&bundle);
        assert!(output.code() != 0 || !Runtime::under_test().is("rt"), "{command}: {output}");
    }
    let container = case.start_sleeping(&mut bundle);
    for command in ["/proc/self/exe", "/trap"] {
        let output = container.exec(&[command, "--version"]);
        assert!(output.code() != 0 || !Runtime::under_test().is("rt"), "{command}: {output}");
    }
}

// The same by a container's own program: it is the runtime, started inside by the image's first line, and waits there to be caught.
#[test]
fn cve_2019_5736_the_containers_program_is_the_runtime() {
    let case = case!();
    let runtime = own_copy(&case);
    let identity = |path: &std::path::Path| {
        let stat = std::fs::metadata(path).ok()?;
        Some((std::os::unix::fs::MetadataExt::dev(&stat), std::os::unix::fs::MetadataExt::ino(&stat)))
    };
    for line in ["#!/proc/self/exe --log=/fifo", "#!/proc/1/exe --log=/fifo", "#!/link --log=/fifo"] {
        let mut bundle = case.bundle();
        bundle.file("/trap", &format!("{line}\n")).mode("/trap", 0o755).link("/link", "/proc/self/exe");
        let fifo = bundle.host_path("/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a FIFO");
        bundle.args(["/trap"]);
        bundle.write();
        let call = case.program(&runtime).arg("--root").arg(case.state_root());
        let mut run = call.args(["run", "--detach", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).spawn();
        until("the container runs or is refused", || run.ended().then_some(()));
        let state: Value =
            serde_json::from_str(&case.call(["state", bundle.id()]).run().stdout).unwrap_or(Value::Null);
        let running = state["pid"].as_i64().filter(|pid| *pid > 0);
        let inside = running.and_then(|pid| identity(format!("/proc/{pid}/exe").as_ref()));
        let ours = identity(&runtime);
        case.call(["delete", "--force", bundle.id()]).run();
        if let Some(pid) = running.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        }
        assert!(ours.is_some() && inside != ours, "{line}: the container's program is the host's file");
    }
}

// 2021-43784: lengths of attributes that the runtime hands to its own next stage went through 16 bits, so that a long value was
// read as further attributes, such as other namespaces. Here both stages share one plan; whatever its size, it is the one that
// was asked for, or refused.
#[test]
fn cve_2021_43784_long_values_of_the_config_replace_namespaces() {
    unless!("crun", "it leaves what failed behind");
    let case = case!();
    let mut bundle = case.bundle();
    for (kind, file) in [("network", "net"), ("ipc", "ipc")] {
        // What 16 bits say of the length of the second leaves a namespace of the host's.
        let host = format!("/proc/{}/ns/{file}", std::process::id());
        for long in [format!("/{}", "a".repeat(70_000)), host + &"/".repeat(65_536)] {
            let mut bundle = case.bundle();
            bundle.namespace(kind, Some(&long));
            assert_ne!(case.run(&bundle).code(), 0, "a path of more than 65 536 bytes");
        }
    }
    // More than 64 KiB of mappings are refused; of mounts, they are all made, and every namespace is new.
    let mut mapped = case.bundle();
    mapped.user_namespace(100_000, 65_536);
    let many: Vec<Value> =
        (0..5000).map(|at| json!({ "containerID": at, "hostID": 100_000 + at, "size": 1 })).collect();
    mapped.config["linux"]["uidMappings"] = json!(many);
    assert_ne!(case.run(&mapped).code(), 0, "5000 mappings");
    let source = case.dir().join("s".repeat(200));
    std::fs::create_dir(&source).expect("make a directory");
    for at in 0..400 {
        bundle.bind(&source, &format!("/tmp/{at}"), &[]);
    }
    let report = case.see(&mut bundle);
    for kind in ["pid", "ipc", "uts", "mnt", "net", "cgroup"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        assert_ne!(report.namespace(kind), ours.to_string_lossy(), "{kind}");
    }
    assert!(report.find_mount("/tmp/399").is_some());
}

// 2022-29162: capabilities given to `exec` became inheritable, and so reached programs of any user whose file allows them.
#[test]
fn cve_2022_29162_capabilities_become_inheritable() {
    let case = case!();
    let mut bundle = case.bundle();
    assert!(case.see(&mut bundle).capabilities("inheritable").is_empty());
    let container = case.start_sleeping(&mut bundle);
    assert!(container.exec_report(&[]).capabilities("inheritable").is_empty());
    let report = container.exec_report(&["--cap", "CAP_NET_ADMIN"]);
    assert!(report.capabilities("effective").contains(&"CAP_NET_ADMIN".to_owned()));
    assert!(report.capabilities("inheritable").is_empty());
}

// 2023-25809: without a cgroup namespace of its own, a container of a user namespace got the host's hierarchy bound at
// /sys/fs/cgroup, and writable.
#[test]
fn cve_2023_25809_the_hosts_cgroups_are_writable_inside() {
    let case = case!();
    let binding = json!({ "destination": "/sys/fs/cgroup", "type": "bind", "source": "/sys/fs/cgroup",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
    for rebind in [false, true] {
        let mut bundle = case.bundle();
        bundle.user_namespace(100_000, 65_536).without_namespace("cgroup");
        if rebind {
            super::drop_mounts(&mut bundle, "/sys/fs/cgroup");
            bundle.mount(binding.clone());
        }
        let report = case.see(&mut bundle);
        report.mount("/sys/fs/cgroup").expect(&["ro"]);
        assert_ne!(case.act(&mut bundle, ["open", "/sys/fs/cgroup/cgroup.procs", "w"]).trim(), "ok");
    }
}

// 2026-135844: an absurd /etc/passwd is read without bound while the user's home is looked up.
// Bites: crun 1.21 never ends.
#[test]
fn cve_2026_135844_passwd_is_read_without_end() {
    unless!("crun", "it waits for whoever writes to such a FIFO");
    unless!("runc 1.1", "it refuses such a file");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n").file("/etc/group", "root:x:0:\n");
    for file in ["/etc/passwd", "/etc/group"] {
        let file = std::fs::File::options().write(true).open(bundle.host_path(file)).expect("the file");
        file.set_len(1 << 40).expect("a hole of a tebibyte");
    }
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(case.see(&mut bundle).env("HOME").as_deref(), Some("/"));
    let container = case.start_sleeping(&mut bundle);
    assert_eq!(container.exec_report(&[]).env("HOME").as_deref(), Some("/"));
    // One that never ends: nobody writes to it.
    let mut bundle = case.bundle();
    let fifo = bundle.host_path("/etc/passwd");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a FIFO");
    case.see(&mut bundle);
}
