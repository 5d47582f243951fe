//! Mounts: every type and option that engines write.
//!
//! What mounts must not do to the host is in `escapes`.

use nix::sys::stat::{major as rdev_major, minor as rdev_minor};
use std::os::unix::fs::MetadataExt;
use tests::*;

#[test]
fn engine_mounts_are_there_with_their_options() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    for (point, kind, options) in [
        ("/proc", "proc", &["rw", "nosuid", "noexec", "nodev"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid", "!nodev", "!noexec"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "noexec", "nodev"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", &["ro", "nosuid", "noexec", "nodev"]),
        ("/sys/fs/cgroup", "cgroup2", &["ro", "nosuid", "noexec", "nodev", "relatime"]),
    ] {
        let mount = report.mount(point);
        assert_eq!(mount.kind(), kind, "{point}");
        mount.expect(options);
    }
}

#[test]
fn file_system_parameters_reach_the_kernel() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    let dev = report.mount("/dev");
    assert!(dev.has_super("mode=755") && dev.has_super("size=65536k"), "{dev:?}");
    let pts = report.mount("/dev/pts");
    assert!(pts.has_super("mode=620") && pts.has_super("ptmxmode=666") && pts.has_super("gid=5"), "{pts:?}");
    assert!(report.mount("/dev/shm").has_super("size=65536k"));
}

#[test]
fn mounts_come_in_the_order_of_the_config() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({ "destination": "/a", "type": "tmpfs", "source": "first", "options": [] }));
    bundle.mount(json!({ "destination": "/a/b", "type": "tmpfs", "source": "second", "options": [] }));
    bundle.mount(json!({ "destination": "/a", "type": "tmpfs", "source": "third", "options": [] }));
    let report = case.see(&mut bundle);
    assert_eq!(report.mount("/a")["source"], "third");
    let sources: Vec<&str> = report["mounts"]
        .as_array()
        .expect("mounts")
        .iter()
        .filter(|m| m["point"].as_str().is_some_and(|p| p.starts_with("/a")))
        .filter_map(|m| m["source"].as_str())
        .collect();
    assert_eq!(sources, ["first", "second", "third"]);
}

#[test]
fn each_plain_option_is_set() {
    unless!("crun", "it has no nosymfollow");
    let case = case!();
    for (asked, seen) in [
        ("ro", "ro"),
        ("rw", "rw"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
        ("suid", "!nosuid"),
        ("dev", "!nodev"),
        ("exec", "!noexec"),
        ("strictatime", "!relatime"),
        ("nosymfollow", "nosymfollow"),
    ] {
        if asked == "nosymfollow" && Runtime::under_test().is("runc 1.1") {
            continue; // since 1.2
        }
        let mut bundle = case.bundle();
        bundle.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": [asked] }));
        case.see(&mut bundle).mount("/m").expect(&[seen]);
    }
}

#[test]
fn options_that_are_defaults_anyway_are_accepted() {
    unless!("crun", "it knows not all of them");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t",
        "options": ["async", "atime", "diratime", "norelatime", "nomand", "loud", "size=1m"] }));
    assert!(case.see(&mut bundle).mount("/m").has_super("size=1024k"));
}

#[test]
fn the_last_of_contrary_options_wins() {
    unless!("crun", "it does not clear flags");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["ro", "nosuid", "rw", "suid"] }));
    case.see(&mut bundle).mount("/m").expect(&["rw", "!nosuid"]);
}

#[test]
fn tmpfs_with_tmpcopyup_holds_what_was_there() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/data/a/file", "kept").file("/data/script", "#!").mode("/data/script", 0o751);
    bundle.link("/data/link", "script");
    bundle.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "mode=1777", "tmpcopyup"] }));
    let text = case.act(
        &mut bundle,
        ["chain", "read", "/data/a/file", ",", "stat", "/data/script", "/data/link", "/data"],
    );
    let seen: Value =
        serde_json::from_str(text.strip_prefix("kept").expect("the file's text")).expect("JSON");
    assert_eq!(seen[0]["mode"], 0o751);
    assert_eq!(seen[1]["link"], "script");
    assert_eq!(case.see(&mut bundle).mount("/data").kind(), "tmpfs");
    case.act(&mut bundle, ["write", "/data/a/file", "changed"]);
    assert_eq!(std::fs::read_to_string(bundle.host_path("/data/a/file")).expect("the file"), "kept");
}

#[test]
fn tmpfs_takes_the_mode_of_the_directory_below_where_none_is_given() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/spool").mode("/spool", 0o1731);
    bundle
        .mount(json!({ "destination": "/spool", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"] }));
    let seen: Value = serde_json::from_str(&case.act(&mut bundle, ["stat", "/spool"])).expect("JSON");
    assert_eq!(seen[0]["mode"], 0o1731);
}

#[test]
fn writable_cgroup_mount_shows_the_containers_cgroup() {
    let case = case!();
    let mut bundle = case.bundle();
    for mount in bundle.config["mounts"].as_array_mut().expect("mounts") {
        if mount["type"] == "cgroup" {
            mount["type"] = json!("cgroup2");
            mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    let text = case.act(&mut bundle, ["read", "/sys/fs/cgroup/cgroup.procs"]);
    assert_eq!(text.trim(), "1");
}

#[test]
fn cgroup_mount_without_a_cgroup_namespace_shows_the_whole_tree() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("cgroup");
    let path = format!("/sys/fs/cgroup{}/cgroup.procs", bundle.cgroup());
    assert_eq!(case.act(&mut bundle, ["read", &path]).trim(), "1");
    assert!(case.see(&mut bundle)["cgroup"].as_str().is_some_and(|c| c.contains(case.cgroup())));
}

/// Who could not mount it himself does not get the host's whole tree for writing.
#[test]
fn writable_cgroup_mount_without_a_cgroup_namespace_is_read_only() {
    unless!("runc", "it is writable");
    unless!("crun", "it is writable");
    let case = case!();
    for (capability, is_writable) in [(None, false), (Some("CAP_SYS_ADMIN"), true)] {
        let mut bundle = case.bundle();
        bundle.without_namespace("cgroup").args(["/probe", "report"]);
        let all: Vec<&str> = config::DEFAULT_CAPABILITIES.iter().copied().chain(capability).collect();
        bundle.capabilities(&all);
        for mount in bundle.config["mounts"].as_array_mut().expect("mounts") {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
            }
        }
        let output = case.run(&bundle).ok();
        let warned = output.stderr.contains("the cgroup mount at /sys/fs/cgroup is read-only");
        assert_eq!(warned, !is_writable, "{output}");
        let mode = if is_writable { "rw" } else { "ro" };
        Report::parse(&output.stdout).mount("/sys/fs/cgroup").expect(&[mode]);
    }
}

#[test]
fn proc_and_sys_are_the_containers_own() {
    let case = case!();
    let mut bundle = case.bundle();
    let names: Vec<String> = serde_json::from_str(&case.act(&mut bundle, ["list", "/proc"])).expect("a list");
    let pids: Vec<&String> = names.iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect();
    assert_eq!(pids, ["1"]);
    let nets: Vec<String> =
        serde_json::from_str(&case.act(&mut bundle, ["list", "/sys/class/net"])).expect("a list");
    assert_eq!(nets, ["lo"]);
}

#[test]
fn destination_is_resolved_inside_the_root() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory("/real").link("/alias", "/real");
    bundle.mount(json!({ "destination": "/alias/sub", "type": "tmpfs", "source": "t", "options": [] }));
    assert_eq!(case.see(&mut bundle).mount("/real/sub").kind(), "tmpfs");
}

#[test]
fn source_and_destination_with_odd_characters() {
    let case = case!();
    let mut bundle = case.bundle();
    let source = case.dir().join("a b,c:d\\e");
    std::fs::create_dir(&source).expect("make a directory");
    std::fs::write(source.join("f"), "odd").expect("write");
    bundle.bind(&source, "/x y,z:\\q", &["ro"]);
    assert_eq!(case.act(&mut bundle, ["read", "/x y,z:\\q/f"]), "odd");
}

#[test]
fn mount_without_options_or_source_works() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({ "destination": "/m", "type": "tmpfs" }));
    assert_eq!(case.see(&mut bundle).mount("/m").kind(), "tmpfs");
}

/// A disk of its own: a small ext4 with a file, behind a loop device.
struct Disk {
    device: String,
}

impl Disk {
    /// None, with the reason, where this host has no tools for it.
    fn new(case: &Case) -> Result<Self, String> {
        let (image, content) = (case.dir().join("disk.img"), case.dir().join("disk"));
        std::fs::create_dir(&content).expect("make a directory");
        std::fs::write(content.join("hello"), "from the disk\n").expect("write");
        std::fs::File::create(&image).and_then(|file| file.set_len(4 << 20)).expect("make an image");
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            let output = std::process::Command::new(program).args(args).output();
            let output = output.map_err(|error| format!("{program}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let ok = output.status.success().then_some(output.stdout);
            ok.ok_or_else(|| format!("{program}: {said}"))
        };
        run("/usr/sbin/mkfs.ext4", &["-q".as_ref(), "-d".as_ref(), content.as_ref(), image.as_ref()])?;
        let device = run("/usr/sbin/losetup", &["--find".as_ref(), "--show".as_ref(), image.as_ref()])?;
        Ok(Self { device: String::from_utf8_lossy(&device).trim().to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("/usr/sbin/losetup").args(["--detach", &self.device]).status();
    }
}

// The container's device rules, which refuse the disk, are in force while its init makes the mounts.
#[test]
fn disk_is_mounted_whatever_the_device_rules_say_and_whenever() {
    only_rt!("it stops at a step of rt");
    let case = case!();
    let disk = match Disk::new(&case) {
        Ok(disk) => disk,
        Err(why) => skip!("{why}"),
    };
    let number = std::fs::metadata(&disk.device).expect("a device").rdev();
    let (major, minor) = (rdev_major(number), rdev_minor(number));
    let victim = Victim::with(&case, failpoints());
    let mut bundle = case.bundle();
    bundle.config["mounts"].as_array_mut().expect("mounts").push(json!({
        "destination": "/disk", "type": "ext4", "source": disk.device, "options": ["ro", "nosuid", "noexec"] }));
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/disk", "type": "b", "major": major, "minor": minor }]);
    let open = ["try-syscall", "openat", "0", "s:/dev/disk", "0"];
    bundle.args(["/probe", "chain", "read", "/disk/hello", ","].into_iter().chain(open));
    bundle.write();
    let call = victim.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let run = call.env("RT_STOP_AT", "mounts").spawn();
    let children = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid()));
    let init: i32 = until("init is about to mount", || {
        let pid: i32 = children().ok()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "mounts").then_some(pid)
    });
    until("rt has set the rules, and waits", || {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", run.pid())).ok()?;
        call.starts_with(&format!("{} ", nix::libc::SYS_recvmsg)).then_some(())
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGCONT)
        .expect("a process that waits");
    let output = run.wait().ok();
    assert_eq!(output.stdout, "from the disk\nerrno 1\n", "{output}");
}

// It may mount nothing of devices: init tries, and the kernel refuses.
#[test]
fn container_with_a_user_namespace_gets_no_disk_of_the_hosts() {
    let case = case!();
    let disk = match Disk::new(&case) {
        Ok(disk) => disk,
        Err(why) => skip!("{why}"),
    };
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .push(json!({ "destination": "/disk", "type": "ext4", "source": disk.device, "options": ["ro"] }));
    bundle.args(["/probe", "read", "/disk/hello"]);
    case.run(&bundle).exits(1).fails(&["ext4", "/disk", "operation not permitted"]);
}
