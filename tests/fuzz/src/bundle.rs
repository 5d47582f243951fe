//! What an engine writes for rt: config.json, and the processes and resources of exec and update.

use std::path::Path;

use runtime::plan::Plan;
use runtime::plan::cgroup::Driver;
use runtime::spec::{Process, Resources, Spec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Form, Outcome, Target};

/// A whole config.json to a plan.
pub const CONFIG: Target =
    Target { name: "config", run: config, seeds: configs, form: Form::Json, memory: (16 << 20, 256) };

/// The process of `exec --process`, the resources of `update --resources`.
pub const PROCESS: Target =
    Target { name: "process", run: process, seeds: parts, form: Form::Json, memory: (1 << 20, 256) };

const CONFIGS: [(&str, &str); 4] = [
    ("docker", include_str!("../../data/bundles/docker.json")),
    ("podman", include_str!("../../data/bundles/podman.json")),
    ("cri-sandbox", include_str!("../../data/bundles/cri-sandbox.json")),
    ("cri-container", include_str!("../../data/bundles/cri-container.json")),
];

const PROFILE: &str = include_str!("../../data/seccomp/deny.json");

fn config(input: &[u8]) -> Outcome {
    let read = serde_json::from_slice::<Spec>(input);
    let Ok(spec) = &read else { return Outcome::from(&read) };
    let plan = |driver| {
        let plan =
            Plan::new("fuzz", Path::new("/bundle"), spec, Some(driver)).map_err(|error| error.to_string())?;
        Ok::<_, String>(serde_json::to_string(&plan).expect("a plan as JSON"))
    };
    let made = plan(Driver::Cgroupfs);
    assert_eq!(made, plan(Driver::Cgroupfs), "the same spec, another plan");
    let _ = plan(Driver::Systemd);
    Outcome::from(&made)
}

fn configs() -> Vec<(&'static str, Vec<u8>)> {
    CONFIGS.iter().map(|(name, text)| (*name, whole(text).to_string().into_bytes())).collect()
}

/// A config with its profile: a small one, whose places an alteration comes to. Written without spaces: an alteration then alters something.
fn whole(text: &str) -> Value {
    let text = text.replace("@PROBE@", "/probe").replace("@NETNS@", "/run/netns/x");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    if let Some(profile) = config.pointer_mut("/linux/seccomp") {
        *profile = serde_json::from_str(PROFILE).expect("JSON");
    }
    config
}

fn process(input: &[u8]) -> Outcome {
    let (process, resources) = (kept::<Process>(input), kept::<Resources>(input));
    if process || resources { Outcome::Taken } else { Outcome::Refused }
}

/// What a record keeps of it is the same when it is read again.
fn kept<T: Serialize + DeserializeOwned>(input: &[u8]) -> bool {
    let Ok(first) = serde_json::from_slice::<T>(input) else { return false };
    let written = serde_json::to_string(&first).expect("as JSON");
    let read: T = serde_json::from_str(&written).expect("what was written is read");
    assert_eq!(written, serde_json::to_string(&read).expect("as JSON"), "a record changes what it keeps");
    true
}

fn parts() -> Vec<(&'static str, Vec<u8>)> {
    let (config, resources) = (whole(CONFIGS[0].1), whole(CONFIGS[3].1));
    vec![
        ("process", config["process"].to_string().into_bytes()),
        ("resources", resources["linux"]["resources"].to_string().into_bytes()),
    ]
}
