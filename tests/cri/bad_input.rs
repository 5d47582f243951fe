//! Requests that make no sense: each is refused with the code that the API wants and words that say what is wrong, and the server goes on.
//!
//! The exact words are in `tests/data/cri/bad_input.txt`; `RT_BLESS=1` writes it anew, to be read before it is committed.

#![expect(
    clippy::semicolon_if_nothing_returned,
    reason = "a table: each change of a request is one expression"
)]

use crate::surroundings;
use prost::Message;
use std::fmt::Write;
use tests::cri::api::{Client, v1};
use tests::cri::{BUSYBOX, Surroundings};

/// Requests to one pod that runs, and what came of them.
pub struct Table<'a> {
    here: &'a Surroundings,
    pub client: Client,
    pub sandbox: v1::PodSandboxConfig,
    pub pod: String,
    pub container: String,
    text: String,
}

/// Ids that are new each time: 64 hexadecimal digits.
fn without_ids(text: &str) -> String {
    let mut plain = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() {
            word.push(c);
            continue;
        }
        plain.push_str(if word.len() == 64 { "ID" } else { &word });
        word.clear();
        if c != '\0' {
            plain.push(c);
        }
    }
    plain
}

/// A pod's request, as good as can be.
fn sandbox(here: &Surroundings, name: &str) -> v1::PodSandboxConfig {
    let metadata =
        v1::PodSandboxMetadata { name: name.into(), uid: "u".into(), namespace: "n".into(), attempt: 0 };
    let linux = v1::LinuxPodSandboxConfig {
        cgroup_parent: here.case().cgroup().to_owned(),
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(v1::NamespaceOption { network: 2, ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let logs = here.case().dir().join("logs");
    v1::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: "h".into(),
        log_directory: logs.to_str().expect("a path").into(),
        linux: Some(linux),
        ..Default::default()
    }
}

/// A container's request, as good as can be.
pub fn container(name: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
        command: vec!["sleep".into(), "1000".into()],
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

impl<'a> Table<'a> {
    pub fn new(here: &'a Surroundings) -> Self {
        let client = here.client();
        let sandbox = sandbox(here, "good");
        let request = v1::RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
        let pod = client.ask::<v1::RunPodSandboxResponse>("RuntimeService/RunPodSandbox", &request);
        let pod = pod.expect("a good pod").pod_sandbox_id;
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(container("good")),
            sandbox_config: Some(sandbox.clone()),
        };
        let made = client.ask::<v1::CreateContainerResponse>("RuntimeService/CreateContainer", &request);
        let container = made.expect("a good container").container_id;
        let request = v1::StartContainerRequest { container_id: container.clone() };
        client
            .ask::<v1::StartContainerResponse>("RuntimeService/StartContainer", &request)
            .expect("it starts");
        Self { here, client, sandbox, pod, container, text: String::new() }
    }

    /// Notes what comes of a call, ids and paths of this run by their names.
    fn raw(&mut self, what: &str, method: &str, bytes: Vec<u8>) {
        let method = format!("RuntimeService/{method}").replace("RuntimeService/image:", "ImageService/");
        let said = match self.client.raw(&method, bytes) {
            Ok(_) => {
                // What makes sense after all must not stand in the way of the next.
                undo(self, &format!(".{}Request", method.rsplit('/').next().unwrap_or_default()));
                "OK".to_owned()
            }
            Err(refused) => format!("{:?}: {}", refused.code, refused.message),
        };
        let said = said.replace(&self.pod, "POD").replace(&self.container, "CONTAINER");
        let said = said.replace(self.here.case().dir().to_str().expect("a path"), "DIR");
        writeln!(self.text, "{what}: {}", without_ids(&said)).expect("a String takes it");
    }

    fn call(&mut self, what: &str, method: &str, message: &impl Message) {
        self.raw(what, method, message.encode_to_vec());
    }

    /// A sandbox's config that is altered.
    fn sandbox(&mut self, what: &str, alter: impl FnOnce(&mut v1::PodSandboxConfig)) {
        let mut config = self.sandbox.clone();
        config.metadata.as_mut().expect("metadata").name = "bad".into();
        alter(&mut config);
        self.call(
            what,
            "RunPodSandbox",
            &v1::RunPodSandboxRequest { config: Some(config), ..Default::default() },
        );
    }

    fn sandbox_linux(&mut self, what: &str, alter: impl FnOnce(&mut v1::LinuxPodSandboxConfig)) {
        self.sandbox(what, |config| alter(config.linux.as_mut().expect("linux")));
    }

    fn sandbox_context(&mut self, what: &str, alter: impl FnOnce(&mut v1::LinuxSandboxSecurityContext)) {
        self.sandbox_linux(what, |linux| alter(linux.security_context.as_mut().expect("a context")));
    }

    fn sandbox_modes(&mut self, what: &str, alter: impl FnOnce(&mut v1::NamespaceOption)) {
        self.sandbox_context(what, |context| alter(context.namespace_options.as_mut().expect("modes")));
    }

    /// A container's config that is altered.
    fn container(&mut self, what: &str, alter: impl FnOnce(&mut v1::ContainerConfig)) {
        let mut config = container("bad");
        alter(&mut config);
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: self.pod.clone(),
            config: Some(config),
            sandbox_config: Some(self.sandbox.clone()),
        };
        self.call(what, "CreateContainer", &request);
    }

    fn container_context(&mut self, what: &str, alter: impl FnOnce(&mut v1::LinuxContainerSecurityContext)) {
        let context = |config: &mut v1::ContainerConfig| {
            alter(config.linux.get_or_insert_default().security_context.get_or_insert_default());
        };
        self.container(what, context);
    }

    fn resources(&mut self, what: &str, alter: impl FnOnce(&mut v1::LinuxContainerResources)) {
        let resources = |config: &mut v1::ContainerConfig| {
            alter(config.linux.get_or_insert_default().resources.get_or_insert_default());
        };
        self.container(what, resources);
    }

    fn mount(&mut self, what: &str, alter: impl FnOnce(&mut v1::Mount)) {
        let mut mount =
            v1::Mount { container_path: "/m".into(), host_path: "/usr".into(), ..Default::default() };
        alter(&mut mount);
        self.container(what, |config| config.mounts.push(mount));
    }
}

/// Removes what a request that made sense after all has made.
pub fn undo(table: &Table<'_>, request: &str) {
    let client = &table.client;
    if request.ends_with(".RunPodSandboxRequest") {
        let all = client.ask::<v1::ListPodSandboxResponse>(
            "RuntimeService/ListPodSandbox",
            &v1::ListPodSandboxRequest::default(),
        );
        for other in all.expect("a list").items.iter().filter(|other| other.id != table.pod) {
            let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: other.id.clone() };
            client
                .ask::<v1::RemovePodSandboxResponse>("RuntimeService/RemovePodSandbox", &remove)
                .expect("it is removed");
        }
    } else if request.ends_with(".CreateContainerRequest") {
        let all = client.ask::<v1::ListContainersResponse>(
            "RuntimeService/ListContainers",
            &v1::ListContainersRequest::default(),
        );
        for other in all.expect("a list").containers.iter().filter(|other| other.id != table.container) {
            let remove = v1::RemoveContainerRequest { container_id: other.id.clone() };
            client
                .ask::<v1::RemoveContainerResponse>("RuntimeService/RemoveContainer", &remove)
                .expect("it is removed");
        }
    }
}

fn id(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn profile(kind: i32, file: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind, localhost_ref: file.into() })
}

fn sandboxes(table: &mut Table<'_>) {
    table.call("sandbox: no config", "RunPodSandbox", &v1::RunPodSandboxRequest::default());
    table.sandbox("sandbox: no metadata", |config| config.metadata = None);
    for (what, name) in [("empty", ""), ("../", "../../etc"), ("NUL", "a\0b"), ("line feed", "a\nb")] {
        table.sandbox(&format!("sandbox: name {what}"), |config| {
            config.metadata.as_mut().expect("there").name = name.into()
        });
    }
    table.sandbox("sandbox: name of 1 MB", |config| {
        config.metadata.as_mut().expect("there").name = "x".repeat(1 << 20)
    });
    table.sandbox("sandbox: namespace ../", |config| {
        config.metadata.as_mut().expect("there").namespace = "../x".into()
    });
    table.sandbox("sandbox: uid of 300 bytes", |config| {
        config.metadata.as_mut().expect("there").uid = "u".repeat(300)
    });
    table.sandbox("sandbox: hostname ../", |config| config.hostname = "../x".into());
    table.sandbox("sandbox: hostname of 65 bytes", |config| config.hostname = "x".repeat(65));
    table.sandbox("sandbox: log_directory relative", |config| config.log_directory = "logs".into());
    table.sandbox("sandbox: log_directory with ..", |config| {
        config.log_directory = "/var/log/../../etc".into()
    });
    table.sandbox("sandbox: huge labels", |config| {
        config.labels = (0..100_000).map(|at| (format!("label-{at}"), "value".into())).collect();
    });
    table.sandbox("sandbox: one annotation of 15 MB", |config| {
        config.annotations.insert("a".into(), "x".repeat(15 << 20));
    });
    let server = |server: &str| v1::DnsConfig { servers: vec![server.into()], ..Default::default() };
    table.sandbox("sandbox: a line in a name server", |config| {
        config.dns_config = Some(server("1.1.1.1\nsearch evil"))
    });
    table.sandbox("sandbox: an empty name server", |config| config.dns_config = Some(server("")));
    let port = v1::PortMapping { container_port: 80, host_port: 8080, ..Default::default() };
    for (what, port) in [
        ("protocol 9", v1::PortMapping { protocol: 9, ..port.clone() }),
        ("container port 0", v1::PortMapping { container_port: 0, ..port.clone() }),
        ("host port 65536", v1::PortMapping { host_port: 65536, ..port.clone() }),
        ("host port -1", v1::PortMapping { host_port: -1, ..port.clone() }),
        ("host ip", v1::PortMapping { host_ip: "1.2.3".into(), ..port }),
    ] {
        table.sandbox(&format!("sandbox: port mapping, {what}"), |config| config.port_mappings.push(port));
    }
    let handler =
        v1::RunPodSandboxRequest { config: Some(table.sandbox.clone()), runtime_handler: "../runc".into() };
    table.call("sandbox: unknown handler", "RunPodSandbox", &handler);
    table.sandbox_linux("sandbox: cgroup_parent with ..", |linux| {
        linux.cgroup_parent = "/kubepods/../../x".into()
    });
    table.sandbox_linux("sandbox: cgroup_parent with a line feed", |linux| {
        linux.cgroup_parent = "/a\nb".into()
    });
    table.sandbox_linux("sandbox: cgroup_parent of a long name", |linux| {
        linux.cgroup_parent = format!("/{}", "x".repeat(300))
    });
    for name in ["kernel.panic", "net/../kernel/panic", "", "kernel.shm_rmid_forced"] {
        table.sandbox_linux(&format!("sandbox: sysctl {name:?}"), |linux| {
            linux.sysctls.insert(name.into(), "no\0number".into());
        });
    }
    for (what, mode) in [("TARGET", 3), ("99", 99), ("-1", -1)] {
        table.sandbox_modes(&format!("sandbox: network {what}"), |modes| modes.network = mode);
        table.sandbox_modes(&format!("sandbox: ipc {what}"), |modes| modes.ipc = mode);
        table.sandbox_modes(&format!("sandbox: pid {what}"), |modes| modes.pid = mode);
    }
    let map = |host_id, container_id, length| v1::IdMapping { host_id, container_id, length };
    for (what, maps) in [
        ("none", vec![]),
        ("two", vec![map(65536, 0, 10), map(75536, 10, 10)]),
        ("not from 0", vec![map(65536, 1, 10)]),
        ("empty", vec![map(65536, 0, 0)]),
        ("beyond the last", vec![map(u32::MAX, 0, 10)]),
    ] {
        let options = v1::UserNamespace { mode: 0, uids: maps.clone(), gids: maps };
        table.sandbox_modes(&format!("sandbox: mappings {what}"), |modes| {
            modes.userns_options = Some(options)
        });
    }
    table.sandbox_context("sandbox: user -5", |context| context.run_as_user = id(-5));
    table.sandbox_context("sandbox: group without user", |context| context.run_as_group = id(5));
    table.sandbox_context("sandbox: supplemental group 2^40", |context| {
        context.supplemental_groups = vec![1 << 40]
    });
    table.sandbox_context("sandbox: group policy 7", |context| context.supplemental_groups_policy = 7);
    table.sandbox_context("sandbox: seccomp type 9", |context| context.seccomp = profile(9, ""));
    table.sandbox_context("sandbox: seccomp relative", |context| context.seccomp = profile(2, "../x.json"));
    table
        .sandbox_context("sandbox: seccomp missing", |context| context.seccomp = profile(2, "/no/such.json"));
    table.sandbox_context("sandbox: apparmor type 9", |context| context.apparmor = profile(9, ""));
}

fn containers(table: &mut Table<'_>) {
    let good = v1::CreateContainerRequest { pod_sandbox_id: table.pod.clone(), ..Default::default() };
    table.call("container: no config", "CreateContainer", &good);
    for pod in ["", "none", "../x"] {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(container("bad")),
            sandbox_config: None,
        };
        table.call(&format!("container: pod {pod:?}"), "CreateContainer", &request);
    }
    table.container("container: no metadata", |config| config.metadata = None);
    table.container("container: name empty", |config| config.metadata.as_mut().expect("there").name.clear());
    table.container("container: name ../", |config| {
        config.metadata.as_mut().expect("there").name = "../x".into()
    });
    table.container("container: no image", |config| config.image = None);
    for image in ["", "none", "../../x", "UPPER:case", "a\0b"] {
        table.container(&format!("container: image {image:?}"), |config| {
            config.image = Some(v1::ImageSpec { image: image.into(), ..Default::default() });
        });
    }
    table.container("container: image of 1 MB", |config| {
        config.image.as_mut().expect("there").image = "x".repeat(1 << 20)
    });
    table.container("container: command NUL", |config| config.command = vec!["a\0b".into()]);
    table.container("container: command empty", |config| config.command = vec![String::new()]);
    table.container("container: program missing", |config| config.command = vec!["/no/such/program".into()]);
    table.container("container: working_dir relative", |config| config.working_dir = "x/y".into());
    table.container("container: working_dir of 8 MB, relative", |config| {
        config.working_dir = "x".repeat(8 << 20)
    });
    for (what, key, value) in
        [("empty name", "", &b"x"[..]), ("= in name", "a=b", b"x"), ("not UTF-8", "a", b"\xff\xfe")]
    {
        let variable = v1::KeyValue { key: key.into(), value: value.to_vec() };
        table.container(&format!("container: variable, {what}"), |config| config.envs.push(variable));
    }
    for log in ["../../etc/cron.d/x", "/../x", "a\0b", "a/../../b"] {
        table.container(&format!("container: log_path {log:?}"), |config| config.log_path = log.into());
    }
    table.container("container: log_path is a directory", |config| config.log_path = ".".into());
    table.container("container: huge labels", |config| {
        config.labels = (0..100_000).map(|at| (format!("label-{at}"), "value".into())).collect();
    });
    table.container("container: stop signal 999", |config| config.stop_signal = 999);
    for device in ["", "relative", "/no/such/device", "/etc/passwd"] {
        let device_of = v1::Device {
            container_path: "/dev/x".into(),
            host_path: device.into(),
            permissions: "rwm".into(),
        };
        table.container(&format!("container: device {device:?}"), |config| config.devices.push(device_of));
    }
    let rights = v1::Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/null".into(),
        permissions: "rwx".into(),
    };
    table.container("container: device rights", |config| config.devices.push(rights));
    let outside =
        v1::Device { container_path: "../x".into(), host_path: "/dev/null".into(), permissions: "r".into() };
    table.container("container: device to ../", |config| config.devices.push(outside));
    for name in ["", "vendor", "vendor.com/class=none"] {
        table.container(&format!("container: CDI device {name:?}"), |config| {
            config.cdi_devices.push(v1::CdiDevice { name: name.into() })
        });
    }
    mounts(table);
    contexts(table);
    limits(table);
}

fn mounts(table: &mut Table<'_>) {
    table.mount("mount: to nowhere", |mount| mount.container_path.clear());
    table.mount("mount: to a relative path", |mount| mount.container_path = "../m".into());
    table.mount("mount: over the root", |mount| mount.container_path = "/..".into());
    table.mount("mount: of a relative path", |mount| mount.host_path = "../etc".into());
    table.mount("mount: of nothing", |mount| mount.host_path.clear());
    table.mount("mount: of a NUL", |mount| mount.host_path = "/a\0b".into());
    table.mount("mount: of what is below a file", |mount| mount.host_path = "/etc/passwd/x".into());
    table.mount("mount: propagation 7", |mount| mount.propagation = 7);
    table.mount("mount: recursive_read_only without readonly", |mount| mount.recursive_read_only = true);
    table.mount("mount: an option", |mount| mount.mount_options = vec!["suid".into()]);
    let image = |image: &str| Some(v1::ImageSpec { image: image.into(), ..Default::default() });
    table.mount("mount: image and path", |mount| mount.image = image(BUSYBOX));
    table.mount("mount: image that is not here", |mount| {
        (mount.host_path, mount.image) = (String::new(), image("none"))
    });
    for path in ["../..", "/etc", "no/such"] {
        table.mount(&format!("mount: image's sub-path {path:?}"), |mount| {
            (mount.host_path, mount.image, mount.image_sub_path) =
                (String::new(), image(BUSYBOX), path.into());
        });
    }
    let map = vec![v1::IdMapping { host_id: 1, container_id: 0, length: 1 }];
    table.mount("mount: users mapped, groups not", |mount| mount.uid_mappings = map);
}

fn contexts(table: &mut Table<'_>) {
    table.container_context("context: privileged in a pod that is not", |context| context.privileged = true);
    table.container_context("context: user -1", |context| context.run_as_user = id(-1));
    table.container_context("context: user 2^32 - 1", |context| context.run_as_user = id(0xffff_ffff));
    table
        .container_context("context: username unknown", |context| context.run_as_username = "../root".into());
    table.container_context("context: group without user", |context| context.run_as_group = id(5));
    let capability =
        |name: &str| Some(v1::Capability { add_capabilities: vec![name.into()], ..Default::default() });
    table
        .container_context("context: capability unknown", |context| context.capabilities = capability("FLY"));
    table.container_context("context: seccomp relative", |context| context.seccomp = profile(2, "x.json"));
    table.container_context("context: seccomp is no JSON", |context| {
        context.seccomp = profile(2, "/etc/passwd")
    });
    table.container_context("context: masked path relative", |context| {
        context.masked_paths = vec!["../x".into()]
    });
    table.container_context("context: read-only path relative", |context| {
        context.readonly_paths = vec!["x".into()]
    });
    let modes = |pid, target: &str| {
        Some(v1::NamespaceOption { network: 2, pid, target_id: target.into(), ..Default::default() })
    };
    table.container_context("context: target absent", |context| context.namespace_options = modes(3, ""));
    table
        .container_context("context: target unknown", |context| context.namespace_options = modes(3, "none"));
    table.container_context("context: pid NODE", |context| context.namespace_options = modes(2, ""));
    table.container_context("context: pid 99", |context| context.namespace_options = modes(99, ""));
}

fn limits(table: &mut Table<'_>) {
    table.resources("limit: negative shares", |all| all.cpu_shares = -1);
    table.resources("limit: negative period", |all| all.cpu_period = i64::MIN);
    table.resources("limit: oom_score_adj", |all| all.oom_score_adj = 5000);
    table.resources("limit: swap below memory", |all| {
        (all.memory_limit_in_bytes, all.memory_swap_limit_in_bytes) = (1 << 30, 1 << 20);
    });
    for file in ["", "memory", "../cgroup.procs", "cgroup.procs", "memory.max/../x"] {
        table.resources(&format!("limit: unified {file:?}"), |all| {
            all.unified.insert(file.into(), "1".into());
        });
    }
    let page = v1::HugepageLimit { page_size: "../2MB".into(), limit: 1 };
    table.resources("limit: huge pages", |all| all.hugepage_limits.push(page));
}

fn others(table: &mut Table<'_>) {
    let long = "a".repeat(1 << 20);
    for (what, id) in [("empty", ""), ("unknown", "none"), ("../", "../../etc"), ("of 1 MB", &long)] {
        let sandbox = id.to_owned();
        table.call(
            &format!("stop sandbox {what}"),
            "StopPodSandbox",
            &v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() },
        );
        table.call(
            &format!("remove sandbox {what}"),
            "RemovePodSandbox",
            &v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() },
        );
        table.call(
            &format!("status of sandbox {what}"),
            "PodSandboxStatus",
            &v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: true },
        );
        table.call(
            &format!("statistics of sandbox {what}"),
            "PodSandboxStats",
            &v1::PodSandboxStatsRequest { pod_sandbox_id: sandbox.clone() },
        );
        table.call(
            &format!("update sandbox {what}"),
            "UpdatePodSandboxResources",
            &v1::UpdatePodSandboxResourcesRequest { pod_sandbox_id: sandbox.clone(), ..Default::default() },
        );
        table.call(
            &format!("forward to sandbox {what}"),
            "PortForward",
            &v1::PortForwardRequest { pod_sandbox_id: sandbox, port: vec![-1] },
        );
        let container = id.to_owned();
        table.call(
            &format!("start container {what}"),
            "StartContainer",
            &v1::StartContainerRequest { container_id: container.clone() },
        );
        table.call(
            &format!("stop container {what}"),
            "StopContainer",
            &v1::StopContainerRequest { container_id: container.clone(), timeout: -1 },
        );
        table.call(
            &format!("remove container {what}"),
            "RemoveContainer",
            &v1::RemoveContainerRequest { container_id: container.clone() },
        );
        table.call(
            &format!("status of container {what}"),
            "ContainerStatus",
            &v1::ContainerStatusRequest { container_id: container.clone(), verbose: true },
        );
        table.call(
            &format!("statistics of container {what}"),
            "ContainerStats",
            &v1::ContainerStatsRequest { container_id: container.clone() },
        );
        table.call(
            &format!("update container {what}"),
            "UpdateContainerResources",
            &v1::UpdateContainerResourcesRequest { container_id: container.clone(), ..Default::default() },
        );
        table.call(
            &format!("reopen log of container {what}"),
            "ReopenContainerLog",
            &v1::ReopenContainerLogRequest { container_id: container.clone() },
        );
        table.call(
            &format!("exec in container {what}"),
            "ExecSync",
            &v1::ExecSyncRequest { container_id: container.clone(), cmd: vec!["true".into()], timeout: 0 },
        );
        table.call(
            &format!("exec URL of container {what}"),
            "Exec",
            &v1::ExecRequest { container_id: container.clone(), ..Default::default() },
        );
        table.call(
            &format!("attach URL of container {what}"),
            "Attach",
            &v1::AttachRequest { container_id: container, ..Default::default() },
        );
    }
    let there = table.container.clone();
    table.call(
        "start what runs",
        "StartContainer",
        &v1::StartContainerRequest { container_id: there.clone() },
    );
    table.call(
        "update without resources",
        "UpdateContainerResources",
        &v1::UpdateContainerResourcesRequest { container_id: there.clone(), ..Default::default() },
    );
    table.call(
        "exec of nothing",
        "ExecSync",
        &v1::ExecSyncRequest { container_id: there.clone(), ..Default::default() },
    );
    table.call(
        "exec of a NUL",
        "ExecSync",
        &v1::ExecSyncRequest { container_id: there.clone(), cmd: vec!["a\0b".into()], timeout: 5 },
    );
    table.call(
        "exec of what is not there",
        "ExecSync",
        &v1::ExecSyncRequest { container_id: there.clone(), cmd: vec!["/no/such".into()], timeout: i64::MAX },
    );
    table.call(
        "exec URL without streams",
        "Exec",
        &v1::ExecRequest { container_id: there.clone(), cmd: vec!["true".into()], ..Default::default() },
    );
    table.call(
        "exec URL, terminal and stderr",
        "Exec",
        &v1::ExecRequest {
            container_id: there.clone(),
            cmd: vec!["true".into()],
            tty: true,
            stdout: true,
            stderr: true,
            ..Default::default()
        },
    );
    table.call(
        "exec URL of nothing",
        "Exec",
        &v1::ExecRequest { container_id: there.clone(), stdout: true, ..Default::default() },
    );
    table.call(
        "attach URL without streams",
        "Attach",
        &v1::AttachRequest { container_id: there, ..Default::default() },
    );
    let network = v1::NetworkConfig { pod_cidr: "10.0.0.0/99,../x".into() };
    let runtime_config = Some(v1::RuntimeConfig { network_config: Some(network) });
    table.call("pod CIDR", "UpdateRuntimeConfig", &v1::UpdateRuntimeConfigRequest { runtime_config });
    for image in ["", "../../x", "UPPER", "a\nb", &long] {
        let what: String = image.chars().take(10).collect();
        let spec = Some(v1::ImageSpec { image: image.into(), ..Default::default() });
        table.call(
            &format!("pull {what:?}"),
            "image:PullImage",
            &v1::PullImageRequest { image: spec.clone(), ..Default::default() },
        );
        table.call(
            &format!("remove image {what:?}"),
            "image:RemoveImage",
            &v1::RemoveImageRequest { image: spec.clone() },
        );
        table.call(
            &format!("status of image {what:?}"),
            "image:ImageStatus",
            &v1::ImageStatusRequest { image: spec, verbose: true },
        );
    }
    table.call("pull without a name", "image:PullImage", &v1::PullImageRequest::default());
    table.call("remove an image without a name", "image:RemoveImage", &v1::RemoveImageRequest::default());
    table.call("status of an image without a name", "image:ImageStatus", &v1::ImageStatusRequest::default());
}

fn messages(table: &mut Table<'_>) {
    // config { metadata { name: ff fe } }
    table.raw("message: text that is not UTF-8", "RunPodSandbox", vec![10, 6, 10, 4, 10, 2, 0xff, 0xfe]);
    table.raw("message: cut off", "RunPodSandbox", vec![10, 60, 10]);
    table.raw("message: noise", "CreateContainer", vec![0xff; 64]);
    table.raw("message: of 17 MB", "RunPodSandbox", vec![0; 17 << 20]);
    table.raw("message: to no method", "NoSuchMethod", Vec::new());
}

#[test]
fn what_makes_no_sense_is_refused_in_words_that_say_why() {
    let here = surroundings!();
    let pid = here.server_pid();
    let mut table = Table::new(&here);
    sandboxes(&mut table);
    containers(&mut table);
    others(&mut table);
    messages(&mut table);
    let text = std::mem::take(&mut table.text);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/data/cri/bad_input.txt");
    if std::env::var_os("RT_BLESS").is_some() {
        std::fs::write(golden, &text).expect("write the golden file");
    }
    assert_eq!(
        here.words(["pods", "--quiet", "--no-trunc"]),
        [table.pod.as_str()],
        "refused pods are listed"
    );
    let listed = here.words(["ps", "--all", "--quiet", "--no-trunc"]);
    assert_eq!(listed, [table.container.as_str()], "refused containers are listed");
    assert_eq!(here.server_pid(), pid);
    let expected = std::fs::read_to_string(golden).expect("read the golden file");
    let differ: Vec<(&str, &str)> =
        expected.lines().zip(text.lines()).filter(|(expected, said)| expected != said).collect();
    assert!(differ.is_empty(), "expected, said: {differ:#?}");
    assert_eq!(expected.lines().count(), text.lines().count());
}
