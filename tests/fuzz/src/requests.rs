//! Requests of a kubelet: what it asks of a pod and of a container, to specs, and those to rt's plans.

use cri::api;
use cri::oci::{Driver, fuzzing};
use prost::Message;

use crate::{Form, Outcome, Target};

/// A `CreateContainerRequest`, which has a pod's configuration too.
pub const REQUESTS: Target =
    Target { name: "requests", run: requests, seeds, form: Form::Protobuf, memory: (16 << 20, 512) };

fn requests(input: &[u8]) -> Outcome {
    let Ok(request) = api::CreateContainerRequest::decode(input) else { return Outcome::Refused };
    let (container, pod) = (request.config.unwrap_or_default(), request.sandbox_config.unwrap_or_default());
    let vendor = ("/etc/cdi/a.json", fuzzing::VENDOR.as_bytes());
    let mut taken = false;
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let sandbox = || fuzzing::outcome(fuzzing::sandbox_spec(&pod, driver));
        let made = sandbox();
        assert_eq!(made, sandbox(), "the same pod, another spec");
        let inside = || fuzzing::outcome(fuzzing::container_spec((&container, &pod), driver, None, vendor));
        let spec = inside();
        assert_eq!(spec, inside(), "the same container, another spec");
        taken |= made.is_ok() && spec.is_ok();
    }
    if taken { Outcome::Taken } else { Outcome::Refused }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = api::CreateContainerRequest {
        pod_sandbox_id: "s1".into(),
        config: Some(fuzzing::rich_container()),
        sandbox_config: Some(fuzzing::rich_pod()),
    };
    let small = api::CreateContainerRequest {
        config: Some(api::ContainerConfig {
            metadata: request.config.as_ref().and_then(|config| config.metadata.clone()),
            image: request.config.as_ref().and_then(|config| config.image.clone()),
            command: vec!["sh".into()],
            ..Default::default()
        }),
        sandbox_config: Some(fuzzing::pod()),
        ..Default::default()
    };
    vec![("rich", request.encode_to_vec()), ("small", small.encode_to_vec())]
}
