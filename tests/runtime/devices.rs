//! Device nodes and links in /dev, and `linux.devices`.
//!
//! Which devices the cgroup lets through is in `cgroup`.

use tests::*;

#[test]
fn default_devices_are_there() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    for (path, device) in [
        ("/dev/null", [1, 3]),
        ("/dev/zero", [1, 5]),
        ("/dev/full", [1, 7]),
        ("/dev/random", [1, 8]),
        ("/dev/urandom", [1, 9]),
        ("/dev/tty", [5, 0]),
    ] {
        let node = report.device(path);
        assert_eq!(node["kind"], "char", "{path}");
        assert_eq!(node["device"], json!(device), "{path}");
        assert_eq!(node["mode"], 0o666, "{path}");
        assert_eq!((node["uid"].as_u64(), node["gid"].as_u64()), (Some(0), Some(0)), "{path}");
    }
}

#[test]
fn default_links_are_there() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    if std::path::Path::new("/proc/kcore").exists() {
        assert_eq!(report.device("/dev/core")["link"], "/proc/kcore");
    }
    for (path, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        assert_eq!(report.device(path)["link"], target, "{path}");
    }
}

#[test]
fn nothing_else_is_in_dev() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    let names: Vec<&str> =
        report["dev"].as_array().expect("a list").iter().filter_map(|d| d["path"].as_str()).collect();
    let mut expected = vec![
        "/dev/fd",
        "/dev/full",
        "/dev/mqueue",
        "/dev/null",
        "/dev/ptmx",
        "/dev/pts",
        "/dev/pts/ptmx",
        "/dev/random",
        "/dev/shm",
        "/dev/stderr",
        "/dev/stdin",
        "/dev/stdout",
        "/dev/tty",
        "/dev/urandom",
        "/dev/zero",
    ];
    // /proc/kcore is not on every kernel; whether the link to it is made then is the runtime's choice.
    if names.contains(&"/dev/core") {
        expected.push("/dev/core");
    }
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn default_devices_work() {
    let case = case!();
    let mut bundle = case.bundle();
    let seen = case.act(
        &mut bundle,
        [
            "chain",
            "open",
            "/dev/null",
            "rw",
            ",",
            "open",
            "/dev/zero",
            "r",
            ",",
            "open",
            "/dev/urandom",
            "r",
            ",",
            "open",
            "/dev/full",
            "rw",
            ",",
            "open",
            "/dev/ptmx",
            "rw",
        ],
    );
    assert_eq!(seen, "ok\n".repeat(5));
}

#[test]
fn configured_devices_are_made_with_mode_and_owner() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 },
        { "path": "/dev/loop7", "type": "b", "major": 7, "minor": 7, "fileMode": 0o600 },
        { "path": "/dev/deep/er/null", "type": "c", "major": 1, "minor": 3 },
    ]);
    let report = case.see(&mut bundle);
    let fuse = report.device("/dev/fuse");
    assert_eq!(fuse["device"], json!([10, 229]));
    assert_eq!(fuse["mode"], 0o640);
    assert_eq!((fuse["uid"].as_u64(), fuse["gid"].as_u64()), (Some(3), Some(4)));
    assert_eq!(report.device("/dev/loop7")["kind"], "block");
    assert_eq!(report.device("/dev/loop7")["device"], json!([7, 7]));
    assert_eq!(report.device("/dev/deep/er/null")["device"], json!([1, 3]));
}

#[test]
fn umask_does_not_narrow_device_modes() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["user"]["umask"] = json!(0o077);
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }]);
    bundle.write();
    bundle.args(["/probe", "report"]);
    bundle.write();
    let shell = case.program(std::path::Path::new("/bin/sh")).arg("-c").arg(format!(
        "umask 077; exec '{}' --root '{}' run --bundle '{}' {}",
        Runtime::under_test().path().display(),
        case.state_root().display(),
        bundle.dir().display(),
        bundle.id()
    ));
    let report = Report::parse(&shell.run().ok().stdout);
    assert_eq!(report.device("/dev/null")["mode"], 0o666);
    assert_eq!(report.device("/dev/fuse")["mode"], 0o666);
}

#[test]
fn fifo_among_the_devices_is_made() {
    unless!("runc", "its device rules refuse the type p");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["devices"] = json!([{ "path": "/dev/pipe", "type": "p", "fileMode": 0o620 }]);
    let report = case.see(&mut bundle);
    assert_eq!(report.device("/dev/pipe")["kind"], "fifo");
    assert_eq!(report.device("/dev/pipe")["mode"], 0o620);
}

#[test]
fn configured_device_replaces_a_default_one() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["devices"] = json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 1, "gid": 1 }]);
    // Engines add a rule for each device that they list; runc lets no default rule stand for a listed one.
    bundle.config["linux"]["resources"]["devices"] = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
    ]);
    let report = case.see(&mut bundle);
    assert_eq!(report.device("/dev/null")["device"], json!([1, 3]));
    assert_eq!(report.device("/dev/null")["mode"], 0o600);
    let count = report["dev"].as_array().expect("a list").iter().filter(|d| d["path"] == "/dev/null").count();
    assert_eq!(count, 1);
}

#[test]
fn device_outside_dev_is_made() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/srv/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o444 }]);
    let seen: Value = serde_json::from_str(&case.act(&mut bundle, ["stat", "/srv/zero"])).expect("JSON");
    assert_eq!(seen[0]["device"], json!([1, 5]));
    assert_eq!(seen[0]["mode"], 0o444);
}

#[test]
fn under_a_user_namespace_the_hosts_nodes_are_bound() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    let report = case.see(&mut bundle);
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"] {
        assert_eq!(report.device(path)["kind"], "char", "{path}");
    }
    assert_eq!(report.device("/dev/null")["device"], json!([1, 3]));
    assert_eq!(case.act(&mut bundle, ["open", "/dev/null", "rw"]).trim(), "ok");
}

#[test]
fn dev_bound_from_the_host_is_left_alone() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
    let dev = case.dir().join("dev");
    std::fs::create_dir(&dev).expect("make a directory");
    std::fs::write(dev.join("mine"), "").expect("write");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let number = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod(&dev.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, number)
        .expect("make a node");
    bundle.bind(&dev, "/dev", &["rw"]);
    let report = case.see(&mut bundle);
    let names: Vec<&str> =
        report["dev"].as_array().expect("a list").iter().filter_map(|d| d["path"].as_str()).collect();
    assert_eq!(names, ["/dev/mine", "/dev/null"], "engines bind the host's /dev: nothing may be made in it");
}

// Whoever is root of the host's ids owns the host's nodes: a container has them by mounts on which nothing of them can be changed.
#[test]
fn nodes_of_the_host_can_not_be_changed_from_a_container() {
    unless!("crun", "masks and streams are the host's /dev/null");
    unless!("runc", "in a user namespace the nodes are the host's");
    let case = case!();
    let mode = |path: &str| std::fs::metadata(path).expect("a node").permissions();
    let before = ["/dev/null", "/dev/full"].map(mode);
    // To what it is anyway: where that is possible nothing is lost.
    let script = "for f in /proc/keys /proc/timer_list /proc/self/fd/0 $MORE; do \
        chmod 666 $f && echo changed $f; chown 0:0 $f && echo given $f; echo x >$f || echo unwritable $f; done; cat <&0; echo end";
    for (userns, more) in [(false, ""), (true, "/dev/null /dev/zero")] {
        let mut bundle = case.bundle();
        bundle.with_busybox().args(["/bin/sh", "-c", script]);
        if userns {
            bundle.user_namespace(0, 65_536);
        }
        bundle.config["process"]["env"] = json!(["PATH=/bin", format!("MORE={more}")]);
        assert_eq!(case.run(&bundle).ok().stdout, "end\n", "user namespace {userns}");
        let container = case.start_sleeping(&mut bundle);
        let exec =
            container.call_with("exec", &["--env", &format!("MORE={more}")], &["/bin/sh", "-c", script]);
        assert_eq!(exec.run().ok().stdout, "end\n", "exec, user namespace {userns}");
        container.delete();
    }
    assert_eq!(["/dev/null", "/dev/full"].map(mode), before);
}
