//! Documents of images: manifests, indexes, configs, and what a container is made of a config.

use cri::image::config::Limits;
use cri::image::manifest::{self, Manifest, Named, Platform};
use cri::oci::{Driver, fuzzing};
use serde_json::{Value, json};

use crate::{Form, Outcome, Target};

/// What a tag names: a manifest or an index.
pub const MANIFEST: Target =
    Target { name: "manifest", run: manifest, seeds: manifests, form: Form::Json, memory: (1 << 20, 256) };

/// The config of an image, and the spec of a container of it.
pub const CONFIG: Target =
    Target { name: "imageconfig", run: config, seeds: configs, form: Form::Json, memory: (8 << 20, 512) };

const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const LONG: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

fn manifest(input: &[u8]) -> Outcome {
    let limits = Limits::default();
    let named = manifest::parse(input, "", &limits);
    if let Ok(named) = &named {
        let written = match named {
            Named::Index(entries) => json!({"schemaVersion": 2, "manifests": entries}),
            Named::Manifest(Manifest { config, layers }) => {
                assert!(layers.len() <= limits.layers, "{} layers", layers.len());
                json!({"schemaVersion": 2, "config": config, "layers": layers})
            }
        };
        let again =
            manifest::parse(written.to_string().as_bytes(), "", &limits).expect("what was written is read");
        assert_eq!(*named, again, "what was read is written in another way");
        if let Named::Index(entries) = named
            && let Ok(chosen) = manifest::choose(entries, &Platform::host())
        {
            assert!(entries.contains(chosen), "an entry that isn't in the index");
        }
    }
    Outcome::from(&named)
}

fn manifests() -> Vec<(&'static str, Vec<u8>)> {
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let image = "application/vnd.oci.image.manifest.v1+json";
    let oci = json!({"schemaVersion": 2, "mediaType": image,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": HEX, "size": 7023},
        "layers": [{"mediaType": layer, "digest": HEX, "size": 32654}, {"mediaType": layer, "digest": LONG, "size": 16724}],
        "annotations": {"a": "b"}});
    let docker = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": HEX, "size": 1},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": HEX, "size": 1}]});
    let entry = |os: &str, architecture: &str, variant: &str| {
        json!({"mediaType": image, "digest": HEX, "size": 7143,
            "platform": {"architecture": architecture, "os": os, "variant": variant}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        entry("linux", "amd64", ""), entry("linux", "arm", "v7"), entry("linux", "arm64", "v8"), entry("unknown", "unknown", "")]});
    let bytes = |value: Value| value.to_string().into_bytes();
    vec![("oci", bytes(oci)), ("docker", bytes(docker)), ("index", bytes(index))]
}

fn config(input: &[u8]) -> Outcome {
    // As many layers as it says itself: the count has its own tests.
    let value: Value = serde_json::from_slice(input).unwrap_or_default();
    let layers = value["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
    let Ok((config, diffs)) = manifest::config(input, layers) else { return Outcome::Refused };
    assert_eq!((diffs.len(), manifest::chain_ids(&diffs).len()), (layers, layers));
    let written = serde_json::to_vec(&config).expect("a config as JSON");
    let (again, _) = manifest::config(&written, layers).expect("what was written is read");
    // As JSON: the crate reads volumes and ports, whose order means nothing, into lists, each time in another order.
    let json = |config| serde_json::to_value(config).expect("a config as JSON");
    assert_eq!(json(&config), json(&again), "what was read is written in another way");
    let mut asked = fuzzing::rich_container();
    (asked.command, asked.args, asked.working_dir) = Default::default();
    let user = asked.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    if let Some(context) = user {
        context.run_as_user = None;
    }
    let pod = fuzzing::rich_pod();
    let made = || {
        let vendor = ("/etc/cdi/a.json", fuzzing::VENDOR.as_bytes());
        fuzzing::outcome(fuzzing::container_spec(
            (&asked, &pod),
            Driver::Cgroupfs,
            config.config().as_ref(),
            vendor,
        ))
    };
    let spec = made();
    assert_eq!(spec, made(), "the same image, another spec");
    Outcome::from(&spec)
}

fn configs() -> Vec<(&'static str, Vec<u8>)> {
    let config = json!({"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05.678Z", "author": "a",
        "config": {"User": "alice:extra", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/usr/bin:/bin", "A=1"], "Entrypoint": ["/bin/app"],
            "Cmd": ["x"], "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"a": "b"}, "StopSignal": "SIGTERM",
            "OnBuild": null, "Healthcheck": {"Test": ["NONE"]}},
        "rootfs": {"type": "layers", "diff_ids": [HEX, LONG]},
        "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "c", "empty_layer": true}]});
    let small = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "User": "0"}, "rootfs": {"type": "layers", "diff_ids": []}});
    vec![("whole", config.to_string().into_bytes()), ("small", small.to_string().into_bytes())]
}
