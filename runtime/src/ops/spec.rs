//! `rt spec`: writes a config.json to start from, the same container as runc's. It never replaces one.

use std::io::{ErrorKind, Write};
use std::path::Path;

use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder,
    LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder, Mount,
    MountBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};
use serde_json::Value;

use super::options::WriteSpec;
use crate::error::{Context, Error, Kind, Result};

/// For whom the config is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Root,
    /// An ordinary user, who is root in a user namespace.
    User {
        uid: u32,
        gid: u32,
    },
}

/// Writes `config.json`.
pub fn spec(options: &WriteSpec) -> Result<i32> {
    let path = options.bundle.as_deref().unwrap_or(Path::new("")).join("config.json");
    let audience = if options.rootless {
        Audience::User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    } else {
        Audience::Root
    };
    let text =
        config(audience).map_err(|error| Error::new(Kind::Internal, format!("make a config: {error}")))?;
    let what = || format!("write {}", path.display());
    match std::fs::File::create_new(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).what(what)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::new(Kind::Exists, format!("{}: it exists", what())).cure("remove it first"));
        }
        Err(error) => return Err(error).what(what),
    }
    Ok(0)
}

/// As people read it, from what is most often changed to what is least.
const ORDER: [&str; 6] = ["ociVersion", "process", "root", "hostname", "mounts", "linux"];

fn config(audience: Audience) -> Result<String, oci_spec::OciSpecError> {
    use serde::Serializer;
    let mut value = serde_json::to_value(build(audience)?)?;
    strip_nulls(&mut value);
    let mut text = Vec::with_capacity(4096);
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    serde_json::Serializer::with_formatter(&mut text, indented)
        .collect_map(ORDER.iter().filter_map(|key| value.get(key).map(|part| (key, part))))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What is absent is absent: other readers than ours may refuse `null`.
pub fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn build(audience: Audience) -> Result<Spec, oci_spec::OciSpecError> {
    let capabilities: Capabilities =
        [Capability::AuditWrite, Capability::Kill, Capability::NetBindService].into_iter().collect();
    let process = ProcessBuilder::default()
        .terminal(true)
        .user(UserBuilder::default().uid(0u32).gid(0u32).build()?)
        .args(["sh".to_owned()])
        .env([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "TERM=xterm".to_owned(),
        ])
        .cwd("/")
        .no_new_privileges(true)
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(capabilities.clone())
                .permitted(capabilities.clone())
                .effective(capabilities)
                .inheritable(Capabilities::new())
                .ambient(Capabilities::new())
                .build()?,
        )
        .rlimits([PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNofile)
            .hard(1024u64)
            .soft(1024u64)
            .build()?])
        .build()?;
    SpecBuilder::default()
        .version(crate::spec::VERSION)
        .root(RootBuilder::default().path("rootfs").readonly(true).build()?)
        .process(process)
        .hostname("rt")
        .mounts(mounts(audience)?)
        .linux(linux(audience)?)
        .build()
}

/// Destination, type, source, options.
type MountRow = (&'static str, &'static str, &'static str, &'static [&'static str]);

const MOUNTS: [MountRow; 7] = [
    ("/proc", "proc", "proc", &[]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/// A network namespace of the host's can't have a sysfs of a user namespace: there /sys is bound.
const HOST_SYS: MountRow = ("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);

fn mounts(audience: Audience) -> Result<Vec<Mount>, oci_spec::OciSpecError> {
    MOUNTS
        .iter()
        .map(|row| match (audience, row.0) {
            (Audience::User { .. }, "/sys") => &HOST_SYS,
            _ => row,
        })
        .map(|&(destination, kind, source, options)| {
            // The only group that a user namespace of one id has is 0.
            let kept =
                options.iter().filter(|option| audience == Audience::Root || !option.starts_with("gid="));
            let mount = MountBuilder::default().destination(destination).typ(kind).source(source);
            let kept: Vec<String> = kept.map(|option| (*option).to_owned()).collect();
            if kept.is_empty() { mount.build() } else { mount.options(kept).build() }
        })
        .collect()
}

fn linux(audience: Audience) -> Result<oci_spec::runtime::Linux, oci_spec::OciSpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let kinds = match audience {
        Audience::Root => [Pid, Network, Ipc, Uts, Mount, Cgroup],
        Audience::User { .. } => [Pid, Ipc, Uts, Mount, Cgroup, User],
    };
    let namespaces = kinds
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(
            [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ]
            .map(str::to_owned),
        )
        .readonly_paths(
            ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(str::to_owned),
        );
    let linux = match audience {
        Audience::Root => {
            let no_devices = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
            linux.resources(LinuxResourcesBuilder::default().devices([no_devices]).build()?)
        }
        Audience::User { uid, gid } => {
            let one = |host: u32| {
                LinuxIdMappingBuilder::default().host_id(host).container_id(0u32).size(1u32).build()
            };
            let mut linux = linux.uid_mappings([one(uid)?]).gid_mappings([one(gid)?]).build()?;
            // The builder starts from limits, and a user has no cgroup to set them in.
            linux.set_resources(None);
            return Ok(linux);
        }
    };
    linux.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_reader_and_plan_take_both_forms() {
        for audience in [Audience::Root, Audience::User { uid: 1000, gid: 100 }] {
            let text = config(audience).unwrap();
            let spec: crate::spec::Spec = serde_json::from_str(&text).unwrap();
            crate::plan::Plan::new("a", Path::new("/b"), &spec, Some(crate::plan::cgroup::Driver::Cgroupfs))
                .unwrap();
            assert!(!text.contains("null"), "{text}");
        }
    }

    #[test]
    fn root_gets_runcs_container() {
        let value: Value = serde_json::from_str(&config(Audience::Root).unwrap()).unwrap();
        assert_eq!(value["ociVersion"], "1.3.0");
        let whole = serde_json::to_value(build(Audience::Root).unwrap()).unwrap();
        let left_out: Vec<_> =
            whole.as_object().unwrap().keys().filter(|key| !ORDER.contains(&key.as_str())).collect();
        assert_eq!(left_out, ["annotations"], "and those are empty");
        assert_eq!(value["process"]["args"], serde_json::json!(["sh"]));
        assert_eq!(value["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 3);
        assert_eq!(value["linux"]["namespaces"].as_array().unwrap().len(), 6);
        let devices = serde_json::json!([{"allow": false, "access": "rwm"}]);
        assert_eq!(value["linux"]["resources"]["devices"], devices);
        assert_eq!(value["mounts"].as_array().unwrap().len(), 7);
        assert_eq!(value["root"], serde_json::json!({"path": "rootfs", "readonly": true}));
    }

    #[test]
    fn a_user_gets_a_user_namespace_of_one_id() {
        let value: Value =
            serde_json::from_str(&config(Audience::User { uid: 1000, gid: 100 }).unwrap()).unwrap();
        let mapping = serde_json::json!([{"hostID": 1000, "containerID": 0, "size": 1}]);
        assert_eq!(value["linux"]["uidMappings"], mapping);
        assert!(value["linux"]["resources"].is_null());
        assert!(!value.to_string().contains("gid=5"));
        assert!(!value["linux"]["namespaces"].to_string().contains("network"));
    }
}
