//! Sandboxes whole, and what is refused.

use super::super::testing::{accepted, context, golden, host, pod};
use super::*;
use crate::api::NamespaceMode as Mode;

fn place() -> SandboxPlace {
    SandboxPlace {
        id: "s1".into(),
        root: "/var/lib/rt/pause".into(),
        args: vec!["/pause".into()],
        netns: Some("/run/netns/rt-s1".into()),
        ..Default::default()
    }
}

fn options(pod: &mut api::PodSandboxConfig) -> &mut api::NamespaceOption {
    context(pod).namespace_options.get_or_insert_default()
}

#[test]
fn a_pod_has_namespaces_of_its_own() {
    let mut pod = pod();
    options(&mut pod).pid = Mode::Container.into();
    context(&mut pod).seccomp = Some(api::SecurityProfile::default());
    let made = spec(&pod, &place(), &host()).unwrap();
    golden("sandbox", &made.config());
    let plan = accepted(&made.config());
    assert_eq!(plan.task.process.oom_score_adj, Some(-998));
    assert_eq!((made.user.uid, made.degraded), (65535, vec![]));
}

#[test]
fn a_pod_can_share_all_with_the_host() {
    let mut pod = pod();
    let modes = options(&mut pod);
    (modes.network, modes.pid, modes.ipc) = (Mode::Node.into(), Mode::Node.into(), Mode::Node.into());
    let clamped = Host { oom_score_adj: 0, lowers_oom_score: false, ..host() };
    let made = spec(&pod, &SandboxPlace { netns: None, ..place() }, &clamped).unwrap();
    golden("sandbox-host", &made.config());
    accepted(&made.config());
    let less: Vec<_> = made.degraded.iter().map(|less| (less.field.as_str(), less.asked.as_str())).collect();
    assert_eq!(less, [("resources.oom_score_adj", "-998"), ("hostname", "web")]);
}

#[test]
fn a_pod_can_have_ids_of_its_own() {
    let mut pod = pod();
    let map = vec![api::IdMapping { host_id: 1_000_000, container_id: 0, length: 65_536 }];
    options(&mut pod).userns_options =
        Some(api::UserNamespace { mode: Mode::Pod.into(), uids: map.clone(), gids: map });
    let place = SandboxPlace { userns: Some("/proc/7/ns/user".into()), ..place() };
    let made = spec(&pod, &place, &host()).unwrap();
    golden("sandbox-userns", &made.config());
    accepted(&made.config());
    // Without one that was made before, the sandbox makes it.
    let made = spec(&pod, &SandboxPlace { userns: None, ..place }, &host()).unwrap();
    assert!(accepted(&made.config()).idmap.is_some());
}

#[test]
fn systemd_makes_a_scope_in_the_pods_slice() {
    let mut pod = pod();
    pod.linux.as_mut().unwrap().cgroup_parent = "/kubepods.slice/kubepods-podu1.slice".into();
    let made = spec(&pod, &place(), &Host { driver: super::super::Driver::Systemd, ..host() }).unwrap();
    let path = made.spec.linux().as_ref().unwrap().cgroups_path().clone();
    assert_eq!(path, Some("kubepods-podu1.slice:rt:s1".into()));
}

#[test]
fn sysctls_of_the_pod_win_over_ours() {
    let mut pod = pod();
    pod.linux.as_mut().unwrap().sysctls =
        [("net/ipv4/ip_unprivileged_port_start".to_owned(), "80".to_owned())].into();
    let made = spec(&pod, &place(), &host()).unwrap();
    let set = made.spec.linux().as_ref().unwrap().sysctl().clone().unwrap();
    assert_eq!(set["net/ipv4/ip_unprivileged_port_start"], "80");
    assert_eq!(set.len(), 2);
}

#[test]
fn mistakes_are_named() {
    type Change = fn(&mut api::PodSandboxConfig);
    let cases: [(Change, &str); 8] = [
        (
            |pod| pod.hostname = "x".repeat(65),
            &format!("hostname {:?} is no name of at most 64 bytes", "x".repeat(65)),
        ),
        (
            |pod| options(pod).ipc = Mode::Container.into(),
            "namespace_options.ipc: mode CONTAINER (it is POD or NODE)",
        ),
        (|pod| options(pod).pid = 9, "namespace_options.pid: unknown mode 9"),
        (
            |pod| pod.linux.as_mut().unwrap().sysctls = [("kernel.panic".to_owned(), "1".to_owned())].into(),
            "sysctls: \"kernel.panic\" is not in a separate kernel namespace (it is the host's; set it there with sysctl(8))",
        ),
        (
            |pod| {
                options(pod).ipc = Mode::Node.into();
                pod.linux.as_mut().unwrap().sysctls = [("kernel.sem".to_owned(), "1".to_owned())].into();
            },
            "sysctls: \"kernel.sem\" is the host's: the container has no ipc namespace of its own (add \"ipc\" to linux.namespaces)",
        ),
        (
            |pod| pod.linux.as_mut().unwrap().cgroup_parent = "/a/../..".into(),
            "cgroup_parent \"/a/../..\": it holds \"..\"",
        ),
        (
            |pod| context(pod).run_as_group = Some(api::Int64Value { value: 3 }),
            "run_as_group 3 without run_as_user or run_as_username (set the user too)",
        ),
        (
            |pod| context(pod).supplemental_groups_policy = 5,
            "supplemental_groups_policy is neither Merge nor Strict",
        ),
    ];
    for (change, message) in cases {
        let mut bad = pod();
        change(&mut bad);
        assert_eq!(spec(&bad, &place(), &host()).unwrap_err().to_string(), message);
    }
}
