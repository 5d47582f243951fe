//! The systemd cgroup driver: what systemd is told, what is in the cgroup, and that nothing is left. Needs systemd as PID 1: these
//! tests run in the VM tier (`hack/vm run --systemd`).

use tests::*;

/// Skips the test where systemd is not PID 1 (what sd_booted(3) looks at), or a controller is missing.
macro_rules! needs_systemd {
    () => {
        if !std::path::Path::new("/run/systemd/system").exists() {
            skip!("systemd is not PID 1 here");
        }
    };
}

/// A bundle whose cgroup is a scope of its own in `rttests.slice`.
fn bundle(case: &Case) -> (Bundle, String) {
    let mut bundle = case.bundle();
    let id = bundle.id().to_owned();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("rttests.slice:rt:{id}"));
    (bundle, format!("rt-{id}.scope"))
}

fn create<'a>(case: &'a Case, bundle: &mut Bundle) -> Running<'a> {
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let call = case.call(["--systemd-cgroup", "create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    Running::new(case, bundle.id(), call)
}

fn property(case: &Case, unit: &str, name: &str) -> String {
    let systemctl = std::path::Path::new("/usr/bin/systemctl");
    case.program(systemctl)
        .args(["show", "--value", "--property", name, unit])
        .run()
        .ok()
        .stdout
        .trim()
        .to_owned()
}

fn file(unit: &str, name: &str) -> String {
    let path = format!("/sys/fs/cgroup/rttests.slice/{unit}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

fn is_gone(case: &Case, unit: &str) {
    assert_eq!(property(case, unit, "LoadState"), "not-found");
    assert!(!std::path::Path::new("/sys/fs/cgroup/rttests.slice").join(unit).exists());
}

#[test]
fn the_scope_has_the_limits_and_keeps_them_over_a_reload() {
    let case = case!();
    needs_systemd!();
    let (mut bundle, unit) = bundle(&case);
    bundle.config["linux"]["resources"] = json!({
        "memory": { "limit": 64 << 20, "swap": 96 << 20 },
        "cpu": { "shares": 2048, "quota": 33333, "cpus": "0" },
        "pids": { "limit": 20 },
        "devices": [{ "allow": false, "access": "rwm" }],
        "unified": { "memory.oom.group": "1" },
    });
    bundle.config["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "7" });
    let container = create(&case, &mut bundle);
    container.call("start").run().ok();
    let files = || {
        [
            "memory.max",
            "memory.swap.max",
            "cpu.weight",
            "cpu.max",
            "cpuset.cpus",
            "pids.max",
            "memory.oom.group",
        ]
        .map(|name| file(&unit, name))
    };
    let expected = ["67108864", "33554432", "174", "34000 100000", "0", "20", "1"];
    assert_eq!(files(), expected);
    assert_eq!(file(&unit, "cgroup.procs"), container.pid().to_string());
    for (name, value) in [
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "33554432"),
        ("CPUWeight", "174"),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("AllowedCPUs", "0"),
        ("TasksMax", "20"),
        ("OOMPolicy", "kill"),
        ("Slice", "rttests.slice"),
        ("Delegate", "yes"),
        ("TimeoutStopUSec", "7s"),
    ] {
        assert_eq!(property(&case, &unit, name), value, "{name}");
    }
    case.program(std::path::Path::new("/usr/bin/systemctl")).arg("daemon-reload").run().ok();
    assert_eq!(files(), expected);
    // The device program too.
    let text = container.exec(&["/probe", "open", "/dev/null", "r"]).ok().stdout;
    assert!(!text.contains("errno"), "{text}");
    container.delete();
    is_gone(&case, &unit);
}

#[test]
fn the_cgroup_namespace_begins_at_the_scope() {
    let case = case!();
    needs_systemd!();
    let (mut bundle, unit) = bundle(&case);
    let container = create(&case, &mut bundle);
    container.call("start").run().ok();
    let report = container.exec_report(&[]);
    assert_eq!(report["cgroup"].as_str().unwrap_or_default().trim(), "0::/", "{unit}");
}

#[test]
fn an_update_reaches_systemd_and_the_files() {
    let case = case!();
    needs_systemd!();
    let (mut bundle, unit) = bundle(&case);
    bundle.config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
    let container = create(&case, &mut bundle);
    container.call("start").run().ok();
    container
        .call_with("update", &["--memory", "134217728", "--pids-limit", "30", "--cpu-quota", "50000"], &[])
        .run()
        .ok();
    assert_eq!(
        [file(&unit, "memory.max"), file(&unit, "pids.max"), file(&unit, "cpu.max")],
        ["134217728", "30", "50000 100000"]
    );
    let told = ["MemoryMax", "TasksMax", "CPUQuotaPerSecUSec"].map(|name| property(&case, &unit, name));
    assert_eq!(told, ["134217728", "30", "500ms"]);
}

#[test]
fn a_create_that_fails_leaves_no_unit() {
    let case = case!();
    needs_systemd!();
    let (mut bundle, unit) = bundle(&case);
    bundle.args(["/nothing"]);
    bundle.write();
    let call = case.call(["--systemd-cgroup", "create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    call.run().exits(1);
    is_gone(&case, &unit);
    bundle.config["annotations"] = json!({ "org.systemd.property.CollectMode": "'nonsense'" });
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let call = case.call(["--systemd-cgroup", "create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let output = call.run().exits(1);
    assert!(output.stderr.contains("CollectMode"), "{output}");
    is_gone(&case, &unit);
}

#[test]
fn a_unit_in_use_is_refused_and_lives_on() {
    let case = case!();
    needs_systemd!();
    let (mut bundle, unit) = bundle(&case);
    let container = create(&case, &mut bundle);
    let mut second = case.bundle();
    second.config["linux"]["cgroupsPath"] = bundle.config["linux"]["cgroupsPath"].clone();
    second.write();
    let call = case.call(["--systemd-cgroup", "create", "--bundle"]).arg(second.dir()).arg(second.id());
    let output = call.run().exits(1);
    assert!(output.stderr.contains("another container uses it"), "{output}");
    assert_eq!(
        (container.status().as_str(), property(&case, &unit, "ActiveState").as_str()),
        ("created", "active")
    );
}

#[test]
fn without_systemd_the_error_says_so() {
    let case = case!();
    if std::path::Path::new("/run/systemd/private").exists()
        || std::path::Path::new("/run/dbus/system_bus_socket").exists()
    {
        skip!("systemd is here");
    }
    unless!("runc", "its words are its own");
    unless!("crun", "its words are its own");
    let (bundle, _) = bundle(&case);
    bundle.write();
    let call = case.call(["--systemd-cgroup", "create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let output = call.run().exits(1);
    assert!(output.stderr.contains("is systemd running? Without it, leave out --systemd-cgroup"), "{output}");
}
