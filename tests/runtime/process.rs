//! The container's process: ids, limits, capabilities, environment, directory, descriptors, and what else is set before execve.
//!
//! Terminals are in `terminal`, seccomp in `seccomp`.

use std::path::Path;
use tests::*;

#[test]
fn arguments_and_environment_are_as_configured() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["env"] = json!(["A=1", "B=two words", "EMPTY=", "A2=x=y"]);
    let report = case.see(&mut bundle);
    assert_eq!(report["argv"], json!(["/probe", "report"]));
    assert_eq!(report.env("B").as_deref(), Some("two words"));
    assert_eq!(report.env("EMPTY").as_deref(), Some(""));
    assert_eq!(report.env("A2").as_deref(), Some("x=y"));
    assert_eq!(report.env("RT_TEST_CASE"), None, "the caller's environment stays outside");
    assert_eq!(report.env("NOTIFY_SOCKET"), None);
}

#[test]
fn the_last_of_two_values_of_a_variable_wins() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "TWICE=first", "TWICE=second"]);
    let report = case.see(&mut bundle);
    let seen: Vec<&str> = report["env"]
        .as_array()
        .expect("an environment")
        .iter()
        .filter_map(Value::as_str)
        .filter(|v| v.starts_with("TWICE="))
        .collect();
    if Runtime::under_test().is("crun") {
        skip!("crun differs: it hands both on");
    }
    assert_eq!(seen.last(), Some(&"TWICE=second"));
}

#[test]
fn home_comes_from_passwd_where_not_set() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwork:x:1000:1000::/home/work:/bin/sh\n");
    assert_eq!(case.see(&mut bundle).env("HOME").as_deref(), Some("/root"));
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(case.see(&mut bundle).env("HOME").as_deref(), Some("/home/work"));
    bundle.config["process"]["user"] = json!({ "uid": 4321, "gid": 1000 });
    assert_eq!(case.see(&mut bundle).env("HOME").as_deref(), Some("/"));
    bundle.config["process"]["env"] = json!(["HOME=/mine"]);
    assert_eq!(case.see(&mut bundle).env("HOME").as_deref(), Some("/mine"));
}

#[test]
fn command_is_found_in_the_path_of_the_container() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/opt/tools");
    std::fs::copy(probe(), bundle.host_path("/opt/tools/look")).expect("copy the probe");
    bundle.config["process"]["env"] = json!(["PATH=/none:/opt/tools"]);
    bundle.args(["look", "exit", "7"]);
    case.run(&bundle).exits(7);
}

#[test]
fn relative_command_is_found_from_the_working_directory() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["cwd"] = json!("/etc");
    bundle.args(["../probe", "exit", "6"]);
    case.run(&bundle).exits(6);
}

#[test]
fn script_runs_by_its_first_line() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox().file("/script", "#!/bin/sh\necho from the script $1\n").mode("/script", 0o755);
    bundle.args(["/script", "one"]);
    assert_eq!(case.run(&bundle).ok().stdout, "from the script one\n");
}

#[test]
fn user_and_groups_are_set() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 2000, 70000] });
    let report = case.see(&mut bundle);
    assert_eq!(report["uid"], json!([1000, 1000, 1000]));
    assert_eq!(report["gid"], json!([1001, 1001, 1001]));
    let mut groups: Vec<u64> =
        report["groups"].as_array().expect("groups").iter().filter_map(Value::as_u64).collect();
    groups.sort_unstable();
    groups.retain(|&g| g != 1001);
    assert_eq!(groups, [5, 2000, 70000]);
}

#[test]
fn no_group_of_the_caller_stays() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1001 });
    let report = case.see(&mut bundle);
    let groups = report["groups"].as_array().expect("groups");
    assert!(groups.iter().all(|g| *g == 1001), "{groups:?}");
}

#[test]
fn umask_is_set_and_022_where_not_given() {
    let case = case!();
    let mut bundle = case.bundle();
    assert_eq!(case.see(&mut bundle)["umask"], 0o022);
    bundle.config["process"]["user"]["umask"] = json!(0o027);
    assert_eq!(case.see(&mut bundle)["umask"], 0o027);
    bundle.config["process"]["user"]["umask"] = json!(0);
    assert_eq!(case.see(&mut bundle)["umask"], 0);
}

#[test]
fn working_directory_is_entered() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/srv/www").config["process"]["cwd"] = json!("/srv/www");
    assert_eq!(case.see(&mut bundle)["cwd"], "/srv/www");
}

#[test]
fn working_directory_that_is_missing_is_made() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["cwd"] = json!("/made/for/it");
    assert_eq!(case.see(&mut bundle)["cwd"], "/made/for/it");
}

#[test]
fn working_directory_only_its_user_may_enter() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/home/me").mode("/home/me", 0o700);
    std::os::unix::fs::chown(bundle.host_path("/home/me"), Some(1000), Some(1000)).expect("chown");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.config["process"]["cwd"] = json!("/home/me");
    assert_eq!(case.see(&mut bundle)["cwd"], "/home/me");
}

#[test]
fn resource_limits_are_set_and_others_kept() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_NPROC", "soft": 4000, "hard": 5000 },
        { "type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152 },
        { "type": "RLIMIT_CPU", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_MSGQUEUE", "soft": 1000, "hard": 2000 },
    ]);
    let report = case.see(&mut bundle);
    let limits = &report["rlimits"];
    assert_eq!(limits["RLIMIT_NOFILE"], json!([512, 1024]));
    assert_eq!(limits["RLIMIT_CORE"], json!([0, 0]));
    assert_eq!(limits["RLIMIT_NPROC"], json!([4000, 5000]));
    assert_eq!(limits["RLIMIT_STACK"], json!([1_048_576, 2_097_152]));
    assert_eq!(limits["RLIMIT_CPU"], json!([100, 200]));
    assert_eq!(limits["RLIMIT_MSGQUEUE"], json!([1000, 2000]));
    assert_eq!(limits["RLIMIT_FSIZE"], json!([u64::MAX, u64::MAX]));
}

#[test]
fn capabilities_are_as_configured() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    // As a user that is not root, execve gives what the ambient set says; root gets what bounding allows.
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let report = case.see(&mut bundle);
    assert_eq!(report.capabilities("bounding"), ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]);
    assert_eq!(report.capabilities("ambient"), ["CAP_KILL"]);
    assert_eq!(report.capabilities("effective"), ["CAP_KILL"]);
    assert_eq!(report.capabilities("permitted"), ["CAP_KILL"]);
    assert_eq!(report.capabilities("inheritable"), ["CAP_KILL"]);
}

#[test]
fn engine_capabilities_of_root() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    for set in ["bounding", "effective", "permitted"] {
        let mut seen = report.capabilities(set);
        let mut expected = config::DEFAULT_CAPABILITIES.map(str::to_owned).to_vec();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{set}");
    }
    for set in ["inheritable", "ambient"] {
        assert!(report.capabilities(set).is_empty(), "{set}");
    }
}

#[test]
fn without_capabilities_there_are_none() {
    unless!("runc", "it keeps the bounding set");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"].as_object_mut().expect("an object").remove("capabilities");
    let report = case.see(&mut bundle);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        assert!(report.capabilities(set).is_empty(), "{set}: {:?}", report.capabilities(set));
    }
}

#[test]
fn user_without_ambient_capabilities_has_none() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let report = case.see(&mut bundle);
    assert!(report.capabilities("effective").is_empty());
    assert!(report.capabilities("permitted").is_empty());
    assert_eq!(report.capabilities("bounding").len(), 14);
}

#[test]
fn unknown_capability_is_warned_about_and_left_out() {
    unless!("crun", "since 1.29 an error; before, without a warning");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.capabilities(&["CAP_CHOWN", "CAP_MAKE_COFFEE"]).args(["/probe", "report"]);
    let output = case.run(&bundle).ok();
    assert_eq!(Report::parse(&output.stdout).capabilities("effective"), ["CAP_CHOWN"]);
    assert!(output.stderr.contains("CAP_MAKE_COFFEE"), "{output}");
}

#[test]
fn capability_beyond_the_hosts_is_warned_about_and_left_out() {
    unless!("runc", "capset fails with EPERM");
    unless!("crun", "capset fails with EPERM");
    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).map(str::trim).unwrap_or_default();
    let bits = u64::from_str_radix(bounding, 16).expect("a mask");
    if bits >> 24 & 1 == 1 {
        skip!("this host has CAP_SYS_RESOURCE");
    }
    let case = case!();
    let mut bundle = case.bundle();
    bundle.capabilities(&["CAP_CHOWN", "CAP_SYS_RESOURCE"]).args(["/probe", "report"]);
    let output = case.run(&bundle).ok();
    assert_eq!(Report::parse(&output.stdout).capabilities("effective"), ["CAP_CHOWN"]);
    assert!(output.stderr.contains("CAP_SYS_RESOURCE"), "{output}");
}

#[test]
fn no_new_privileges_is_as_configured() {
    let case = case!();
    let mut bundle = case.bundle();
    assert_eq!(case.see(&mut bundle)["no_new_privs"], 1);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(case.see(&mut bundle)["no_new_privs"], 0);
}

#[test]
fn oom_score_is_set_or_kept() {
    let case = case!();
    let mut bundle = case.bundle();
    let ours: i64 =
        std::fs::read_to_string("/proc/self/oom_score_adj").expect("ours").trim().parse().expect("a number");
    assert_eq!(case.see(&mut bundle)["oom_score_adj"], ours);
    bundle.config["process"]["oomScoreAdj"] = json!(567);
    assert_eq!(case.see(&mut bundle)["oom_score_adj"], 567);
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_forward": "1", "net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1",
        "kernel.msgmax": "65536", "fs.mqueue.queues_max": "99", "kernel.domainname": "from.sysctl",
    });
    let text = case.act(
        &mut bundle,
        [
            "read",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start",
            "/proc/sys/kernel/shm_rmid_forced",
            "/proc/sys/kernel/msgmax",
            "/proc/sys/fs/mqueue/queues_max",
            "/proc/sys/kernel/domainname",
        ],
    );
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["1", "80", "1", "65536", "99", "from.sysctl"]);
    let host = std::fs::read_to_string("/proc/sys/kernel/domainname").expect("ours");
    assert_ne!(host.trim(), "from.sysctl");
}

#[test]
fn sysctl_with_slashes_is_the_same() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["sysctl"] = json!({ "net/ipv4/ip_forward": "1" });
    if Runtime::under_test().is("crun") {
        skip!("crun differs: dots only");
    }
    assert_eq!(case.act(&mut bundle, ["read", "/proc/sys/net/ipv4/ip_forward"]).trim(), "1");
}

#[test]
fn only_stdio_is_open() {
    let case = case!();
    assert_eq!(case.see(&mut case.bundle()).fds(), [0, 1, 2]);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "report", "/seen"]);
    let container = case.start(&bundle);
    container.wait_for("stopped");
    let text = std::fs::read_to_string(bundle.host_path("/seen")).expect("the report");
    assert_eq!(Report::parse(&text).fds(), [0, 1, 2], "with create and start");
}

#[test]
fn preserved_descriptors_are_open() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "report"]);
    bundle.write();
    let file = case.dir().join("given");
    std::fs::write(&file, "").expect("write");
    let shell = |options: &str| {
        case.program(Path::new("/bin/sh")).arg("-c").arg(format!(
            "exec 3<'{file}' 4<'{file}' 5<'{file}'; exec '{}' --root '{}' run {options} --bundle '{}' {}",
            Runtime::under_test().path().display(),
            case.state_root().display(),
            bundle.dir().display(),
            bundle.id(),
            file = file.display(),
        ))
    };
    assert_eq!(Report::parse(&shell("").run().ok().stdout).fds(), [0, 1, 2], "leaked by the caller");
    let report = Report::parse(&shell("--preserve-fds 2").run().ok().stdout);
    assert_eq!(report.fds(), [0, 1, 2, 3, 4]);
    assert!(report["fds"][3]["target"].as_str().is_some_and(|t| t.ends_with("given")), "{}", report["fds"]);
}

#[test]
fn signals_are_neither_ignored_nor_blocked() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    assert_eq!(report["signals"], json!({ "ignored": [], "blocked": [] }));
    assert_eq!(report["parent_death_signal"], 0);
}

#[test]
fn process_leads_its_own_session() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("pid");
    let report = case.see(&mut bundle);
    assert_eq!(report["sid"], report["pid"]);
    assert_eq!(report["pgid"], report["pid"]);
}

#[test]
fn executable_is_the_containers() {
    let case = case!();
    assert_eq!(case.see(&mut case.bundle())["exe"], "/probe");
}

#[test]
fn session_keyring_is_new_and_named() {
    let case = case!();
    let mut bundle = case.bundle();
    let report = case.see(&mut bundle);
    let text = report["keyring"]["description"].as_str().unwrap_or_default();
    assert!(text.contains(bundle.id()), "{}", report["keyring"]);
}

#[test]
fn no_new_keyring_keeps_the_callers() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "report"]);
    bundle.write();
    let output =
        case.call(["run", "--no-new-keyring", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run().ok();
    let keyring = Report::parse(&output.stdout)["keyring"].clone();
    assert!(!keyring["description"].as_str().unwrap_or_default().contains(bundle.id()), "{keyring}");
}

#[test]
fn scheduler_is_set() {
    unless!("runc 1.1", "came with 1.2");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    let report = case.see(&mut bundle);
    assert_eq!(report["schedule"]["policy"], 3);
    assert_eq!(report["schedule"]["nice"], 7);
}

#[test]
fn io_priority_is_set() {
    unless!("runc 1.1", "came with 1.2");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    let report = case.see(&mut bundle);
    assert_eq!(report["io_priority"], json!({ "class": 2, "level": 6 }));
}

#[test]
fn personality_is_set() {
    unless!("runc 1.1", "came with 1.2");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    assert_eq!(case.see(&mut bundle)["personality"], 8);
}

#[test]
fn memory_policy_is_set() {
    unless!("runc 1.1", "came with runtime-spec 1.3");
    unless!("crun", "came with runtime-spec 1.3, after 1.21");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skip!("the kernel has no NUMA");
    }
    let case = case!();
    let mut bundle = case.bundle();
    for (mode, shown) in [("MPOL_BIND", "bind:0"), ("MPOL_INTERLEAVE", "interleave:0")] {
        bundle.config["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": "0" });
        let maps = case.run(bundle.args(["/probe", "read", "/proc/self/numa_maps"])).ok().stdout;
        let policy = maps.lines().find(|line| line.contains("stack")).and_then(|line| line.split(' ').nth(1));
        assert_eq!(policy, Some(shown), "{maps}");
    }
}

#[test]
fn exit_code_of_run_is_the_process_s() {
    let case = case!();
    for code in ["0", "1", "42", "126", "255"] {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "exit", code]);
        case.run(&bundle).exits(code.parse().expect("a number"));
    }
}

#[test]
fn exit_code_after_a_signal_is_128_and_the_signal() {
    let case = case!();
    let mut bundle = case.bundle();
    // As PID 1 a process is spared signals it sends itself.
    bundle.without_namespace("pid").args(["/probe", "kill-self", "6"]);
    case.run(&bundle).exits(134);
}

#[test]
fn stdin_stdout_and_stderr_are_the_callers() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "cat; echo to stderr >&2"]);
    bundle.write();
    let output =
        case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).input("through\n").run().ok();
    assert_eq!(output.stdout, "through\n");
    assert_eq!(output.stderr, "to stderr\n");
}

#[test]
fn dumpable_again_for_the_container() {
    let case = case!();
    assert_eq!(case.see(&mut case.bundle())["dumpable"], 1);
}
