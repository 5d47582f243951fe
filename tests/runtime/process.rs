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
    copy_program(probe(), &bundle.host_path("/opt/tools/look"));
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

/// A name would be a door: whoever makes a keyring of that name first, or joins it later, has the container's keys.
#[test]
fn session_keyring_is_new_and_nobody_elses() {
    only_rt!("runc and crun join a keyring by the container's id, whose ever it is");
    let case = case!();
    let mut bundle = case.bundle();
    let inside = case.start_sleeping(&mut bundle).exec_report(&[]);
    let other = case.see(&mut case.bundle());
    assert_ne!(inside["keyring"]["id"], other["keyring"]["id"]);
    for report in [&inside, &other] {
        let text = report["keyring"]["description"].as_str().unwrap_or_default();
        // Type, user, group, permissions (all for those who have it, none for others), and the kernel's word for what has no name.
        assert!(text.starts_with("keyring;") && text.ends_with(";3f000000;_ses"), "{}", report["keyring"]);
    }
}

/// /proc/PID/cmdline is everybody's to read.
#[test]
fn a_process_that_waits_for_start_does_not_show_the_runtimes_arguments() {
    only_rt!("the others don't show their names either, and differ in what is left of them");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let container = case.create(&bundle);
    let shown = std::fs::read(format!("/proc/{}/cmdline", container.pid())).expect("its arguments");
    assert!(shown.iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(&shown));
}

/// A name of an image neither commands a terminal nor looks like a message of ours.
#[test]
fn control_characters_of_names_are_shown_as_such() {
    only_rt!("its words");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/x\u{1b}]0;owned\u{7}\u{9b}2J\nrt: warning: all is well"]);
    bundle.write();
    let output = case.run(&bundle);
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(!output.stderr.trim_end().contains(char::is_control), "{output}");
    assert!(output.stderr.contains("no such file or directory"), "{output}");
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
    assert!(!keyring["description"].as_str().unwrap_or_default().contains(";3f000000;"), "{keyring}");
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

#[test]
fn apparmor_profile_that_is_not_loaded_is_an_error_that_says_so() {
    only_rt!("the words are its own");
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if enabled.is_ok_and(|enabled| enabled.trim() != "Y") || !Path::new("/sys/module/apparmor").exists() {
        skip!("AppArmor is disabled on this host");
    }
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
    bundle.config["process"]["apparmorProfile"] = json!("nowhere-loaded");
    let output = case.run(&bundle).exits(1);
    let says = format!(
        "rt: run container \"{}\": change to the AppArmor profile \"nowhere-loaded\": it is not loaded (load it with apparmor_parser(8); \
         /sys/kernel/security/apparmor/profiles lists those that are)",
        bundle.id()
    );
    assert_eq!(output.stderr.trim_end(), says);
}
