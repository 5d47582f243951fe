//! Device nodes of a container and the rules of its cgroup about them. It looks at no files: nodes come as values.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::{ContainerPlace, Host, Node, NodeKind};
use crate::api;
use crate::error::{Error, Result};

/// Nodes to make, rules in the order in which they are read: the last match wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// `linux.devices`
    pub nodes: Vec<LinuxDevice>,
    /// `linux.resources.devices`
    pub rules: Vec<LinuxDeviceCgroup>,
}

impl Devices {
    /// Nothing but what every container has, which rt adds.
    pub fn none() -> Self {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(false).set_access(Some("rwm".to_owned()));
        Self { nodes: Vec::new(), rules: vec![rule] }
    }

    /// Every device of the host, and the right to use those that come later.
    pub fn all_of(host: &Host) -> Self {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true).set_access(Some("rwm".to_owned()));
        Self {
            nodes: host.devices.iter().map(|node| made(node, node.path.clone())).collect(),
            rules: vec![rule],
        }
    }

    /// Adds the nodes of a request. SPEC: Device
    pub fn add_requested(&mut self, list: &[api::Device], place: &ContainerPlace) -> Result<()> {
        for (at, device) in list.iter().enumerate() {
            let what = || format!("devices[{at}] ({:?})", device.host_path);
            let found = place.devices.get(&device.host_path).filter(|nodes| !nodes.is_empty());
            let found = found.ok_or_else(|| {
                Error::not_found(format!("{}: there is no such device on the host", what()))
            })?;
            let permissions = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
            if let Some(letter) = permissions.chars().find(|letter| !"rwm".contains(*letter)) {
                return Err(Error::invalid(format!("{}: permission {letter:?}", what()))
                    .cure("they are some of r, w and m"));
            }
            let inside =
                if device.container_path.is_empty() { &device.host_path } else { &device.container_path };
            if !inside.starts_with('/') {
                return Err(Error::invalid(format!(
                    "{}: container_path {inside:?} is not an absolute path",
                    what()
                )));
            }
            for node in found {
                // A directory's nodes keep their names below the path in the container.
                let below = node.path.strip_prefix(&device.host_path).unwrap_or(Path::new(""));
                let path = if below.as_os_str().is_empty() {
                    PathBuf::from(inside)
                } else {
                    Path::new(inside).join(below)
                };
                self.add(node, path, permissions);
            }
        }
        Ok(())
    }

    /// Adds one node; one of the same path gives way.
    pub fn add(&mut self, node: &Node, path: PathBuf, permissions: &str) {
        self.nodes.retain(|known| *known.path() != path);
        self.nodes.push(made(node, path));
        if node.kind == NodeKind::Fifo {
            return;
        }
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(kind(node.kind)))
            .set_major(Some(node.major))
            .set_minor(Some(node.minor))
            .set_access(Some(permissions.to_owned()));
        self.rules.push(rule);
    }
}

fn made(node: &Node, path: PathBuf) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind(node.kind))
        .set_major(node.major)
        .set_minor(node.minor)
        .set_file_mode(Some(node.mode))
        .set_uid(Some(node.uid))
        .set_gid(Some(node.gid));
    device
}

fn kind(kind: NodeKind) -> LinuxDeviceType {
    match kind {
        NodeKind::Char => LinuxDeviceType::C,
        NodeKind::Block => LinuxDeviceType::B,
        NodeKind::Fifo => LinuxDeviceType::P,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn asked(host: &str, container: &str, permissions: &str) -> api::Device {
        api::Device {
            host_path: host.into(),
            container_path: container.into(),
            permissions: permissions.into(),
        }
    }

    fn place() -> ContainerPlace {
        let below = vec![testing::node("/dev/snd/a", 116, 1), testing::node("/dev/snd/by/b", 116, 2)];
        ContainerPlace {
            devices: [
                ("/dev/fuse".to_owned(), vec![testing::node("/dev/fuse", 10, 229)]),
                ("/dev/snd".to_owned(), below),
                ("/dev/empty".to_owned(), vec![]),
            ]
            .into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_node_and_a_directory_of_nodes_are_given() {
        let mut devices = Devices::none();
        devices
            .add_requested(&[asked("/dev/fuse", "/dev/f", "r"), asked("/dev/snd", "/x", "")], &place())
            .unwrap();
        let paths: Vec<_> = devices.nodes.iter().map(|node| node.path().to_str().unwrap()).collect();
        assert_eq!(paths, ["/dev/f", "/x/a", "/x/by/b"]);
        let rules: Vec<_> = devices.rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules.len(), 4);
        assert!(!devices.rules[0].allow() && devices.rules[1].access().as_deref() == Some("r"));
    }

    #[test]
    fn mistakes_name_the_device() {
        for (asked, message) in [
            (
                asked("/dev/empty", "/x", ""),
                "devices[0] (\"/dev/empty\"): there is no such device on the host",
            ),
            (asked("/dev/gone", "/x", ""), "devices[0] (\"/dev/gone\"): there is no such device on the host"),
            (
                asked("/dev/fuse", "x", ""),
                "devices[0] (\"/dev/fuse\"): container_path \"x\" is not an absolute path",
            ),
            (
                asked("/dev/fuse", "/x", "rx"),
                "devices[0] (\"/dev/fuse\"): permission 'x' (they are some of r, w and m)",
            ),
        ] {
            let error = Devices::none().add_requested(&[asked], &place()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
