//! `--overlay`: a root filesystem made of layers, with changes in a tmpfs or a directory; and its general form, the annotation.
//!
//! Layers are directories that the tests make; images are the server's business.

use std::path::{Path, PathBuf};
use tests::*;

/// Runs the bundle with these options: its output.
fn run(case: &Case, bundle: &Bundle, options: &[&str]) -> Output {
    bundle.write();
    case.call(["run"]).args(options).arg("--bundle").arg(bundle.dir()).arg(bundle.id()).run()
}

/// A layer with these files.
fn layer(case: &Case, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = case.dir().join(name);
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("below the layer")).expect("make a directory");
        std::fs::write(path, text).expect("write");
    }
    std::fs::create_dir_all(&dir).expect("make a directory");
    dir
}

/// A layer with the probe and the directories that mounts need, so that a container can run of it.
fn base(case: &Case) -> PathBuf {
    let dir = layer(case, "base", &[("etc/who", "base"), ("etc/base", "b")]);
    for part in ["dev", "proc", "sys"] {
        std::fs::create_dir_all(dir.join(part)).expect("make a directory");
    }
    copy_program(probe(), &dir.join("probe"));
    dir
}

/// `--overlay=` of these layers, topmost first.
fn layers(layers: &[&Path]) -> String {
    let list: Vec<String> =
        layers.iter().map(|l| l.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:")).collect();
    format!("--overlay={}", list.join(":"))
}

#[test]
fn changes_die_with_the_container() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/who", "bundle");
    bundle.args([
        "/probe", "chain", "read", "/etc/who", ",", "write", "/etc/who", "changed", ",", "write", "/new",
        "n", ",", "read", "/etc/who",
    ]);
    assert_eq!(run(&case, &bundle, &["--overlay"]).ok().stdout, "bundlechanged");
    assert_eq!(std::fs::read_to_string(bundle.host_path("/etc/who")).expect("the file"), "bundle");
    assert!(!bundle.host_path("/new").exists());
}

#[test]
fn root_is_an_overlay_and_the_host_has_no_mount() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    bundle.write();
    let before = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("our table");
    let call = case.call(["create", "--overlay", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let container = Running::new(&case, bundle.id(), call);
    container.call("start").run().ok();
    assert_eq!(container.exec_report(&[]).mount("/").kind(), "overlay");
    assert_eq!(std::fs::read_to_string("/proc/thread-self/mountinfo").expect("our table"), before);
}

#[test]
fn upper_layers_hide_lower_ones() {
    only_rt!("--overlay is its own");
    let case = case!();
    let base = base(&case);
    let middle = layer(&case, "middle", &[("etc/who", "middle"), ("etc/middle", "m")]);
    let top = layer(&case, "top", &[("etc/who", "top")]);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "read", "/etc/who", "/etc/middle", "/etc/base"]);
    let overlay = layers(&[&top, &middle, &base]);
    assert_eq!(run(&case, &bundle, &[&overlay]).ok().stdout, "topmb");
}

#[test]
fn directory_for_changes_keeps_them() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/who", "bundle").file("/etc/gone", "x");
    let upper = case.dir().join("changes");
    let upper_text = upper.to_string_lossy().into_owned();
    bundle.args(["/probe", "write", "/etc/who", "changed"]);
    run(&case, &bundle, &["--overlay", "--overlay-upper", &upper_text]).ok();
    assert_eq!(std::fs::read_to_string(upper.join("etc/who")).expect("the change"), "changed");
    assert_eq!(std::fs::read_to_string(bundle.host_path("/etc/who")).expect("the file"), "bundle");
    bundle.args(["/probe", "read", "/etc/who"]);
    let again = run(&case, &bundle, &["--overlay", "--overlay-upper", &upper_text]).ok();
    assert_eq!(again.stdout, "changed");
}

#[test]
fn paths_with_colons_commas_and_backslashes() {
    only_rt!("--overlay is its own");
    let case = case!();
    let base = base(&case);
    let odd = layer(&case, "a:b,c\\d e", &[("etc/who", "odd")]);
    let upper = case.dir().join("up:per,x");
    let mut bundle = case.bundle();
    bundle.args(["/probe", "chain", "read", "/etc/who", ",", "write", "/etc/new", "n"]);
    let output = run(&case, &bundle, &[&layers(&[&odd, &base]), "--overlay-upper", &upper.to_string_lossy()]);
    assert_eq!(output.ok().stdout, "odd");
    assert!(upper.join("etc/new").exists());
}

#[test]
fn many_layers() {
    only_rt!("--overlay is its own");
    let case = case!();
    let base = base(&case);
    let many: Vec<PathBuf> =
        (0..120).map(|n| layer(&case, &format!("layers/l{n}"), &[(&format!("etc/n{n}"), "x")])).collect();
    let mut all: Vec<&Path> = many.iter().map(PathBuf::as_path).collect();
    all.push(&base);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "list", "/etc"]);
    let names: Vec<String> =
        serde_json::from_str(&run(&case, &bundle, &[&layers(&all)]).ok().stdout).expect("a list");
    assert_eq!(names.len(), 122);
}

#[test]
fn five_hundred_layers_or_a_clear_error() {
    only_rt!("--overlay is its own");
    let case = case!();
    let base = base(&case);
    let many: Vec<PathBuf> =
        (0..499).map(|n| layer(&case, &format!("layers/l{n}"), &[(&format!("etc/n{n}"), "x")])).collect();
    let mut all: Vec<&Path> = many.iter().map(PathBuf::as_path).collect();
    all.push(&base);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "list", "/etc"]);
    let output = run(&case, &bundle, &[&layers(&all)]);
    if output.code() == 0 {
        let names: Vec<String> = serde_json::from_str(&output.stdout).expect("a list");
        assert_eq!(names.len(), 501);
    } else {
        output.exits(1).fails(&["overlay", "layers"]);
    }
}

#[test]
fn user_namespace_sees_its_own_owners_and_can_write() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.file("/etc/who", "bundle").user_namespace(100_000, 65_536);
    bundle.args([
        "/probe", "chain", "write", "/etc/who", "changed", ",", "read", "/etc/who", ",", "stat", "/etc/who",
    ]);
    let output = run(&case, &bundle, &["--overlay"]).ok();
    let stat: Value =
        serde_json::from_str(output.stdout.strip_prefix("changed").expect("the text")).expect("JSON");
    assert_eq!(stat[0]["uid"], 0);
}

#[test]
fn opaque_directory_hides_what_is_below_under_a_user_namespace() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.with_busybox().file("/data/old", "old").user_namespace(100_000, 65_536);
    let upper = case.dir().join("changes").to_string_lossy().into_owned();
    for name in ["rm", "mkdir"] {
        bundle.link(&format!("/bin/{name}"), "busybox");
    }
    bundle.args(["/bin/sh", "-c", "rm -r /data && mkdir /data && echo new >/data/new && ls /data"]);
    assert_eq!(run(&case, &bundle, &["--overlay", "--overlay-upper", &upper]).ok().stdout, "new\n");
    bundle.args(["/bin/ls", "/data"]);
    assert_eq!(
        run(&case, &bundle, &["--overlay", "--overlay-upper", &upper]).ok().stdout,
        "new\n",
        "the second time too"
    );
}

#[test]
fn layer_that_is_missing_is_named() {
    only_rt!("--overlay is its own");
    let case = case!();
    let base = base(&case);
    let bundle = case.bundle();
    let missing = case.dir().join("nowhere");
    run(&case, &bundle, &[&layers(&[&missing, &base])])
        .exits(1)
        .fails(&["nowhere", "no such file or directory"]);
}

#[test]
fn read_only_overlay_root() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.args(["/probe", "open", "/note", "wc"]);
    assert_eq!(run(&case, &bundle, &["--overlay"]).ok().stdout.trim(), "errno 30");
}

#[test]
fn two_containers_of_one_layer_do_not_see_each_other() {
    only_rt!("--overlay is its own");
    let case = case!();
    let base = base(&case);
    let overlay = layers(&[&base]);
    let mut one = case.bundle();
    one.args(["/probe", "chain", "write", "/note", "mine", ",", "sleep"]);
    one.write();
    let call = case.call(["create", &overlay, "--bundle"]).arg(one.dir()).arg(one.id());
    let container = Running::new(&case, one.id(), call);
    container.call("start").run().ok();
    until("it has written", || {
        (container.exec(&["/probe", "stat", "/note"]).stdout.contains("file")).then_some(())
    });
    let mut two = case.bundle();
    two.args(["/probe", "stat", "/note"]);
    assert!(run(&case, &two, &[&overlay]).ok().stdout.contains("errno"));
}

/// The field with these mounts, as a caller that only writes config.json has it.
fn mounted_from(bundle: &mut Bundle, mounts: &Value) {
    bundle.config["run.rt.rootfs"] = mounts.clone();
}

/// What a snapshotter sends for two layers and a writable one.
fn snapshot(case: &Case, lowers: &[&Path], more: &[&str]) -> (Value, PathBuf) {
    let (upper, work) = (layer(case, "snap/fs", &[]), layer(case, "snap/work", &[]));
    let list: Vec<String> = lowers.iter().map(|l| l.to_string_lossy().into_owned()).collect();
    let mut options: Vec<String> = more.iter().map(|&o| o.to_owned()).collect();
    options.push("index=off".into());
    options.push(format!("workdir={}", work.display()));
    options.push(format!("upperdir={}", upper.display()));
    options.push(format!("lowerdir={}", list.join(":")));
    (json!([{ "type": "overlay", "source": "overlay", "options": options }]), upper)
}

// Engines copy annotations of images and pods into config.json: podman all but a few, CRI-O all of them.
#[test]
fn annotation_chooses_no_root_filesystem() {
    let case = case!();
    let mut bundle = case.bundle();
    let all = json!([{ "type": "bind", "source": "/", "options": ["rbind"] }]).to_string();
    bundle.config["annotations"] = json!({ "run.rt.rootfs": all });
    bundle.args(["/probe", "stat", "/etc/shadow"]);
    assert!(case.run(&bundle).ok().stdout.contains("errno"));
}

#[test]
fn list_of_a_snapshotter_is_the_root() {
    only_rt!("the annotation is its own");
    let case = case!();
    let base = base(&case);
    let top = layer(&case, "top", &[("etc/who", "top")]);
    let (mounts, upper) = snapshot(&case, &[&top, &base], &[]);
    let mut bundle = case.bundle();
    mounted_from(&mut bundle, &mounts);
    bundle.args(["/probe", "chain", "read", "/etc/who", ",", "write", "/etc/new", "n"]);
    assert_eq!(run(&case, &bundle, &[]).ok().stdout, "top");
    assert_eq!(std::fs::read_to_string(upper.join("etc/new")).expect("the change"), "n");
    assert!(!top.join("etc/new").exists() && !base.join("etc/new").exists());
}

#[test]
fn list_of_root_mounts_may_be_a_read_only_bind_and_need_no_mount_point() {
    only_rt!("the annotation is its own");
    let case = case!();
    let base = base(&case);
    let mut bundle = case.bundle();
    mounted_from(&mut bundle, &json!([{ "type": "bind", "source": base, "options": ["rbind", "ro"] }]));
    bundle.config["root"]["path"] = json!("not-there");
    bundle.args(["/probe", "chain", "read", "/etc/who", ",", "open", "/note", "wc"]);
    assert_eq!(run(&case, &bundle, &[]).ok().stdout.trim(), "baseerrno 30");
}

#[test]
fn the_last_of_several_root_mounts_is_seen() {
    only_rt!("the annotation is its own");
    let case = case!();
    let base = base(&case);
    let mut bundle = case.bundle();
    let tmpfs = json!({ "type": "tmpfs", "options": ["size=64k"] });
    mounted_from(&mut bundle, &json!([tmpfs, { "type": "bind", "source": base, "options": ["rbind"] }]));
    bundle.args(["/probe", "read", "/etc/who"]);
    assert_eq!(run(&case, &bundle, &[]).ok().stdout, "base");
    let overlaid = run(&case, &bundle, &["--overlay"]);
    overlaid.exits(1).fails(&["--overlay and run.rt.rootfs of config.json exclude each other"]);
}

#[test]
fn layers_of_roots_are_mapped_for_a_user_namespace() {
    only_rt!("the annotation is its own");
    let case = case!();
    let base = base(&case);
    let other = layer(&case, "other", &[("etc/other", "o")]);
    for map in [&["idmap"][..], &["uidmap=0:100000:65536", "gidmap=0:100000:65536"]] {
        let (mounts, upper) = snapshot(&case, &[&other, &base], map);
        // The snapshotter makes the writable layer the container's.
        std::os::unix::fs::chown(&upper, Some(100_000), Some(100_000)).expect("chown");
        let mut bundle = case.bundle();
        bundle.user_namespace(100_000, 65_536);
        mounted_from(&mut bundle, &mounts);
        bundle.args([
            "/probe",
            "chain",
            "write",
            "/etc/who",
            "mine",
            ",",
            "stat",
            "/etc/who",
            "/etc/base",
            "/",
        ]);
        let stat: Value = serde_json::from_str(&run(&case, &bundle, &[]).ok().stdout).expect("JSON");
        for at in 0..3 {
            assert_eq!((&stat[at]["uid"], &stat[at]["gid"]), (&json!(0), &json!(0)), "{map:?}: {stat}");
        }
        let changed = std::fs::metadata(upper.join("etc/who")).expect("the change");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&changed), 100_000);
        let layer = std::fs::metadata(base.join("etc/who")).expect("the layer");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&layer), 0);
        std::fs::remove_dir_all(case.dir().join("snap")).expect("remove the snapshot");
    }
}

#[test]
fn directories_for_changes_are_gone_again_if_the_overlay_fails() {
    only_rt!("--overlay is its own");
    let case = case!();
    let bundle = case.bundle();
    let upper = case.dir().join("changes");
    std::fs::write(case.dir().join("changes.work"), "no directory").expect("write");
    let output = run(&case, &bundle, &["--overlay", "--overlay-upper", &upper.to_string_lossy()]);
    output.exits(1).fails(&["mount an overlay as root: open the work directory", "changes.work"]);
    assert!(!upper.exists());
}

#[test]
fn plan_shows_the_layers() {
    only_rt!("--overlay is its own");
    let case = case!();
    let bundle = case.bundle();
    bundle.write();
    let output = case.call(["plan", "--overlay=/a\\:b:/c", "--bundle"]).arg(bundle.dir()).run().ok();
    let plan: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let mount = &plan["surroundings"]["rootfs"]["mounts"][0];
    assert_eq!(mount["content"]["overlay"], json!({ "lowers": ["/a:b", "/c"], "changes": "tmpfs" }));
    assert_eq!(mount["filesystem"], json!(["index=off", "metacopy=off"]));
}

#[test]
fn directories_for_changes_are_gone_again_if_a_later_step_fails() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/nothing"]);
    let (upper, work) = (case.dir().join("changes"), case.dir().join("changes.work"));
    let output = run(&case, &bundle, &["--overlay", "--overlay-upper", &upper.to_string_lossy()]);
    output.exits(1).fails(&["no such file or directory"]);
    assert!(!upper.exists() && !work.exists());
    // What was there before is the user's.
    std::fs::create_dir(&upper).expect("make it");
    std::fs::write(upper.join("mine"), "kept").expect("write");
    run(&case, &bundle, &["--overlay", "--overlay-upper", &upper.to_string_lossy()]).exits(1);
    assert!(upper.join("mine").exists() && !work.exists());
}

/// Who owns the directory that they are in can put links there: a directory of the host would be changed, and written to.
#[test]
fn directories_for_changes_are_reached_by_no_link() {
    only_rt!("--overlay is its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "write", "/note", "n"]);
    let (hosts, theirs) = (layer(&case, "hosts", &[]), layer(&case, "theirs", &[]));
    std::os::unix::fs::chown(&theirs, Some(4242), Some(4242)).expect("chown");
    std::fs::create_dir(hosts.join("below")).expect("make a directory");
    for (name, to) in [("up", hosts.clone()), ("down.work", hosts.clone()), ("way", hosts.clone())] {
        std::os::unix::fs::symlink(to, theirs.join(name)).expect("make a link");
    }
    for name in ["up", "down", "way/below", "way/new"] {
        let upper = theirs.join(name);
        run(&case, &bundle, &["--overlay", "--overlay-upper", &upper.to_string_lossy()])
            .exits(1)
            .fails(&["directory", "theirs"]);
    }
    assert!(!theirs.join("down").exists());
    let inside: Vec<_> =
        std::fs::read_dir(&hosts).expect("the host's").flatten().map(|e| e.file_name()).collect();
    assert_eq!(inside, ["below"]);
    assert_eq!(std::fs::read_dir(hosts.join("below")).expect("the host's").count(), 0);
}
