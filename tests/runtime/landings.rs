//! Where mounts, devices and masks land: looked at by the place, however it is written, and whoever moves it meanwhile.

use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::SFlag;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::*;

/// Something of every kind that a config can mount, by its name.
fn kinds(case: &Case) -> Vec<(&'static str, Value)> {
    let (dir, file) = (case.dir().join("volume"), case.dir().join("volume-file"));
    std::fs::create_dir_all(&dir).expect("make a directory");
    std::fs::write(&file, "volume").expect("write");
    vec![
        ("tmpfs", json!({ "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"] })),
        ("tmpcopyup", json!({ "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] })),
        ("mqueue", json!({ "type": "mqueue", "source": "mqueue" })),
        ("sysfs", json!({ "type": "sysfs", "source": "sysfs", "options": ["ro"] })),
        ("cgroup", json!({ "type": "cgroup", "source": "cgroup", "options": ["ro"] })),
        ("bind", json!({ "type": "bind", "source": dir, "options": ["rbind"] })),
        ("bind of a file", json!({ "type": "bind", "source": file, "options": ["bind"] })),
        ("bind of /proc/sys", json!({ "type": "bind", "source": "/proc/sys", "options": ["bind", "ro"] })),
    ]
}

// CVE-2019-16884, CVE-2025-52881: by a link of the image a volume lies in /proc.
#[test]
fn nothing_is_mounted_into_proc_whatever_the_way() {
    unless!("crun", "it mounts whatever it is told there");
    let case = case!();
    let ways = [
        ("/pp", "/proc", "/pp"),
        ("/pp", "proc", "/pp/self/attr"),
        ("/pp", "../../proc/self", "/pp/attr"),
        ("/pp", "/proc/../proc/self/attr", "/pp"),
        ("/pp", "/proc/self/attr", "/proc/../pp"),
        ("/pp", "/proc/self/attr/exec", "/pp"),
        ("/pp", "/proc/sys/kernel", "/x/../pp/domainname"),
        ("/pp", "/proc/1/task/1/attr", "//pp/./current"),
        ("/pp", "/way", "/pp/uptime/../self"),
    ];
    for (link, to, destination) in ways {
        for (name, mut mount) in kinds(&case) {
            let mut bundle = case.bundle();
            bundle.link(link, to).link("/way", "/proc").args(["/probe", "exit", "0"]);
            mount["destination"] = json!(destination);
            bundle.mount(mount);
            let output = case.run(&bundle);
            assert_ne!(output.code(), 0, "{name} at {destination} by {link} -> {to}: {output}");
        }
    }
}

#[test]
fn known_files_of_proc_are_covered_by_whatever_name() {
    let case = case!();
    let fake = case.dir().join("fake");
    std::fs::write(&fake, "fake").expect("write");
    for (to, destination) in
        [("/proc/uptime", "/proc/uptime"), ("/proc/uptime", "/up"), ("/proc/sys/kernel/ns_last_pid", "/up")]
    {
        if destination == "/up" {
            unless!("runc", "it refuses links into /proc");
        }
        if to.ends_with("ns_last_pid") && !Path::new(to).exists() {
            continue;
        }
        let mut bundle = case.bundle();
        bundle.link("/up", to).bind(&fake, destination, &["ro"]);
        assert_eq!(case.act(&mut bundle, ["read", to]), "fake", "{to} by {destination}");
    }
}

#[test]
fn another_procfs_is_covered_as_little_as_the_first() {
    only_rt!("what is a procfs is its own view");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({ "destination": "/second", "type": "proc", "source": "proc" }));
    bundle.mount(json!({ "destination": "/second/self/attr", "type": "tmpfs", "source": "t" }));
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).exits(1).fails(&["mount tmpfs at /second/self/attr", "procfs"]);
}

#[test]
fn device_bound_for_a_user_namespace_does_not_land_in_proc() {
    unless!("crun", "it mounts whatever it is told there");
    let case = case!();
    let mut bundle = case.bundle();
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
    bundle.link("/dev/full", "/proc/sys/kernel/domainname").user_namespace(100_000, 65_536);
    bundle.args(["/probe", "stat", "/proc/sys/kernel/domainname"]);
    let output = case.run(&bundle);
    assert!(output.code() != 0 || !output.stdout.contains("char"), "{output}");
    if Runtime::under_test().is("rt") {
        output.fails(&["make device /dev/full", "something else is there"]);
    }
}

/// Does this again and again while the other runs.
fn race<T>(disturb: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                disturb();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn exchange(dir: &Path, one: &str, other: &str) {
    let dir = std::fs::File::open(dir).expect("open a directory");
    let _ = renameat2(dir.as_fd(), one, dir.as_fd(), other, RenameFlags::RENAME_EXCHANGE);
}

/// Runs the bundle, in which `/proc/sys` is protected and `/proc/keys` and `/sys/firmware` are hidden, as often as it takes; nothing of
/// that may ever be seen or writable by any name.
#[track_caller]
fn holds_by_every_name(case: &Case, names: &[&str], rounds: u32, prepare: impl Fn(&mut Bundle)) {
    for _ in 0..rounds {
        let mut bundle = case.bundle();
        prepare(&mut bundle);
        let mut verbs = vec!["/probe", "chain"];
        let paths: Vec<[String; 2]> = names
            .iter()
            .map(|name| [format!("{name}/sys/kernel/domainname"), format!("{name}/keys")])
            .collect();
        for [parameter, keys] in &paths {
            verbs.extend(["open", parameter, "w", ",", "stat", keys, ","]);
        }
        verbs.extend(["exit", "0"]);
        bundle.args(verbs);
        let rootfs = bundle.host_path("/");
        let output = race(
            || {
                exchange(&rootfs, "proc", "other");
                exchange(&rootfs, "sys", "other-sys");
            },
            || case.run(&bundle),
        );
        if output.code() != 0 {
            continue;
        }
        for line in output.stdout.lines() {
            assert_ne!(line, "ok", "a kernel parameter can be written: {output}");
            if line.contains("\"kind\"") {
                assert!(!line.contains("\"kind\":\"file\""), "what was to be hidden is seen: {output}");
            }
        }
        let _ = std::fs::remove_dir_all(bundle.dir());
    }
}

// A root filesystem that somebody else writes to: /proc exchanged with a link or a directory while the container is made.
#[test]
fn proc_exchanged_meanwhile_is_masked_or_refused() {
    unless!("crun", "it skips what it doesn't find");
    let case = case!();
    for other in ["link", "directory"] {
        holds_by_every_name(&case, &["/proc", "/other"], 60, |bundle| {
            bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/kcore", "/sys/firmware"]);
            bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/bus", "/proc/irq"]);
            match other {
                "link" => bundle.link("/other", "/tmp").link("/other-sys", "proc"),
                _ => bundle.directory("/other/sys/kernel").directory("/other-sys"),
            };
        });
    }
}

#[test]
fn paths_below_proc_are_hidden_where_proc_is_not_moved() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/none", "/sys/firmware", "/none"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/none"]);
    let text = case.act(
        &mut bundle,
        ["chain", "open", "/proc/sys/kernel/domainname", "w", ",", "stat", "/proc/keys", "/proc/none"],
    );
    assert!(text.starts_with("errno 30\n"), "{text}");
    assert!(!text.contains("\"kind\":\"file\""), "{text}");
}

/// A tmpfs with tmpcopyup over `/data`.
fn copies_up(bundle: &mut Bundle) -> &mut Bundle {
    bundle.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "mode=755", "size=8m", "tmpcopyup"] }))
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("make a FIFO");
}

#[test]
fn copying_up_does_not_wait_for_what_became_a_fifo() {
    unless!("crun", "it opens what it finds");
    unless!("runc", "it opens what it finds");
    let case = case!();
    for _ in 0..40 {
        let mut bundle = case.bundle();
        let names: Vec<String> = (0..40).map(|at| format!("f{at}")).collect();
        for name in &names {
            bundle.file(&format!("/data/{name}"), "text").file(&format!("/spare/{name}"), "");
            std::fs::remove_file(bundle.host_path(&format!("/spare/{name}"))).expect("remove");
            fifo(&bundle.host_path(&format!("/spare/{name}")));
        }
        copies_up(&mut bundle).args(["/probe", "exit", "0"]);
        bundle.write();
        let rootfs = bundle.host_path("/");
        race(
            || {
                names
                    .iter()
                    .for_each(|name| exchange(&rootfs, &format!("data/{name}"), &format!("spare/{name}")));
            },
            || {
                let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
                call.deadline(std::time::Duration::from_secs(10)).run()
            },
        );
        let _ = std::fs::remove_dir_all(bundle.dir());
    }
}

#[test]
fn copying_up_keeps_holes_and_leaves_sockets_and_devices_out() {
    unless!("crun", "it copies byte by byte");
    unless!("runc", "it copies byte by byte, and devices");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/data/text", "text").directory("/data/below");
    let sparse = std::fs::File::create(bundle.host_path("/data/sparse")).expect("make a file");
    sparse.set_len(1 << 40).expect("make a hole");
    fifo(&bundle.host_path("/data/fifo"));
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let number = nix::sys::stat::makedev(1, 3);
    for (name, kind) in [("socket", SFlag::S_IFSOCK), ("null", SFlag::S_IFCHR)] {
        let path = bundle.host_path("/data").join(name);
        nix::sys::stat::mknod(&path, kind, mode, number).expect("make a node");
    }
    copies_up(&mut bundle);
    let text = case.act(&mut bundle, ["chain", "list", "/data", ",", "stat", "/data/sparse", "/data/fifo"]);
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(lines.next(), Some(json!(["below", "fifo", "sparse", "text"])));
    let seen = lines.next().expect("two files");
    assert_eq!((&seen[0]["size"], &seen[1]["kind"]), (&json!(1_u64 << 40), &json!("fifo")));
}

#[test]
fn copying_up_ends_where_directories_go_too_deep() {
    only_rt!("the bound is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.directory(&format!("/data/{}", "d/".repeat(100)));
    copies_up(&mut bundle).args(["/probe", "exit", "0"]);
    case.run(&bundle).exits(1).fails(&["mount tmpfs at /data", "64 directories in each other", "tmpcopyup"]);
}

// The nodes of /dev are made in what lies there, and a terminal is opened in /dev/pts.
#[test]
fn a_volume_lies_at_dev_by_no_link_of_the_image() {
    only_rt!("others make their nodes in the volume");
    let case = case!();
    let volume = case.dir().join("volume");
    std::fs::create_dir(&volume).expect("make a directory");
    for (to, destination) in [
        ("/dev", "/data"),
        ("dev", "/data"),
        ("/dev/pts", "/data"),
        ("/dev/shm/..", "/data"),
        ("/dev", "/data/pts"),
    ] {
        let mut bundle = case.bundle();
        bundle.link("/data", to).bind(&volume, destination, &["rw"]).args(["/probe", "exit", "0"]);
        case.run(&bundle).exits(1).fails(&["a link of the image leads"]);
        assert_eq!(std::fs::read_dir(&volume).expect("the volume").count(), 0, "{to} by {destination}");
    }
}

// The image leads the volume to where a device is to be: the node would be made in the host's directory.
#[test]
fn a_device_is_made_in_no_volume_that_a_link_of_the_image_led_there() {
    only_rt!("others make their nodes in the volume");
    let case = case!();
    let volume = case.dir().join("volume");
    std::fs::create_dir(&volume).expect("make a directory");
    for (to, node) in [
        ("/dev/net", "/dev/net/tun"),
        ("/dev/bus/usb", "/dev/bus/usb/001/002"),
        ("/dev/bus", "/dev/bus/usb/001/002"),
        ("/opt", "/opt/node"),
    ] {
        let mut bundle = case.bundle();
        bundle.link("/data", to).bind(&volume, "/data", &["rw"]).args(["/probe", "exit", "0"]);
        let device =
            json!({"path": node, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0});
        bundle.config["linux"]["devices"] = json!([device]);
        case.run(&bundle).exits(1).fails(&["make device", node, "a link of the image"]);
        assert_eq!(std::fs::read_dir(&volume).expect("the volume").count(), 0, "{to} for {node}");
    }
}

// What the config says is done: the volume is written to be there.
#[test]
fn a_device_is_made_in_a_volume_that_is_written_there() {
    let case = case!();
    let volume = case.dir().join("volume");
    std::fs::create_dir(&volume).expect("make a directory");
    let mut bundle = case.bundle();
    bundle.bind(&volume, "/dev/net", &["rw"]).args(["/probe", "exit", "0"]);
    let device = json!({"path": "/dev/net/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0});
    bundle.config["linux"]["devices"] = json!([device]);
    case.run(&bundle).exits(0);
    assert!(volume.join("zero").exists());
}
