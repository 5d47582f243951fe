//! What a container's spec points at, looked for or made on the host: its writable layer, the sources of its mounts, volumes, devices, CDI
//! files. What is made of it, the pure mapping knows.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::image_mount;
use super::volume::Copying;
use crate::api;
use crate::document;
use crate::error::{Context, Error, Result};
use crate::host;
use crate::image::Image;
use crate::image::unpack::Cancel;
use crate::node::{Container, Node, Sandbox};
use crate::oci::{self, ContainerPlace, SandboxFacts, Source};
use crate::paths;
use crate::sandbox::files::Files;
use crate::sandbox::spec::{read_seccomp, root_of};

/// Makes the writable layer: it has the owner and mode of the image's root, since that is what `/` shows.
pub async fn layer(node: &Node, sandbox: &Sandbox, container: &Container, image: &Image) -> Result<()> {
    let (uid, gid) = root_of(&sandbox.config);
    let dir = node.paths.container_record(&container.id);
    let upper = dir.join("upper");
    paths::own_dir(&upper)?;
    let work = dir.join("work");
    paths::own_dir(&work)?;
    // Only with a user namespace: else who owns a file may give it to any project, out of this one and into another's.
    let is_mapped = (uid, gid) != (0, 0);
    // Both: overlayfs moves files from one to the other, and the kernel lets none leave its project.
    if is_mapped && let Err(error) = node.stats.count(&[&upper, &work]) {
        tracing::warn!(container = container.id, "its writable layer will be walked: {error}");
    }
    let Some(top) = image.layers.last() else { return Ok(()) };
    let root = std::fs::metadata(top).what(|| format!("look at {}", top.display()))?;
    std::os::unix::fs::chown(
        &upper,
        Some(uid.saturating_add(root.uid())),
        Some(gid.saturating_add(root.gid())),
    )
    .what(|| format!("change the owner of {}", upper.display()))?;
    std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(root.mode() & 0o7777))
        .what(|| format!("set the mode of {}", upper.display()))
}

/// The most volumes that an image may declare: each becomes a mount of the container.
const VOLUMES: usize = 128;

/// Looks for all that the spec needs. Blocks.
pub fn place(
    node: &Node,
    sandbox: &Sandbox,
    (container, image): (&Container, &Image),
    cancel: &Cancel,
) -> Result<ContainerPlace> {
    let owner = root_of(&sandbox.config);
    let config = &container.config;
    let dir = node.paths.container_record(&container.id);
    let (cdi, cdi_unread, cdi_nodes) = cdi(config);
    Ok(ContainerPlace {
        id: container.id.clone(),
        root: node.paths.bundle(&container.id).join("rootfs"),
        upper: dir.join("upper"),
        work: dir.join("work"),
        sources: sources(config)?,
        image_mounts: image_mount::create(node, &container.id, config)?,
        volumes: volumes(&dir, config, image, Copying::new(owner, node.images.free_bytes(), cancel))?,
        devices: devices(config)?,
        cdi_nodes,
        cdi,
        cdi_unread,
        seccomp: read_seccomp(oci::container::seccomp_file(config)?)?,
        target_pid: target(node, container)?,
    })
}

/// The sandbox as its containers see it.
pub fn facts(sandbox: &Sandbox) -> SandboxFacts {
    let files = Files::of(sandbox);
    let netns =
        (!sandbox.is_on_host_network()).then(|| PathBuf::from(format!("/run/netns/rt-{}", sandbox.id)));
    SandboxFacts {
        id: sandbox.id.clone(),
        pid: sandbox.status.look(|status| status.pause_pid),
        netns,
        shm: files.shm,
        resolv_conf: Some(files.resolv_conf),
        hostname: Some(files.hostname),
        hosts: Some(files.hosts),
    }
}

fn sources(config: &api::ContainerConfig) -> Result<BTreeMap<String, Source>> {
    let table = host::Mounts::read()?;
    oci::container::sources(config)
        .into_iter()
        .filter(|path| path.starts_with('/'))
        .map(|asked| {
            let path = match std::fs::canonicalize(asked) {
                // As containerd and docker do, and as critest expects.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    paths::host_dir(Path::new(asked))?;
                    std::fs::canonicalize(asked)
                }
                other => other,
            };
            let path = path.what(|| format!("look at the mount source {asked}")).map_err(of_client)?;
            let propagation = table.propagation(&path);
            Ok((asked.to_owned(), Source { path, propagation }))
        })
        .collect()
}

/// A path that leads through a file, or round in a circle, is the client's mistake.
fn of_client(error: Error) -> Error {
    match error.errno() {
        Some(libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => Error::invalid(error.to_string()),
        _ => error,
    }
}

fn volumes(
    dir: &Path,
    config: &api::ContainerConfig,
    image: &Image,
    mut copying: Copying<'_>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut made = BTreeMap::new();
    let volumes = oci::container::volumes(config, image.config.config().as_ref());
    if volumes.len() > VOLUMES {
        let text = format!("the image declares {} volumes, at most {VOLUMES} are taken", volumes.len());
        return Err(Error::invalid(text).cure("mount something at some of them, or declare fewer"));
    }
    for (index, volume) in volumes.into_iter().enumerate() {
        let path = dir.join("volumes").join(index.to_string());
        super::volume::create(&path, &volume, &image.layers, &mut copying)?;
        made.insert(volume, path);
    }
    Ok(made)
}

fn devices(config: &api::ContainerConfig) -> Result<BTreeMap<String, Vec<oci::Node>>> {
    let nodes =
        |device: &api::Device| Ok((device.host_path.clone(), host::nodes(Path::new(&device.host_path))?));
    config.devices.iter().map(nodes).collect()
}

/// Specifications, why others could not be read, and the nodes that they name.
type Cdi = (Vec<(PathBuf, Vec<u8>)>, Vec<Error>, BTreeMap<String, oci::Node>);

fn cdi(config: &api::ContainerConfig) -> Cdi {
    if config.cdi_devices.is_empty() {
        return Cdi::default();
    }
    let (files, unread) = specifications(&["/etc/cdi", "/var/run/cdi"].map(Path::new));
    // A device that is nowhere, or a file that is wrong, is told when the edits are made.
    let named = oci::container::cdi_nodes(config, &files).unwrap_or_default();
    let look = |path: String| Some((host::nodes(Path::new(&path)).ok()?.pop()?, path));
    let nodes = named.into_iter().filter_map(look).map(|(node, path)| (path, node)).collect();
    (files, unread, nodes)
}

/// All that can be read of the directories. What can't be takes its own devices along, and nobody else's: it is warned of, and told to who
/// wants one that is in no other.
fn specifications(directories: &[&Path]) -> (Vec<(PathBuf, Vec<u8>)>, Vec<Error>) {
    let (mut files, mut unread) = (Vec::new(), Vec::new());
    for directory in directories {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension().is_some_and(|kind| kind == "json" || kind == "yaml" || kind == "yml")
            })
            .collect();
        paths.sort();
        for path in paths {
            match document::read(&path, document::MOST) {
                Ok(text) => files.push((path, text)),
                Err(error) => {
                    let error = error.during("look for CDI devices");
                    tracing::warn!("{error}");
                    unread.push(error);
                }
            }
        }
    }
    (files, unread)
}

/// With PID mode TARGET: the process whose namespace is joined.
fn target(node: &Node, container: &Container) -> Result<Option<u32>> {
    let linux = container.config.linux.as_ref();
    let context = linux.and_then(|linux| linux.security_context.as_ref());
    let Some(options) = context.and_then(|context| context.namespace_options.as_ref()) else {
        return Ok(None);
    };
    if options.pid != api::NamespaceMode::Target as i32 {
        return Ok(None);
    }
    let target = node.container(&options.target_id)?;
    if target.sandbox != container.sandbox {
        return Err(Error::invalid(format!("target container {} is in another sandbox", target.id)));
    }
    match target.status.look(|status| status.pid) {
        0 => Err(Error::new(
            crate::error::Kind::WrongStatus,
            format!("target container {} is not running", target.id),
        )),
        pid => Ok(Some(pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lies_among_cdi_specifications_takes_nobody_elses_devices_along() {
        let dir = std::env::temp_dir().join(format!("rt-cdi-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("directory.json")).unwrap();
        std::fs::write(dir.join("good.json"), r#"{"kind": "v/c", "devices": [{"name": "0"}]}"#).unwrap();
        std::fs::write(dir.join("long.json"), vec![b' '; (document::MOST + 1) as usize]).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, to) in
            [("zero.json", "/dev/zero"), ("nowhere.yml", "/no/such"), ("kmsg.json", "/proc/kmsg")]
        {
            std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        }
        let (files, unread) = specifications(&[&dir, Path::new("/no/such/directory")]);
        assert_eq!(files.len(), 1, "what can be read is not: {files:?}");
        let all: String = unread.iter().map(|error| format!("{error}\n")).collect();
        for name in ["directory.json", "long.json", "fifo.yaml", "zero.json", "nowhere.yml", "kmsg.json"] {
            assert!(
                all.contains(&format!("look for CDI devices: read {}: ", dir.join(name).display())),
                "{all}"
            );
        }
        let wanted = |name: &str| api::ContainerConfig {
            cdi_devices: vec![api::CdiDevice { name: name.to_owned() }],
            ..Default::default()
        };
        assert!(oci::container::cdi_nodes(&wanted("v/c=0"), &files).is_ok(), "its file can be read");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
