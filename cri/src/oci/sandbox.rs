//! The spec of a sandbox's pause process, which holds the pod's namespaces. It makes no namespaces that rt doesn't make.
//!
//! The process runs with as little as can be: no capabilities, no /proc, a read-only root with one program in it.

use std::collections::HashSet;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use super::namespaces::{self, Modes};
use super::user::{self, Wanted};
use super::{Degraded, Host, Made, SandboxPlace};
use super::{annotations, cgroup, devices::Devices, empty, lsm, process, resources, rootfs, seccomp, sysctl};
use crate::api;
use crate::error::{Error, Result};
use crate::image::Users;

/// What runs the pause program where nothing is said: nobody.
const USER: &str = "65535:65535";

/// Makes the pod the last thing that the kernel ends for want of memory. Kubernetes' number.
const OOM_SCORE_ADJ: i64 = -998;

/// Makes the spec.
pub fn spec(config: &api::PodSandboxConfig, place: &SandboxPlace, host: &Host) -> Result<Made> {
    let none = api::LinuxSandboxSecurityContext::default();
    let linux = config.linux.clone().unwrap_or_default();
    let context = linux.security_context.as_ref().unwrap_or(&none);
    let modes = namespaces::modes(config)?;
    let (process, user, clamped) = pause(context, &modes, place, host)?;
    let mut degraded: Vec<Degraded> = clamped.into_iter().collect();
    let mut spec = empty::spec();
    spec.set_root(Some(empty::root("rootfs", true)))
        .set_process(Some(process))
        .set_hostname(hostname(config, &modes, &mut degraded)?)
        .set_mounts(Some(vec![empty::mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "noexec", "mode=755", "size=64k"],
        )]));
    spec.set_annotations(Some(annotations::of(&place.id, config, annotations::Subject::Sandbox)));
    linux_part(&mut spec, config, place, host)?;
    confine(&mut spec, context, place, host)?;
    Ok(Made { spec, rootfs: rootfs::bound(&place.root)?, user, degraded })
}

fn pause(
    context: &api::LinuxSandboxSecurityContext,
    modes: &Modes,
    place: &SandboxPlace,
    host: &Host,
) -> Result<(Process, api::LinuxContainerUser, Option<Degraded>)> {
    let policy = api::SupplementalGroupsPolicy::try_from(context.supplemental_groups_policy)
        .map_err(|_| Error::invalid("supplemental_groups_policy is neither Merge nor Strict"))?;
    let user = user::resolve(
        &Wanted {
            uid: context.run_as_user.map(|id| id.value),
            gid: context.run_as_group.map(|id| id.value),
            username: "",
            groups: &context.supplemental_groups,
            policy,
            // An id that the pod's mapping lacks is nobody at all.
            image: if modes.idmap.is_some_and(|map| map.length <= 65_535) { "0:0" } else { USER },
        },
        &Users::default(),
    )?;
    let (score, degraded) = resources::oom_score_adj(OOM_SCORE_ADJ, host)?;
    let mut made = empty::process();
    made.set_args(Some(place.args.clone()))
        .set_user(process::user(&user)?)
        .set_rlimits(Some(host.rlimits.clone()))
        .set_oom_score_adj(Some(score))
        .set_no_new_privileges(Some(true));
    Ok((made, user, degraded))
}

/// KERNEL: __NEW_UTS_LEN. A pod on the host's network has the host's name.
fn hostname(
    config: &api::PodSandboxConfig,
    modes: &Modes,
    degraded: &mut Vec<Degraded>,
) -> Result<Option<String>> {
    let name = &config.hostname;
    if name.len() > 64 || name.contains(['\0', '\n']) {
        return Err(Error::invalid(format!("hostname {name:?} is no name of at most 64 bytes")));
    }
    if modes.host_network && !name.is_empty() {
        degraded.push(Degraded::new("hostname", name, "the host's: the pod is on its network"));
        return Ok(None);
    }
    Ok(Some(name.clone()).filter(|name| !name.is_empty()))
}

fn linux_part(
    spec: &mut Spec,
    config: &api::PodSandboxConfig,
    place: &SandboxPlace,
    host: &Host,
) -> Result<()> {
    let modes = namespaces::modes(config)?;
    let parent = config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent);
    let mut resources = resources::of_pause(host);
    resources.set_devices(Some(Devices::none().rules));
    let sysctls = sysctl::of_sandbox(config, &modes)?;
    let mut linux = empty::linux();
    linux
        .set_cgroups_path(Some(cgroup::path(parent, &place.id, host.driver)?.into()))
        .set_namespaces(Some(namespaces::of_sandbox(&modes, place)?))
        .set_resources(Some(resources))
        .set_sysctl((!sysctls.is_empty()).then_some(sysctls));
    if let Some(map) = modes.idmap {
        let [users, groups] = map.lines();
        linux.set_uid_mappings(Some(users)).set_gid_mappings(Some(groups));
    }
    spec.set_linux(Some(linux));
    Ok(())
}

/// Filter, profile and labels.
fn confine(
    spec: &mut Spec,
    context: &api::LinuxSandboxSecurityContext,
    place: &SandboxPlace,
    host: &Host,
) -> Result<()> {
    let choice = seccomp::of_sandbox(context)?;
    let filter = seccomp::filter(&choice, place.seccomp.as_deref(), &HashSet::new())?;
    let apparmor = context.apparmor.as_ref().map(|profile| lsm::apparmor(profile, host)).transpose()?;
    let labels = lsm::selinux(context.selinux_options.as_ref(), host);
    if let Some(process) = spec.process_mut() {
        process
            .set_apparmor_profile(apparmor.flatten())
            .set_selinux_label(labels.as_ref().map(|(process, _)| process.clone()));
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(filter).set_mount_label(labels.map(|(_, mount)| mount));
    }
    Ok(())
}

/// The file of a Localhost seccomp profile, to be read before.
pub fn seccomp_file(config: &api::PodSandboxConfig) -> Result<Option<PathBuf>> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(context) = context else { return Ok(None) };
    match seccomp::of_sandbox(context)? {
        seccomp::Choice::File(path) => Ok(Some(path)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
