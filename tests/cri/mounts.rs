//! Volumes: what the host's directories look like inside, and what passes between both.

use crate::surroundings;
use serde_json::json;
use std::path::PathBuf;
use tests::cri::{BUSYBOX, Container, NGINX, Surroundings};

fn directory(here: &Surroundings, name: &str) -> PathBuf {
    let path = here.case().dir().join(name);
    std::fs::create_dir_all(&path).expect("make a volume");
    path
}

/// What a program in it prints, without the line feeds that crictl adds.
fn said(container: &Container<'_>, words: &[&str]) -> String {
    container.exec(words).ok().stdout.trim_end().to_owned()
}

#[test]
fn a_volume_is_the_hosts_directory() {
    let here = surroundings!();
    let volume = directory(&here, "volume");
    std::fs::write(volume.join("from-host"), "host\n").expect("write");
    let pod = here.pod("volume").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["mounts"] = json!([
        {"host_path": volume, "container_path": "/data"},
        {"host_path": volume, "container_path": "/ro", "readonly": true},
    ]);
    let container = container.run();
    assert_eq!(said(&container, &["cat", "/data/from-host", "/ro/from-host"]), "host\nhost");
    container.exec(&["sh", "-c", "echo inside >/data/from-inside"]).ok();
    assert_eq!(std::fs::read_to_string(volume.join("from-inside")).expect("it was written"), "inside\n");
    assert_ne!(container.exec(&["touch", "/ro/x"]).code(), 0, "read-only");
}

#[test]
fn a_link_is_followed_and_a_path_that_is_missing_is_made() {
    let here = surroundings!();
    let real = directory(&here, "real");
    std::fs::write(real.join("file"), "real\n").expect("write");
    let link = here.case().dir().join("link");
    std::os::unix::fs::symlink(&real, &link).expect("link");
    let missing = here.case().dir().join("not/there");
    let pod = here.pod("links").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["mounts"] = json!([
        {"host_path": link, "container_path": "/data"},
        {"host_path": missing, "container_path": "/missing"},
    ]);
    let container = container.run();
    assert_eq!(said(&container, &["cat", "/data/file"]), "real");
    assert!(missing.is_dir());
}

#[test]
fn recursive_read_only_reaches_what_is_mounted_below() {
    let here = surroundings!();
    let volume = directory(&here, "tree");
    let below = directory(&here, "tree/below");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), flags, None::<&str>).expect("mount");
    let pod = here.pod("rro").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["mounts"] = json!([
        {"host_path": volume, "container_path": "/ro", "readonly": true},
        {"host_path": volume, "container_path": "/rro", "readonly": true, "recursive_read_only": true},
    ]);
    let container = container.run();
    container.exec(&["touch", "/ro/below/x"]).ok();
    assert_ne!(container.exec(&["touch", "/rro/below/y"]).code(), 0);
    for (options, words) in [
        (json!({"recursive_read_only": true}), "readonly"),
        (json!({"recursive_read_only": true, "readonly": true, "propagation": 1}), "propagation"),
    ] {
        let mut bad = pod.container("bad", &["true"]);
        let mut mount = json!({"host_path": volume, "container_path": "/rro"});
        mount.as_object_mut().expect("a mount").extend(options.as_object().expect("options").clone());
        bad.config["mounts"] = json!([mount]);
        bad.refused(&[words]);
    }
    nix::mount::umount2(&below, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
}

#[test]
fn what_a_volume_lacks_is_said() {
    let here = surroundings!();
    let pod = here.pod("wrong").run();
    let volume = directory(&here, "private");
    for (mount, words) in [
        (json!({"host_path": volume, "container_path": "data"}), "container_path"),
        (json!({"host_path": volume, "container_path": "/data", "propagation": 9}), "propagation"),
        (json!({"host_path": volume, "container_path": "/data", "propagation": 2}), "shared"),
    ] {
        let mut bad = pod.container("bad", &["true"]);
        bad.config["mounts"] = json!([mount]);
        bad.refused(&[words]);
    }
}

#[test]
fn the_pods_files_and_shared_memory_are_in_each_container() {
    let here = surroundings!();
    let mut pod = here.pod("files");
    pod.config["dns_config"] =
        json!({"servers": ["10.1.2.3"], "searches": ["a.example", "b.example"], "options": ["ndots:5"]});
    let pod = pod.run();
    let [one, two] = ["one", "two"].map(|name| pod.container(name, &["sleep", "1000"]).run());
    let resolv = one.exec(&["cat", "/etc/resolv.conf"]).ok().stdout;
    for line in ["nameserver 10.1.2.3", "search a.example b.example", "options ndots:5"] {
        assert!(resolv.lines().any(|found| found == line), "{resolv}");
    }
    assert_eq!(said(&one, &["cat", "/etc/hostname"]), "files");
    one.exec(&["sh", "-c", "echo shared >/dev/shm/x"]).ok();
    assert_eq!(said(&two, &["cat", "/dev/shm/x"]), "shared");
    let size = two.exec(&["sh", "-c", "df -k /dev/shm | tail -1"]).ok().stdout;
    assert_eq!(size.split_whitespace().nth(1), Some("65536"), "{size}");
}

#[test]
fn what_is_written_in_a_container_is_its_own_and_dies_with_it() {
    let here = surroundings!();
    let pod = here.pod("layers").run();
    let [one, two] = ["one", "two"].map(|name| pod.container(name, &["sleep", "1000"]).run());
    one.exec(&["sh", "-c", "echo mine >/bin/mine; rm /etc/passwd"]).ok();
    assert_ne!(two.exec(&["cat", "/bin/mine"]).code(), 0);
    two.exec(&["cat", "/etc/passwd"]).ok();
}

#[test]
fn an_image_is_a_volume_too() {
    let here = surroundings!();
    let pod = here.pod("images").run();
    here.pull(NGINX);
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["mounts"] = json!([
        {"container_path": "/one", "image": {"image": BUSYBOX}},
        {"container_path": "/two", "image": {"image": NGINX}},
        {"container_path": "/sbin-of-it", "image": {"image": NGINX}, "image_sub_path": "usr/sbin"},
    ]);
    let container = container.run();
    assert_eq!(
        said(&container, &["sh", "-c", "ls /one/etc/passwd /two/etc/passwd /two/usr/sbin /sbin-of-it"])
            .lines()
            .count(),
        8
    );
    assert_ne!(container.exec(&["touch", "/one/x"]).code(), 0, "read-only");
    assert_ne!(container.exec(&["touch", "/two/x"]).code(), 0, "read-only");
    let mut missing = pod.container("missing", &["true"]);
    missing.config["mounts"] =
        json!([{"container_path": "/x", "image": {"image": BUSYBOX}, "image_sub_path": "no/such"}]);
    missing.refused(&["no/such"]);
}

/// A vendor's specification as nvidia-ctk writes it, in YAML, and one in JSON.
#[test]
fn cdi_devices_bring_what_their_vendors_say() {
    let here = surroundings!();
    std::fs::create_dir("/run/cdi").expect("make a directory");
    std::fs::write("/run/cdi/vendor.yaml", "cdiVersion: 0.6.0\nkind: vendor.com/gpu\ncontainerEdits:\n  env:\n  - VENDOR=1\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/gpu0\n      hostPath: /dev/null\n")
        .expect("write a specification");
    let other = json!({"cdiVersion": "0.6.0", "kind": "other.com/disk", "devices": [{"name": "a", "containerEdits": {
        "mounts": [{"hostPath": "/run/cdi", "containerPath": "/specifications", "options": ["ro"]}]}}]});
    std::fs::write("/run/cdi/other.json", other.to_string()).expect("write a specification");
    let pod = here.pod("cdi").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["CDI_devices"] = json!([{"name": "vendor.com/gpu=0"}, {"name": "other.com/disk=a"}]);
    let container = container.run();
    let script =
        "echo $VENDOR; stat -c '%t:%T %F' /dev/gpu0; echo x >/dev/gpu0 && echo written; ls /specifications";
    let output = said(&container, &["sh", "-c", script]);
    assert_eq!(output, "1\n1:3 character special file\nwritten\nother.json\nvendor.yaml");
    let mut unknown = pod.container("unknown", &["true"]);
    unknown.config["CDI_devices"] = json!([{"name": "vendor.com/gpu=9"}]);
    unknown.refused(&["unresolvable CDI device", "vendor.com/gpu=9", "/etc/cdi"]);
}
