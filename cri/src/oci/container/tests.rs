//! Containers whole, and what is refused.

use super::super::testing::{accepted, golden, host, node, pod};
use super::super::{AppArmor, Source, SourcePropagation};
use super::*;
use crate::api::NamespaceMode as Mode;

/// All that a request borrows.
struct Case {
    config: api::ContainerConfig,
    pod: api::PodSandboxConfig,
    image: oci_spec::image::Config,
    layers: Vec<PathBuf>,
    users: Users,
    place: ContainerPlace,
    sandbox: SandboxFacts,
    host: Host,
}

impl Case {
    fn new() -> Self {
        let mut image = oci_spec::image::Config::default();
        image.set_cmd(Some(vec!["/bin/app".into()])).set_env(Some(vec!["LANG=C".into()]));
        let metadata = api::ContainerMetadata { name: "app".into(), attempt: 0 };
        Self {
            config: api::ContainerConfig { metadata: Some(metadata), ..Default::default() },
            pod: pod(),
            image,
            layers: vec!["/img/1".into(), "/img/2".into()],
            users: Users::parse(
                b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n",
                b"extra:x:50:alice\n",
            ),
            place: ContainerPlace {
                id: "c1".into(),
                root: "rootfs".into(),
                upper: "/run/rt/c1/upper".into(),
                work: "/run/rt/c1/work".into(),
                ..Default::default()
            },
            sandbox: SandboxFacts {
                id: "s1".into(),
                pid: 7,
                netns: Some("/run/netns/rt-s1".into()),
                shm: Some("/run/rt/s1/shm".into()),
                resolv_conf: Some("/run/rt/s1/resolv.conf".into()),
                hostname: Some("/run/rt/s1/hostname".into()),
                hosts: None,
            },
            host: host(),
        }
    }

    fn made(&self) -> Result<Made> {
        spec(&Request {
            config: &self.config,
            sandbox_config: &self.pod,
            image: Image {
                name: "busybox",
                config: Some(&self.image),
                layers: &self.layers,
                users: &self.users,
            },
            place: &self.place,
            sandbox: &self.sandbox,
            host: &self.host,
        })
    }

    fn context(&mut self) -> &mut api::LinuxContainerSecurityContext {
        self.config.linux.get_or_insert_default().security_context.get_or_insert_default()
    }

    fn source(&mut self, host: &str, real: &str, propagation: SourcePropagation) {
        self.place.sources.insert(host.into(), Source { path: real.into(), propagation });
    }

    fn mount(&mut self, container: &str, host: &str) -> &mut api::Mount {
        self.config.mounts.push(api::Mount {
            container_path: container.into(),
            host_path: host.into(),
            ..Default::default()
        });
        self.config.mounts.last_mut().unwrap()
    }
}

#[test]
fn an_ordinary_container() {
    let mut case = Case::new();
    let context = case.context();
    context.seccomp = Some(api::SecurityProfile::default());
    context.masked_paths = vec!["/proc/kcore".into()];
    context.readonly_paths = vec!["/proc/sys".into()];
    let made = case.made().unwrap();
    golden("container", &made.config());
    accepted(&made.config());
    assert_eq!(made.degraded, []);
}

#[test]
fn a_privileged_container() {
    let mut case = Case::new();
    super::super::testing::context(&mut case.pod).privileged = true;
    let context = case.context();
    context.privileged = true;
    context.masked_paths = vec!["/proc/kcore".into()];
    context.seccomp = Some(api::SecurityProfile::default());
    let made = case.made().unwrap();
    golden("container-privileged", &made.config());
    accepted(&made.config());
}

#[test]
fn a_container_that_asks_for_everything() {
    let mut case = Case::new();
    case.source("/data", "/mnt/data", SourcePropagation::Shared);
    case.source("/hosts", "/var/lib/kubelet/hosts", SourcePropagation::Private);
    case.mount("/etc/hosts", "/hosts").readonly = true;
    case.mount("/data/both", "/data").propagation = api::MountPropagation::PropagationBidirectional.into();
    case.mount("/data", "/data").propagation = api::MountPropagation::PropagationHostToContainer.into();
    let tree = case.mount("/tree", "/hosts");
    (tree.readonly, tree.recursive_read_only) = (true, true);
    tree.mount_options = vec!["noexec".into()];
    case.config.mounts.push(api::Mount {
        container_path: "/img".into(),
        image: Some(api::ImageSpec { image: "sha256:1".into(), ..Default::default() }),
        ..Default::default()
    });
    case.place.image_mounts.insert(4, super::super::ImageVolume { path: "/run/rt/img/sub".into() });
    case.image.set_volumes(Some(vec!["/var/db".into(), "/data".into()]));
    case.place.volumes.insert("/var/db".into(), "/var/lib/rt/c1/v1".into());
    case.place.devices.insert("/dev/fuse".into(), vec![node("/dev/fuse", 10, 229)]);
    case.config.devices = vec![api::Device {
        container_path: "/dev/fuse".into(),
        host_path: "/dev/fuse".into(),
        permissions: "rw".into(),
    }];
    case.config.tty = true;
    case.config.working_dir = "/data".into();
    case.config.command = vec!["sh".into()];
    case.config.args = vec!["-c".into(), "true".into()];
    case.config.linux.get_or_insert_default().resources = Some(api::LinuxContainerResources {
        cpu_shares: 512,
        memory_limit_in_bytes: 1 << 26,
        oom_score_adj: 900,
        ..Default::default()
    });
    let context = case.context();
    context.readonly_rootfs = true;
    context.no_new_privs = true;
    context.run_as_username = "alice".into();
    context.supplemental_groups = vec![9];
    context.capabilities = Some(api::Capability {
        add_capabilities: vec!["NET_ADMIN".into()],
        drop_capabilities: vec!["ALL".into()],
        ..Default::default()
    });
    let made = case.made().unwrap();
    golden("container-everything", &made.config());
    accepted(&made.config());
    assert_eq!(made.user.supplemental_groups, [1000, 50, 9]);
}

#[test]
fn a_container_of_a_user_namespaced_pod() {
    let mut case = Case::new();
    let map = vec![api::IdMapping { host_id: 1_000_000, container_id: 0, length: 65_536 }];
    super::super::testing::context(&mut case.pod).namespace_options = Some(api::NamespaceOption {
        network: Mode::Node.into(),
        pid: Mode::Container.into(),
        userns_options: Some(api::UserNamespace {
            mode: Mode::Pod.into(),
            uids: map.clone(),
            gids: map.clone(),
        }),
        ..Default::default()
    });
    case.source("/data", "/data", SourcePropagation::Private);
    let mount = case.mount("/data", "/data");
    (mount.uid_mappings, mount.gid_mappings) = (map.clone(), map);
    let made = case.made().unwrap();
    golden("container-userns", &made.config());
    accepted(&made.config());
    case.host.idmapped_mounts = false;
    assert_eq!(
        case.made().unwrap_err().to_string(),
        "map the ids of the image's layers (user namespaces need a kernel with idmapped mounts, 5.19 or later)"
    );
}

#[test]
fn a_dev_of_ones_own_has_nothing_of_ours_in_it() {
    let mut case = Case::new();
    case.source("/dev", "/dev", SourcePropagation::Private);
    case.mount("/dev", "/dev");
    let made = case.made().unwrap();
    let below = made.spec.mounts().iter().flatten().filter(|mount| mount.destination().starts_with("/dev"));
    assert_eq!(below.count(), 1);
}

#[test]
fn what_has_to_be_looked_at_before_is_told() {
    let mut case = Case::new();
    case.mount("/a", "/x");
    case.mount("/b", "/x");
    assert_eq!(sources(&case.config), ["/x"]);
    case.image.set_volumes(Some(vec!["/b/".into(), "/c".into()]));
    assert_eq!(volumes(&case.config, Some(&case.image)), ["/c"]);
    case.context().seccomp = Some(api::SecurityProfile { profile_type: 2, localhost_ref: "/p".into() });
    assert_eq!(seccomp_file(&case.config).unwrap(), Some("/p".into()));
    case.context().privileged = true;
    assert_eq!(seccomp_file(&case.config).unwrap(), None);
}

#[test]
fn mistakes_are_named() {
    type Change = fn(&mut Case);
    let cases: [(Change, &str); 8] = [
        (
            |case| case.context().privileged = true,
            "no privileged container allowed in sandbox (make the sandbox privileged too)",
        ),
        (|case| case.layers.clear(), "make the root of container c1: its image has no layers"),
        (|case| case.sandbox.shm = None, "sandbox s1 has no /dev/shm of its own"),
        (
            |case| {
                case.image.set_volumes(Some(vec!["/v".into()]));
            },
            "no directory was made for the image's volume \"/v\"",
        ),
        (
            |case| case.context().run_as_username = "bob".into(),
            "find user \"bob\" of run_as_username in the image's /etc/passwd (set run_as_user to a number)",
        ),
        (
            |case| {
                case.context().apparmor =
                    Some(api::SecurityProfile { profile_type: 2, localhost_ref: "x".into() });
            },
            "apply AppArmor profile \"x\" (AppArmor is not enabled on this host)",
        ),
        (
            |case| {
                case.host.apparmor =
                    Some(AppArmor { lacking: None, profiles: Some(["y".to_owned()].into()) });
                case.context().apparmor =
                    Some(api::SecurityProfile { profile_type: 2, localhost_ref: "x".into() });
            },
            "apply AppArmor profile \"x\": it is not loaded (load it with apparmor_parser)",
        ),
        (
            |case| case.config.cdi_devices = vec![api::CdiDevice { name: "v/c=x".into() }],
            "unresolvable CDI device \"v/c=x\" (its specification is looked for in /etc/cdi and /var/run/cdi)",
        ),
    ];
    for (change, message) in cases {
        let mut case = Case::new();
        change(&mut case);
        assert_eq!(case.made().unwrap_err().to_string(), message);
    }
}

/// As a kubelet does, but for more paths.
fn hide(case: &mut Case) {
    let context = case.context();
    context.masked_paths = vec!["/proc/kcore".into()];
    context.readonly_paths = vec!["/proc/sys".into()];
}

#[test]
fn what_a_client_forgot_to_hide_is_said_and_a_privileged_container_asked_for_it() {
    let said = |case: &Case| {
        let made = case.made().expect("a spec");
        made.degraded.iter().map(|less| (less.field.clone(), less.asked.clone())).collect::<Vec<_>>()
    };
    let none = ["masked_paths", "readonly_paths"]
        .map(|field| (format!("security_context.{field}"), "none".to_owned()));
    let mut case = Case::new();
    assert_eq!(said(&case), none);
    case.context().masked_paths = vec!["/proc/kcore".into()];
    assert_eq!(said(&case), none[1..]);
    hide(&mut case);
    assert_eq!(said(&case), []);
    let mut case = Case::new();
    super::super::testing::context(&mut case.pod).privileged = true;
    case.context().privileged = true;
    assert_eq!(said(&case), []);
}

#[test]
fn the_default_apparmor_profile_is_applied_or_its_absence_is_said() {
    let profile = |case: &Case| {
        let made = case.made().expect("a spec");
        let process = made.spec.process().as_ref().and_then(|process| process.apparmor_profile().clone());
        (process, made.degraded.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let mut case = Case::new();
    hide(&mut case);
    assert_eq!(profile(&case), (None, vec![]));
    case.host.apparmor = Some(AppArmor { lacking: None, profiles: Some(["rt-default".to_owned()].into()) });
    assert_eq!(profile(&case), (Some("rt-default".to_owned()), vec![]));
    case.host.apparmor = Some(AppArmor { lacking: Some("no parser".into()), profiles: Some([].into()) });
    let told = "security_context.apparmor rt-default: unconfined: no parser";
    assert_eq!(profile(&case), (None, vec![told.to_owned()]));
    case.context().apparmor = Some(api::SecurityProfile::default());
    let error = case.made().unwrap_err().to_string();
    assert_eq!(error, "apply the default AppArmor profile: no parser");
}

#[test]
fn mistakes_of_mounts_name_the_mount() {
    type Change = fn(&mut Case);
    let cases: [(Change, &str); 11] = [
        (
            |case| case.config.mounts[0].container_path = "x".into(),
            "container_path \"x\" is not an absolute path (such as /data)",
        ),
        (
            |case| case.config.mounts[0].container_path = "/..".into(),
            "container_path \"/..\" is not an absolute path (such as /data)",
        ),
        (|case| case.config.mounts[0].host_path = "/gone".into(), "host_path \"/gone\" does not exist"),
        (
            |case| case.config.mounts[0].propagation = 2,
            "host_path \"/data\" is not on a shared mount (see mount --make-rshared)",
        ),
        (
            |case| case.config.mounts[0].propagation = 1,
            "host_path \"/data\" is not on a shared or slave mount (see mount --make-rshared)",
        ),
        (|case| case.config.mounts[0].propagation = 5, "unknown propagation 5"),
        (|case| case.config.mounts[0].recursive_read_only = true, "recursive_read_only without readonly"),
        (
            |case| {
                case.source("/data", "/data", SourcePropagation::Shared);
                let mount = &mut case.config.mounts[0];
                (mount.readonly, mount.recursive_read_only, mount.propagation) = (true, true, 2);
            },
            "recursive_read_only with a propagation that is not PRIVATE",
        ),
        (
            |case| case.config.mounts[0].mount_options = vec!["suid".into()],
            "mount_options: unknown option \"suid\" (the options are noexec, nosuid, nodev, nosymfollow, noatime, nodiratime)",
        ),
        (
            |case| case.config.mounts[0].image = Some(api::ImageSpec::default()),
            "image and host_path exclude each other",
        ),
        (
            |case| case.config.mounts[0].uid_mappings = vec![api::IdMapping::default()],
            "uidMappings and gidMappings need each other",
        ),
    ];
    for (change, message) in cases {
        let mut case = Case::new();
        case.source("/data", "/data", SourcePropagation::Private);
        case.mount("/inside", "/data");
        change(&mut case);
        let path = &case.config.mounts[0].container_path;
        assert_eq!(case.made().unwrap_err().to_string(), format!("mounts[0] ({path}): {message}"));
    }
}
