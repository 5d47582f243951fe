//! Ways out of a container that have no number of their own, where they can be tried from outside; those that have are in `cves/`.
//!
//! Either the runtime refuses, or what it does stays inside; which of both is its choice unless a test says so.

use crate::cves::{outside, untouched};
use tests::*;

// crun CVE-2019-18837, and without a race CVE-2021-30465 and CVE-2024-45310: a mount's destination leads through a link of the image.
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
