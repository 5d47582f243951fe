//! What a CDI specification changes, and what is refused.

use super::super::testing::{accepted, node};
use super::*;

fn specs() -> Vec<(PathBuf, Vec<u8>)> {
    let text = br#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["ALL=1"], "mounts": [{"hostPath": "/lib/v.so", "containerPath": "/lib/v.so", "options": ["ro"]}]},
        "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0"}, {"path": "/dev/ctl", "type": "c", "major": 195, "minor": 255, "permissions": "rw"}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook"]}], "additionalGids": [44]}}]}"#;
    vec![("/etc/cdi/v.json".into(), text.to_vec())]
}

fn wanted(name: &str) -> Vec<api::CdiDevice> {
    vec![api::CdiDevice { name: name.into() }]
}

fn applied(name: &str, place: &ContainerPlace) -> Result<Spec> {
    let mut spec = empty::spec();
    let mut process = empty::process();
    process.set_args(Some(vec!["x".into()]));
    let mut linux = empty::linux();
    linux.set_namespaces(Some(vec![empty::namespace(oci_spec::runtime::LinuxNamespaceType::Mount, None)]));
    spec.set_process(Some(process)).set_linux(Some(linux)).set_root(Some(empty::root("r", false)));
    let config = api::ContainerConfig { cdi_devices: wanted(name), ..Default::default() };
    let host = super::super::testing::host();
    apply(
        &mut spec,
        &Request {
            config: &config,
            sandbox_config: &api::PodSandboxConfig::default(),
            image: super::super::container::Image {
                name: "",
                config: None,
                layers: &[],
                users: &Default::default(),
            },
            place,
            sandbox: &Default::default(),
            host: &host,
        },
    )?;
    Ok(spec)
}

#[test]
fn a_device_brings_its_own_and_its_vendors_edits() {
    let place = ContainerPlace {
        cdi: specs(),
        cdi_nodes: [("/dev/gpu0".to_owned(), node("/dev/gpu0", 195, 0))].into(),
        ..Default::default()
    };
    let spec = applied("vendor.com/gpu=0", &place).unwrap();
    super::super::testing::golden("cdi", &spec);
    accepted(&spec);
    assert_eq!(host_nodes(&wanted("vendor.com/gpu=0"), &specs()).unwrap(), ["/dev/gpu0", "/dev/ctl"]);
}

#[test]
fn mistakes_are_named() {
    let unknown = br#"{"kind": "v/c", "devices": [{"name": "0", "containerEdits": {"intelRdt": {}}}]}"#;
    let hook = br#"{"kind": "v/c", "devices": [{"name": "0", "containerEdits": {"hooks": [{"hookName": "x", "path": "/x"}]}}]}"#;
    for (name, file, text, message) in [
        ("gpu", "/s.json", &specs()[0].1[..], "CDI device \"gpu\" is not VENDOR/CLASS=NAME"),
        (
            "vendor.com/gpu=9",
            "/s.json",
            &specs()[0].1,
            "unresolvable CDI device \"vendor.com/gpu=9\" (its specification is looked for in /etc/cdi and /var/run/cdi)",
        ),
        ("vendor.com/gpu=0", "/s.json", &specs()[0].1, "device node /dev/gpu0 does not exist on the host"),
        ("v/c=0", "/s.yaml", b"", "read CDI specification /s.yaml: only JSON is understood yet"),
        ("v/c=0", "/s.json", hook, "CDI: unknown hook \"x\""),
    ] {
        let place = ContainerPlace { cdi: vec![(file.into(), text.to_vec())], ..Default::default() };
        assert_eq!(applied(name, &place).unwrap_err().to_string(), message);
    }
    let place = ContainerPlace { cdi: vec![("/s.json".into(), unknown.to_vec())], ..Default::default() };
    let text = applied("v/c=0", &place).unwrap_err().to_string();
    assert!(text.starts_with("read CDI specification /s.json: unknown field `intelRdt`"), "{text}");
}
