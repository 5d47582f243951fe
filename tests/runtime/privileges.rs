//! What the process may do: capabilities, no_new_privs, OOM score, kernel parameters of its namespaces.

use tests::*;

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
