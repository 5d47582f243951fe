//! Mounts of a container: what every container has, what its pod gives it, what the image and the request want. It resolves no
//! paths of the host and makes nothing.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::container::Request;
use super::namespaces::Modes;
use super::{Source, SourcePropagation, empty};
use crate::api::{self, MountPropagation as Propagation};
use crate::error::{Error, Result};

/// What the mounts depend on beside the request.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The pod's namespaces.
    pub pod: &'a Modes,
    /// Sysfs and cgroups can be written.
    pub privileged: bool,
    /// The root can't be written, and so the pod's files neither.
    pub readonly_root: bool,
}

/// All mounts in the order in which they are made, and `linux.rootfsPropagation`.
pub fn of_container(request: &Request<'_>, view: View<'_>) -> Result<(Vec<Mount>, Option<String>)> {
    let asked = requested(request)?;
    let wanted = |path: &Path| asked.iter().any(|mount| mount.destination() == path);
    let own_dev = wanted(Path::new("/dev"));
    let mut all: Vec<Mount> = defaults(view)
        .into_iter()
        .chain(of_pod(request, view)?)
        .chain(volumes(request)?)
        .filter(|mount| {
            let covered = own_dev && mount.destination().starts_with("/dev");
            !covered && !wanted(mount.destination())
        })
        .collect();
    let propagation = root_propagation(&request.config.mounts);
    all.extend(asked);
    // What lies higher comes first, so that nothing is covered; among equals the order is the request's.
    all.sort_by_key(|mount| mount.destination().components().count());
    Ok((all, propagation.map(str::to_owned)))
}

/// A container that takes or gives mounts needs a root that lets them through.
fn root_propagation(mounts: &[api::Mount]) -> Option<&'static str> {
    let any = |propagation: Propagation| mounts.iter().any(|mount| mount.propagation == propagation as i32);
    if any(Propagation::PropagationBidirectional) {
        Some("rshared")
    } else if any(Propagation::PropagationHostToContainer) {
        Some("rslave")
    } else {
        None
    }
}

fn defaults(view: View<'_>) -> Vec<Mount> {
    let (write, cgroup_write) = if view.privileged { ("rw", "rw") } else { ("ro", "ro") };
    let sys = if view.pod.idmap.is_some() && view.pod.host_network {
        // KERNEL: a sysfs shows its network namespace, and only that one's owner may mount it.
        let write = if view.privileged { "rw" } else { "rro" };
        empty::mount("/sys", "bind", "/sys", &["rbind", "rprivate", "nosuid", "noexec", "nodev", write])
    } else {
        empty::mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", write])
    };
    vec![
        empty::mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        empty::mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        empty::mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        empty::mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        empty::mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", cgroup_write],
        ),
    ]
}

/// /dev/shm, and the files that say who and where the pod is.
fn of_pod(request: &Request<'_>, view: View<'_>) -> Result<Vec<Mount>> {
    let pod = request.sandbox;
    let host_shm = Path::new("/dev/shm").to_owned();
    let shm = match (&pod.shm, view.pod.host_ipc) {
        (_, true) => host_shm,
        (Some(shm), false) => shm.clone(),
        (None, false) => {
            return Err(Error::internal(format!("sandbox {} has no /dev/shm of its own", pod.id)));
        }
    };
    let mut all = vec![empty::mount("/dev/shm", "bind", shm, &["rbind", "rprivate", "rw"])];
    let write = if view.readonly_root { "ro" } else { "rw" };
    let files = [
        ("/etc/hostname", &pod.hostname),
        ("/etc/hosts", &pod.hosts),
        ("/etc/resolv.conf", &pod.resolv_conf),
    ];
    for (path, file) in files {
        if let Some(file) = file {
            all.push(empty::mount(path, "bind", file, &["rbind", "rprivate", write]));
        }
    }
    Ok(all)
}

/// The image's VOLUMEs, as far as nothing of the request is mounted there.
fn volumes(request: &Request<'_>) -> Result<Vec<Mount>> {
    let wanted = super::container::volumes(request.config, request.image.config);
    let one = |volume: &String| {
        let directory = request.place.volumes.get(volume).ok_or_else(|| {
            Error::internal(format!("no directory was made for the image's volume {volume:?}"))
        })?;
        let destination = inside(volume).ok_or_else(|| {
            Error::invalid(format!("the image's volume {volume:?} is not an absolute path"))
        })?;
        Ok(bind(destination, directory, &["rbind", "rprivate", "rw"]))
    };
    wanted.iter().map(one).collect()
}

fn bind(destination: PathBuf, source: &Path, options: &[&str]) -> Mount {
    let mut mount = empty::mount("", "bind", source, options);
    mount.set_destination(destination);
    mount
}

/// Absolute, and without dots and doubled slashes.
fn inside(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
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
    Some(clean)
}

/// What the request wants. SPEC: Mount
fn requested(request: &Request<'_>) -> Result<Vec<Mount>> {
    let mut all: Vec<Mount> = Vec::with_capacity(request.config.mounts.len());
    for (at, mount) in request.config.mounts.iter().enumerate() {
        let made = one(at, mount, request)
            .map_err(|error| error.during(format!("mounts[{at}] ({})", mount.container_path)))?;
        all.push(made);
    }
    Ok(all)
}

fn one(at: usize, mount: &api::Mount, request: &Request<'_>) -> Result<Mount> {
    let destination =
        inside(&mount.container_path).filter(|path| path.parent().is_some()).ok_or_else(|| {
            Error::invalid(format!("container_path {:?} is not an absolute path", mount.container_path))
                .cure("such as /data")
        })?;
    let mut options: Vec<&str> = vec!["rbind"];
    let source: &Path = match &mount.image {
        Some(image) => {
            if !mount.host_path.is_empty() {
                return Err(Error::invalid("image and host_path exclude each other"));
            }
            if mount.propagation != Propagation::PropagationPrivate as i32 {
                return Err(Error::invalid("an image's propagation is PRIVATE"));
            }
            // Its devices are files of an image: nothing that the pod was given.
            options.extend(["rprivate", "ro", "nodev"]);
            let found = request.place.image_mounts.get(&at);
            &found.ok_or_else(|| Error::internal(format!("image {:?} was not mounted", image.image)))?.path
        }
        None => {
            let source =
                request.place.sources.get(&mount.host_path).ok_or_else(|| {
                    Error::not_found(format!("host_path {:?} does not exist", mount.host_path))
                })?;
            let write = readonly(mount, request)?;
            options.extend([propagation(mount, source)?, write]);
            &source.path
        }
    };
    for option in &mount.mount_options {
        options.push(extra(option)?);
    }
    let mut made = bind(destination, source, &options);
    idmap(mount, request, &mut made)?;
    Ok(made)
}

/// The option of a propagation, where the source's mount gives it.
fn propagation(mount: &api::Mount, source: &Source) -> Result<&'static str> {
    let lacks = |what: &str| {
        Err(Error::invalid(format!("host_path {:?} is not on a {what} mount", mount.host_path))
            .cure("see mount --make-rshared"))
    };
    match (Propagation::try_from(mount.propagation), source.propagation) {
        (Ok(Propagation::PropagationPrivate), _) => Ok("rprivate"),
        (Ok(Propagation::PropagationBidirectional), SourcePropagation::Shared) => Ok("rshared"),
        (Ok(Propagation::PropagationBidirectional), _) => lacks("shared"),
        (Ok(Propagation::PropagationHostToContainer), SourcePropagation::Private) => lacks("shared or slave"),
        (Ok(Propagation::PropagationHostToContainer), _) => Ok("rslave"),
        (Err(_), _) => Err(Error::invalid(format!("unknown propagation {}", mount.propagation))),
    }
}

fn readonly(mount: &api::Mount, request: &Request<'_>) -> Result<&'static str> {
    if !mount.recursive_read_only {
        return Ok(if mount.readonly { "ro" } else { "rw" });
    }
    if !mount.readonly {
        return Err(Error::invalid("recursive_read_only without readonly"));
    }
    if mount.propagation != Propagation::PropagationPrivate as i32 {
        return Err(Error::invalid("recursive_read_only with a propagation that is not PRIVATE"));
    }
    if !request.host.recursive_readonly {
        return Err(Error::unsupported("recursive_read_only").cure("it needs Linux 5.12 or later"));
    }
    Ok("rro")
}

/// Options that take something away, and so can't be misused.
fn extra(option: &str) -> Result<&'static str> {
    const KNOWN: [&str; 6] = ["noexec", "nosuid", "nodev", "nosymfollow", "noatime", "nodiratime"];
    KNOWN.into_iter().find(|known| *known == option).ok_or_else(|| {
        Error::invalid(format!("mount_options: unknown option {option:?}"))
            .cure(format!("the options are {}", KNOWN.join(", ")))
    })
}

fn idmap(mount: &api::Mount, request: &Request<'_>, made: &mut Mount) -> Result<()> {
    if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() {
        return Ok(());
    }
    if mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty() {
        return Err(Error::invalid("uidMappings and gidMappings need each other"));
    }
    if mount.image.is_some() {
        // KERNEL: overlayfs can have idmapped layers, not be an idmapped mount; a layer by itself would be everybody's.
        return Err(Error::unsupported("map the ids of an image that is mounted as a volume")
            .cure("use it in a pod without a user namespace, or copy what it has to a volume"));
    }
    if !request.host.idmapped_mounts {
        return Err(Error::unsupported("map the ids of a mount").cure("it needs Linux 5.12 or later"));
    }
    let lines = |maps: &[api::IdMapping]| -> Vec<LinuxIdMapping> {
        let line = |map: &api::IdMapping| empty::id_range(map.container_id, map.host_id, map.length);
        maps.iter().map(line).collect()
    };
    made.set_uid_mappings(Some(lines(&mount.uid_mappings)));
    made.set_gid_mappings(Some(lines(&mount.gid_mappings)));
    Ok(())
}

#[cfg(test)]
mod tests;
