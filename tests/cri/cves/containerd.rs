//! What containerd had of pods and containers.

use super::{descriptors, gives_back, most_memory, outside, probe, pulled, untouched, upwards};
use crate::images::registry::Registry;
use crate::surroundings;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{json, until};

/// Nobody in particular on the host.
const SOMEBODY: u32 = 12_345;

// 2020-15257: a pod on the host's network reaches the shim's abstract socket, and by it the host.
#[test]
fn cve_2020_15257_a_pod_on_the_hosts_network_finds_an_abstract_socket() {
    let here = surroundings!();
    let pod = here.pod("host").on_host_network().run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let seen = container.exec(&["cat", "/proc/net/unix"]).ok().stdout;
    let abstracts: Vec<&str> = seen.lines().filter(|line| line.contains(" @")).collect();
    assert!(seen.contains("shim.sock"), "the shim's own is not seen: {seen}");
    assert!(abstracts.is_empty(), "abstract sockets are within reach: {abstracts:?}");
}

/// All files below, whoever may see them.
fn files(top: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(top).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

// 2021-41103: a user of the host executes a setuid file of a container, or reads what is in it.
#[test]
fn cve_2021_41103_a_user_of_the_host_executes_a_containers_setuid_file() {
    let here = surroundings!();
    let registry = Registry::start();
    let image = pulled(&here, &registry, &[("data/in-a-volume", b"x")], &json!({"Volumes": {"/data": {}}}));
    let pod = here.pod("setuid").run();
    let script = "cp /bin/busybox /setuid-here && chmod 4755 /setuid-here && sleep 1000";
    let container = pod.script("c", script).run();
    until("the file is there", || {
        (container.exec(&["test", "-u", "/setuid-here"]).code() == 0).then_some(())
    });
    let _volume = probe(&pod, "volume", &image, &["sleep"]).run();
    let mut all = Vec::new();
    here.places().iter().for_each(|place| files(place, &mut all));
    let named = |name: &str| all.iter().filter(|path| path.ends_with(name)).cloned().collect::<Vec<_>>();
    let (setuid, kept) = (named("setuid-here"), named("in-a-volume"));
    assert!(!setuid.is_empty() && !kept.is_empty(), "they are somewhere");
    for path in setuid {
        let run = Command::new(&path).arg("true").uid(SOMEBODY).gid(SOMEBODY).output();
        let kind = run.as_ref().map_err(std::io::Error::kind);
        let denied = Some(std::io::ErrorKind::PermissionDenied);
        assert_eq!(kind.err(), denied, "somebody on the host may execute {}", path.display());
    }
    for path in kept {
        let read = Command::new("cat").arg(&path).uid(SOMEBODY).gid(SOMEBODY).output().expect("cat runs");
        assert!(!read.status.success(), "somebody on the host may read {}", path.display());
    }
}

// 2024-25621: directories with what is known of containers are open to every user of the host.
#[test]
fn cve_2024_25621_a_user_of_the_host_looks_through_the_servers_directories() {
    let here = surroundings!();
    let mut pod = here.pod("secret");
    pod.config["annotations"] = json!({"word": "OF-A-POD-9f2c"});
    let pod = pod.run();
    let mut container = pod.script("c", "echo OF-A-POD-9f2c >/written; sleep 1000");
    container.config["envs"] = json!([{"key": "WORD", "value": "OF-A-POD-9f2c"}]);
    let _container = container.run();
    let places = here.places();
    let search = |user: u32| {
        let found =
            Command::new("grep").args(["-rls", "OF-A-POD-9f2c"]).args(&places).uid(user).gid(user).output();
        String::from_utf8_lossy(&found.expect("grep runs").stdout).into_owned()
    };
    assert!(!search(0).is_empty(), "it is kept somewhere");
    assert_eq!(search(SOMEBODY), "", "somebody on the host may read it");
}

// 2022-23648: an image's VOLUME climbs out, and files of the host are copied into the container's volume.
#[test]
fn cve_2022_23648_an_images_volume_is_a_directory_of_the_host() {
    let here = surroundings!();
    let outside = outside(here.case());
    let up = upwards(&outside);
    for (at, volume) in [up.clone(), format!("/etc{up}"), outside.display().to_string()].iter().enumerate() {
        let registry = Registry::start();
        let image = pulled(&here, &registry, &[("etc/x", b"x")], &json!({"Volumes": {volume: {}}}));
        let pod = here.pod(&format!("volume-{at}")).run();
        let container = probe(&pod, "c", &image, &["sleep"]);
        let created =
            here.crictl(["create", "--no-pull", pod.id()]).arg(container.file()).arg(pod.file()).run();
        let mut all = Vec::new();
        here.places().iter().for_each(|place| files(place, &mut all));
        let copies: Vec<_> = all.iter().filter(|path| path.ends_with("secret")).collect();
        assert!(copies.is_empty(), "{volume}: {created}: {copies:?}");
        untouched(&outside);
        here.crictl(["rmp", "--force", pod.id()]).run().ok();
    }
}

// 2022-31030: ExecSync keeps all that a command prints.
#[test]
fn cve_2022_31030_execsync_prints_without_end() {
    let here = surroundings!();
    let pod = here.pod("prints").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let before = most_memory(&here);
    let _ = container.exec(&["sh", "-c", "yes | head -c 150000000"]);
    let grown = most_memory(&here).saturating_sub(before) >> 20;
    assert!(grown < 100, "150 MB were printed, the server has taken {grown} MiB");
    assert_eq!(container.exec(&["echo", "still"]).ok().stdout.trim(), "still");
}

// 2023-25173: the primary group is not among the supplementary ones, so that a file's "not this group" does not hold.
#[test]
fn cve_2023_25173_the_primary_group_is_left_out() {
    let here = surroundings!();
    let pod = here.pod("groups").run();
    let mut container = pod.script("c", "grep Groups: /proc/self/status; sleep 1000");
    container.config["linux"]["security_context"] =
        json!({"run_as_user": {"value": 1000}, "run_as_group": {"value": 50}, "supplemental_groups": [60]});
    let container = container.run();
    let own = tests::until("it says its groups", || Some(container.log()).filter(|log| log.ends_with('\n')));
    for text in [own, container.exec(&["grep", "Groups:", "/proc/self/status"]).ok().stdout] {
        let groups = text.split_once("Groups:").expect("its groups").1;
        assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["50", "60"], "{text}");
    }
}

// 2025-47291: containers of a pod with a user namespace are not in the pod's cgroup, so that its limits don't hold.
#[test]
fn cve_2025_47291_a_pod_with_a_user_namespace_leaves_its_cgroup() {
    let here = surroundings!();
    let mut pod = here.pod("userns");
    let map = json!([{"host_id": 1_000_000, "container_id": 0, "length": 65_536}]);
    pod.config["linux"]["security_context"]["namespace_options"] =
        json!({"pid": 1, "userns_options": {"mode": 0, "uids": map, "gids": map}});
    let pod = pod.run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    for seen in [container.inspect(), pod.inspect()] {
        let pid = &seen["info"]["pid"];
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).expect("its cgroup");
        assert!(own.starts_with(here.case().cgroup()), "it is outside of the pod's cgroup: {own}");
    }
}

// 2026-53488: labels of an image become labels of its containers, which others believe: `containerd.io/restart.loguri` names a
// program of the host.
#[test]
fn cve_2026_53488_an_images_labels_become_the_containers() {
    let here = surroundings!();
    let outside = outside(here.case());
    let command = format!("binary:///bin/sh?-c=touch+{}/run", outside.display());
    let labels = json!({"containerd.io/restart.loguri": command, "containerd.io/restart.status": "running",
        "io.kubernetes.container.name": "another"});
    let registry = Registry::start();
    let image = pulled(&here, &registry, &[], &json!({"Labels": labels}));
    let pod = here.pod("labels").run();
    let mut container = probe(&pod, "c", &image, &["sleep"]);
    container.config["labels"] = json!({"own": "1"});
    let container = container.run();
    let status = container.inspect()["status"].clone();
    assert_eq!(status["labels"], json!({"own": "1"}), "{status}");
    assert!(status["annotations"].as_object().is_none_or(serde_json::Map::is_empty), "{status}");
    let spec = std::fs::read_to_string(format!("/run/rt/bundles/{}/config.json", container.id()))
        .expect("its bundle");
    assert!(!spec.contains("restart.loguri") && !spec.contains("another"), "{spec}");
    untouched(&outside);
}

// 2025-64329: each attached client that goes away leaves something behind in the server.
#[test]
fn cve_2025_64329_clients_that_attach_and_go_away() {
    let here = surroundings!();
    let pod = here.pod("attach").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let attach = || {
        let mut client = here.crictl(["attach", container.id()]).spawn();
        let _ = tests::within(std::time::Duration::from_millis(100), || client.ended().then_some(()));
        client.end(nix::sys::signal::Signal::SIGKILL);
    };
    attach();
    let before = descriptors(here.server_pid());
    (0..12).for_each(|_| attach());
    gives_back(&here, before);
    assert_eq!(container.exec(&["echo", "still"]).ok().stdout.trim(), "still");
}

// 2026-53495: ExecSync whose command leaves a process behind that holds its streams: what waits for their end is kept for ever.
#[test]
fn cve_2026_53495_execsync_leaves_processes_that_hold_its_streams() {
    let here = surroundings!();
    let pod = here.pod("holds").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let exec = || {
        let words = ["exec", "--sync", container.id(), "sh", "-c", "sleep 900 & echo done"];
        let mut call = here.crictl(words).spawn();
        until("ExecSync of a command that left its streams to another ends", || call.ended().then_some(()));
        assert_eq!(call.wait().ok().stdout.trim(), "done");
    };
    exec();
    let before = descriptors(here.server_pid());
    (0..12).for_each(|_| exec());
    gives_back(&here, before);
}
