//! What runc had of links and races in the root filesystem and in volumes.

use super::{drop_mounts, outside, untouched, ways_to, while_exchanging};
use std::path::Path;
use tests::*;

/// /proc, then /sys, is what `make` makes of it; the runtime refuses, or what it mounted is where it belongs.
#[track_caller]
pub fn proc_and_sys_as_links(case: &Case, make: impl Fn(&mut Bundle, &str)) {
    for (path, kind) in [("/proc", "proc"), ("/sys", "sysfs")] {
        let mut bundle = case.bundle();
        make(&mut bundle, path);
        bundle.args(["/probe", "report"]);
        let output = case.run(&bundle);
        if Runtime::under_test().is("rt") {
            output.exits(1).fails(&[path, "symbolic link"]);
        } else if output.code() == 0 {
            // Others may take the link away.
            assert_eq!(Report::parse(&output.stdout).mount(path).kind(), kind);
        }
    }
}

// 2019-19921: /proc or /sys of the image is a link, so that labels are written into what the image made up.
#[test]
fn cve_2019_19921_proc_or_sys_of_the_image_is_a_link() {
    let case = case!();
    let outside = outside(&case);
    for to in ways_to(&outside) {
        proc_and_sys_as_links(&case, |bundle, path| {
            bundle.link(path, &to);
        });
        untouched(&outside);
    }
}

// 2023-27561: the same once more, by a volume that another container shares and fills with the link.
#[test]
fn cve_2023_27561_proc_or_sys_is_a_link_into_a_volume() {
    let case = case!();
    let outside = outside(&case);
    proc_and_sys_as_links(&case, |bundle, path| {
        bundle.link(path, "/volume/made-up");
        // Mounted before /proc and /sys are.
        let volume =
            json!({ "destination": "/volume", "type": "bind", "source": outside, "options": ["rbind"] });
        bundle.config["mounts"].as_array_mut().expect("mounts").insert(0, volume);
    });
    untouched(&outside);
}

// 2023-28642: a link at /proc and a mount at its end hid from AppArmor's check that /proc is none.
#[test]
fn cve_2023_28642_proc_or_sys_is_a_link_to_where_something_is_mounted() {
    let case = case!();
    let outside = outside(&case);
    proc_and_sys_as_links(&case, |bundle, path| {
        bundle.directory("/tmp/end").link(path, "/tmp/end").bind(&outside, "/tmp/end", &[]);
    });
    untouched(&outside);
}

// 2019-16884: a volume over /proc, so that labels are written into fake files.
// Bites: crun 1.21 mounts it.
#[test]
fn cve_2019_16884_a_volume_over_proc() {
    unless!("crun", "it mounts whatever it is told there");
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/proc");
    bundle.bind(&outside, "/proc", &[]);
    case.run(&bundle).exits(1).fails(&["/proc"]);
    untouched(&outside);
}

// 2021-30465: the target of one mount is exchanged for a link while it is made, so that it lands on the host's tree, and the next
// source is taken from what the attacker put there.
#[test]
fn cve_2021_30465_the_next_mounts_source_is_exchanged_by_a_race() {
    let case = case!();
    let outside = outside(&case);
    // A directory of its own: what is mounted over it by the race must not hide the container's root from the runtime.
    let host = case.dir().join("host");
    let (volume, second, source) = (case.dir().join("volume"), case.dir().join("second"), host.join("plain"));
    std::fs::create_dir_all(volume.join("way")).expect("make directories");
    std::fs::create_dir_all(&source).expect("make directories");
    // The second volume has the next source's name, which leads to what no container is given.
    std::fs::create_dir(&second).expect("make a directory");
    std::os::unix::fs::symlink(&outside, second.join("plain")).expect("link");
    std::os::unix::fs::symlink(&host, volume.join("link")).expect("link");
    let mut bundle = case.bundle();
    bundle.bind(&volume, "/volume", &[]).bind(&second, "/volume/way", &[]).bind(&source, "/next", &[]);
    bundle.args(["/probe", "list", "/next"]);
    while_exchanging(&volume.join("way"), &volume.join("link"), || {
        for _ in 0..40 {
            let output = case.run(&bundle);
            assert!(!output.stdout.contains("secret"), "{output}");
        }
    });
    untouched(&outside);
}

// 2024-45310: what a mount's target lacks is made, and by a race it is made on the host.
// Bites: runc 1.1.5, in one of two runs of the test.
#[test]
fn cve_2024_45310_a_mounts_target_is_made_outside_by_a_race() {
    let case = case!();
    let outside = outside(&case);
    let (volume, file) = (case.dir().join("volume"), case.dir().join("file"));
    std::fs::create_dir_all(volume.join("way")).expect("make directories");
    std::fs::write(&file, "").expect("write");
    std::os::unix::fs::symlink(&outside, volume.join("link")).expect("link");
    let mut bundle = case.bundle();
    let plain = bundle.config["mounts"].clone();
    bundle.args(["/probe", "exit", "0"]);
    while_exchanging(&volume.join("way"), &volume.join("link"), || {
        for round in 0..40 {
            bundle.config["mounts"] = plain.clone();
            bundle.bind(&volume, "/volume", &[]);
            bundle.bind(&file, &format!("/volume/way/file-{round}"), &[]);
            bundle.bind(&volume, &format!("/volume/way/made-{round}/deep"), &[]);
            let _ = case.run(&bundle);
        }
    });
    untouched(&outside);
}

/// What a program reads of two masked paths where /dev is the image's, as `make` makes it. It goes into a file of a volume: what the
/// standard streams of such a container are is not sure either.
pub fn read_behind_masks(case: &Case, make: impl Fn(&mut Bundle)) -> String {
    let volume = case.dir().join("volume");
    std::fs::create_dir_all(&volume).expect("make a volume");
    let _ = std::fs::remove_file(volume.join("seen"));
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/dev");
    bundle.with_busybox().bind(&volume, "/volume", &[]).file("/secret", "hidden");
    make(&mut bundle);
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/proc/keys"]);
    bundle.args(["/bin/sh", "-c", "cat /secret /proc/keys >/volume/seen"]);
    let _ = case.run(&bundle);
    std::fs::read_to_string(volume.join("seen")).unwrap_or_default()
}

// 2025-31133: /dev/null of the image is something else, and masks are bound from it: what it leads to is open inside, or nothing
// is masked at all.
// Bites: runc 1.1.5.
#[test]
fn cve_2025_31133_the_mask_is_the_images_dev_null() {
    let case = case!();
    for to in ["/proc/sys/kernel/hostname", "/proc/self/status", "/other"] {
        let seen = read_behind_masks(&case, |bundle| {
            bundle.file("/other", "the image's").link("/dev/null", to);
        });
        assert_eq!(seen, "", "/dev/null is a link to {to}");
    }
    let seen = read_behind_masks(&case, |bundle| {
        bundle.file("/dev/null", "the image's");
    });
    assert_eq!(seen, "", "/dev/null is a file");
}

/// A terminal for a container whose /dev is the image's, as `make` makes it; what its program saw, if it ran.
pub fn run_with_a_terminal(case: &Case, make: impl Fn(&mut Bundle)) -> Option<Report> {
    let volume = case.dir().join("volume");
    std::fs::create_dir_all(&volume).expect("make a volume");
    let _ = std::fs::remove_file(volume.join("seen"));
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/dev");
    bundle.mount(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }));
    bundle.bind(&volume, "/volume", &[]);
    make(&mut bundle);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.args(["/probe", "chain", "report", "/volume/seen", ",", "write", "/dev/console", "written"]);
    bundle.write();
    let (_ours, theirs) = terminal::pair(24, 80);
    let _ = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).run();
    std::fs::read_to_string(volume.join("seen")).ok().map(|text| Report::parse(&text))
}

// 2025-52565: the terminal is bound at /dev/console before anything is masked, and the image's link leads it elsewhere.
// Bites: runc 1.1.5, crun 1.21.
#[test]
fn cve_2025_52565_dev_console_of_the_image_leads_elsewhere() {
    let case = case!();
    let outside = outside(&case);
    for to in ways_to(&outside.join("secret")) {
        run_with_a_terminal(&case, |bundle| {
            bundle.link("/dev/console", &to);
        });
        untouched(&outside);
    }
    unless!("crun", "1.21 binds the terminal where the link leads, inside");
    for to in ["/etc/elsewhere", "/proc/sysrq-trigger"] {
        let seen = run_with_a_terminal(&case, |bundle| {
            bundle.file("/etc/elsewhere", "").link("/dev/console", to);
        });
        let terminal = seen.and_then(|seen| seen.find_mount(to)).filter(|mount| mount.kind() == "devpts");
        assert!(terminal.is_none(), "the terminal lies over {to}: {terminal:?}");
    }
}

// 2025-52881: writes to /proc land in what the config mounted over it, also by way of the image's link.
#[test]
fn cve_2025_52881_a_kernel_parameter_is_written_into_a_fake() {
    let case = case!();
    let fake = case.dir().join("fake");
    std::fs::create_dir_all(fake.join("net/ipv4")).expect("make directories");
    std::fs::write(fake.join("net/ipv4/ip_forward"), "fake").expect("write");
    for way in ["/proc", "/way", "/proc/../way", "/etc/../proc"] {
        for part in ["", "/net", "/net/ipv4", "/net/ipv4/ip_forward"] {
            let mut bundle = case.bundle();
            bundle.link("/way", "/proc");
            bundle.bind(&fake.join(part.trim_start_matches('/')), &format!("{way}/sys{part}"), &[]);
            bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
            bundle.args(["/probe", "exit", "0"]);
            let _ = case.run(&bundle);
            let text = std::fs::read_to_string(fake.join("net/ipv4/ip_forward")).expect("the fake");
            assert_eq!(text, "fake", "a parameter is written into {way}/sys{part}");
        }
    }
}

/// /dev of the image leads to a directory of the host, with and without a mount at /dev, with a device of the config.
#[track_caller]
pub fn dev_as_a_link(case: &Case, outside: &Path) {
    for link in ways_to(outside) {
        for with_mount in [true, false] {
            let mut bundle = case.bundle();
            bundle.link("/dev", &link).args(["/probe", "exit", "0"]);
            if !with_mount {
                drop_mounts(&mut bundle, "/dev");
            }
            bundle.config["linux"]["devices"] =
                json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]);
            let _ = case.run(&bundle);
        }
    }
}

// 2026-41579: /dev of the image is a link: files named ptmx go, and links are made, where it leads.
// Bites: runc 1.1.5, crun 1.21.
#[test]
fn cve_2026_41579_dev_of_the_image_is_a_link() {
    unless!("crun", "1.21 makes the nodes outside (CVE-2026-47766)");
    let case = case!();
    let outside = outside(&case);
    dev_as_a_link(&case, &outside);
    untouched(&outside);
    let other = case.dir().join("other");
    std::fs::create_dir(&other).expect("make a directory");
    std::fs::write(other.join("ptmx"), "mine").expect("write");
    dev_as_a_link(&case, &other);
    assert_eq!(std::fs::read_to_string(other.join("ptmx")).expect("the file"), "mine");
}
