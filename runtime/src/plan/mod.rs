//! Spec + bundle → [`Plan`]: what will be done, with every question answered that can be answered without touching the system.
//!
//! Pure: no system calls, no files. Every "invalid config" is born here.

pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod idmap;
pub mod layers;
pub mod memory_policy;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod rootfs;
pub mod scheduling;
pub mod seccomp;
pub mod sharing;
pub mod spread;
pub mod sysctl;
mod text;

use std::ffi::CString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec::{self, Spec};
use namespaces::{Kind, Namespaces};
use rootfs::Entry;

/// What `create` does, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// The container's process and where it is born.
    #[serde(flatten)]
    pub task: Task,
    /// Mapping of a new user namespace.
    pub idmap: Option<idmap::IdMap>,
    /// The container's own surroundings.
    pub surroundings: Surroundings,
    /// The cgroup and its limits; `None`: the container stays in the caller's.
    pub cgroup: Option<cgroup::CgroupPlan>,
    /// SPEC: config.md#posix-platform-hooks
    pub hooks: spec::Hooks,
    /// Host network devices to move in: name outside, name inside.
    pub net_devices: Vec<(String, String)>,
    /// Free-form key-value pairs.
    pub annotations: spec::Annotations,
    /// What is ignored or can't be honoured, to be shown.
    pub warnings: Vec<String>,
}

/// What a process finds around itself; init makes it.
#[derive(Debug, Clone, Serialize)]
pub struct Surroundings {
    /// The root filesystem.
    pub rootfs: rootfs::Rootfs,
    /// In the order in which they are made.
    pub mounts: Vec<mounts::Mount>,
    /// Nodes in /dev; `None`: it is the host's, or bound from there, and left alone.
    pub devices: Option<Vec<devices::Device>>,
    /// Paths that read as empty.
    pub masked: Vec<PathBuf>,
    /// Paths that can't be written.
    pub readonly: Vec<PathBuf>,
    /// Kernel parameters: path below /proc/sys, value.
    pub sysctl: Vec<(String, String)>,
    /// Host name.
    pub hostname: Option<CString>,
    /// NIS domain name.
    pub domainname: Option<CString>,
    /// SELinux label of the mounts.
    pub mount_label: Option<String>,
}

/// A process in a container: the first one, or one that `exec` adds.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// Namespaces to make and to join.
    pub namespaces: Namespaces,
    /// Clock offsets of a new time namespace, the lines of /proc/PID/timens_offsets.
    pub time_offsets: Option<String>,
    /// What runs, and as whom.
    pub process: process::Process,
    /// The system call filter.
    pub seccomp: Option<seccomp::Filter>,
    /// A session keyring of its own; else the caller's is kept.
    pub keyring: bool,
    /// NUMA memory policy.
    pub memory_policy: Option<memory_policy::MemoryPolicy>,
    /// personality(2).
    pub personality: Option<u64>,
}

impl Plan {
    /// Makes the plan. SPEC: runtime-spec 1.3.0
    pub fn new(id: &str, bundle: &Path, spec: &Spec, cgroups: Option<cgroup::Driver>) -> Result<Self> {
        version(&spec.oci_version)?;
        let mut warnings = Vec::new();
        let none = spec::Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let process = spec.process.as_ref().ok_or_else(|| {
            Error::invalid("process is missing").cure("a container needs process.args to run")
        })?;
        let mut process = process::plan(process, &mut warnings)?;
        // SPEC: config.md#linux-process: execCPUAffinity is not for the container's first process.
        (process.scheduling.initial_cpus, process.scheduling.final_cpus) = (None, None);
        let mut namespaces = namespaces::plan(&linux.namespaces)?;
        let idmap = idmap(linux, &namespaces)?;
        let mut surroundings = surroundings(bundle, spec, linux, &namespaces)?;
        spread::covers(&surroundings)?;
        let bounding = process.capabilities.bounding;
        warnings.extend(spread::host_cgroups(&mut surroundings.mounts, &namespaces, bounding));
        if linux.intel_rdt.as_ref().is_some_and(|rdt| !rdt.is_null()) {
            return Err(
                Error::unsupported("linux.intelRdt is not supported yet").cure("remove it from the config")
            );
        }
        if cgroups == Some(cgroup::Driver::Systemd) {
            // A scope is made around a process, and the root of a cgroup namespace is where its maker is.
            namespaces.delay(Kind::Cgroup);
        }
        let task = Task {
            time_offsets: time_offsets(linux, &namespaces)?,
            namespaces,
            process,
            seccomp: match &linux.seccomp {
                Some(profile) => seccomp::compile(profile, seccomp::Arch::NATIVE)?,
                None => None,
            },
            keyring: true,
            memory_policy: linux.memory_policy.as_ref().map(memory_policy::plan).transpose()?,
            personality: linux.personality.as_ref().map(personality).transpose()?,
        };
        Ok(Self {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            task,
            idmap,
            surroundings,
            cgroup: cgroups.map(|driver| cgroup(id, spec, linux, driver)).transpose()?,
            hooks: hooks(spec.hooks.clone().unwrap_or_default())?,
            net_devices: net_devices(linux)?,
            annotations: spec.annotations.clone().unwrap_or_default(),
            warnings,
        })
    }

    /// The host's id of the container's root, if the container may make cgroups of its own: it has a user and a cgroup
    /// namespace, and a cgroup mount that it can write.
    pub fn delegates_cgroup(&self) -> Option<u32> {
        let writable = |mount: &mounts::Mount| {
            mount.content == mounts::Content::Cgroup
                && mount.options.attributes.set & mount_options::attr::RDONLY == 0
        };
        let own = self.task.namespaces.makes(Kind::Cgroup) && self.surroundings.mounts.iter().any(writable);
        self.idmap.as_ref().filter(|_| own).and_then(|map| map.host_uid(0))
    }

    /// `--overlay`: layers topmost first, by default the bundle's own root filesystem; changes go to `upper`, or to a tmpfs.
    pub fn overlay(&mut self, lowers: &[PathBuf], upper: Option<&Path>) -> Result<()> {
        if !self.task.namespaces.makes(Kind::Mount) {
            return Err(Error::invalid("--overlay needs a new mount namespace")
                .cure("add {\"type\": \"mount\"} without a path to linux.namespaces"));
        }
        let rootfs = &mut self.surroundings.rootfs;
        if !rootfs.mounts.is_empty() {
            return Err(Error::invalid(format!(
                "--overlay and {} of config.json exclude each other",
                layers::FIELD
            )));
        }
        let own = [rootfs.path.clone()];
        rootfs.mounts = vec![layers::overlay(if lowers.is_empty() { &own } else { lowers }, upper)?];
        Ok(())
    }

    /// Whether hooks run on the host's side while init waits.
    pub fn has_runtime_hooks(&self) -> bool {
        !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty()
    }
}

fn cgroup(id: &str, spec: &Spec, linux: &spec::Linux, driver: cgroup::Driver) -> Result<cgroup::CgroupPlan> {
    cgroup::plan(&cgroup::Request {
        id,
        cgroups_path: linux.cgroups_path.as_deref(),
        resources: linux.resources.as_ref(),
        annotations: spec.annotations.as_ref(),
        driver,
        purpose: cgroup::Purpose::Create,
    })
}

/// The major version must be 1; anything that SemVer allows may follow.
fn version(version: &str) -> Result<()> {
    if version.is_empty() {
        return Err(Error::invalid("ociVersion is missing").cure("write \"1.3.0\""));
    }
    let major = version.split('.').next().unwrap_or_default();
    if major == "1" && version.split(['.', '-', '+']).take(3).all(|part| part.parse::<u32>().is_ok()) {
        return Ok(());
    }
    Err(Error::invalid(format!("ociVersion {version:?} is not supported"))
        .cure("versions 1.0.0 to 1.3.0 are"))
}

fn idmap(linux: &spec::Linux, namespaces: &Namespaces) -> Result<Option<idmap::IdMap>> {
    let map = idmap::IdMap::plan("linux", &linux.uid_mappings, &linux.gid_mappings)?;
    match (map, namespaces.makes(Kind::User), namespaces.joins(Kind::User)) {
        (None, true, _) => {
            Err(Error::invalid("linux: a new user namespace needs uidMappings and gidMappings"))
        }
        // Engines repeat the mappings of the namespace that is joined; they are known to the kernel already.
        (_, false, true) => Ok(None),
        (Some(_), false, false) => Err(Error::invalid("linux: uidMappings without a user namespace")
            .cure("add \"user\" to linux.namespaces")),
        (map, ..) => Ok(map),
    }
}

fn surroundings(
    bundle: &Path,
    spec: &Spec,
    linux: &spec::Linux,
    namespaces: &Namespaces,
) -> Result<Surroundings> {
    let mut all = Vec::with_capacity(spec.mounts.len());
    for (at, mount) in spec.mounts.iter().enumerate() {
        all.push(mounts::plan(bundle, at, mount)?);
    }
    own_namespace(spec, linux, namespaces)?;
    let entry = if namespaces.makes(Kind::Mount) { Entry::Pivot } else { Entry::Chroot };
    let rootfs = rootfs::plan(bundle, spec, linux, entry)?;
    idmaps(&all, &rootfs, namespaces)?;
    let changed = namespaces.makes(Kind::Mount) || !all.is_empty() || !linux.devices.is_empty();
    let devices = if changed { devices::plan(&linux.devices, &all)? } else { None };
    Ok(Surroundings {
        rootfs,
        mounts: all,
        devices,
        masked: paths("linux.maskedPaths", &linux.masked_paths)?,
        readonly: paths("linux.readonlyPaths", &linux.readonly_paths)?,
        sysctl: linux.sysctl.as_ref().map_or(Ok(Vec::new()), |list| sysctl::plan(list, namespaces))?,
        hostname: host_word("hostname", spec.hostname.as_deref(), namespaces)?,
        domainname: host_word("domainname", spec.domainname.as_deref(), namespaces)?,
        mount_label: linux.mount_label.clone().filter(|label| !label.is_empty()),
    })
}

/// What would change more than the container's own tree needs a mount namespace that nobody else lives in.
fn own_namespace(spec: &Spec, linux: &spec::Linux, namespaces: &Namespaces) -> Result<()> {
    if namespaces.makes(Kind::Mount) {
        return Ok(());
    }
    let asked = [
        ("linux.rootfsPropagation", linux.rootfs_propagation.as_deref().is_some_and(|word| !word.is_empty())),
        (layers::FIELD, spec.rootfs.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((field, _)) => Err(Error::invalid(format!("{field} needs a new mount namespace"))
            .cure("add {\"type\": \"mount\"} without a path to linux.namespaces")),
    }
}

/// To map ids as the container does, it must do so.
fn idmaps(mounts: &[mounts::Mount], rootfs: &rootfs::Rootfs, namespaces: &Namespaces) -> Result<()> {
    let as_container =
        |idmap: &Option<mounts::MountIdMap>| matches!(idmap, Some(mounts::MountIdMap::Container));
    if namespaces.has(Kind::User) {
        return Ok(());
    }
    let place = match mounts.iter().position(|mount| as_container(&mount.idmap)) {
        Some(at) => format!("mounts[{at}] ({})", mounts[at].target.display()),
        None if rootfs.mounts.iter().any(|mount| as_container(&mount.idmap)) => layers::FIELD.to_owned(),
        None => return Ok(()),
    };
    Err(Error::invalid(format!("{place}: option idmap without mappings of its own needs a user namespace"))
        .cure("add \"user\" to linux.namespaces, or uidMappings and gidMappings to the mount"))
}

fn paths(place: &str, list: &[String]) -> Result<Vec<PathBuf>> {
    let absolute = |(at, path): (usize, &String)| {
        if path.starts_with('/') && !path.contains('\0') {
            Ok(mounts::inside(path))
        } else {
            Err(Error::invalid(format!("{place}[{at}] {path:?} is not an absolute path")))
        }
    };
    list.iter().enumerate().map(absolute).collect()
}

fn host_word(field: &str, value: Option<&str>, namespaces: &Namespaces) -> Result<Option<CString>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    // KERNEL: __NEW_UTS_LEN
    if value.len() > 64 {
        return Err(Error::invalid(format!(
            "{field} {value:?} has {} bytes, the kernel takes 64",
            value.len()
        )));
    }
    // SPEC: config.md#hostname: one that is joined is renamed, as by runc and crun. The runtime's own never is: `parent::spare`.
    if !namespaces.has(Kind::Uts) {
        return Err(Error::invalid(format!("{field} {value:?} needs a uts namespace"))
            .cure("add {\"type\": \"uts\"} to linux.namespaces, or remove it"));
    }
    text::one(field, value).map(Some)
}

fn hooks(hooks: spec::Hooks) -> Result<spec::Hooks> {
    let lists = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (name, list) in lists {
        for (at, hook) in list.iter().enumerate() {
            if !hook.path.starts_with('/') {
                return Err(Error::invalid(format!(
                    "hooks.{name}[{at}].path {:?} is not absolute",
                    hook.path
                )));
            }
            if hook.timeout.is_some_and(|seconds| seconds <= 0) {
                return Err(Error::invalid(format!("hooks.{name}[{at}].timeout must be above 0 seconds")));
            }
        }
    }
    Ok(hooks)
}

fn time_offsets(linux: &spec::Linux, namespaces: &Namespaces) -> Result<Option<String>> {
    let Some(offsets) = linux.time_offsets.as_ref().filter(|offsets| !offsets.is_empty()) else {
        return Ok(None);
    };
    if !namespaces.makes(Kind::Time) {
        return Err(Error::invalid("linux.timeOffsets needs a new time namespace")
            .cure("add {\"type\": \"time\"} to linux.namespaces"));
    }
    let mut lines = String::new();
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!("linux.timeOffsets: unknown clock {clock:?}"))
                .cure("the clocks are monotonic and boottime"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::invalid(format!(
                "linux.timeOffsets.{clock}.nanosecs {} is a second or more",
                offset.nanosecs
            )));
        }
        lines += &format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
    }
    Ok(Some(lines))
}

fn net_devices(linux: &spec::Linux) -> Result<Vec<(String, String)>> {
    let Some(devices) = linux.net_devices.as_ref().filter(|devices| !devices.is_empty()) else {
        return Ok(Vec::new());
    };
    let (name, _) = devices.iter().next().unwrap_or_else(|| unreachable!("not empty"));
    Err(Error::unsupported(format!("linux.netDevices (first of them {name:?}) is not supported yet"))
        .cure("remove it from the config"))
}

/// SPEC: config-linux.md#personality; the numbers are those of personality(2).
pub fn personality(personality: &spec::Personality) -> Result<u64> {
    if let Some(flag) = personality.flags.first() {
        return Err(Error::invalid(format!("linux.personality.flags: {flag:?}: the spec defines none")));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::invalid(format!("linux.personality.domain: unknown value {other:?}"))
            .cure("it is LINUX or LINUX32")),
    }
}
