//! What a container may and may not do, seen from inside.

use crate::surroundings;
use serde_json::{Value, json};
use tests::cri::{Container, Pod};

fn with<'p>(pod: &'p Pod<'_>, name: &str, context: Value) -> Container<'p> {
    let mut container = pod.container(name, &["sleep", "1000"]);
    container.config["linux"]["security_context"] = context;
    container.run()
}

fn status(container: &Container<'_>, field: &str) -> String {
    let all = container.exec(&["cat", "/proc/self/status"]).ok().stdout;
    let line = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::trim));
    line.unwrap_or_default().to_owned()
}

#[test]
fn capabilities_are_the_default_ones_with_what_is_added_and_dropped() {
    let here = surroundings!();
    let pod = here.pod("caps").run();
    let bounding = |name: &str, context: Value| {
        let container = with(&pod, name, context);
        u64::from_str_radix(&status(&container, "CapBnd"), 16).expect("a mask")
    };
    let plain = bounding("plain", json!({}));
    assert_eq!(plain, 0xa804_25fb, "docker's and containerd's set");
    assert_eq!(
        bounding("added", json!({"capabilities": {"add_capabilities": ["NET_ADMIN"]}})),
        plain | 1 << 12
    );
    assert_eq!(bounding("dropped", json!({"capabilities": {"drop_capabilities": ["CHOWN"]}})), plain & !1);
    let only = json!({"capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["CHOWN"]}});
    assert_eq!(bounding("only", only), 1);
}

#[test]
fn a_mistyped_capability_is_refused() {
    let here = surroundings!();
    let pod = here.pod("typo").run();
    let mut container = pod.container("c", &["true"]);
    container.config["linux"]["security_context"] =
        json!({"capabilities": {"drop_capabilities": ["NET_RAV"]}});
    container.refused(&["NET_RAV"]);
}

#[test]
fn a_root_can_be_read_only_and_paths_masked() {
    let here = surroundings!();
    let pod = here.pod("paths").run();
    let container = with(
        &pod,
        "c",
        json!({"readonly_rootfs": true, "masked_paths": ["/proc/meminfo", "/sys/firmware"], "readonly_paths": ["/proc/sys"]}),
    );
    assert_ne!(container.exec(&["touch", "/x"]).code(), 0);
    assert_eq!(container.exec(&["cat", "/proc/meminfo"]).ok().stdout.trim(), "");
    let write = container.exec(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    assert!(write.code() != 0 && write.stderr.contains("Read-only"), "{write}");
}

#[test]
fn no_new_privs_and_seccomp_are_in_force() {
    let here = surroundings!();
    let pod = here.pod("filter").run();
    let plain = with(&pod, "plain", json!({}));
    assert_eq!((status(&plain, "NoNewPrivs").as_str(), status(&plain, "Seccomp").as_str()), ("0", "0"));
    let confined = with(&pod, "confined", json!({"no_new_privs": true, "seccomp": {"profile_type": 0}}));
    assert_eq!((status(&confined, "NoNewPrivs").as_str(), status(&confined, "Seccomp").as_str()), ("1", "2"));
    let unshare = confined.exec(&["unshare", "-U", "true"]);
    assert!(unshare.code() != 0 && unshare.stderr.contains("not permitted"), "{unshare}");
}

#[test]
fn a_seccomp_profile_comes_from_a_file() {
    let here = surroundings!();
    let pod = here.pod("file").run();
    let profile = here.case().dir().join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, text).expect("write a profile");
    let container = with(&pod, "c", json!({"seccomp": {"profile_type": 2, "localhost_ref": profile}}));
    assert_ne!(container.exec(&["mkdir", "/x"]).code(), 0);
    container.exec(&["touch", "/y"]).ok();
    let mut missing = pod.container("missing", &["true"]);
    missing.config["linux"]["security_context"] =
        json!({"seccomp": {"profile_type": 2, "localhost_ref": "/no/such/profile"}});
    missing.refused(&["/no/such/profile"]);
}

#[test]
fn a_privileged_container_can_do_what_its_pod_allows() {
    let here = surroundings!();
    let mut pod = here.pod("strong");
    pod.config["linux"]["security_context"]["privileged"] = json!(true);
    let pod = pod.run();
    let container = with(&pod, "c", json!({"privileged": true, "masked_paths": ["/proc/meminfo"]}));
    container.exec(&["sh", "-c", "mkdir /m && mount -t tmpfs x /m"]).ok();
    container
        .exec(&[
            "sh",
            "-c",
            "grep -q ' /sys sysfs rw' /proc/mounts && grep -q ' /sys/fs/cgroup cgroup2 rw' /proc/mounts",
        ])
        .ok();
    assert_eq!(
        container.exec(&["sh", "-c", "mount | grep -c ' on /proc/' || true"]).stdout.trim(),
        "0",
        "nothing is masked"
    );
    let nodes = std::fs::read_dir("/dev").expect("/dev").filter_map(Result::ok);
    let missing: Vec<_> = nodes
        .filter(|entry| std::os::unix::fs::FileTypeExt::is_block_device(&entry.file_type().expect("a type")))
        .map(|entry| entry.path().display().to_string())
        .filter(|path| container.exec(&["test", "-b", path]).code() != 0)
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "block devices of the host");
    let weak = here.pod("weak").run();
    let mut refused = weak.container("c", &["true"]);
    refused.config["linux"]["security_context"] = json!({"privileged": true});
    refused.refused(&["no privileged container allowed in sandbox"]);
}

#[test]
fn a_device_is_there_and_only_as_permitted() {
    let here = surroundings!();
    let pod = here.pod("device").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["devices"] =
        json!([{"host_path": "/dev/null", "container_path": "/dev/nothing", "permissions": "rw"}]);
    let container = container.run();
    container.exec(&["sh", "-c", "echo x >/dev/nothing"]).ok();
    let mut missing = pod.container("missing", &["true"]);
    missing.config["devices"] =
        json!([{"host_path": "/dev/no-such", "container_path": "/dev/x", "permissions": "r"}]);
    missing.refused(&["/dev/no-such"]);
}
