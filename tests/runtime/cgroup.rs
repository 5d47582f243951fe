//! Cgroups: where the process is, limits, devices, freezing, update; on hosts with and without every controller.
//!
//! Limits of memory and cpu need controllers that some machines don't give to cgroup2: those tests run in the VM tier.

use tests::*;

fn controllers(case: &Case) -> String {
    std::fs::read_to_string(case.cgroup_dir("/").join("cgroup.controllers")).expect("cgroup.controllers")
}

/// Skips the test where cgroup2 lacks a controller.
macro_rules! needs {
    ($case:ident, $controller:literal) => {
        if !controllers(&$case).split_whitespace().any(|c| c == $controller) {
            skip!("cgroup2 has no {} controller here", $controller);
        }
    };
}

fn read(case: &Case, bundle: &Bundle, file: &str) -> String {
    let path = case.cgroup_dir(bundle.cgroup()).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

#[test]
fn process_is_in_the_cgroup_of_the_config() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "cgroup.procs"), container.pid().to_string());
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("its cgroup");
    assert!(group.lines().any(|l| l == format!("0::{}", bundle.cgroup())), "{group}");
    container.delete();
    assert!(!case.cgroup_dir(bundle.cgroup()).exists());
}

#[test]
fn deep_cgroup_path_is_made() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/a/b/c", case.cgroup()));
    let container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "cgroup.procs"), container.pid().to_string());
    container.delete();
    assert!(!case.cgroup_dir(bundle.cgroup()).exists());
    // What lies above may be someone else's; a runtime leaves it.
    let _ = std::fs::remove_dir(case.cgroup_dir(&format!("{}/a/b", case.cgroup())));
    let _ = std::fs::remove_dir(case.cgroup_dir(&format!("{}/a", case.cgroup())));
}

#[test]
fn relative_cgroup_path_is_below_the_root() {
    let case = case!();
    let mut bundle = case.bundle();
    let path = bundle.cgroup().trim_start_matches('/').to_owned();
    bundle.config["linux"]["cgroupsPath"] = json!(path);
    let container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "cgroup.procs"), container.pid().to_string());
}

#[test]
fn devices_not_allowed_can_not_be_opened() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }]);
    assert_eq!(case.act(&mut bundle, ["open", "/dev/fuse", "r"]).trim(), "errno 1");
    bundle.config["linux"]["resources"]["devices"] = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "r" },
    ]);
    let text = case.act(&mut bundle, ["chain", "open", "/dev/fuse", "r", ",", "open", "/dev/fuse", "w"]);
    // Without the driver an allowed device gives another errno than the refusal's.
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0] != "errno 1" && lines[1] == "errno 1", "{text}");
}

#[test]
fn devices_may_be_made_but_not_used() {
    let case = case!();
    let mut bundle = case.bundle();
    // In /dev, since what the root filesystem lies on may be mounted nodev. S_IFCHR | 0666, 10:229
    let text = case.act(
        &mut bundle,
        [
            "chain",
            "try-syscall",
            "mknodat",
            "-100",
            "s:/dev/made",
            "0x21b6",
            "0xae5",
            ",",
            "open",
            "/dev/made",
            "r",
        ],
    );
    assert_eq!(text.lines().collect::<Vec<_>>(), ["ok 0", "errno 1"]);
}

#[test]
fn later_device_rules_win() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["devices"] = json!([
        { "allow": true, "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 7, "access": "rwm" },
    ]);
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }]);
    let text = case.act(&mut bundle, ["open", "/dev/fuse", "r"]);
    assert_ne!(text.trim(), "errno 1");
}

#[test]
fn pids_limit_holds() {
    let case = case!();
    needs!(case, "pids");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 10 });
    let text = case.act(&mut bundle, ["fork", "50"]);
    assert_eq!(text.trim(), "forked 9 errno 11");
}

#[test]
fn memory_limits_are_written() {
    let case = case!();
    needs!(case, "memory");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["memory"] =
        json!({ "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20 });
    let _container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "memory.max"), (64 << 20).to_string());
    assert_eq!(read(&case, &bundle, "memory.low"), (32 << 20).to_string());
    if case.cgroup_dir(bundle.cgroup()).join("memory.swap.max").exists() {
        assert_eq!(read(&case, &bundle, "memory.swap.max"), (32 << 20).to_string());
    }
}

#[test]
fn memory_beyond_the_limit_ends_in_sigkill() {
    let case = case!();
    needs!(case, "memory");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 });
    bundle.args(["/probe", "eat-memory", &(256u64 << 20).to_string()]);
    let output = case.run(&bundle).exits(137);
    assert!(output.stdout.contains("ate") && !output.stdout.contains("full"), "{output}");
}

#[test]
fn cpu_limits_are_written() {
    let case = case!();
    needs!(case, "cpu");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["cpu"] =
        json!({ "shares": 1024, "quota": 50_000, "period": 100_000 });
    let _container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "cpu.max"), "50000 100000");
    let weight = read(&case, &bundle, "cpu.weight");
    assert!(["100", "39"].contains(&weight.as_str()), "{weight}");
    if Runtime::under_test().is("rt") {
        assert_eq!(weight, "100");
    }
}

#[test]
fn cpuset_is_written() {
    let case = case!();
    needs!(case, "cpuset");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["cpu"] = json!({ "cpus": "0", "mems": "0" });
    assert_eq!(case.see(&mut bundle)["cpus"], json!([0]));
}

#[test]
fn io_limits_are_written() {
    let case = case!();
    needs!(case, "io");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["blockIO"] = json!({ "weight": 500 });
    let _container = case.start_sleeping(&mut bundle);
    let weight = std::fs::read_to_string(case.cgroup_dir(bundle.cgroup()).join("io.weight"));
    let Ok(weight) = weight else { skip!("this kernel has no io.weight") };
    assert!(weight.contains("4950") || weight.contains("500"), "{weight}");
}

#[test]
fn hugetlb_limit_is_written() {
    let case = case!();
    needs!(case, "hugetlb");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 4 << 20 }]);
    let _container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "hugetlb.2MB.max"), (4 << 20).to_string());
}

#[test]
fn unified_keys_are_written() {
    let case = case!();
    needs!(case, "hugetlb");
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["unified"] =
        json!({ "hugetlb.2MB.max": "8388608", "cgroup.max.descendants": "3" });
    let _container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "hugetlb.2MB.max"), "8388608");
    assert_eq!(read(&case, &bundle, "cgroup.max.descendants"), "3");
}

#[test]
fn update_by_file_and_stdin_changes_limits() {
    let case = case!();
    needs!(case, "hugetlb");
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let resources = |bytes: u64| json!({ "unified": { "hugetlb.2MB.max": bytes.to_string() } }).to_string();
    let file = case.dir().join("resources.json");
    std::fs::write(&file, resources(4 << 20)).expect("write");
    container.call_with("update", &["--resources", &file.to_string_lossy()], &[]).run().ok();
    assert_eq!(read(&case, &bundle, "hugetlb.2MB.max"), (4 << 20).to_string());
    container.call_with("update", &["--resources", "-"], &[]).input(resources(6 << 20)).run().ok();
    assert_eq!(read(&case, &bundle, "hugetlb.2MB.max"), (6 << 20).to_string());
}

#[test]
fn update_by_flags_changes_limits() {
    let case = case!();
    needs!(case, "pids");
    needs!(case, "memory");
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    container
        .call_with(
            "update",
            &["--pids-limit", "20", "--memory", "67108864", "--memory-swap", "67108864"],
            &[],
        )
        .run()
        .ok();
    assert_eq!(read(&case, &bundle, "pids.max"), "20");
    assert_eq!(read(&case, &bundle, "memory.max"), "67108864");
}

#[test]
fn cgroup_that_holds_processes_is_refused() {
    let case = case!();
    let mut first = case.bundle();
    let container = case.start_sleeping(&mut first);
    let mut second = case.bundle();
    second.config["linux"]["cgroupsPath"] = json!(first.cgroup());
    second.args(["/probe", "exit", "0"]);
    unless!("crun", "it shares the cgroup");
    unless!("runc 1.1", "it warns only");
    case.run(&second).exits(1).fails(&["cgroup"]);
    assert_eq!(container.status(), "running");
    assert_eq!(read(&case, &first, "cgroup.procs"), container.pid().to_string());
}

#[test]
fn empty_cgroup_that_is_there_already_is_used() {
    let case = case!();
    let mut bundle = case.bundle();
    std::fs::create_dir(case.cgroup_dir(bundle.cgroup())).expect("make the cgroup");
    let container = case.start_sleeping(&mut bundle);
    assert_eq!(read(&case, &bundle, "cgroup.procs"), container.pid().to_string());
}

#[test]
fn frozen_container_can_be_deleted_by_force() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    std::fs::write(case.cgroup_dir(bundle.cgroup()).join("cgroup.freeze"), "1").expect("freeze");
    container.delete();
}

#[test]
fn child_cgroups_of_the_container_go_with_it() {
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    std::fs::create_dir_all(case.cgroup_dir(bundle.cgroup()).join("inner/most")).expect("make cgroups");
    container.delete();
    assert!(!case.cgroup_dir(bundle.cgroup()).exists());
}

#[test]
fn a_host_with_cgroup_v1_beside_v2_is_used_as_it_is() {
    unless!("crun", "it makes cgroups of version 1 there");
    unless!("runc", "it makes cgroups of version 1 there");
    let case = Case::on(test_name!(), Cgroups::AsFound);
    if !std::path::Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        skip!("this host has cgroup2 alone");
    }
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let membership =
        std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("its cgroups");
    assert!(membership.lines().any(|line| line == format!("0::{}", bundle.cgroup())), "{membership}");
    assert!(case.cgroup_dir(bundle.cgroup()).starts_with("/sys/fs/cgroup/unified"));
    container.call("pause").run().ok();
    assert_eq!(container.status(), "paused");
    container.delete();
    let mut bundle = case.bundle();
    bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).exits(1).fails(&["memory", "systemd.unified_cgroup_hierarchy=1"]);
}

#[test]
fn a_container_with_a_user_namespace_may_make_cgroups_but_not_change_its_limits() {
    unless!("runc", "it gives a cgroup to its user with the systemd driver alone");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536).namespace("cgroup", None);
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] }),
    );
    bundle.args([
        "/probe",
        "chain",
        "try-syscall",
        "mkdirat",
        "-100",
        "s:/sys/fs/cgroup/below",
        "0x1ed",
        ",",
        "write",
        "/sys/fs/cgroup/below/cgroup.procs",
        "0",
        ",",
        "read",
        "/proc/self/cgroup",
        ",",
        "open",
        "/sys/fs/cgroup/cgroup.freeze",
        "w",
    ]);
    let output = case.run(&bundle).ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!((lines[0], lines.last().copied()), ("ok 0", Some("errno 13")), "{output}");
    assert!(lines.contains(&"0::/below"), "{output}");
}

/// As a container may make them that has a cgroup to itself.
#[test]
fn cgroups_below_of_any_number_and_depth_are_removed() {
    unless!("runc", "a path of 16 long names is too long for it");
    unless!("crun", "a path of 16 long names is too long for it");
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let own = case.cgroup_dir(bundle.cgroup());
    for at in 0..500 {
        std::fs::create_dir(own.join(format!("wide{at}"))).expect("make a cgroup");
    }
    let mut at = std::fs::File::open(&own).expect("open the cgroup");
    for _ in 0..20 {
        let name = "deep".repeat(60);
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::RWXU).expect("make a cgroup");
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).expect("open it").into();
    }
    drop(at);
    assert_eq!(
        container.call_with("ps", &["--format", "json"], &[]).run().ok().stdout.trim(),
        format!("[{}]", container.pid())
    );
    let few = "ulimit -n 32; exec \"$@\"";
    let call = case
        .program(std::path::Path::new("/bin/sh"))
        .args(["-c", few, "sh"])
        .arg(Runtime::under_test().path());
    call.arg("--root").arg(case.state_root()).args(["delete", "--force", bundle.id()]).run().ok();
    assert!(!own.exists());
}
