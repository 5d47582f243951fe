//! What a pod and its containers share with each other and with the host.

use crate::surroundings;
use serde_json::json;

/// The namespace that a process of the test's own is in.
fn own(kind: &str) -> String {
    let path = format!("/proc/thread-self/ns/{kind}");
    std::fs::read_link(path).expect("a namespace").to_string_lossy().into_owned()
}

const SHOW: &str = "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/comm";

fn shown(container: &tests::cri::Container<'_>) -> Vec<String> {
    container.exec(&["sh", "-c", SHOW]).ok().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn containers_of_a_pod_share_all_but_their_processes() {
    let here = surroundings!();
    let mut pod = here.pod("shared");
    pod.config["linux"]["security_context"]["namespace_options"]["pid"] = json!(1);
    let pod = pod.run();
    let [one, two] = ["one", "two"].map(|name| pod.container(name, &["sleep", "1000"]).run());
    let (one, two) = (shown(&one), shown(&two));
    assert_eq!(one[..3], two[..3], "network, IPC and UTS are the pod's");
    assert_ne!(one[3], two[3], "each has its own processes");
    assert_eq!((one[4].as_str(), one[5].as_str()), ("shared", "sleep"));
    for (at, kind) in ["net", "ipc", "uts", "pid"].iter().enumerate() {
        assert_ne!(one[at], own(kind), "{kind} is not the host's");
    }
}

#[test]
fn a_pod_can_share_its_processes_too() {
    let here = surroundings!();
    let pod = here.pod("together").run();
    let one = pod.container("one", &["sleep", "1000"]).run();
    let two = pod.container("two", &["sleep", "2000"]).run();
    let seen = two.exec(&["ps", "-o", "args"]).ok().stdout;
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 2000"), "{seen}");
    assert_eq!(shown(&one)[3], shown(&two)[3]);
    assert_eq!(shown(&one)[5], "pause", "the pod's first process reaps");
}

#[test]
fn a_pod_can_be_on_the_hosts_network_see_its_processes_and_its_ipc() {
    let here = surroundings!();
    let mut pod = here.pod("host").on_host_network();
    let modes = &mut pod.config["linux"]["security_context"]["namespace_options"];
    (modes["pid"], modes["ipc"]) = (json!(2), json!(2));
    let pod = pod.run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let seen = shown(&container);
    for (at, kind) in ["net", "ipc", "uts", "pid"].iter().enumerate() {
        assert_eq!(seen[at], own(kind), "{kind} is the host's");
    }
}

#[test]
fn a_container_can_join_anothers_processes() {
    let here = surroundings!();
    let mut pod = here.pod("debug");
    pod.config["linux"]["security_context"]["namespace_options"]["pid"] = json!(1);
    let pod = pod.run();
    let target = pod.container("target", &["sleep", "1234"]).run();
    let mut debugger = pod.container("debugger", &["sleep", "1000"]);
    debugger.config["linux"]["security_context"]["namespace_options"] =
        json!({"pid": 3, "target_id": target.id()});
    let debugger = debugger.run();
    let seen = debugger.exec(&["ps", "-o", "args"]).ok().stdout;
    assert!(seen.contains("sleep 1234"), "{seen}");
}

#[test]
fn sysctls_are_the_pods_and_those_of_the_host_are_refused() {
    let here = surroundings!();
    let mut pod = here.pod("sysctl");
    pod.config["linux"]["sysctls"] =
        json!({"net.ipv4.ip_local_port_range": "2000 3000", "kernel.shm_rmid_forced": "1"});
    let pod = pod.run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let read =
        |name: &str| container.exec(&["cat", &format!("/proc/sys/{name}")]).ok().stdout.trim().to_owned();
    assert_eq!(read("net/ipv4/ip_local_port_range"), "2000\t3000");
    assert_eq!(read("kernel/shm_rmid_forced"), "1");
    assert_eq!(read("net/ipv4/ip_unprivileged_port_start"), "0", "any user may listen on port 80");
    let mut bad = here.pod("bad");
    bad.config["linux"]["sysctls"] = json!({"kernel.panic": "1"});
    here.crictl(["runp"]).arg(bad.file()).run().fails(&["kernel.panic"]);
}

#[test]
fn a_pod_with_a_user_namespace_has_its_own_root() {
    let here = surroundings!();
    let mut pod = here.pod("userns");
    let map = json!([{"host_id": 1_000_000, "container_id": 0, "length": 65_536}]);
    pod.config["linux"]["security_context"]["namespace_options"] =
        json!({"pid": 1, "userns_options": {"mode": 0, "uids": map, "gids": map}});
    let pod = pod.run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let seen = container.exec(&["cat", "/proc/self/uid_map"]).ok().stdout;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1000000", "65536"]);
    // The image's files and the pod's are root's, and root can write.
    let script = "stat -c %u /bin /etc/hostname; echo x >/new && stat -c %u /new; echo y >>/etc/hostname && echo written";
    let output = container.exec(&["sh", "-c", script]).ok();
    assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0", "written"], "{output}");
}
