//! The root filesystem: pivoting, read-only roots, propagation, masked and read-only paths.
//!
//! The mounts inside it are in `mounts`, overlay roots in `overlay`.

use tests::*;

#[test]
fn root_is_the_bundles_and_nothing_else() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/only-here", "x");
    let names: Vec<String> = serde_json::from_str(&case.act(&mut bundle, ["list", "/"])).expect("a list");
    assert_eq!(names, ["dev", "etc", "only-here", "probe", "proc", "run", "sys", "tmp"]);
}

#[test]
fn no_mount_of_the_host_is_visible() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    let mounts = report["mounts"].as_array().expect("mounts");
    let outside: Vec<_> =
        mounts.iter().filter(|m| m["point"].as_str().is_some_and(|p| p.contains("rt-tests"))).collect();
    assert!(outside.is_empty(), "{outside:?}");
    // Root, seven mounts, masks, read-only paths: the host's table is far longer or has other points.
    assert!(report.find_mount("/sys/fs/cgroup/unified").is_none());
}

#[test]
fn writable_root_can_be_written() {
    let case = case!();
    let mut bundle = case.bundle();
    case.act(&mut bundle, ["write", "/note", "was here"]);
    assert_eq!(std::fs::read_to_string(bundle.host_path("/note")).expect("the note"), "was here");
}

#[test]
fn read_only_root_can_not_be_written() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    assert_eq!(case.act(&mut bundle, ["open", "/note", "wc"]).trim(), "errno 30");
    case.see(&mut bundle).mount("/").expect(&["ro"]);
}

#[test]
fn read_only_root_leaves_tmpfs_mounts_writable() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"] }));
    assert_eq!(case.act(&mut bundle, ["open", "/tmp/note", "wc"]).trim(), "ok");
}

#[test]
fn absolute_root_path_works() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["root"]["path"] = json!(bundle.host_path("/"));
    bundle.file("/mark", "m");
    assert_eq!(case.act(&mut bundle, ["read", "/mark"]), "m");
}

#[test]
fn root_mount_is_private_by_default() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    let tags = report.mount("/").propagation();
    assert!(!tags.contains("shared"), "{tags}");
}

#[test]
fn root_propagation_is_as_configured() {
    unless!("runc 1.1", "works since 1.4");
    let case = case!();
    for (asked, tags) in [("private", ""), ("rprivate", ""), ("unbindable", "unbindable")] {
        let mut bundle = case.bundle();
        bundle.config["linux"]["rootfsPropagation"] = json!(asked);
        assert_eq!(case.see(&mut bundle).mount("/").propagation(), tags, "{asked}");
    }
    for asked in ["shared", "rshared"] {
        let mut bundle = case.bundle();
        bundle.config["linux"]["rootfsPropagation"] = json!(asked);
        let tags = case.see(&mut bundle).mount("/").propagation();
        assert!(tags.contains("shared"), "{asked}: {tags:?}");
    }
}

/// Where the root filesystem lies on a mount that the host shares, nothing of what is mounted on it is the host's.
#[test]
fn mounts_on_a_shared_root_stay_in_the_container() {
    unless!("runc", "pivot_root refuses such a root, and its mounts stay");
    unless!("crun", "its mounts reach the host");
    let case = case!();
    let none = None::<&str>;
    let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").expect("our table");
    for asked in ["shared", "rshared", "slave", "rslave"] {
        let mut bundle = case.bundle();
        let root = bundle.host_path("/");
        nix::mount::mount(Some(&root), &root, none, nix::mount::MsFlags::MS_BIND, none).expect("bind");
        nix::mount::mount(none, &root, none, nix::mount::MsFlags::MS_SHARED, none).expect("share");
        let before = table();
        bundle.config["linux"]["rootfsPropagation"] = json!(asked);
        let container = case.start_sleeping(&mut bundle);
        assert_eq!(table(), before, "{asked}");
        let tags = container.exec_report(&[]).mount("/").propagation().to_owned();
        assert_eq!(tags.contains("shared"), asked.ends_with("shared"), "{asked}: {tags:?}");
        container.delete();
        assert_eq!(table(), before, "{asked}");
        nix::mount::umount(&root).expect("unmount");
    }
}

#[test]
fn slave_root_gets_the_hosts_later_mounts() {
    let case = case!();
    let none = None::<&str>;
    // A shared host tree to be slave of.
    let shared = case.dir().join("shared");
    std::fs::create_dir(&shared).expect("make a directory");
    nix::mount::mount(Some("t"), &shared, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("mount");
    nix::mount::mount(none, &shared, none, nix::mount::MsFlags::MS_SHARED, none).expect("share");
    std::fs::create_dir(shared.join("later")).expect("make a directory");
    let mut bundle = case.bundle();
    bundle.config["linux"]["rootfsPropagation"] = json!("rslave");
    bundle.bind(&shared, "/in", &["rslave"]);
    let container = case.start_sleeping(&mut bundle);
    nix::mount::mount(Some("t"), &shared.join("later"), Some("tmpfs"), nix::mount::MsFlags::empty(), none)
        .expect("mount");
    let report = container.exec_report(&[]);
    assert_eq!(report.mount("/in").propagation(), "master");
    assert_eq!(report.mount("/in/later").kind(), "tmpfs");
    container.delete();
    nix::mount::umount(&shared.join("later")).expect("unmount");
    nix::mount::umount(&shared).expect("unmount");
}

#[test]
fn masked_file_reads_empty() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/secret", "hidden").config["linux"]["maskedPaths"] = json!(["/secret"]);
    assert_eq!(case.act(&mut bundle, ["read", "/secret"]), "");
    assert_eq!(std::fs::read_to_string(bundle.host_path("/secret")).expect("the file"), "hidden");
}

#[test]
fn masked_directory_is_empty_and_read_only() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/private/key", "hidden").config["linux"]["maskedPaths"] = json!(["/private"]);
    assert_eq!(case.act(&mut bundle, ["list", "/private"]).trim(), "[]");
    assert_eq!(case.act(&mut bundle, ["open", "/private/new", "wc"]).trim(), "errno 30");
}

#[test]
fn masked_proc_files_are_masked() {
    let case = case!();
    let mut bundle = case.bundle();
    assert_eq!(case.act(&mut bundle, ["read", "/proc/timer_list"]), "");
    assert_eq!(case.act(&mut bundle, ["read", "/proc/keys"]), "");
    assert_eq!(case.act(&mut bundle, ["list", "/sys/firmware"]).trim(), "[]");
}

#[test]
fn masked_path_that_is_missing_is_skipped() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["maskedPaths"] = json!(["/none/such", "/proc/none"]);
    case.see(&mut bundle);
    assert!(!bundle.host_path("/none").exists(), "nothing may be made for a mask");
}

#[test]
fn read_only_path_can_be_read_but_not_written() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/passwd", "root").config["linux"]["readonlyPaths"] = json!(["/etc"]);
    assert_eq!(case.act(&mut bundle, ["read", "/etc/passwd"]), "root");
    assert_eq!(case.act(&mut bundle, ["open", "/etc/passwd", "w"]).trim(), "errno 30");
    assert_eq!(case.act(&mut bundle, ["open", "/etc/new", "wc"]).trim(), "errno 30");
}

#[test]
fn read_only_path_keeps_the_flags_of_its_mount() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    report.mount("/proc/sys").expect(&["ro", "nosuid", "nodev", "noexec"]);
    report.mount("/proc/irq").expect(&["ro", "nosuid", "nodev", "noexec"]);
    report.mount("/proc").expect(&["rw", "nosuid", "nodev", "noexec"]);
}

#[test]
fn read_only_path_that_is_missing_is_skipped() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["linux"]["readonlyPaths"] = json!(["/none/such"]);
    case.see(&mut bundle);
}

#[test]
fn no_pivot_also_gives_the_bundles_root() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/only-here", "x").args(["/probe", "list", "/"]);
    bundle.write();
    let output = case.call(["run", "--no-pivot", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run().ok();
    let names: Vec<String> = serde_json::from_str(&output.stdout).expect("a list");
    assert_eq!(names, ["dev", "etc", "only-here", "probe", "proc", "run", "sys", "tmp"]);
}

#[test]
fn a_rootfs_on_its_own_mount_works() {
    let case = case!();
    let mut bundle = case.bundle();
    let root = bundle.host_path("/");
    let none = None::<&str>;
    nix::mount::mount(Some(&root), &root, none, nix::mount::MsFlags::MS_BIND, none).expect("bind");
    case.see(&mut bundle);
    nix::mount::umount(&root).expect("unmount: nothing may hold it");
}

#[test]
fn working_directory_of_the_caller_may_be_the_rootfs() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    case.call(["run", "--bundle", ".."]).arg(bundle.id()).cwd(&bundle.host_path("/")).run().ok();
}
