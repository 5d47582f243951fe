//! What others' programs and files say of networks and devices: CNI results and configurations, CDI specifications.

use std::fs;
use std::path::Path;

use cri::network::fuzzing as cni;
use cri::oci::{Driver, fuzzing};
use serde_json::json;

use crate::surroundings::SCRATCH;
use crate::{Form, Outcome, Target};

/// What a CNI plugin prints, as a result and as an error, and a configuration of networks.
pub const CNI: Target =
    Target { name: "cni", run: cni, seeds: results, form: Form::Json, memory: (1 << 20, 256) };

/// A vendor's specification of devices, JSON or YAML.
pub const CDI: Target =
    Target { name: "cdi", run: cdi, seeds: vendors, form: Form::Json, memory: (8 << 20, 1024) };

fn cni(input: &[u8]) -> Outcome {
    let read = || cni::result(input, 0).map_err(|error| error.to_string());
    let result = read();
    assert_eq!(result, read(), "the same result, another network");
    assert!(cni::result(input, 1).is_err(), "a plugin that failed gave a network");
    let folder = Path::new(SCRATCH).join("net.d");
    fs::create_dir_all(&folder).expect("a folder");
    let mut known = result.is_ok();
    for name in ["a.conflist", "a.conf"] {
        fs::write(folder.join(name), input).expect("write a configuration");
        let networks = cni::networks(&folder).unwrap_or_default();
        for network in &networks {
            known = true;
            // A type is a program's name, looked for in folders of plugins.
            let kinds = network.plugins.iter().map(|plugin| plugin["type"].as_str().unwrap_or_default());
            for kind in kinds {
                assert!(!kind.is_empty() && !kind.contains('/') && kind != "..", "the type {kind:?}");
            }
            assert!(!network.name.is_empty() && !network.name.contains('/'), "the name {:?}", network.name);
        }
        fs::remove_file(folder.join(name)).expect("remove a configuration");
    }
    if known { Outcome::Taken } else { Outcome::Refused }
}

fn results() -> Vec<(&'static str, Vec<u8>)> {
    let result = json!({"cniVersion": "1.1.0",
        "interfaces": [{"name": "cni0", "mac": "00:11:22:33:44:55"}, {"name": "eth0", "mac": "00:11:22:33:44:66", "sandbox": "/run/netns/a"}],
        "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd00::5/64", "gateway": "fd00::1"}],
        "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.1.0.1"], "domain": "d", "search": ["s"], "options": ["ndots:5"]}});
    let old =
        json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.3/16"}, "ip6": {"ip": "fd00::3/64"}, "dns": {}});
    let list = json!({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0"], "name": "net", "disableCheck": true, "disableGC": "true",
        "loadOnlyInlinedPlugins": true, "plugins": [{"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}},
        {"type": "portmap", "capabilities": {"portMappings": true}}]});
    let single = json!({"cniVersion": "0.4.0", "name": "one", "type": "ptp", "ipam": {"type": "static"}});
    [("result", result), ("old", old), ("list", list), ("single", single)]
        .map(|(name, value)| (name, value.to_string().into_bytes()))
        .to_vec()
}

fn cdi(input: &[u8]) -> Outcome {
    let name = if input.starts_with(b"{") { "/etc/cdi/a.json" } else { "/etc/cdi/a.yaml" };
    let (asked, pod) = (fuzzing::rich_container(), fuzzing::rich_pod());
    let made =
        || fuzzing::outcome(fuzzing::container_spec((&asked, &pod), Driver::Cgroupfs, None, (name, input)));
    let spec = made();
    assert_eq!(spec, made(), "the same specification, another spec");
    let specs = [(name.into(), input.to_vec())];
    assert_eq!(
        cri::oci::container::cdi_nodes(&asked, &specs).map_err(|error| error.to_string()),
        cri::oci::container::cdi_nodes(&asked, &specs).map_err(|error| error.to_string())
    );
    Outcome::from(&spec)
}

fn vendors() -> Vec<(&'static str, Vec<u8>)> {
    let whole = json!({"cdiVersion": "0.6.0", "kind": "v.com/c", "annotations": {"a": "b"},
        "containerEdits": {"env": ["B=2"], "additionalGids": [5]},
        "devices": [{"name": "a", "containerEdits": {"env": ["A=1"],
            "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "permissions": "rw", "uid": 1, "gid": 2}],
            "mounts": [{"hostPath": "/lib/x", "containerPath": "/lib/x", "options": ["ro", "nosuid"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/h", "args": ["h", "x"], "env": ["C=3"], "timeout": 5}]}}]});
    let yaml = "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits:\n    env: [A=1]\n    mounts:\n    - {hostPath: /x, containerPath: /x, options: [ro]}\ncontainerEdits: &e {}\n";
    vec![
        ("json", whole.to_string().into_bytes()),
        ("yaml", yaml.as_bytes().to_vec()),
        ("small", fuzzing::VENDOR.as_bytes().to_vec()),
    ]
}
