//! One entry of `mounts` → what to mount where with which attributes. It opens nothing.

use std::ffi::CString;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::idmap::IdMap;
use super::mount_options::{self, Options};
use crate::error::{Error, Result};
use crate::spec;

/// A mount to make.
#[derive(Debug, Clone, Serialize)]
pub struct Mount {
    /// Absolute path in the container, without `.` and `..`.
    pub target: PathBuf,
    /// What appears there.
    pub content: Content,
    /// Attributes and the rest of the options.
    #[serde(flatten)]
    pub options: Options,
    /// Map ids of this mount.
    pub idmap: Option<MountIdMap>,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A part of the host's tree.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new instance of a filesystem, made from inside the container's namespaces, but for what takes devices of the host's.
    Filesystem {
        /// As in /proc/filesystems.
        fstype: CString,
        /// What the filesystem is made from; for virtual ones just a name.
        source: CString,
    },
    /// The container's view of the cgroup2 tree.
    Cgroup,
    /// What another container has there; it comes as a descriptor.
    Lent {
        /// The other container's id.
        by: String,
    },
}

/// How ids of an idmapped mount are mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountIdMap {
    /// By mappings of its own.
    Own(IdMap),
    /// As the container's user namespace does.
    Container,
}

/// Files in a container's /proc that lxcfs and engines bind over. runc 1.5 has the same list.
pub const PROC_FILES: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "net/dev",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// SPEC: config.md#mounts
pub fn plan(bundle: &Path, at: usize, mount: &spec::Mount) -> Result<Mount> {
    let place = || format!("mounts[{at}] ({})", mount.destination);
    if mount.destination.is_empty() {
        return Err(Error::invalid(format!("mounts[{at}]: destination is empty")));
    }
    let mut options = mount_options::parse(&mount.options).map_err(|e| e.during(place()))?;
    let target = inside(&mount.destination);
    let kind = mount.kind.as_deref().unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or_default();
    let content = if let Some(recursive) = bind(kind, &options) {
        options.keep_only_what_binds_take().map_err(|e| e.during(place()))?;
        if source.is_empty() {
            return Err(Error::invalid(format!("{}: a bind mount needs a source", place())));
        }
        Content::Bind { source: bundle.join(source), recursive }
    } else if matches!(kind, "cgroup" | "cgroup2") {
        Content::Cgroup
    } else if kind.is_empty() {
        return Err(Error::invalid(format!(
            "{}: no type, and neither bind nor rbind among the options",
            place()
        )));
    } else {
        let text = |field: &str, text: &str| {
            CString::new(text).map_err(|_| Error::invalid(format!("{}: {field} contains a NUL", place())))
        };
        Content::Filesystem {
            fstype: text("type", kind)?,
            source: text("source", if source.is_empty() { kind } else { source })?,
        }
    };
    check_proc(&target, kind, &content).map_err(|e| e.during(place()))?;
    let idmap = idmap(&place(), mount, &mut options, &content)?;
    Ok(Mount { target, content, options, idmap })
}

/// `/a/../b//c` → `/b/c`: a path inside the container, made absolute, without dots.
pub fn inside(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

fn bind(kind: &str, options: &Options) -> Option<bool> {
    match (kind, options.bind) {
        (_, Some(recursive)) => Some(recursive),
        ("bind", None) => Some(false),
        _ => None,
    }
}

/// The container's /proc must be a procfs, and only known files may be put into it. What is written is looked at here, to say so before
/// anything is made; where a mount lands is looked at by init.
fn check_proc(target: &Path, kind: &str, content: &Content) -> Result<()> {
    let Ok(below) = target.strip_prefix("/proc") else { return Ok(()) };
    let bound_from_proc = matches!(content, Content::Bind { source, .. } if source.starts_with("/proc"));
    if below.as_os_str().is_empty() {
        if kind == "proc" || bound_from_proc {
            return Ok(());
        }
        return Err(Error::invalid(format!(
            "something other than a procfs can't be mounted at /proc (type {kind:?})"
        )));
    }
    if PROC_FILES.iter().any(|file| below == Path::new(file)) {
        return Ok(());
    }
    Err(Error::invalid(format!("{} cannot be mounted because it is inside /proc", target.display()))
        .cure("mount it elsewhere; only a few files of /proc can be covered"))
}

fn idmap(
    place: &str,
    mount: &spec::Mount,
    options: &mut Options,
    content: &Content,
) -> Result<Option<MountIdMap>> {
    let own = IdMap::plan(place, &mount.uid_mappings, &mount.gid_mappings)?;
    let Some(map) = own.map(MountIdMap::Own).or(options.idmap.map(|_| MountIdMap::Container)) else {
        return Ok(None);
    };
    if !matches!(content, Content::Bind { .. }) {
        return Err(Error::invalid(format!("{place}: only bind mounts can be idmapped")));
    }
    Ok(Some(map))
}

/// The mount that a path lies in, as the config writes them: the deepest, and of those the last.
pub fn above<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let all = mounts.iter().filter(|mount| path.starts_with(&mount.target));
    all.max_by_key(|mount| mount.target.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount> {
        plan(
            Path::new("/bundle"),
            3,
            &spec::Mount {
                destination: destination.into(),
                kind: (!kind.is_empty()).then(|| kind.into()),
                source: (!source.is_empty()).then(|| source.into()),
                options: options.iter().map(|&o| o.to_owned()).collect(),
                ..Default::default()
            },
        )
    }

    #[test]
    fn targets_stay_inside() {
        for (path, clean) in [("/a/../../b//c/.", "/b/c"), ("x", "/x"), ("/", "/"), ("/..", "/")] {
            assert_eq!(inside(path), Path::new(clean));
        }
    }

    #[test]
    fn a_relative_bind_source_is_the_bundles() {
        let bound = mount("/mnt", "", "vol", &["rbind"]).unwrap();
        assert_eq!(bound.content, Content::Bind { source: "/bundle/vol".into(), recursive: true });
    }

    #[test]
    fn mistakes_name_the_entry() {
        for (result, message) in [
            (mount("", "tmpfs", "", &[]), "mounts[3]: destination is empty"),
            (
                mount("/x", "", "", &[]),
                "mounts[3] (/x): no type, and neither bind nor rbind among the options",
            ),
            (mount("/x", "bind", "", &[]), "mounts[3] (/x): a bind mount needs a source"),
            (
                mount("/proc", "tmpfs", "", &[]),
                "mounts[3] (/proc): something other than a procfs can't be mounted at /proc (type \"tmpfs\")",
            ),
            (
                mount("/proc/self/attr", "tmpfs", "", &[]),
                "mounts[3] (/proc/self/attr): /proc/self/attr cannot be mounted because it is inside /proc (mount it elsewhere; only a few files of /proc can be covered)",
            ),
            (
                mount("/x", "bind", "/y", &["roo"]),
                "mounts[3] (/x): unknown mount option \"roo\" (did you mean \"ro\"?)",
            ),
            (mount("/x", "tmpfs", "", &["idmap"]), "mounts[3] (/x): only bind mounts can be idmapped"),
        ] {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
        assert!(mount("/proc/uptime", "bind", "/var/lib/lxcfs/proc/uptime", &["rbind"]).is_ok());
    }
}
