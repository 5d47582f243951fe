//! Doors for fuzzing: a host, requests that ask for some of everything, and what comes of a request that was altered. In no build that is
//! shipped.

use std::collections::BTreeMap;
use std::str::FromStr;

use oci_spec::runtime::{Capability, PosixRlimitBuilder, PosixRlimitType};

use super::container::{self, Image, Request};
use super::{
    ContainerPlace, Driver, Host, Made, Node, NodeKind, SandboxFacts, SandboxPlace, Source,
    SourcePropagation, sandbox,
};
use crate::api;
use crate::config::Missing;
use crate::error::Result;
use crate::image::Users;

/// A vendor's specification of the device that [`rich_container`] asks for.
pub const VENDOR: &str =
    r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["A=1"]}}]}"#;

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
        rlimits: vec![nofile.build().expect("a limit")],
        apparmor: None,
        selinux: false,
        recursive_readonly: true,
        idmapped_mounts: true,
        devices: vec![node("/dev/null", 1, 3), node("/dev/kvm", 10, 232)],
    }
}

fn capabilities() -> std::collections::HashSet<Capability> {
    let names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE NET_ADMIN SYS_ADMIN";
    names.split(' ').map(|name| Capability::from_str(name).expect("a capability's name")).collect()
}

/// A character device.
pub fn node(path: &str, major: i64, minor: i64) -> Node {
    Node { path: path.into(), kind: NodeKind::Char, major, minor, mode: 0o660, uid: 0, gid: 5 }
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
    let linux = pod.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

/// A pod that asks for some of everything.
pub fn rich_pod() -> api::PodSandboxConfig {
    let mut config = pod();
    let profile =
        |kind, file: &str| Some(api::SecurityProfile { profile_type: kind, localhost_ref: file.into() });
    let map = api::IdMapping { host_id: 65536, container_id: 0, length: 65536 };
    let inner = context(&mut config);
    inner.namespace_options = Some(api::NamespaceOption {
        network: 0,
        pid: 1,
        ipc: 0,
        target_id: "x".into(),
        userns_options: Some(api::UserNamespace { mode: 0, uids: vec![map], gids: vec![map] }),
    });
    inner.run_as_user = Some(api::Int64Value { value: 5 });
    inner.run_as_group = Some(api::Int64Value { value: 6 });
    inner.supplemental_groups = vec![7, 8];
    inner.seccomp = profile(0, "");
    inner.apparmor = profile(1, "");
    inner.selinux_options = Some(api::SeLinuxOption { level: "s0:c1".into(), ..Default::default() });
    config.dns_config = Some(api::DnsConfig {
        servers: vec!["10.0.0.10".into()],
        searches: vec!["svc".into()],
        options: vec!["ndots:5".into()],
    });
    config.port_mappings =
        vec![api::PortMapping { container_port: 80, host_port: 8080, ..Default::default() }];
    let linux = config.linux.get_or_insert_default();
    linux.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    config
}

/// A container that asks for some of everything.
pub fn rich_container() -> api::ContainerConfig {
    let mount = api::Mount {
        container_path: "/m".into(),
        host_path: "/src".into(),
        readonly: true,
        ..Default::default()
    };
    let device = api::Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/null".into(),
        permissions: "rwm".into(),
    };
    let resources = api::LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 1 << 28,
        cpuset_cpus: "0-1".into(),
        oom_score_adj: 900,
        hugepage_limits: vec![api::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
        unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let security = api::LinuxContainerSecurityContext {
        capabilities: Some(api::Capability {
            add_capabilities: vec!["NET_ADMIN".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        }),
        namespace_options: Some(api::NamespaceOption { pid: 1, ..Default::default() }),
        run_as_user: Some(api::Int64Value { value: 1000 }),
        supplemental_groups: vec![50],
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        seccomp: Some(api::SecurityProfile::default()),
        ..Default::default()
    };
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(api::ImageSpec { image: "busybox".into(), ..Default::default() }),
        command: vec!["/bin/app".into()],
        args: vec!["x".into()],
        working_dir: "/w".into(),
        envs: vec![api::KeyValue { key: "A".into(), value: b"b".to_vec() }],
        mounts: vec![mount],
        devices: vec![device],
        cdi_devices: vec![api::CdiDevice { name: "v.com/c=a".into() }],
        log_path: "0.log".into(),
        linux: Some(api::LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security),
        }),
        ..Default::default()
    }
}

/// The spec of a pod.
pub fn sandbox_spec(config: &api::PodSandboxConfig, driver: Driver) -> Result<Made> {
    crate::sandbox::check::config(config)?;
    let place = SandboxPlace {
        id: "s1".into(),
        root: "/pause".into(),
        args: vec!["/pause".into()],
        netns: Some("/run/netns/rt-s1".into()),
        ..Default::default()
    };
    sandbox::spec(config, &place, &Host { driver, ..host() })
}

/// The spec of a container in `pod`, of an image, with a CDI specification (its file's name and content).
pub fn container_spec(
    (config, pod): (&api::ContainerConfig, &api::PodSandboxConfig),
    driver: Driver,
    image: Option<&oci_spec::image::Config>,
    vendor: (&str, &[u8]),
) -> Result<Made> {
    crate::container::check::config(config)?;
    let source = |path: &&str| {
        let source = Source { path: (*path).into(), propagation: SourcePropagation::Shared };
        ((*path).to_owned(), source)
    };
    let place = ContainerPlace {
        id: "c1".into(),
        root: "rootfs".into(),
        upper: "/c1/upper".into(),
        work: "/c1/work".into(),
        sources: container::sources(config).iter().map(source).collect(),
        devices: BTreeMap::from([("/dev/null".to_owned(), vec![node("/dev/null", 1, 3)])]),
        cdi: vec![(vendor.0.into(), vendor.1.to_vec())],
        volumes: container::volumes(config, image)
            .into_iter()
            .map(|path| (path, "/c1/volume".into()))
            .collect(),
        target_pid: Some(5),
        ..Default::default()
    };
    let sandbox = SandboxFacts { id: "s1".into(), pid: 7, shm: Some("/s1/shm".into()), ..Default::default() };
    let users =
        Users::parse(b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n", b"extra:x:50:alice\n");
    container::spec(&Request {
        config,
        sandbox_config: pod,
        image: Image { name: "busybox", config: image, layers: &["/img/1".into()], users: &users },
        place: &place,
        sandbox: &sandbox,
        host: &Host { driver, ..host() },
    })
}

/// What comes of a request, to be compared; a spec goes through rt's planner, which may refuse it and may not panic.
pub fn outcome(made: Result<Made>) -> std::result::Result<serde_json::Value, String> {
    let made = made.map_err(|error| error.to_string())?;
    let mut spec = serde_json::to_value(made.config()).expect("a spec as JSON");
    // Sets, in any order.
    for set in spec["process"]["capabilities"].as_object_mut().into_iter().flat_map(|sets| sets.values_mut())
    {
        set.as_array_mut().into_iter().for_each(|names| names.sort_by_key(ToString::to_string));
    }
    if let Ok(read) = serde_json::from_value::<runtime::spec::Spec>(spec.clone()) {
        let driver = runtime::plan::cgroup::Driver::Cgroupfs;
        let _ = runtime::plan::Plan::new("x", std::path::Path::new("/bundle"), &read, Some(driver));
    }
    Ok(spec)
}
