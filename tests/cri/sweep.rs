//! Each field of each request with values that nobody expects: the server refuses or does, says why, and goes on.

use crate::bad_input::{Table, container, undo};
use crate::surroundings;
use prost::Message;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::cri::api::v1;
use tests::cri::fields::{Kind, Requests, Value};
use tonic::Code;

/// Each value of each field with `RT_CRI_SWEEP=all` (`hack/soak cri`: five thousand calls), else one value of each.
#[test]
fn each_field_of_each_request_may_hold_anything() {
    let is_all = std::env::var("RT_CRI_SWEEP").is_ok_and(|which| which == "all");
    let here = surroundings!();
    let pid = here.server_pid();
    let table = Table::new(&here);
    let requests = Requests::read();
    let good = elements();
    let mut wrong = Vec::new();
    let (mut calls, mut fields) = (0, 0);
    for (method, request) in &requests.methods {
        if request.ends_with(".GetEventsRequest") {
            continue; // it has no fields, and no end
        }
        for field in requests.fields(request) {
            let values = values(field.kind);
            let one = fields % values.len();
            fields += 1;
            for (_, value) in values.into_iter().enumerate().filter(|(at, _)| is_all || *at == one) {
                calls += 1;
                let mut bytes = base(&table, request, calls);
                bytes.extend(field.set(&value, &good));
                let method = method.rsplit('.').next().unwrap_or(method);
                match table.client.raw(method, bytes) {
                    Ok(_) => undo(&table, request),
                    Err(refused) => {
                        use tonic::Code::{
                            AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unimplemented,
                        };
                        let expected =
                            [AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unimplemented];
                        // A program that the image lacks is what a container may ask for.
                        let is_lacking = refused.message.contains("exec: \"");
                        if !(expected.contains(&refused.code) || is_lacking) || refused.message.is_empty() {
                            let value: String = format!("{value:?}").chars().take(60).collect();
                            wrong.push(format!("{method} {} {value}: {refused:?}", field.name));
                        }
                    }
                }
            }
        }
    }
    assert_eq!(here.server_pid(), pid);
    assert!(wrong.is_empty(), "{} of {calls} calls:\n{}", wrong.len(), wrong.join("\n"));
    assert!(calls > 500, "only {calls} calls");
}

/// Some fields of some request at once, for as long as asked: `hack/fuzz calls`.
#[test]
fn calls() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("RT_FUZZ_SECONDS").unwrap_or(1));
    let first = number("RT_FUZZ_SEED").unwrap_or(1);
    let here = surroundings!();
    let pid = here.server_pid();
    let table = Table::new(&here);
    let requests = Requests::read();
    let methods: Vec<_> =
        requests.methods.iter().filter(|(_, request)| !request.ends_with(".GetEventsRequest")).collect();
    let good = elements();
    let mut seed = first;
    while Instant::now() < end {
        let mut state = seed;
        let mut below = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % most.max(1)
        };
        // Half of all are of the two that have most to say.
        let wanted = ["RunPodSandbox", "CreateContainer", "", ""][below(4)];
        let (method, request) =
            match methods.iter().find(|(method, _)| !wanted.is_empty() && method.ends_with(wanted)) {
                Some(found) => found,
                None => methods[below(methods.len())],
            };
        let fields = requests.fields(request);
        let mut bytes = base(&table, request, usize::try_from(seed).unwrap_or_default());
        for _ in 0..1 + below(4) {
            if let Some(field) = fields.get(below(fields.len())) {
                let values = values(field.kind);
                bytes.extend(field.set(&values[below(values.len())], &good));
            }
        }
        println!("RT_FUZZ_SEED={seed}: {method}");
        match table.client.raw(method, bytes) {
            Ok(_) => undo(&table, request),
            Err(refused) => assert_ne!(refused.code, Code::Unavailable, "seed {seed}: {refused:?}"),
        }
        seed += 1;
    }
    println!("{} calls, from seed {first}", seed - first);
    assert_eq!(here.server_pid(), pid);
    assert_eq!(
        here.words(["ps", "--quiet", "--no-trunc"]),
        [table.container.as_str()],
        "another container runs"
    );
}

/// What elements of lists need so that one field of them can be tried.
fn elements() -> BTreeMap<&'static str, Vec<u8>> {
    let mount = v1::Mount {
        container_path: "/m".into(),
        host_path: "/usr".into(),
        readonly: true,
        ..Default::default()
    };
    let device = v1::Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/null".into(),
        permissions: "r".into(),
    };
    let port = v1::PortMapping { container_port: 80, host_port: 8080, ..Default::default() };
    let map = v1::IdMapping { host_id: 65536, container_id: 0, length: 65536 };
    BTreeMap::from([
        (".runtime.v1.Mount", mount.encode_to_vec()),
        (".runtime.v1.Device", device.encode_to_vec()),
        (".runtime.v1.PortMapping", port.encode_to_vec()),
        (".runtime.v1.IDMapping", map.encode_to_vec()),
        (".runtime.v1.KeyValue", v1::KeyValue { key: "K".into(), value: b"v".to_vec() }.encode_to_vec()),
    ])
}

fn values(kind: Kind) -> Vec<Value> {
    let text = |text: &[u8]| Value::Bytes(text.to_vec());
    match kind {
        Kind::Text => {
            let mut all: Vec<Value> =
                [&b""[..], b"../../etc", b"a\0b", b"\n", b"\xff\xfe", "\u{202e}x".as_bytes()]
                    .map(text)
                    .into();
            all.push(Value::Bytes(vec![b'x'; 1 << 20]));
            all
        }
        Kind::Number => {
            [0, 1, 99, i64::MAX as u64, i64::MIN as u64, u64::MAX, 1 << 31, 1 << 32].map(Value::Number).into()
        }
        Kind::Message => vec![text(b"")],
    }
}

/// A request that would be well.
fn base(table: &Table<'_>, request: &str, number: usize) -> Vec<u8> {
    let mut config = table.sandbox.clone();
    match request.rsplit('.').next().unwrap_or_default() {
        "RunPodSandboxRequest" => {
            config.metadata.as_mut().expect("metadata").name = format!("p{number}");
            v1::RunPodSandboxRequest { config: Some(config), ..Default::default() }.encode_to_vec()
        }
        "CreateContainerRequest" => v1::CreateContainerRequest {
            pod_sandbox_id: table.pod.clone(),
            config: Some(container(&format!("c{number}"))),
            sandbox_config: Some(config),
        }
        .encode_to_vec(),
        "ExecSyncRequest" => v1::ExecSyncRequest {
            container_id: table.container.clone(),
            cmd: vec!["true".into()],
            timeout: 10,
        }
        .encode_to_vec(),
        "UpdateContainerResourcesRequest" => v1::UpdateContainerResourcesRequest {
            container_id: table.container.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ExecRequest" => v1::ExecRequest {
            container_id: table.container.clone(),
            cmd: vec!["true".into()],
            stdout: true,
            ..Default::default()
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}
