//! Bind mounts: what they show, which options reach what, propagation, mapped owners.

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

/// What hides or protects a path would be mounted on the host, too.
#[test]
fn nothing_is_hidden_or_protected_below_a_shared_bind() {
    unless!("runc", "the host gets these mounts");
    unless!("crun", "the host gets these mounts");
    let case = case!();
    let source = host_tmpfs(&case, "source");
    nix::mount::mount(None::<&str>, &source, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("share");
    std::fs::create_dir(source.join("secret")).expect("make a directory");
    std::fs::write(source.join("secret/file"), "x").expect("write");
    let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").expect("our table");
    let before = table();
    for option in ["shared", "rshared"] {
        for field in ["maskedPaths", "readonlyPaths"] {
            for path in ["/in/secret", "/in/secret/file", "/in"] {
                let mut bundle = case.bundle();
                bundle.bind(&source, "/in", &["rbind", option]).args(["/probe", "exit", "0"]);
                bundle.config["linux"][field] = json!([path]);
                let says = format!("linux.{field} {path}: it lies below /in, which is shared with the host");
                case.run(&bundle).exits(1).fails(&[&says, "mount that volume rslave or rprivate"]);
                assert_eq!(table(), before, "{option} {field} {path}");
            }
        }
    }
    let mut bundle = case.bundle();
    bundle.bind(&source, "/in", &["rbind", "rslave"]).args(["/probe", "list", "/in/secret"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/in/secret"]);
    assert_eq!(case.run(&bundle).ok().stdout.trim(), "[]");
    assert_eq!(table(), before);
    unmount(&source);
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
