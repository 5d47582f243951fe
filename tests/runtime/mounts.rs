//! Mounts: every type and option that engines write.
//!
//! What mounts must not do to the host is in `escapes`.

use nix::mount::MsFlags;
use tests::*;

fn host_tmpfs(case: &Case, name: &str) -> std::path::PathBuf {
    let path = case.dir().join(name);
    std::fs::create_dir(&path).expect("make a directory");
    nix::mount::mount(Some("host"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("mount a tmpfs");
    path
}

fn unmount(path: &std::path::Path) {
    nix::mount::umount(path).expect("unmount");
}

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
fn bind_mount_shows_the_source() {
    let case = case!();
    let mut bundle = case.bundle();
    let source = case.dir().join("source");
    std::fs::create_dir(&source).expect("make a directory");
    std::fs::write(source.join("file"), "from outside").expect("write");
    bundle.bind(&source, "/in", &[]);
    assert_eq!(case.act(&mut bundle, ["read", "/in/file"]), "from outside");
    assert_eq!(case.act(&mut bundle, ["open", "/in/new", "wc"]).trim(), "ok");
    assert!(source.join("new").exists());
}

#[test]
fn bind_mount_of_a_file_makes_its_target() {
    let case = case!();
    let mut bundle = case.bundle();
    let source = case.dir().join("hosts");
    std::fs::write(&source, "127.0.0.1 here").expect("write");
    bundle.bind(&source, "/etc/deep/hosts", &["ro"]);
    assert_eq!(case.act(&mut bundle, ["read", "/etc/deep/hosts"]), "127.0.0.1 here");
    assert_eq!(case.act(&mut bundle, ["open", "/etc/deep/hosts", "w"]).trim(), "errno 30");
}

#[test]
fn bind_source_relative_to_the_bundle() {
    let case = case!();
    let mut bundle = case.bundle();
    std::fs::write(bundle.dir().join("beside"), "relative").expect("write");
    bundle.bind(std::path::Path::new("beside"), "/in", &[]);
    bundle.args(["/probe", "read", "/in"]);
    bundle.write();
    let output =
        case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).cwd(bundle.dir()).run().ok();
    assert_eq!(output.stdout, "relative");
}

#[test]
fn bind_options_apply_to_the_bind_alone() {
    let case = case!();
    let mut bundle = case.bundle();
    let source = host_tmpfs(&case, "source");
    bundle.bind(&source, "/in", &["ro", "nosuid", "nodev", "noexec", "noatime"]);
    case.see(&mut bundle).mount("/in").expect(&["ro", "nosuid", "nodev", "noexec", "noatime"]);
    std::fs::write(source.join("still"), "writable").expect("the host's mount is as before");
    unmount(&source);
}

#[test]
fn bind_without_type_is_known_by_its_option() {
    let case = case!();
    for kind in [json!(null), json!("none"), json!("bind"), json!("")] {
        let mut bundle = case.bundle();
        let source = bundle.dir().join("source");
        std::fs::create_dir(&source).expect("make a directory");
        std::fs::write(source.join("f"), "x").expect("write");
        let mut mount = json!({ "destination": "/in", "source": source, "options": ["rbind"] });
        if !kind.is_null() {
            mount["type"] = kind;
        }
        bundle.mount(mount);
        assert_eq!(case.act(&mut bundle, ["read", "/in/f"]), "x");
    }
}

#[test]
fn bind_takes_one_mount_and_rbind_the_tree() {
    let case = case!();
    let source = host_tmpfs(&case, "source");
    std::fs::create_dir(source.join("below")).expect("make a directory");
    nix::mount::mount(Some("deep"), &source.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("mount");
    for (option, deep) in [("bind", false), ("rbind", true)] {
        let mut bundle = case.bundle();
        bundle.mount(json!({ "destination": "/in", "type": "bind", "source": source, "options": [option] }));
        assert_eq!(case.see(&mut bundle).find_mount("/in/below").is_some(), deep, "{option}");
    }
    unmount(&source.join("below"));
    unmount(&source);
}

#[test]
fn ro_of_an_rbind_is_the_top_alone_and_rro_the_tree() {
    let case = case!();
    let source = host_tmpfs(&case, "source");
    std::fs::create_dir(source.join("below")).expect("make a directory");
    nix::mount::mount(Some("deep"), &source.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("mount");
    for (option, below) in [("ro", "rw"), ("rro", "ro")] {
        let mut bundle = case.bundle();
        bundle.mount(
            json!({ "destination": "/in", "type": "bind", "source": source, "options": ["rbind", option] }),
        );
        let report = case.see(&mut bundle);
        report.mount("/in").expect(&["ro"]);
        report.mount("/in/below").expect(&[below]);
    }
    unmount(&source.join("below"));
    unmount(&source);
}

#[test]
fn each_recursive_option_reaches_the_tree() {
    unless!("crun", "it has no rnosymfollow");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    std::fs::create_dir(source.join("below")).expect("make a directory");
    nix::mount::mount(Some("deep"), &source.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("mount");
    for (option, seen) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        let mut bundle = case.bundle();
        bundle.mount(
            json!({ "destination": "/in", "type": "bind", "source": source, "options": ["rbind", option] }),
        );
        let report = case.see(&mut bundle);
        report.mount("/in").expect(&[seen]);
        report.mount("/in/below").expect(&[seen]);
    }
    unmount(&source.join("below"));
    unmount(&source);
}

#[test]
fn flags_that_the_source_has_locked_stay_under_a_user_namespace() {
    unless!("crun", "it opens the source before the user namespace and clears its flags");
    unless!("runc 1.1", "it tries to clear the locked flags");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    nix::mount::mount(
        None::<&str>,
        &source,
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    )
    .expect("remount");
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.bind(&source, "/in", &["ro"]);
    case.see(&mut bundle).mount("/in").expect(&["ro", "nosuid", "nodev", "noexec"]);
    unmount(&source);
}

#[test]
fn propagation_options_of_a_bind_are_set() {
    unless!("crun", "unbindable is lost");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    nix::mount::mount(None::<&str>, &source, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("share");
    for (option, tags) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let mut bundle = case.bundle();
        if tags == "shared" {
            bundle.config["linux"]["rootfsPropagation"] = json!("shared");
        }
        if tags == "master" {
            bundle.config["linux"]["rootfsPropagation"] = json!("slave");
        }
        bundle.bind(&source, "/in", &[option]);
        let seen = case.see(&mut bundle).mount("/in").propagation();
        assert!(if tags.is_empty() { seen.is_empty() } else { seen.contains(tags) }, "{option}: {seen:?}");
    }
    unmount(&source);
}

#[test]
fn mount_made_in_a_shared_bind_reaches_the_host() {
    let case = case!();
    let source = host_tmpfs(&case, "source");
    nix::mount::mount(None::<&str>, &source, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("share");
    std::fs::create_dir(source.join("made")).expect("make a directory");
    let mut bundle = case.bundle();
    bundle.config["linux"]["rootfsPropagation"] = json!("shared");
    bundle.capabilities(&["CAP_SYS_ADMIN"]);
    bundle.bind(&source, "/in", &["rshared"]);
    bundle.args([
        "/probe",
        "chain",
        "try-syscall",
        "mount",
        "s:t",
        "s:/in/made",
        "s:tmpfs",
        "0",
        "0",
        ",",
        "sleep",
    ]);
    let container = case.start(&bundle);
    container.wait_for_output("ok 0");
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("our table");
    assert!(table.contains("/source/made "), "{table}");
    container.delete();
    unmount(&source.join("made"));
    unmount(&source);
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
fn idmapped_bind_shifts_owners() {
    unless!("runc 1.1", "idmapped mounts came with 1.2");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    std::fs::write(source.join("f"), "x").expect("write");
    std::os::unix::fs::chown(source.join("f"), Some(1000), Some(1000)).expect("chown");
    let mut bundle = case.bundle();
    let map = json!([{ "containerID": 1000, "hostID": 2000, "size": 1 }, { "containerID": 0, "hostID": 0, "size": 1 }]);
    bundle.mount(json!({ "destination": "/in", "type": "bind", "source": source,
        "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map }));
    let seen: Value = serde_json::from_str(&case.act(&mut bundle, ["stat", "/in/f"])).expect("JSON");
    assert_eq!((seen[0]["uid"].as_u64(), seen[0]["gid"].as_u64()), (Some(2000), Some(2000)));
    unmount(&source);
}

#[test]
fn idmapped_bind_under_a_user_namespace_shows_the_containers_owners() {
    unless!("runc 1.1", "idmapped mounts came with 1.2");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    std::fs::write(source.join("f"), "x").expect("write");
    std::os::unix::fs::chown(source.join("f"), Some(0), Some(5)).expect("chown");
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.mount(json!({ "destination": "/in", "type": "bind", "source": source,
        "options": ["rbind", "idmap"], "uidMappings": map, "gidMappings": map }));
    let seen: Value = serde_json::from_str(&case.act(&mut bundle, ["stat", "/in/f"])).expect("JSON");
    assert_eq!((seen[0]["uid"].as_u64(), seen[0]["gid"].as_u64()), (Some(0), Some(5)));
    unmount(&source);
}

#[test]
fn ridmap_reaches_the_tree() {
    unless!("runc 1.1", "idmapped mounts came with 1.2");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    std::fs::create_dir(source.join("below")).expect("make a directory");
    nix::mount::mount(Some("deep"), &source.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("mount");
    std::fs::write(source.join("below/f"), "x").expect("write");
    let map = json!([{ "containerID": 0, "hostID": 3000, "size": 1 }]);
    for (option, uid) in [("ridmap", 3000), ("idmap", 0)] {
        let mut bundle = case.bundle();
        bundle.mount(json!({ "destination": "/in", "type": "bind", "source": source,
            "options": ["rbind", option], "uidMappings": map, "gidMappings": map }));
        let seen: Value =
            serde_json::from_str(&case.act(&mut bundle, ["stat", "/in/below/f"])).expect("JSON");
        assert_eq!(seen[0]["uid"], uid, "{option}");
    }
    unmount(&source.join("below"));
    unmount(&source);
}

#[test]
fn mount_without_options_or_source_works() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({ "destination": "/m", "type": "tmpfs" }));
    assert_eq!(case.see(&mut bundle).mount("/m").kind(), "tmpfs");
}

#[test]
fn a_hundred_binds_work() {
    let case = case!();
    let mut bundle = case.bundle();
    let source = case.dir().join("source");
    std::fs::create_dir(&source).expect("make a directory");
    for i in 0..100 {
        bundle.bind(&source, &format!("/many/{i}"), &["ro"]);
    }
    let report = case.see(&mut bundle);
    report.mount("/many/0").expect(&["ro"]);
    report.mount("/many/99").expect(&["ro"]);
}
