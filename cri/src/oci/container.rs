//! A container's spec: CRI's request and the image's config on top of what the pod has. It makes no files; what it points at is in
//! [`ContainerPlace`].

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use super::devices::Devices;
use super::mounts::View;
use super::namespaces::{self, Joining, Modes};
use super::user::{self, Wanted};
use super::{ContainerPlace, Degraded, Host, Made, SandboxFacts};
use super::{
    annotations, capabilities, cdi, cgroup, empty, lsm, mounts, process, resources, rootfs, seccomp,
};
use crate::api;
use crate::error::{Error, Result};
use crate::image::Users;

/// All that a container's spec depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub config: &'a api::ContainerConfig,
    /// The sandbox's own config, from its record.
    pub sandbox_config: &'a api::PodSandboxConfig,
    /// The image.
    pub image: Image<'a>,
    /// Paths and files.
    pub place: &'a ContainerPlace,
    /// The running sandbox.
    pub sandbox: &'a SandboxFacts,
    /// The host.
    pub host: &'a Host,
}

/// The image, as far as a spec depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// A name for annotations.
    pub name: &'a str,
    /// The config object's `config`.
    pub config: Option<&'a oci_spec::image::Config>,
    /// Unpacked layers, lowest first.
    pub layers: &'a [PathBuf],
    /// passwd and group.
    pub users: &'a Users,
}

/// Makes the spec.
pub fn spec(request: &Request<'_>) -> Result<Made> {
    let context = context(request.config);
    let sandbox = sandbox_context(request.sandbox_config);
    if context.privileged && !sandbox.privileged {
        return Err(Error::invalid("no privileged container allowed in sandbox")
            .cure("make the sandbox privileged too"));
    }
    let pod = namespaces::modes(request.sandbox_config)?;
    let user = resolve(request, &context)?;
    let mut degraded = Vec::new();
    let mut spec = empty::spec();
    spec.set_process(Some(first_process(request, &context, &user, &mut degraded)?))
        .set_root(Some(empty::root(&request.place.root, context.readonly_rootfs)))
        .set_annotations(Some(notes(request)));
    let rootfs = rootfs::overlay(request.image.layers, request.place, pod.idmap.map(|_| request.host))?;
    surroundings(&mut spec, request, &context, &pod)?;
    limits(&mut spec, request, &context, &mut degraded)?;
    confine(&mut spec, request, &context, &mut degraded)?;
    cdi::apply(&mut spec, request)?;
    Ok(Made { spec, rootfs, user, degraded })
}

fn context(config: &api::ContainerConfig) -> api::LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

fn sandbox_context(config: &api::PodSandboxConfig) -> api::LinuxSandboxSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

fn resolve(
    request: &Request<'_>,
    context: &api::LinuxContainerSecurityContext,
) -> Result<api::LinuxContainerUser> {
    let policy = api::SupplementalGroupsPolicy::try_from(context.supplemental_groups_policy)
        .map_err(|_| Error::invalid("supplemental_groups_policy is neither Merge nor Strict"))?;
    let image = request.image.config.and_then(|config| config.user().as_deref());
    user::resolve(
        &Wanted {
            uid: context.run_as_user.map(|id| id.value),
            gid: context.run_as_group.map(|id| id.value),
            username: &context.run_as_username,
            groups: &context.supplemental_groups,
            policy,
            image: image.unwrap_or_default(),
        },
        request.image.users,
    )
}

fn first_process(
    request: &Request<'_>,
    context: &api::LinuxContainerSecurityContext,
    user: &api::LinuxContainerUser,
    degraded: &mut Vec<Degraded>,
) -> Result<Process> {
    let (config, image, host) = (request.config, request.image.config, request.host);
    let pod_name = request.sandbox_config.hostname.as_str();
    let hostname = if pod_name.is_empty() { &host.hostname } else { pod_name };
    let wanted = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let (score, clamped) = resources::oom_score_adj(wanted.map_or(0, |all| all.oom_score_adj), host)?;
    // Nothing asked is nothing clamped: the container then has the server's own score, as any child has.
    degraded.extend(clamped.filter(|_| wanted.is_some_and(|all| all.oom_score_adj != 0)));
    let mut made = empty::process();
    made.set_args(Some(process::args(config, image)?))
        .set_env(Some(process::env(config, image, hostname)?))
        .set_cwd(process::cwd(config, image)?.into())
        .set_terminal(Some(config.tty))
        .set_user(process::user(user)?)
        .set_rlimits(Some(host.rlimits.clone()))
        .set_oom_score_adj(Some(score))
        .set_no_new_privileges(Some(context.no_new_privs))
        .set_capabilities(Some(if context.privileged {
            capabilities::privileged(host)
        } else {
            capabilities::of_container(context.capabilities.as_ref(), host)?
        }));
    Ok(made)
}

fn notes(request: &Request<'_>) -> std::collections::HashMap<String, String> {
    let name = request.config.metadata.as_ref().map_or("", |metadata| &metadata.name);
    let subject = annotations::Subject::Container { name, image: request.image.name };
    annotations::of(&request.sandbox.id, request.sandbox_config, subject)
}

/// Namespaces and mounts.
fn surroundings(
    spec: &mut Spec,
    request: &Request<'_>,
    context: &api::LinuxContainerSecurityContext,
    pod: &Modes,
) -> Result<()> {
    let joining = Joining {
        options: context.namespace_options.as_ref(),
        privileged: context.privileged,
        target_pid: request.place.target_pid,
    };
    let mut linux = empty::linux();
    linux.set_namespaces(Some(namespaces::of_container(pod, joining, request.sandbox)?));
    if let Some(map) = pod.idmap {
        let [users, groups] = map.lines();
        linux.set_uid_mappings(Some(users)).set_gid_mappings(Some(groups));
    }
    let view = View { pod, privileged: context.privileged, readonly_root: context.readonly_rootfs };
    let (all, propagation) = mounts::of_container(request, view)?;
    linux.set_rootfs_propagation(propagation);
    // A privileged container sees everything. SPEC: LinuxContainerSecurityContext.privileged
    if !context.privileged {
        let paths = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        linux.set_masked_paths(paths(&context.masked_paths));
        linux.set_readonly_paths(paths(&context.readonly_paths));
    }
    spec.set_mounts(Some(all)).set_linux(Some(linux));
    Ok(())
}

/// The cgroup, its limits and devices.
fn limits(
    spec: &mut Spec,
    request: &Request<'_>,
    context: &api::LinuxContainerSecurityContext,
    degraded: &mut Vec<Degraded>,
) -> Result<()> {
    let (place, host) = (request.place, request.host);
    let wanted = request.config.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default();
    let (mut all, less) = resources::linux(&wanted, host)?;
    degraded.extend(less);
    let mut devices = if context.privileged { Devices::all_of(host) } else { Devices::none() };
    devices.add_requested(&request.config.devices, place)?;
    all.set_devices(Some(devices.rules));
    let parent = request.sandbox_config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent);
    if let Some(linux) = spec.linux_mut() {
        linux
            .set_cgroups_path(Some(cgroup::path(parent, &place.id, host.driver)?.into()))
            .set_resources(Some(all))
            .set_devices((!devices.nodes.is_empty()).then_some(devices.nodes));
    }
    Ok(())
}

/// A client that names no paths to hide or to protect means it (a kubelet's procMount Unmasked), or has forgotten them.
fn unmasked(context: &api::LinuxContainerSecurityContext) -> impl Iterator<Item = Degraded> {
    let lists = [
        (
            "masked_paths",
            &context.masked_paths,
            "all of /proc and /sys can be seen, as it was not asked otherwise",
        ),
        (
            "readonly_paths",
            &context.readonly_paths,
            "/proc/sys and the like can be written by the container's root, as it was not asked otherwise",
        ),
    ];
    let empty = lists.into_iter().filter(|(_, list, _)| list.is_empty());
    empty.map(|(field, _, what)| Degraded::new(format!("security_context.{field}"), "none", what))
}

/// Filter, profile and labels; a privileged container has none.
fn confine(
    spec: &mut Spec,
    request: &Request<'_>,
    context: &api::LinuxContainerSecurityContext,
    degraded: &mut Vec<Degraded>,
) -> Result<()> {
    // Also where they have no effect, mistakes in them are mistakes.
    let choice = seccomp::of_container(context)?;
    let mut less = Vec::new();
    let apparmor = lsm::of_container(context, request.host, &mut less)?;
    if context.privileged {
        return Ok(());
    }
    degraded.append(&mut less);
    degraded.extend(unmasked(context));
    let bounding = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let bounding = bounding.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    let filter = seccomp::filter(&choice, request.place.seccomp.as_deref(), &bounding)?;
    let pod = sandbox_context(request.sandbox_config);
    let options = context.selinux_options.as_ref().or(pod.selinux_options.as_ref());
    let labels = lsm::selinux(options, request.host);
    if let Some(process) = spec.process_mut() {
        process
            .set_apparmor_profile(apparmor)
            .set_selinux_label(labels.as_ref().map(|(process, _)| process.clone()));
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(filter).set_mount_label(labels.map(|(_, mount)| mount));
    }
    Ok(())
}

/// Host paths that have to be looked at before: distinct `host_path`s of mounts, in order.
pub fn sources(config: &api::ContainerConfig) -> Vec<&str> {
    let mut paths: Vec<&str> = Vec::new();
    for mount in config.mounts.iter().filter(|mount| mount.image.is_none()) {
        if !paths.contains(&mount.host_path.as_str()) {
            paths.push(&mount.host_path);
        }
    }
    paths
}

/// Mounts of images: index in `mounts`, image, path within it.
pub fn image_mounts(config: &api::ContainerConfig) -> Vec<(usize, &api::ImageSpec, &str)> {
    let mounts = config.mounts.iter().enumerate();
    mounts
        .filter_map(|(at, mount)| {
            mount.image.as_ref().map(|image| (at, image, mount.image_sub_path.as_str()))
        })
        .collect()
}

/// The image's VOLUMEs that no mount of the request covers: directories have to be made for them, filled with what the image
/// has there.
pub fn volumes(config: &api::ContainerConfig, image: Option<&oci_spec::image::Config>) -> Vec<String> {
    let mut volumes = image.and_then(|config| config.volumes().clone()).unwrap_or_default();
    let clean = |path: &str| path.trim_end_matches('/').to_owned();
    volumes.retain(|volume| !config.mounts.iter().any(|mount| clean(&mount.container_path) == clean(volume)));
    volumes.sort();
    volumes
}

/// The file of a Localhost seccomp profile, to be read before; none for a privileged container, which has no filter.
pub fn seccomp_file(config: &api::ContainerConfig) -> Result<Option<PathBuf>> {
    let context = context(config);
    match seccomp::of_container(&context)? {
        seccomp::Choice::File(path) if !context.privileged => Ok(Some(path)),
        _ => Ok(None),
    }
}

/// Whether CDI devices are asked for, so that their specifications have to be read before.
pub fn wants_cdi(config: &api::ContainerConfig) -> bool {
    !config.cdi_devices.is_empty()
}

/// The device nodes that the CDI specifications name for this request, to be looked at before (`place.cdi_nodes`).
pub fn cdi_nodes(config: &api::ContainerConfig, specs: &[(PathBuf, Vec<u8>)]) -> Result<Vec<String>> {
    cdi::host_nodes(&config.cdi_devices, specs)
}

#[cfg(test)]
mod tests;
