//! CDI devices: what a vendor's specification changes in a container. <https://github.com/cncf-tags/container-device-interface>
//!
//! It reads no files: specifications, in JSON or YAML, and device nodes come as values.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, Spec};
use serde::Deserialize;

use super::container::Request;
use super::devices::Devices;
use super::{ContainerPlace, Node, NodeKind, empty};
use crate::api;
use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vendor {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

/// A field that is not here can't be honoured, so it is an error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<MountEdit>,
    hooks: Vec<HookEdit>,
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceNode {
    path: String,
    host_path: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MountEdit {
    host_path: PathBuf,
    container_path: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HookEdit {
    hook_name: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<i64>,
}

impl DeviceNode {
    fn source(&self) -> &str {
        self.host_path.as_deref().unwrap_or(&self.path)
    }

    /// What it says of itself, and what the host says where it says nothing.
    fn node(&self, place: &ContainerPlace) -> Result<Node> {
        let found = place.cdi_nodes.get(self.source());
        let kind = match self.kind.as_deref() {
            None | Some("") => found.map(|node| node.kind),
            Some("b") => Some(NodeKind::Block),
            Some("c" | "u") => Some(NodeKind::Char),
            Some("p") => Some(NodeKind::Fifo),
            Some(other) => return Err(Error::invalid(format!("device node {}: type {other:?}", self.path))),
        };
        let number = |own: Option<i64>, found: Option<i64>| own.filter(|number| *number != 0).or(found);
        let major = number(self.major, found.map(|node| node.major));
        let minor = self.minor.or(found.map(|node| node.minor));
        let (Some(kind), Some(major), Some(minor)) = (kind, major, minor) else {
            return Err(Error::not_found(format!(
                "device node {} does not exist on the host",
                self.source()
            )));
        };
        Ok(Node {
            path: self.source().into(),
            kind,
            major,
            minor,
            mode: self.file_mode.or(found.map(|node| node.mode)).unwrap_or(0o666) & 0o7777,
            uid: self.uid.or(found.map(|node| node.uid)).unwrap_or(0),
            gid: self.gid.or(found.map(|node| node.gid)).unwrap_or(0),
        })
    }
}

/// Applies the edits of the request's CDI devices.
pub fn apply(spec: &mut Spec, request: &Request<'_>) -> Result<()> {
    let place = request.place;
    for edits in edits(&request.config.cdi_devices, &place.cdi, &place.cdi_unread)? {
        environment(spec, &edits);
        nodes(spec, &edits, request.place)?;
        for mount in &edits.mounts {
            let kind = if mount.kind.is_empty() { "bind" } else { &mount.kind };
            let mut options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
            if kind == "bind" && !options.iter().any(|word| matches!(*word, "bind" | "rbind")) {
                options.push("rbind");
            }
            let mut made = empty::mount("", kind, &mount.host_path, &options);
            made.set_destination(Path::new("/").join(&mount.container_path));
            spec.mounts_mut().get_or_insert_default().push(made);
        }
        for hook in &edits.hooks {
            add_hook(spec, hook)?;
        }
    }
    Ok(())
}

/// The nodes of the host that have to be looked at before.
pub fn host_nodes(wanted: &[api::CdiDevice], specs: &[(PathBuf, Vec<u8>)]) -> Result<Vec<String>> {
    let edits = edits(wanted, specs, &[])?;
    Ok(edits.iter().flat_map(|edits| &edits.device_nodes).map(|node| node.source().to_owned()).collect())
}

/// Those of the specifications, each once, and those of the devices. The last specification that has a device counts, so
/// that /var/run/cdi comes before /etc/cdi. One that can't be read is no matter to devices of others.
fn edits(wanted: &[api::CdiDevice], specs: &[(PathBuf, Vec<u8>)], unread: &[Error]) -> Result<Vec<Edits>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (mut vendors, mut unreadable) = (Vec::new(), unread.to_vec());
    for spec in specs {
        match parse(spec) {
            Ok(vendor) => vendors.push(vendor),
            Err(error) => unreadable.push(error),
        }
    }
    let mut all = Vec::new();
    let mut used: Vec<usize> = Vec::new();
    for device in wanted {
        let name = device.name.as_str();
        let (kind, short) = name
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("CDI device {name:?} is not VENDOR/CLASS=NAME")))?;
        let of_kind = vendors.iter().enumerate().rev().filter(|(_, vendor)| vendor.kind == kind);
        let found = of_kind
            .filter_map(|(at, vendor)| {
                Some((at, vendor, vendor.devices.iter().find(|device| device.name == short)?))
            })
            .next();
        let Some((at, vendor, device)) = found else {
            if unreadable.is_empty() {
                let none = Error::invalid(format!("unresolvable CDI device {name:?}"));
                return Err(none.cure("its specification is looked for in /etc/cdi and /var/run/cdi"));
            }
            let all: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
            return Err(Error::invalid(all.join("; ")));
        };
        if !used.contains(&at) {
            used.push(at);
            all.push(vendor.container_edits.clone());
        }
        all.push(device.container_edits.clone());
    }
    Ok(all)
}

fn parse((path, text): &(PathBuf, Vec<u8>)) -> Result<Vendor> {
    let read = if path.extension().is_some_and(|kind| kind == "json") {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    } else {
        // As Go's reader, by which vendors try theirs: 0666 is octal; an excerpt of the file is no part of a message.
        let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
        serde_saphyr::from_slice_with_options(text, options).map_err(|error| error.to_string())
    };
    read.map_err(|error| Error::invalid(error).during(format!("read CDI specification {}", path.display())))
}

fn environment(spec: &mut Spec, edits: &Edits) {
    let Some(process) = spec.process_mut() else { return };
    // rt takes the last value of a name.
    process.env_mut().get_or_insert_default().extend(edits.env.iter().cloned());
    let groups = process.user_mut().additional_gids_mut().get_or_insert_default();
    for group in &edits.additional_gids {
        if *group != 0 && !groups.contains(group) {
            groups.push(*group);
        }
    }
}

fn nodes(spec: &mut Spec, edits: &Edits, place: &ContainerPlace) -> Result<()> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let resources = linux.resources_mut().get_or_insert_default();
    let rules = resources.devices().clone().unwrap_or_default();
    let mut devices = Devices { nodes: linux.devices().clone().unwrap_or_default(), rules };
    for edit in &edits.device_nodes {
        let permissions = edit.permissions.as_deref().unwrap_or("rwm");
        devices.add(&edit.node(place)?, edit.path.clone().into(), permissions);
    }
    if let Some(resources) = linux.resources_mut() {
        resources.set_devices(Some(devices.rules));
    }
    linux.set_devices((!devices.nodes.is_empty()).then_some(devices.nodes));
    Ok(())
}

fn add_hook(spec: &mut Spec, edit: &HookEdit) -> Result<()> {
    let mut hook = Hook::default();
    hook.set_path(edit.path.clone())
        .set_args((!edit.args.is_empty()).then(|| edit.args.clone()))
        .set_env((!edit.env.is_empty()).then(|| edit.env.clone()))
        .set_timeout(edit.timeout);
    let hooks: &mut Hooks = spec.hooks_mut().get_or_insert_default();
    let list = match edit.hook_name.as_str() {
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        "poststop" => hooks.poststop_mut(),
        #[allow(deprecated)]
        "prestart" => hooks.prestart_mut(),
        other => return Err(Error::invalid(format!("CDI: unknown hook {other:?}"))),
    };
    list.get_or_insert_default().push(hook);
    Ok(())
}

#[cfg(test)]
mod tests;
