//! Requests of pods and containers, mutated field by field from good ones: each must end in a spec, twice the same, or in an error.
//!
//! `RT_FUZZ_SECONDS` says for how long (1), `RT_FUZZ_SEED` with which number to begin: `hack/fuzz specs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message;

use super::container::{self, Image, Request};
use super::testing::{context, host, node, pod};
use super::{ContainerPlace, Driver, Made, SandboxFacts, SandboxPlace, Source, SourcePropagation, sandbox};
use crate::api;
use crate::error::Result;
use crate::image::Users;

/// What is put into text.
const WORDS: [&str; 22] = [
    "",
    "/",
    "..",
    "../../etc/passwd",
    "/proc/self/fd/3",
    "a\0b",
    "\n",
    " ",
    "\u{202e}",
    "localhost/x",
    "runtime/default",
    "-1",
    "4294967295",
    "18446744073709551616",
    "0-3,5",
    "cpu.max",
    "../x",
    "net.ipv4.x",
    "kernel.shmmax",
    "2MB",
    "rwm",
    "system.slice",
];

/// What is put into numbers.
const NUMBERS: [u64; 10] = [0, 1, 2, 3, 99, u64::MAX, 1 << 31, 1 << 32, i64::MAX as u64, i64::MIN as u64];

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }
}

/// One field as it is on the wire.
#[derive(Clone)]
enum Part {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message; none if these bytes are none. CRI has no numbers of fixed size.
fn parse(mut bytes: &[u8]) -> Option<Vec<(u64, Part)>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let tag = prost::encoding::decode_varint(&mut bytes).ok()?;
        let value = prost::encoding::decode_varint(&mut bytes).ok()?;
        let part = match tag & 7 {
            0 => Part::Number(value),
            2 => {
                let (this, rest) = bytes.split_at_checked(usize::try_from(value).ok()?)?;
                bytes = rest;
                Part::Bytes(this.to_vec())
            }
            _ => return None,
        };
        parts.push((tag >> 3, part));
    }
    Some(parts)
}

fn encode(parts: &[(u64, Part)]) -> Vec<u8> {
    use prost::encoding::encode_varint;
    let mut bytes = Vec::new();
    for (number, part) in parts {
        match part {
            Part::Number(value) => {
                encode_varint(number << 3, &mut bytes);
                encode_varint(*value, &mut bytes);
            }
            Part::Bytes(value) => {
                encode_varint(number << 3 | 2, &mut bytes);
                encode_varint(value.len() as u64, &mut bytes);
                bytes.extend(value);
            }
        }
    }
    bytes
}

/// One field somewhere in it is another, gone, there twice, or new.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let Some(mut parts) = parse(bytes).filter(|parts| !parts.is_empty()) else {
        return WORDS[random.below(WORDS.len())].as_bytes().to_vec();
    };
    let at = random.below(parts.len());
    match (random.below(12), parts[at].1.clone()) {
        (0, _) => drop(parts.remove(at)),
        (1, _) => parts.push(parts[at].clone()),
        (2, _) => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            parts.push((1 + random.below(20) as u64, Part::Number(number)));
        }
        (3, _) => {
            let word = WORDS[random.below(WORDS.len())];
            parts.push((1 + random.below(20) as u64, Part::Bytes(word.into())));
        }
        (4, Part::Bytes(value)) => parts[at].1 = Part::Bytes(value.repeat(1 + random.below(300))),
        (5, Part::Bytes(_)) => parts[at].1 = Part::Bytes(WORDS[random.below(WORDS.len())].into()),
        (_, Part::Bytes(value)) => parts[at].1 = Part::Bytes(mutate(&value, random)),
        (_, Part::Number(_)) => parts[at].1 = Part::Number(NUMBERS[random.below(NUMBERS.len())]),
    }
    encode(&parts)
}

/// A pod that asks for some of everything.
fn rich_pod() -> api::PodSandboxConfig {
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
fn rich_container() -> api::ContainerConfig {
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

fn sandbox_spec(config: &api::PodSandboxConfig, driver: Driver) -> Result<Made> {
    crate::sandbox::check::config(config)?;
    let place = SandboxPlace {
        id: "s1".into(),
        root: "/pause".into(),
        args: vec!["/pause".into()],
        netns: Some("/run/netns/rt-s1".into()),
        ..Default::default()
    };
    sandbox::spec(config, &place, &super::Host { driver, ..host() })
}

fn container_spec(
    config: &api::ContainerConfig,
    pod: &api::PodSandboxConfig,
    driver: Driver,
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
        cdi: vec![("/etc/cdi/a.json".into(), br#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["A=1"]}}]}"#.to_vec())],
        target_pid: Some(5),
        ..Default::default()
    };
    let sandbox = SandboxFacts { id: "s1".into(), pid: 7, shm: Some("/s1/shm".into()), ..Default::default() };
    let users =
        Users::parse(b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n", b"extra:x:50:alice\n");
    container::spec(&Request {
        config,
        sandbox_config: pod,
        image: Image { name: "busybox", config: None, layers: &["/img/1".into()], users: &users },
        place: &place,
        sandbox: &sandbox,
        host: &super::Host { driver, ..host() },
    })
}

/// What comes of a request, to be compared; a spec goes through rt's planner, which may refuse it and may not panic.
fn outcome(made: Result<Made>) -> std::result::Result<serde_json::Value, String> {
    let made = made.map_err(|error| error.to_string())?;
    let mut spec = serde_json::to_value(&made.spec).expect("a spec as JSON");
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

#[test]
fn specs() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("RT_FUZZ_SECONDS").unwrap_or(1));
    let first = number("RT_FUZZ_SEED").unwrap_or(1);
    let (pod, container) = (rich_pod().encode_to_vec(), rich_container().encode_to_vec());
    outcome(sandbox_spec(&rich_pod(), Driver::Cgroupfs)).expect("the rich pod is a good one");
    outcome(container_spec(&rich_container(), &rich_pod(), Driver::Cgroupfs))
        .expect("the rich container is a good one");
    let (mut seed, mut made) = (first, 0);
    while Instant::now() < end || seed < first + 500 {
        // Shown when it panics.
        println!("RT_FUZZ_SEED={seed}");
        let mut random = Random(seed);
        let [mut pod, mut container] = [pod.clone(), container.clone()];
        for _ in 0..1 + random.below(3) {
            pod = mutate(&pod, &mut random);
            container = mutate(&container, &mut random);
        }
        let driver = if random.below(4) == 0 { Driver::Systemd } else { Driver::Cgroupfs };
        if let Ok(pod) = api::PodSandboxConfig::decode(pod.as_slice()) {
            let said = outcome(sandbox_spec(&pod, driver));
            assert_eq!(said, outcome(sandbox_spec(&pod, driver)), "the same pod, another spec");
            made += usize::from(said.is_ok());
        }
        if let Ok(container) = api::ContainerConfig::decode(container.as_slice()) {
            let said = outcome(container_spec(&container, &rich_pod(), driver));
            assert_eq!(
                said,
                outcome(container_spec(&container, &rich_pod(), driver)),
                "the same container, another spec"
            );
            made += usize::from(said.is_ok());
        }
        seed += 1;
    }
    assert!(made > 50, "only {made} specs of {} inputs were made: little was tried", seed - first);
}
