//! What a container joins, and what does not fit together.

use super::super::testing::{context, pod};
use super::*;

fn facts() -> SandboxFacts {
    SandboxFacts { id: "s1".into(), pid: 7, netns: Some("/run/netns/x".into()), ..Default::default() }
}

fn joined(pod: &Modes, options: Option<&api::NamespaceOption>) -> Result<Vec<String>> {
    let joining = Joining { options, privileged: false, target_pid: Some(9) };
    let all = of_container(pod, joining, &facts())?;
    let path = |namespace: &LinuxNamespace| {
        namespace.path().as_ref().map_or("", |path| path.to_str().unwrap()).to_owned()
    };
    Ok(all.iter().map(|namespace| format!("{:?} {}", namespace.typ(), path(namespace))).collect())
}

fn of(change: fn(&mut api::NamespaceOption)) -> Result<Modes> {
    let mut config = pod();
    change(context(&mut config).namespace_options.get_or_insert_default());
    modes(&config)
}

#[test]
fn a_container_joins_its_pod() {
    let own = of(|options| options.pid = Mode::Container.into()).unwrap();
    let pods = ["Mount ", "Cgroup ", "Network /run/netns/x", "Uts /proc/7/ns/uts", "Ipc /proc/7/ns/ipc"];
    let with =
        |pid: &str| -> Vec<String> { pods.iter().chain([&pid]).map(|&text| text.to_owned()).collect() };
    // What the container doesn't say is as in its pod.
    assert_eq!(joined(&own, None).unwrap(), with("Pid "));
    let pid = |mode: Mode| api::NamespaceOption { pid: mode.into(), ..Default::default() };
    assert_eq!(joined(&own, Some(&pid(Mode::Pod))).unwrap(), with("Pid /proc/7/ns/pid"));
    assert_eq!(joined(&own, Some(&pid(Mode::Target))).unwrap(), with("Pid /proc/9/ns/pid"));
    let shared = of(|_| {}).unwrap();
    assert_eq!(joined(&shared, None).unwrap(), with("Pid /proc/7/ns/pid"));
}

#[test]
fn what_is_the_hosts_is_not_joined() {
    let host = of(|options| {
        (options.network, options.pid, options.ipc) =
            (Mode::Node.into(), Mode::Node.into(), Mode::Node.into());
    })
    .unwrap();
    assert_eq!(joined(&host, None).unwrap(), ["Mount ", "Cgroup "]);
    assert_eq!(joined(&host, Some(&api::NamespaceOption::default())).unwrap(), ["Mount ", "Cgroup "]);
    let joining = Joining { options: None, privileged: true, target_pid: None };
    assert_eq!(of_container(&host, joining, &facts()).unwrap().len(), 1);
}

#[test]
fn a_user_namespace_is_the_pods() {
    let mapped =
        of(|options| options.userns_options = Some(userns(&[(0, 1000, 10)], &[(0, 2000, 10)]))).unwrap();
    assert_eq!(mapped.idmap, Some(IdMap { uid: 1000, gid: 2000, length: 10 }));
    assert!(joined(&mapped, None).unwrap().contains(&"User /proc/7/ns/user".to_owned()));
}

fn userns(uids: &[(u32, u32, u32)], gids: &[(u32, u32, u32)]) -> api::UserNamespace {
    let lines = |list: &[(u32, u32, u32)]| {
        list.iter()
            .map(|&(container_id, host_id, length)| api::IdMapping { host_id, container_id, length })
            .collect()
    };
    api::UserNamespace { mode: Mode::Pod.into(), uids: lines(uids), gids: lines(gids) }
}

#[test]
fn mistakes_of_a_pod_are_named() {
    type Change = fn(&mut api::NamespaceOption);
    let cases: [(Change, &str); 8] = [
        (
            |o| o.userns_options = Some(userns(&[], &[])),
            "namespace_options.userns_options: 0 mappings of users and 0 of groups (exactly one of each is supported)",
        ),
        (
            |o| o.userns_options = Some(userns(&[(0, 1, 1), (1, 9, 1)], &[(0, 1, 1)])),
            "namespace_options.userns_options: 2 mappings of users and 1 of groups (exactly one of each is supported)",
        ),
        (
            |o| o.userns_options = Some(userns(&[(1, 1, 1)], &[(0, 1, 1)])),
            "namespace_options.userns_options: uids map 1 ids from 1 on (a mapping starts at container id 0 and has a length)",
        ),
        (
            |o| o.userns_options = Some(userns(&[(0, 1, 2)], &[(0, 1, 1)])),
            "namespace_options.userns_options: 2 users but 1 groups (map as many of both)",
        ),
        (
            |o| o.userns_options = Some(userns(&[(0, u32::MAX, 2)], &[(0, 1, 2)])),
            "namespace_options.userns_options: uids map beyond the last id: 4294967295 + 2",
        ),
        (
            |o| {
                o.userns_options =
                    Some(api::UserNamespace { mode: Mode::Node.into(), ..userns(&[(0, 1, 1)], &[]) });
            },
            "namespace_options.userns_options: mappings with mode NODE",
        ),
        (
            |o| {
                o.userns_options =
                    Some(api::UserNamespace { mode: Mode::Container.into(), ..Default::default() });
            },
            "namespace_options.userns_options: mode CONTAINER is not supported (it is POD or NODE)",
        ),
        (
            |o| {
                o.userns_options = Some(userns(&[(0, 1, 1)], &[(0, 1, 1)]));
                o.pid = Mode::Node.into();
            },
            "namespace_options: userns_options POD with pid NODE (a pod with a user namespace can't see the host's processes)",
        ),
    ];
    for (change, message) in cases {
        assert_eq!(of(change).unwrap_err().to_string(), message);
    }
}

#[test]
fn mistakes_of_a_container_are_named() {
    let pod = of(|options| options.pid = Mode::Container.into()).unwrap();
    type Change = fn(&mut api::NamespaceOption);
    let cases: [(Change, &str); 4] = [
        (
            |o| o.network = Mode::Node.into(),
            "namespace_options.network: NODE, but the sandbox's is not (run it in a sandbox with the same mode)",
        ),
        (
            |o| o.pid = Mode::Node.into(),
            "namespace_options.pid: NODE, but the sandbox's is not (run it in a sandbox with the same mode)",
        ),
        (
            |o| o.userns_options = Some(userns(&[(0, 1, 1)], &[(0, 1, 1)])),
            "namespace_options.userns_options: other mappings than the sandbox's (give the container those of its sandbox)",
        ),
        (|o| o.ipc = 8, "namespace_options.ipc: unknown mode 8"),
    ];
    for (change, message) in cases {
        let mut options = api::NamespaceOption::default();
        change(&mut options);
        assert_eq!(joined(&pod, Some(&options)).unwrap_err().to_string(), message);
    }
    let gone =
        api::NamespaceOption { pid: Mode::Target.into(), target_id: "c9".into(), ..Default::default() };
    let joining = Joining { options: Some(&gone), privileged: false, target_pid: None };
    assert_eq!(
        of_container(&pod, joining, &facts()).unwrap_err().to_string(),
        "namespace_options: pid TARGET of container \"c9\", which is not running in this sandbox (name a running container of the same sandbox in target_id)"
    );
}
