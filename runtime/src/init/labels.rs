//! AppArmor and SELinux: what the kernel shall change to at execve. A label that can't be written is an error.

use rustix::io::Errno;

use super::proc::HostProc;
use crate::error::{Context, Error, Result};
use crate::plan::Task;

/// Writes both. A process that this one clones has them too.
pub fn set(task: &Task) -> Result<()> {
    if task.process.apparmor_profile.is_none() && task.process.selinux_label.is_none() {
        return Ok(());
    }
    let proc = &HostProc::open()?;
    if let Some(profile) = &task.process.apparmor_profile {
        apparmor(profile, proc)?;
    }
    if let Some(label) = &task.process.selinux_label {
        proc.write("self/attr/exec", label.as_bytes())
            .what(|| format!("set the SELinux label {label:?}"))
            .map_err(|error| {
                error.cure("SELinux must be enabled on this host and know the label; see /sys/fs/selinux")
            })?;
    }
    Ok(())
}

// KERNEL(5.8): the file of AppArmor's own, which is there if the kernel was built with it.
const APPARMOR: &str = "self/attr/apparmor/exec";

fn apparmor(profile: &str, proc: &HostProc) -> Result<()> {
    let what = || format!("change to the AppArmor profile {profile:?}");
    let disabled = |error: Error| {
        error.cure("AppArmor is not enabled in this kernel; boot with apparmor=1 security=apparmor, or remove apparmorProfile")
    };
    match proc.write(APPARMOR, format!("exec {profile}").as_bytes()) {
        // SPEC: "unconfined" asks for nothing where there is no AppArmor.
        Err(Errno::NOENT | Errno::INVAL) if profile == "unconfined" => Ok(()),
        Err(Errno::NOENT) if proc.has(APPARMOR) => Err(Error::invalid(format!(
            "{}: it is not loaded",
            what()
        ))
        .cure(
            "load it with apparmor_parser(8); /sys/kernel/security/apparmor/profiles lists those that are",
        )),
        Err(Errno::NOENT | Errno::INVAL) => Err(disabled(Error::unsupported(what()))),
        written => written.what(what).map_err(|error| {
            error.cure("the profile or the privileges that the runtime itself has don't allow the change")
        }),
    }
}
