//! A host and requests for tests. It asserts nothing.

use std::str::FromStr;

use oci_spec::runtime::{Capability, PosixRlimitBuilder, PosixRlimitType, Spec};

use super::{Driver, Host, Node, NodeKind};
use crate::api;
use crate::config::Missing;

/// A host that can do everything; MAC_ADMIN is what it lacks.
pub fn host() -> Host {
    let nofile =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(1024u64).hard(524_288u64);
    let names = ["cpu", "cpuset", "memory", "hugetlb", "pids", "io"];
    Host {
        hostname: "node".into(),
        driver: Driver::Cgroupfs,
        missing: Missing::Error,
        controllers: names.map(str::to_owned).into(),
        swap: true,
        capabilities: capabilities(),
        oom_score_adj: 0,
        lowers_oom_score: true,
        rlimits: vec![nofile.build().unwrap()],
        apparmor: None,
        selinux: false,
        recursive_readonly: true,
        idmapped_mounts: true,
        devices: vec![node("/dev/null", 1, 3), node("/dev/kvm", 10, 232)],
    }
}

fn capabilities() -> std::collections::HashSet<Capability> {
    let names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE NET_ADMIN SYS_ADMIN";
    names.split(' ').map(|name| Capability::from_str(name).unwrap()).collect()
}

/// A character device.
pub fn node(path: &str, major: i64, minor: i64) -> Node {
    Node { path: path.into(), kind: NodeKind::Char, major, minor, mode: 0o660, uid: 0, gid: 5 }
}

/// What rt makes of it: an error is one of ours.
pub fn accepted(spec: &Spec) -> runtime::plan::Plan {
    let text = serde_json::to_string(spec).unwrap();
    let read: runtime::spec::Spec = serde_json::from_str(&text).unwrap();
    let bundle = std::path::Path::new("/bundle");
    let driver = runtime::plan::cgroup::Driver::Cgroupfs;
    let plan = runtime::plan::Plan::new("x", bundle, &read, Some(driver))
        .unwrap_or_else(|error| panic!("rt refuses it: {error}\n{text}"));
    assert_eq!(plan.warnings, Vec::<String>::new());
    plan
}

/// A pod as crictl asks for it.
pub fn pod() -> api::PodSandboxConfig {
    api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: "web".into(),
            uid: "u1".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "web".into(),
        log_directory: "/var/log/pods/web".into(),
        linux: Some(api::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/podu1".into(),
            security_context: Some(api::LinuxSandboxSecurityContext::default()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Its security context, to be changed.
pub fn context(pod: &mut api::PodSandboxConfig) -> &mut api::LinuxSandboxSecurityContext {
    pod.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

/// Compares with `golden/NAME.json`, which `RT_BLESS=1` writes anew. Sets are sorted; a filter is shown by its size.
pub fn golden(name: &str, spec: &Spec) {
    let mut shown = serde_json::to_value(spec).unwrap();
    if let Some(sets) = shown.pointer_mut("/process/capabilities").and_then(|sets| sets.as_object_mut()) {
        for set in sets.values_mut() {
            let mut names: Vec<String> = serde_json::from_value(set.take()).unwrap();
            names.sort();
            *set = names.into();
        }
    }
    if let Some(rules) = shown.pointer_mut("/linux/seccomp/syscalls") {
        let sizes: Vec<String> = rules
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| format!("{} names", rule["names"].as_array().unwrap().len()))
            .collect();
        *rules = format!("{} rules, the first of {}", sizes.len(), sizes[0]).into();
    }
    let text = serde_json::to_string_pretty(&shown).unwrap() + "\n";
    let path = format!("{}/src/oci/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RT_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(expected.lines()).find(|(new, old)| new != old);
    assert!(text == expected, "{path} differs, first in {differs:?}:\n{text}");
}
