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
        (
            "v/c=0",
            "/s.yaml",
            b"kind: [",
            "read CDI specification /s.yaml: expected string scalar at line 1, column 7",
        ),
        ("v/c=0", "/s.json", hook, "CDI: unknown hook \"x\""),
    ] {
        let place = ContainerPlace { cdi: vec![(file.into(), text.to_vec())], ..Default::default() };
        assert_eq!(applied(name, &place).unwrap_err().to_string(), message);
    }
    let place = ContainerPlace { cdi: vec![("/s.json".into(), unknown.to_vec())], ..Default::default() };
    let text = applied("v/c=0", &place).unwrap_err().to_string();
    assert!(text.starts_with("read CDI specification /s.json: unknown field `intelRdt`"), "{text}");
}

/// The form in which nvidia-ctk writes /etc/cdi/nvidia.yaml.
#[test]
fn yaml_says_the_same_as_json() {
    let yaml = br#"---
cdiVersion: 0.6.0
kind: vendor.com/gpu
containerEdits:
  env: [ALL=1]
  mounts:
  - {hostPath: /lib/v.so, containerPath: /lib/v.so, options: [ro]}
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
    - path: /dev/ctl
      type: c
      major: 195
      minor: 255
      permissions: rw
    hooks:
    - hookName: createContainer
      path: /bin/hook
      args: [hook]
    additionalGids: [44]
"#;
    let place = |path: &str, text: &[u8]| ContainerPlace {
        cdi: vec![(path.into(), text.to_vec())],
        cdi_nodes: [("/dev/gpu0".to_owned(), node("/dev/gpu0", 195, 0))].into(),
        ..Default::default()
    };
    let of_json = applied("vendor.com/gpu=0", &place("/v.json", &specs()[0].1)).unwrap();
    for path in ["/v.yaml", "/v.yml"] {
        assert_eq!(applied("vendor.com/gpu=0", &place(path, yaml)).unwrap(), of_json);
    }
    let octal = br#"{kind: v/c, devices: [{name: x, containerEdits: {deviceNodes: [{path: /dev/x, type: c, major: 1, minor: 3, fileMode: 0640}]}}]}"#;
    let spec = applied("v/c=x", &place("/v.yaml", octal)).unwrap();
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().clone()).unwrap();
    assert_eq!(devices[0].file_mode(), Some(0o640));
}

#[test]
fn each_specification_of_a_vendor_brings_its_own_edits() {
    let file = |at: u32| {
        let text = format!(
            r#"{{"kind": "v/c", "containerEdits": {{"env": ["FILE{at}=1"]}}, "devices": [{{"name": "{at}", "containerEdits": {{"env": ["DEVICE{at}=1"]}}}}, {{"name": "both", "containerEdits": {{"env": ["BOTH={at}"]}}}}]}}"#
        );
        (PathBuf::from(format!("/etc/cdi/{at}.json")), text.into_bytes())
    };
    let files = [file(1), file(2), ("/etc/cdi/broken.json".into(), b"{".to_vec())];
    let asked = ["v/c=1", "v/c=2", "v/c=both"].map(|name| api::CdiDevice { name: name.into() });
    let all: Vec<String> =
        edits(&asked, &files, &[]).unwrap().into_iter().flat_map(|edits| edits.env).collect();
    assert_eq!(all, ["FILE1=1", "DEVICE1=1", "FILE2=1", "DEVICE2=1", "BOTH=2"]);
    // What a broken file may have had is not said to exist nowhere.
    let error = edits(&wanted("v/c=3"), &files, &[]).unwrap_err().to_string();
    assert!(error.starts_with("read CDI specification /etc/cdi/broken.json: EOF"), "{error}");
    let unread = [Error::invalid("read /etc/cdi/x.json: it is no regular file")];
    assert!(edits(&asked, &files, &unread).is_ok(), "they are in others");
    let error = edits(&wanted("v/c=3"), &files, &unread).unwrap_err().to_string();
    assert!(
        error.contains("/etc/cdi/x.json: it is no regular file; ") && error.contains("broken.json"),
        "not all that may have had it are told: {error}"
    );
}
