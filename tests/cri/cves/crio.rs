//! What CRI-O and Kubernetes had.

use super::{outside, probe, untouched, upwards};
use crate::images::registry::Registry;
use crate::surroundings;
use std::net::TcpListener;
use tests::cri::Surroundings;
use tests::json;

// 2022-0811: a sysctl's value has further ones in it (`1+kernel.core_pattern=…`), which a helper sets on the host.
#[test]
fn cve_2022_0811_a_sysctl_smuggles_others() {
    let here = surroundings!();
    let host = || std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("the host's");
    let before = host();
    for (at, (name, value)) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("net.ipv4.ip_forward", "1\nkernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "1"),
        ("kernel.core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("net.ipv4/../../kernel/core_pattern", "|/evil"),
        ("net.ipv4...kernel.core_pattern", "|/evil"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pod = here.pod(&format!("sysctl-{at}"));
        pod.config["linux"]["sysctls"] = json!({ name: value });
        let output = here.crictl(["runp"]).arg(pod.file()).run();
        assert_ne!(output.code(), 0, "{name}={value} is taken: {output}");
        assert_eq!(host(), before, "{name}={value}");
    }
}

/// The runtime is told nothing of a pod's or a container's own annotations, and nothing comes of them.
#[track_caller]
fn reach_no_runtime(here: &Surroundings, annotations: &tests::Value) {
    let mut pod = here.pod("notes");
    pod.config["annotations"] = annotations.clone();
    let pod = pod.run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["annotations"] = annotations.clone();
    let container = container.run();
    let mut looked = 0;
    for id in [pod.id(), container.id()] {
        let Ok(text) = std::fs::read_to_string(format!("/run/rt/bundles/{id}/config.json")) else { continue };
        looked += 1;
        for (name, value) in annotations.as_object().expect("annotations") {
            // The server has one of this name itself.
            let is_there = text.contains(name.as_str()) && name != "run.rt.rootfs";
            assert!(!is_there, "{name} reaches the runtime in {id}: {text}");
            let value = json!(value).to_string();
            assert!(!text.contains(&value), "{value} reaches the runtime in {id}: {text}");
        }
    }
    assert!(looked > 0, "no bundle was found");
    assert_ne!(container.exec(&["test", "-e", "/secret"]).code(), 0, "the root is the image's");
    assert_ne!(container.exec(&["test", "-e", "/dev/kmsg"]).code(), 0);
    here.crictl(["rmp", "--force", pod.id()]).run().ok();
}

// 2023-6476: an annotation of a pod sets limits of cgroup v2 as it likes.
#[test]
fn cve_2023_6476_an_annotation_sets_the_cgroups_limits() {
    let here = surroundings!();
    let annotations = json!({
        "io.kubernetes.cri-o.UnifiedCgroup.c": "memory.max=max;pids.max=max",
        "io.kubernetes.cri-o.UnifiedCgroup": "pids.max=max",
        "io.kubernetes.cri-o.Devices": "/dev/kmsg",
    });
    reach_no_runtime(&here, &annotations);
}

// 2024-3154: an annotation of a pod sets properties of its systemd unit, such as a command to run on the host.
#[test]
fn cve_2024_3154_an_annotation_sets_properties_of_the_unit() {
    let here = surroundings!();
    let outside = outside(here.case());
    let mark = outside.join("run").display().to_string();
    let annotations = json!({
        "org.systemd.property.ExecStopPost": format!("[('/bin/sh', ['sh', '-c', 'touch {mark}'], false)]"),
        "org.systemd.property.TimeoutStopUSec": "uint64 1",
        "run.oci.handler": "krun",
        "run.oci.hooks.stdout": mark,
        "run.rt.rootfs": json!([{"type": "bind", "source": outside, "options": ["rbind"]}]).to_string(),
    });
    reach_no_runtime(&here, &annotations);
    untouched(&outside);
}

// 2024-5154: the server makes /etc/mtab in the container's root by name, through the image's link.
#[test]
fn cve_2024_5154_a_link_is_made_where_etc_leads() {
    let here = surroundings!();
    let outside = outside(here.case());
    for to in [outside.display().to_string(), upwards(&outside)] {
        let registry = Registry::start();
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "etc", &to).expect("append");
        let probe_bytes = std::fs::read(tests::probe()).expect("the probe");
        let mut file = tar::Header::new_gnu();
        file.set_mode(0o755);
        file.set_size(probe_bytes.len() as u64);
        builder.append_data(&mut file, "bin/probe", probe_bytes.as_slice()).expect("append");
        let archive = builder.into_inner().expect("end");
        let image = crate::images::registry::Image::of(&[archive], &json!({"User": "1000"}));
        let name = registry.add("app:1", &image);
        let _ = here.crictl(["pull", &name]).run();
        let pod = here.pod("etc").run();
        let container = probe(&pod, "c", &name, &["exit", "0"]);
        let created =
            here.crictl(["create", "--no-pull", pod.id()]).arg(container.file()).arg(pod.file()).run();
        if created.code() == 0 {
            let _ = here.crictl(["start", created.stdout.trim()]).run();
        }
        untouched(&outside);
        here.crictl(["rmp", "--force", pod.id()]).run().ok();
    }
}

// 2025-0750: names of a pod climb out of the log directory, and what is there is unmounted and linked.
#[test]
fn cve_2025_0750_names_climb_out_of_the_log_directory() {
    let here = surroundings!();
    let outside = outside(here.case());
    let up = upwards(&outside);
    for field in ["name", "namespace", "uid"] {
        let mut pod = here.pod("climbs");
        pod.config["metadata"][field] = json!(format!("x{up}/made"));
        let file = here.case().dir().join("climbs.json");
        std::fs::write(&file, pod.config.to_string()).expect("write a configuration");
        let output = here.crictl(["runp"]).arg(&file).run();
        untouched(&outside);
        if field != "uid" {
            assert_ne!(output.code(), 0, "a {field} with a slash is taken: {output}");
        }
    }
    let pod = here.pod("logs").run();
    for log in [format!("..{up}/made"), format!("x{up}/secret"), "../made".to_owned()] {
        let mut container = pod.container("c", &["echo", "written"]);
        container.config["log_path"] = json!(log);
        container.refused(&["log_path"]);
        untouched(&outside);
    }
}

// 2025-4437: a user whom the image does not know, and an /etc/passwd that is read as a whole. See `images.rs` for /etc/group.
#[test]
fn cve_2025_4437_an_endless_passwd_and_a_user_whom_it_lacks() {
    super::images::absurd_tables_cost_nothing(&surroundings!());
}

// 2026-15809: HOME with a line feed adds a line to the container's /etc/passwd.
#[test]
fn cve_2026_15809_home_adds_a_user() {
    let here = surroundings!();
    let pod = here.pod("home").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["envs"] = json!([{"key": "HOME", "value": "/x\nsecond:x:0:0::/:/bin/sh"}]);
    container.config["linux"]["security_context"] = json!({"run_as_user": {"value": 4321}});
    let created = here.crictl(["create", "--no-pull", pod.id()]).arg(container.file()).arg(pod.file()).run();
    if created.code() == 0 {
        let id = created.stdout.trim();
        here.crictl(["start", id]).run().ok();
        let passwd = here.crictl(["exec", "--sync", id, "cat", "/etc/passwd"]).run().ok().stdout;
        assert!(!passwd.contains("second") && !passwd.contains("4321"), "{passwd}");
    }
}

// Kubernetes 2020-8558: with route_localnet, which host ports on 127.0.0.1 need, a pod reaches what listens on the node's loopback.
#[test]
fn cve_2020_8558_a_pod_reaches_the_nodes_loopback() {
    let here = surroundings!();
    let listener = TcpListener::bind("127.0.0.1:7777").expect("a port of the node's loopback");
    listener.set_nonblocking(true).expect("a socket of ours");
    let mut pod = here.pod("loopback");
    pod.config["port_mappings"] =
        json!([{"protocol": 0, "container_port": 80, "host_port": 8099, "host_ip": "127.0.0.1"}]);
    // Lets answers in; an attacker would read them from a raw socket.
    pod.config["linux"]["sysctls"] = json!({"net.ipv4.conf.all.route_localnet": "1"});
    let pod = pod.run();
    let script = "gw=$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'); ip addr del 127.0.0.1/8 dev lo; \
                  ip route add 127.0.0.1/32 via $gw && echo routed; echo hello | nc -w 2 127.0.0.1 7777; echo tried";
    let mut container = pod.script("c", script);
    container.config["linux"]["security_context"] =
        json!({"capabilities": {"add_capabilities": ["NET_ADMIN", "NET_RAW"]}});
    let container = container.run();
    container.wait();
    let log = container.log();
    assert!(log.contains("routed") && log.contains("tried"), "{log}");
    assert!(listener.accept().is_err(), "the pod came through: {log}");
}
