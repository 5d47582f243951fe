//! AppArmor and SELinux: what the kernel shall change to at execve. A label that can't be written is an error.

use super::proc::{HostProc, exists};
use crate::error::{Context, Error, Result};
use crate::plan::Task;

/// Writes both.
pub fn set(task: &Task, proc: &HostProc) -> Result<()> {
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

fn apparmor(profile: &str, proc: &HostProc) -> Result<()> {
    let what = || format!("change to the AppArmor profile {profile:?}");
    // SPEC: "unconfined" asks for nothing where there is no AppArmor.
    let value = format!("exec {profile}");
    match proc.write("self/attr/apparmor/exec", value.as_bytes()) {
        // KERNEL(5.8): before, the file that all modules share.
        Err(rustix::io::Errno::NOENT) if proc_enabled() => {
            proc.write("self/attr/exec", value.as_bytes()).what(what)
        }
        Err(rustix::io::Errno::NOENT) if profile == "unconfined" => Ok(()),
        Err(rustix::io::Errno::NOENT) => Err(Error::unsupported(what())
            .cure("AppArmor is not enabled in this kernel; boot with apparmor=1 security=apparmor, or remove apparmorProfile")),
        written => written.what(what).map_err(|error| error.cure("load the profile with apparmor_parser(8) first")),
    }
}

fn proc_enabled() -> bool {
    exists("/sys/module/apparmor")
}
