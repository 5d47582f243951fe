//! Namespaces: each new, each joined by path, and what belongs to them (mappings, offsets, the loopback interface).
//!
//! Sharing by `--share` has a file of its own.

use tests::*;

const ALL: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("network", "net"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// The namespace of the test's own thread, as the container would see it if it were in the same.
fn ours(kind: &str) -> String {
    std::fs::read_link(format!("/proc/thread-self/ns/{kind}"))
        .expect("our own namespace")
        .display()
        .to_string()
}

fn of(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process of ours").display().to_string()
}

#[test]
fn each_namespace_asked_for_is_new() {
    let case = case!();
    let mut bundle = case.bundle();
    if !Runtime::under_test().is("runc 1.1") {
        bundle.namespace("time", None);
    }
    let report = case.see(&mut bundle);
    for ns in bundle.config["linux"]["namespaces"].as_array().expect("a list") {
        let (_, kind) = ALL.iter().find(|(name, _)| ns["type"] == *name).expect("a known name");
        assert_ne!(report.namespace(kind), ours(kind), "{kind}");
        assert!(report.namespace(kind).starts_with(kind), "{kind}: {}", report.namespace(kind));
    }
    assert_eq!(report.namespace("user"), ours("user"));
}

#[test]
fn a_namespace_not_asked_for_is_the_callers() {
    let case = case!();
    for (name, kind) in [("ipc", "ipc"), ("network", "net"), ("cgroup", "cgroup")] {
        let mut bundle = case.bundle();
        bundle.without_namespace(name);
        let report = case.see(&mut bundle);
        assert_eq!(report.namespace(kind), ours(kind), "{kind}");
    }
}

#[test]
fn uts_of_the_caller_keeps_its_hostname() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("uts");
    bundle.config.as_object_mut().expect("an object").remove("hostname");
    let report = case.see(&mut bundle);
    assert_eq!(report.namespace("uts"), ours("uts"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("our hostname");
    assert_eq!(report["hostname"], host.trim());
}

#[test]
fn container_process_is_pid_1_of_a_new_pid_namespace() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    assert_eq!(report["pid"], 1);
    assert_eq!(report["ppid"], 0);
    assert_eq!(report["sid"], 1);
}

#[test]
fn without_a_pid_namespace_the_process_has_a_host_pid() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("pid");
    let report = case.see(&mut bundle);
    assert_eq!(report.namespace("pid"), ours("pid"));
    assert_ne!(report["pid"], 1);
}

#[test]
fn loopback_is_up_in_a_new_network_namespace() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    let flags = report["interfaces"]["lo"].as_i64().expect("an interface lo");
    assert_eq!(flags & 1, 1, "IFF_UP of {flags:#x}");
    assert_eq!(report["interfaces"].as_object().expect("interfaces").len(), 1);
}

#[test]
fn cgroup_namespace_has_the_containers_cgroup_as_root() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    let lines = report["cgroup"].as_str().expect("/proc/self/cgroup");
    assert!(lines.lines().any(|line| line == "0::/"), "{lines}");
}

#[test]
fn each_namespace_is_joined_by_path() {
    let case = case!();
    let mut first = case.bundle();
    let target = case.start_sleeping(&mut first);
    for (name, kind) in
        [("ipc", "ipc"), ("uts", "uts"), ("network", "net"), ("cgroup", "cgroup"), ("pid", "pid")]
    {
        let mut bundle = case.bundle();
        bundle.namespace(name, Some(&format!("/proc/{}/ns/{kind}", target.pid())));
        if name == "uts" {
            bundle.config.as_object_mut().expect("an object").remove("hostname");
        }
        let report = case.see(&mut bundle);
        assert_eq!(report.namespace(kind), of(target.pid(), kind), "{kind}");
        for (other, other_kind) in ALL {
            if other != name && other != "time" {
                assert_ne!(
                    report.namespace(other_kind),
                    of(target.pid(), other_kind),
                    "{other} while joining {name}"
                );
            }
        }
    }
}

#[test]
fn several_namespaces_are_joined_at_once() {
    let case = case!();
    let mut first = case.bundle();
    let target = case.start_sleeping(&mut first);
    let mut bundle = case.bundle();
    for (name, kind) in [("ipc", "ipc"), ("uts", "uts"), ("network", "net"), ("pid", "pid")] {
        bundle.namespace(name, Some(&format!("/proc/{}/ns/{kind}", target.pid())));
    }
    bundle.config.as_object_mut().expect("an object").remove("hostname");
    let report = case.see(&mut bundle);
    for kind in ["ipc", "uts", "net", "pid"] {
        assert_eq!(report.namespace(kind), of(target.pid(), kind), "{kind}");
    }
    assert_eq!(report["hostname"], "box");
    assert_ne!(report["pid"], 1, "the first container's process is");
}

#[test]
fn namespace_bound_to_a_file_is_joined() {
    let case = case!();
    let mut first = case.bundle();
    let target = case.start_sleeping(&mut first);
    let file = case.dir().join("net");
    std::fs::write(&file, "").expect("make a file");
    let none = None::<&str>;
    let from = format!("/proc/{}/ns/net", target.pid());
    nix::mount::mount(Some(from.as_str()), &file, none, nix::mount::MsFlags::MS_BIND, none).expect("bind");
    let inode = of(target.pid(), "net");
    target.delete();
    let mut bundle = case.bundle();
    bundle.namespace("network", Some(&file.to_string_lossy()));
    assert_eq!(case.see(&mut bundle).namespace("net"), inode);
    nix::mount::umount(&file).expect("unmount");
}

#[test]
fn user_namespace_maps_ids() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    let report = case.see(&mut bundle);
    assert_ne!(report.namespace("user"), ours("user"));
    assert_eq!(report["uid"], json!([0, 0, 0]));
    let map: Vec<&str> = report["uid_map"].as_str().expect("a map").split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    assert_eq!(report["root"]["uid"], 0);
    report.mount("/proc");
    report.mount("/sys");
    report.mount("/dev/mqueue");
}

#[test]
fn user_namespace_with_several_ranges() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 1000);
    let ranges = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 1000, "hostID": 200_000, "size": 10 },
        { "containerID": 65534, "hostID": 300_000, "size": 1 },
    ]);
    bundle.config["linux"]["uidMappings"] = ranges.clone();
    bundle.config["linux"]["gidMappings"] = ranges;
    bundle.config["process"]["user"] = json!({ "uid": 1001, "gid": 65534 });
    let report = case.see(&mut bundle);
    assert_eq!(report["uid"], json!([1001, 1001, 1001]));
    assert_eq!(report["gid"], json!([65534, 65534, 65534]));
    assert_eq!(report["uid_map"].as_str().expect("a map").lines().count(), 3);
}

#[test]
fn process_in_a_user_namespace_is_the_mapped_user_on_the_host() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.config["process"]["user"] = json!({ "uid": 7, "gid": 8 });
    let container = case.start_sleeping(&mut bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("its status");
    assert!(status.contains("Uid:\t100007\t100007\t100007\t100007"), "{status}");
    assert!(status.contains("Gid:\t100008\t100008\t100008\t100008"), "{status}");
}

#[test]
fn user_namespace_is_joined_by_path() {
    let case = case!();
    let mut first = case.bundle();
    first.user_namespace(100_000, 65_536);
    let target = case.start_sleeping(&mut first);
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.namespace("user", Some(&format!("/proc/{}/ns/user", target.pid())));
    let linux = bundle.config["linux"].as_object_mut().expect("an object");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    unless!("runc 1.1", "1.1 wants mappings with a joined user namespace");
    let report = case.see(&mut bundle);
    assert_eq!(report.namespace("user"), of(target.pid(), "user"));
    assert_ne!(report.namespace("pid"), of(target.pid(), "pid"));
    assert_eq!(report["uid"], json!([0, 0, 0]));
    assert_eq!(report["pid"], 1);
}

#[test]
fn user_and_network_namespaces_are_joined_together() {
    let case = case!();
    let mut first = case.bundle();
    first.user_namespace(100_000, 65_536);
    let target = case.start_sleeping(&mut first);
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    for (name, kind) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")]
    {
        bundle.namespace(name, Some(&format!("/proc/{}/ns/{kind}", target.pid())));
    }
    bundle.config.as_object_mut().expect("an object").remove("hostname");
    unless!("runc 1.1", "1.1 refuses mappings of a joined user namespace in some versions");
    let linux = bundle.config["linux"].as_object_mut().expect("an object");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    let report = case.see(&mut bundle);
    for kind in ["user", "net", "ipc", "uts", "pid"] {
        assert_eq!(report.namespace(kind), of(target.pid(), kind), "{kind}");
    }
}

#[test]
fn new_user_namespace_beside_a_joined_network_namespace() {
    let case = case!();
    let mut first = case.bundle();
    let target = case.start_sleeping(&mut first);
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.namespace("network", Some(&format!("/proc/{}/ns/net", target.pid())));
    // A sysfs can't be mounted by who doesn't own the network namespace: engines then bind the host's.
    bundle.config["mounts"]
        .as_array_mut()
        .expect("a list")
        .retain(|m| m["type"] != "sysfs" && m["type"] != "cgroup");
    bundle.mount(json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] }));
    let report = case.see(&mut bundle);
    assert_eq!(report.namespace("net"), of(target.pid(), "net"));
    assert_ne!(report.namespace("user"), ours("user"));
}

#[test]
fn time_namespace_gets_its_offsets() {
    unless!("runc 1.1", "time namespaces came with 1.2");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] =
        json!({ "monotonic": { "secs": 1000, "nanosecs": 5 }, "boottime": { "secs": 5000, "nanosecs": 0 } });
    let report = case.see(&mut bundle);
    assert_ne!(report.namespace("time"), ours("time"));
    let offsets = report["time_offsets"].as_str().expect("offsets");
    let words: Vec<&str> = offsets.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "1000", "5", "boottime", "5000", "0"]);
}

#[test]
fn hostname_and_domainname_are_set() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["hostname"] = json!("engine-room");
    if !Runtime::under_test().is("runc 1.1") {
        bundle.config["domainname"] = json!("example.org");
    }
    let report = case.see(&mut bundle);
    assert_eq!(report["hostname"], "engine-room");
    if !Runtime::under_test().is("runc 1.1") {
        assert_eq!(report["domainname"], "example.org");
    }
}

#[test]
fn orphans_of_a_joined_pid_namespace_go_to_its_first_process() {
    let case = case!();
    let mut first = case.bundle();
    let target = case.start_sleeping(&mut first);
    let mut bundle = case.bundle();
    bundle.namespace("pid", Some(&format!("/proc/{}/ns/pid", target.pid())));
    let other = case.start_sleeping(&mut bundle);
    assert_eq!(of(other.pid(), "pid"), of(target.pid(), "pid"));
    other.delete();
    assert_eq!(target.status(), "running");
}

#[test]
fn a_uts_namespace_that_is_joined_is_renamed_but_never_the_hosts() {
    let case = case!();
    let target = case.start_sleeping(&mut case.bundle());
    let mut bundle = case.bundle();
    bundle.namespace("uts", Some(&format!("/proc/{}/ns/uts", target.pid())));
    bundle.config["hostname"] = json!("renamed");
    assert_eq!(case.see(&mut bundle)["hostname"], "renamed");
    assert_eq!(target.exec_report(&[])["hostname"], "renamed");
    unless!("runc", "it renames the host");
    unless!("crun", "it renames the host");
    let mut bundle = case.bundle();
    bundle.namespace("uts", Some("/proc/self/ns/uts")).args(["/probe", "exit", "0"]);
    bundle.config["hostname"] = json!("renamed");
    case.run(&bundle).exits(1).fails(&["the uts namespace to join is the runtime's own"]);
}

// A parameter of a namespace that is the host's, by whatever name it is joined. Each is set to what it is.
#[test]
fn parameters_of_the_hosts_own_namespaces_are_never_set() {
    unless!("runc", "it sets whatever it finds");
    unless!("crun", "it sets whatever it finds");
    let case = case!();
    for (kind, file, parameter) in [
        ("network", "net", "net.ipv4.ip_default_ttl"),
        ("network", "net", "net/ipv4/ip_default_ttl"),
        ("ipc", "ipc", "kernel.msgmax"),
        ("ipc", "ipc", "fs.mqueue.msg_max"),
        ("uts", "uts", "kernel.domainname"),
    ] {
        let value =
            std::fs::read_to_string(format!("/proc/sys/{}", parameter.replace('.', "/"))).expect("it");
        let bound = case.dir().join("bound");
        std::fs::write(&bound, "").expect("write");
        let from = format!("/proc/self/ns/{file}");
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(from.as_str()), &bound, None::<&str>, flags, None::<&str>).expect("bind it");
        let paths = [
            format!("/proc/self/ns/{file}"),
            format!("/proc/{}/ns/{file}", std::process::id()),
            bound.to_string_lossy().into_owned(),
        ];
        for path in paths {
            let mut bundle = case.bundle();
            bundle.config.as_object_mut().expect("an object").remove("hostname");
            bundle.namespace(kind, Some(&path));
            bundle.config["linux"]["sysctl"] = json!({ parameter: value.trim_end() });
            bundle.args(["/probe", "exit", "0"]);
            let says = format!("the {kind} namespace to join is the runtime's own");
            case.run(&bundle).exits(1).fails(&["linux.sysctl", &parameter.replace('/', "."), &says]);
        }
        nix::mount::umount(&bound).expect("unmount");
    }
}

#[test]
fn parameters_of_another_namespace_that_is_joined_are_set() {
    let case = case!();
    let pause = case.start_sleeping(&mut case.bundle());
    let mut bundle = case.bundle();
    bundle.namespace("network", Some(&format!("/proc/{}/ns/net", pause.pid())));
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" });
    assert_eq!(case.act(&mut bundle, ["read", "/proc/sys/net/ipv4/ip_default_ttl"]).trim(), "77");
}

// A runtime in a network namespace of its own, to which process 1's is named.
#[test]
fn parameters_of_process_1s_namespace_are_not_set_from_elsewhere() {
    only_rt!("whose namespaces are spared is its own rule");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.namespace("network", Some("/proc/1/ns/net")).args(["/probe", "exit", "0"]);
    let value = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("it");
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": value.trim_end() });
    bundle.write();
    let script = "unshare --net \"$@\"; exit $?"; // the shell is process 1
    let call = case.program(std::path::Path::new("unshare")).args(["--pid", "--fork", "--mount-proc"]);
    let call = call.args(["sh", "-c", script, "sh"]).arg(Runtime::under_test().path());
    let call = call.arg("--root").arg(case.state_root()).args(["run", "--bundle"]).arg(bundle.dir());
    call.arg(bundle.id()).run().exits(1).fails(&["network namespace to join is that of process 1"]);
}

#[test]
fn a_path_that_is_no_namespace_is_not_opened() {
    unless!("runc", "it waits for the FIFO's other end");
    unless!("crun", "it waits for the FIFO's other end");
    let case = case!();
    let fifo = case.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("make a FIFO");
    for kind in ["network", "pid", "user", "mount", "ipc", "uts", "cgroup", "time"] {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "exit", "0"]).namespace(kind, Some(&fifo.display().to_string()));
        case.run(&bundle).exits(1).fails(&[&format!("join the {kind} namespace"), "it is not a namespace"]);
    }
}
