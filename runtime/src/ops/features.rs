//! `rt features`: what this program understands, as features.md has it. It says nothing of the host.
//!
//! Lists come from the tables that the plan itself reads, or are checked against it by the tests below.

use oci_spec::runtime::{
    ApparmorBuilder, Arch, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder,
    LinuxFeature, LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MemoryPolicyBuilder,
    MountExtensionsBuilder, NetDevicesBuilder, SeccompBuilder, SelinuxBuilder,
};

use super::spec::strip_nulls;
use super::state::json;
use super::stdout;
use crate::error::{Error, Kind, Result};
use crate::plan::memory_policy;
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::seccomp::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

/// Prints them.
pub fn features() -> Result<i32> {
    let broken = |error: String| Error::new(Kind::Internal, format!("describe the features: {error}"));
    let features = build().map_err(|error| broken(error.to_string()))?;
    let mut value = serde_json::to_value(features).map_err(|error| broken(error.to_string()))?;
    strip_nulls(&mut value);
    stdout::print(&json(&value)?)?;
    Ok(0)
}

/// In the order of a container's life.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Those that aren't handed to the file system: sorted.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Annotations that change what a container may do: callers must not pass them on from users unseen.
const UNSAFE_ANNOTATIONS: [&str; 1] = ["org.systemd.property."];

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn build() -> Result<Features, oci_spec::OciSpecError> {
    let about = [
        ("run.rt.version", env!("CARGO_PKG_VERSION")),
        ("run.rt.commit", option_env!("RT_COMMIT").unwrap_or_default()),
        // A third party's runtime may answer this one too, says runc.
        ("org.opencontainers.runc.checkpoint.enabled", "false"),
    ];
    let about = about.into_iter().filter(|(_, value)| !value.is_empty());
    FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max(crate::spec::VERSION)
        .hooks(texts(&HOOKS))
        .mount_options(texts(MOUNT_OPTIONS))
        .linux(linux()?)
        .annotations(
            about
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect::<std::collections::HashMap<_, _>>(),
        )
        .potentially_unsafe_config_annotations(texts(&UNSAFE_ANNOTATIONS))
        .build()
}

fn linux() -> Result<LinuxFeature, oci_spec::OciSpecError> {
    let mut namespaces: Vec<&str> = Namespace::ALL.iter().map(|kind| kind.name()).collect();
    namespaces.sort_unstable();
    let namespaces = namespaces
        .into_iter()
        .map(LinuxNamespaceType::try_from)
        .collect::<Result<Vec<LinuxNamespaceType>, _>>()?;
    let mut capabilities: Vec<caps::Capability> = caps::all().into_iter().collect();
    capabilities.sort_unstable_by_key(caps::Capability::index);
    let cgroup =
        CgroupBuilder::default().v1(false).v2(true).systemd(true).systemd_user(false).rdma(true).build()?;
    let names =
        |table: &[(&str, u32)]| table.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<String>>();
    let memory_policy = MemoryPolicyBuilder::default()
        .modes(names(&memory_policy::MODES))
        .flags(names(&memory_policy::FLAGS))
        .build()?;
    let idmap = IDMapBuilder::default().enabled(true).build()?;
    LinuxFeatureBuilder::default()
        .namespaces(namespaces)
        .capabilities(capabilities.iter().map(ToString::to_string).collect::<Vec<String>>())
        .cgroup(cgroup)
        .apparmor(ApparmorBuilder::default().enabled(true).build()?)
        .seccomp(seccomp()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?)
        .intel_rdt(IntelRdtBuilder::default().enabled(false).build()?)
        .memory_policy(memory_policy)
        .mount_extensions(MountExtensionsBuilder::default().idmap(idmap).build()?)
        .net_devices(NetDevicesBuilder::default().enabled(false).build()?)
        .build()
}

fn seccomp() -> Result<oci_spec::runtime::Seccomp, oci_spec::OciSpecError> {
    // The flag for waiting on a listener is read, but does nothing as long as nothing can notify.
    let supported: Vec<&str> =
        FLAGS.iter().copied().filter(|flag| !flag.ends_with("WAIT_KILLABLE_RECV")).collect();
    SeccompBuilder::default()
        .enabled(true)
        .actions(words::<LinuxSeccompAction>(ACTIONS)?)
        .operators(texts(OPERATORS))
        .archs(words::<Arch>(ARCHITECTURES)?)
        .known_flags(texts(FLAGS))
        .supported_flags(texts(&supported))
        .build()
}

/// Names as values of the crate's enums.
fn words<T: serde::de::DeserializeOwned>(names: &[&str]) -> Result<Vec<T>, oci_spec::OciSpecError> {
    names.iter().map(|name| Ok(serde_json::from_value((*name).into())?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mount_options;

    #[test]
    fn mount_options_are_sorted_and_understood_by_the_plan() {
        assert!(MOUNT_OPTIONS.is_sorted());
        for option in MOUNT_OPTIONS {
            let options = mount_options::parse(&[(*option).to_owned()]).unwrap();
            assert!(options.filesystem.is_empty(), "{option} is handed to the file system");
        }
        assert!(!mount_options::parse(&["size=1k".to_owned()]).unwrap().filesystem.is_empty());
    }

    #[test]
    fn network_devices_are_told_as_the_plan_takes_them() {
        let spec = serde_json::json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "args": ["sh"]},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "network"}, {"type": "mount"}], "netDevices": {"eth0": {}}},
        });
        let spec = serde_json::from_value(spec).unwrap();
        let taken = crate::plan::Plan::new("a", std::path::Path::new("/b"), &spec, None).is_ok();
        assert_eq!(*linux().unwrap().net_devices().as_ref().unwrap().enabled(), Some(taken));
    }

    #[test]
    fn hooks_are_those_of_the_spec() {
        let all = crate::spec::Hooks::default();
        let value = serde_json::to_value(all).unwrap();
        let mut known: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut ours = HOOKS.to_vec();
        known.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, known);
    }

    #[test]
    fn the_output_has_no_nulls_and_is_read_back_by_the_same_types() {
        let mut value = serde_json::to_value(build().unwrap()).unwrap();
        strip_nulls(&mut value);
        let text = value.to_string();
        assert!(!text.contains("null"), "{text}");
        let back: Features = serde_json::from_str(&text).unwrap();
        assert_eq!(back, build().unwrap());
        for (list, word) in
            [("actions", "SCMP_ACT_ERRNO"), ("archs", "SCMP_ARCH_X86_64"), ("operators", "SCMP_CMP_EQ")]
        {
            assert!(
                value["linux"]["seccomp"][list].as_array().unwrap().iter().any(|known| known == word),
                "{word}"
            );
        }
        assert!(!text.contains("SCMP_ACT_NOTIFY"), "not supported yet");
        assert_eq!(value["linux"]["namespaces"][0], "cgroup");
        assert_eq!(value["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}
