//! Ways out of a container that runtimes have had: one test per class of CVE, where it can be tried from outside.
//!
//! Either the runtime refuses, or what it does stays inside; which of both is its choice unless a test says so.

use std::path::{Path, PathBuf};
use tests::*;

/// A directory of the host with a file, which no container here is given.
fn outside(case: &Case) -> PathBuf {
    let dir = case.dir().join("outside");
    std::fs::create_dir(&dir).expect("make a directory");
    std::fs::write(dir.join("secret"), "host").expect("write");
    dir
}

/// Nothing was made, changed or removed there.
#[track_caller]
fn untouched(outside: &Path) {
    let names: Vec<String> = std::fs::read_dir(outside)
        .expect("the directory")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("the file"), "host");
}

/// No mounts at or below this path.
fn drop_mounts(bundle: &mut Bundle, path: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| {
        !m["destination"].as_str().is_some_and(|d| d == path || d.starts_with(&format!("{path}/")))
    });
}

// CVE-2019-5736: the runtime's binary overwritten through /proc/self/exe.
#[test]
fn container_can_not_reach_the_runtimes_binary() {
    let case = case!();
    let binary = Runtime::under_test().path();
    let before = std::fs::read(binary).expect("the runtime");
    let mut bundle = case.bundle();
    bundle.with_busybox().file("/trap", "#!/proc/self/exe\n").mode("/trap", 0o755);
    for command in ["/proc/self/exe", "/trap"] {
        bundle.args([command, "--version"]);
        let output = case.run(&bundle);
        if Runtime::under_test().is("rt") {
            assert_ne!(output.code(), 0, "{command}: {output}");
        }
    }
    let container = case.start_sleeping(&mut bundle);
    for command in ["/proc/self/exe", "/trap"] {
        let output = container.exec(&[command, "--version"]);
        if Runtime::under_test().is("rt") {
            assert_ne!(output.code(), 0, "{command}: {output}");
        }
    }
    assert_eq!(std::fs::read(binary).expect("the runtime"), before);
}

// CVE-2024-21626: a descriptor of the host leaked into the container, and a working directory on it.
#[test]
fn working_directory_on_a_descriptor_is_refused_or_inside() {
    unless!("crun", "it leaves the process that failed for a while");
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    // A directory of the host as working directory shows as one that can't be named, or by its path there.
    let inside = |output: &Output, cwd: &str| {
        if output.code() == 0 {
            let report = Report::parse(&output.stdout);
            let seen = report["cwd"].as_str().unwrap_or("(unreachable)");
            assert!(seen.starts_with('/') && !seen.contains("rt-tests"), "{cwd}: {output}");
        }
    };
    for fd in 3..16 {
        let cwd = format!("/proc/self/fd/{fd}");
        let mut bundle = case.bundle();
        bundle.config["process"]["cwd"] = json!(cwd);
        bundle.args(["/probe", "report"]);
        inside(&case.run(&bundle), &cwd);
        inside(&container.call_with("exec", &["--cwd", &cwd], &["/probe", "report"]).run(), &cwd);
    }
}

// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc or /sys of the image is a symbolic link.
#[test]
fn proc_or_sys_that_is_a_symlink_does_not_lead_out() {
    let case = case!();
    let outside = outside(&case);
    for path in ["/proc", "/sys"] {
        let mut bundle = case.bundle();
        bundle.link(path, &outside.to_string_lossy());
        let output = case.run(&bundle);
        untouched(&outside);
        if Runtime::under_test().is("rt") {
            output.exits(1).fails(&[path, "symbolic link"]);
        }
    }
}

// CVE-2019-16884: a volume over /proc, so that labels are written into fake files.
#[test]
fn ordinary_directory_over_proc_is_refused() {
    unless!("crun", "it mounts whatever it is told there");
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/proc");
    bundle.bind(&outside, "/proc", &[]);
    case.run(&bundle).exits(1).fails(&["/proc"]);
    untouched(&outside);
}

// CVE-2021-30465, CVE-2024-45310, crun CVE-2019-18837: a mount's destination leads through a link of the image.
#[test]
fn destination_through_an_absolute_link_stays_inside() {
    unless!("crun", "it makes no directories behind a dangling link");
    let case = case!();
    let outside = outside(&case);
    for link in
        [outside.to_string_lossy().into_owned(), format!("../../../../../../../../..{}", outside.display())]
    {
        let mut bundle = case.bundle();
        bundle.link("/way", &link);
        bundle.mount(json!({ "destination": "/way/in/deep", "type": "tmpfs", "source": "t", "options": [] }));
        bundle.args(["/probe", "exit", "0"]);
        let output = case.run(&bundle);
        untouched(&outside);
        // Resolved inside the root it works: <root>/<outside>/in/deep.
        output.ok();
    }
}

#[test]
fn destination_with_dots_stays_inside() {
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    let far = format!("/../../../../../../../..{}/made", outside.display());
    bundle.mount(json!({ "destination": far, "type": "tmpfs", "source": "t", "options": [] }));
    bundle.args(["/probe", "exit", "0"]);
    let _ = case.run(&bundle);
    untouched(&outside);
}

#[test]
fn bind_of_a_file_through_a_link_stays_inside() {
    let case = case!();
    let outside = outside(&case);
    let source = case.dir().join("source");
    std::fs::write(&source, "volume").expect("write");
    let mut bundle = case.bundle();
    bundle.link("/etc/passwd", &outside.join("secret").to_string_lossy());
    bundle.link("/etc/new", &outside.join("made").to_string_lossy());
    bundle.bind(&source, "/etc/passwd", &[]).bind(&source, "/etc/new", &[]);
    bundle.args(["/probe", "exit", "0"]);
    let _ = case.run(&bundle);
    untouched(&outside);
}

// CVE-2026-41579, CVE-2026-47766: /dev of the image is a symbolic link.
#[test]
fn dev_that_is_a_symlink_does_not_lead_out() {
    unless!("crun", "1.21 makes the nodes outside (CVE-2026-47766)");
    let case = case!();
    let outside = outside(&case);
    for link in
        [outside.to_string_lossy().into_owned(), format!("../../../../../../../../..{}", outside.display())]
    {
        for with_mount in [true, false] {
            let mut bundle = case.bundle();
            bundle.link("/dev", &link).args(["/probe", "exit", "0"]);
            if !with_mount {
                drop_mounts(&mut bundle, "/dev");
            }
            bundle.config["linux"]["devices"] =
                json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]);
            let _ = case.run(&bundle);
            untouched(&outside);
        }
    }
}

// CVE-2025-31133, CVE-2025-62161: /dev/null of the image is something else, and masks are bound from it.
#[test]
fn mask_is_not_taken_from_the_images_dev_null() {
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/dev");
    bundle.link("/dev/null", "/proc/sys/kernel/hostname").file("/secret", "hidden");
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/proc/keys"]);
    bundle.args(["/probe", "read", "/secret", "/proc/keys"]);
    let output = case.run(&bundle);
    assert!(output.code() != 0 || output.stdout.is_empty(), "{output}");
    untouched(&outside);
}

#[test]
fn mask_is_a_null_device_or_an_empty_directory() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/secret", "hidden").file("/dir/secret", "hidden");
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/dir"]);
    let seen: Value =
        serde_json::from_str(&case.act(&mut bundle, ["stat", "/secret", "/dir"])).expect("JSON");
    let null = seen[0]["kind"] == "char" && seen[0]["device"] == json!([1, 3]);
    assert!(null || seen[0]["size"] == 0, "{seen}");
    assert_eq!(seen[1]["kind"], "dir");
}

// CVE-2025-52565: /dev/console or /dev/pts/0 of the image leads elsewhere.
#[test]
fn console_through_a_link_of_the_image_stays_inside() {
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/dev");
    bundle.mount(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }));
    bundle.link("/dev/console", &outside.join("secret").to_string_lossy());
    bundle.config["process"]["terminal"] = json!(true);
    bundle.args(["/probe", "write", "/dev/console", "written"]);
    bundle.write();
    let (_ours, theirs) = terminal::pair(24, 80);
    let _ = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).terminal(theirs).run();
    untouched(&outside);
}

// CVE-2025-52881, CVE-2025-62596: writes to /proc land in what the config mounted over it.
#[test]
fn kernel_parameter_is_not_written_into_a_fake() {
    let case = case!();
    let fake = case.dir().join("fake");
    std::fs::create_dir_all(fake.join("net/ipv4")).expect("make directories");
    std::fs::write(fake.join("net/ipv4/ip_forward"), "fake").expect("write");
    let mut bundle = case.bundle();
    bundle.bind(&fake, "/proc/sys", &[]);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    bundle.args(["/probe", "exit", "0"]);
    let _ = case.run(&bundle);
    assert_eq!(std::fs::read_to_string(fake.join("net/ipv4/ip_forward")).expect("the fake"), "fake");
}

// CVE-2022-29162, CVE-2022-24769, CVE-2022-27650: capabilities that were not asked for become inheritable.
#[test]
fn nothing_is_inheritable_unless_configured() {
    let case = case!();
    let mut bundle = case.bundle();
    assert!(case.see(&mut bundle).capabilities("inheritable").is_empty());
    let container = case.start_sleeping(&mut bundle);
    assert!(container.exec_report(&[]).capabilities("inheritable").is_empty());
}

// crun CVE-2026-30892: `exec --user 1` taken for root.
#[test]
fn user_of_exec_is_read_strictly() {
    unless!("crun", "1.21 takes 1 for root (CVE-2026-30892)");
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    assert_eq!(container.exec_report(&["--user", "1"])["uid"], json!([1, 1, 1]));
    assert_eq!(container.exec_report(&["--user", "1:2"])["gid"], json!([2, 2, 2]));
    for user in ["-1", "4294967296", "99999999999999999999", "1x", "0x1", "", ":", "1:x", " 1"] {
        if !Runtime::under_test().is("rt") && !["1x", "99999999999999999999"].contains(&user) {
            continue;
        }
        let output = container.call_with("exec", &["--user", user], &["/probe", "exit", "0"]).run();
        assert_ne!(output.code(), 0, "{user:?}: {output}");
    }
}

#[test]
fn id_can_not_leave_the_state_directory() {
    unless!("crun", "1.21 deletes what .. names");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    let long = "a".repeat(2000);
    for id in ["../up", "a/b", ".", "..", "", "a b", "a\nb", "\u{e9}", long.as_str()] {
        let output = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(id).run();
        assert_ne!(output.code(), 0, "{id:?}: {output}");
        let output = case.call(["delete", "--force", id]).run();
        assert!(!output.stderr.contains("panic"), "{id:?}: {output}");
    }
    assert!(!case.dir().join("up").exists());
}

#[test]
fn cgroup_path_can_not_leave_the_hierarchy() {
    unless!("crun", "1.21 makes the directory wherever the path leads");
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    let far = format!("/../../../../../..{}", outside.join("made").display());
    bundle.config["linux"]["cgroupsPath"] = json!(far);
    bundle.args(["/probe", "exit", "0"]);
    let output = case.run(&bundle);
    untouched(&outside);
    if Runtime::under_test().is("rt") {
        output.exits(1).fails(&["cgroup"]);
    } else {
        // They clean the path and use what is left of it.
        let mut dir = case.cgroup_dir(&outside.join("made").to_string_lossy());
        while std::fs::remove_dir(&dir).is_ok() {
            dir.pop();
        }
    }
}

// CVE-2016-9962 and leaked descriptors in general: the runtime's own processes are out of reach.
#[test]
fn process_joining_a_container_can_not_be_traced_by_it() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.capabilities(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]);
    let container = case.start_sleeping(&mut bundle);
    // Whatever exec leaves visible inside has only its stdio.
    let report = container.exec_report(&[]);
    assert_eq!(report.fds(), [0, 1, 2]);
    for fd in report["fds"].as_array().expect("descriptors") {
        let target = fd["target"].as_str().unwrap_or_default();
        assert!(!target.contains("state"), "{fd}");
    }
}

#[test]
fn device_node_of_the_image_is_useless() {
    let case = case!();
    let mut bundle = case.bundle();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let number = nix::sys::stat::makedev(10, 229);
    nix::sys::stat::mknod(&bundle.host_path("/fuse"), nix::sys::stat::SFlag::S_IFCHR, mode, number)
        .expect("make a node");
    assert_eq!(case.act(&mut bundle, ["open", "/fuse", "rw"]).trim(), "errno 1");
}

#[test]
fn whatever_makes_a_container_runs_from_a_copy_that_can_not_be_written() {
    only_rt!("others copy themselves in other ways");
    use std::os::unix::fs::MetadataExt;
    let case = case!();
    let target = case.start_sleeping(&mut case.bundle());
    let seen = case.dir().join("seen");
    // The hook's parent is the runtime.
    let script =
        format!("stat -L -c %d:%i /proc/$PPID/exe >{0}; (: >>/proc/$PPID/exe) 2>>{0}; true", seen.display());
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    let program = std::fs::metadata(Runtime::under_test().path()).expect("the runtime");
    for joins in [false, true] {
        let mut bundle = case.bundle();
        bundle.config["hooks"] = json!({ "createRuntime": hook });
        if joins {
            bundle.namespace("pid", Some(&format!("/proc/{}/ns/pid", target.pid())));
        }
        bundle.args(["/probe", "exit", "0"]);
        case.run(&bundle).ok();
        let seen = std::fs::read_to_string(&seen).expect("what the hook saw");
        let (file, refused) = seen.split_once('\n').expect("two lines");
        assert_ne!(file, format!("{}:{}", program.dev(), program.ino()), "it is the host's own file");
        assert!(refused.contains("cannot create"), "it can be written: {seen}");
    }
}
