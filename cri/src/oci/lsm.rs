//! AppArmor profiles and SELinux labels. It loads no profiles and relabels no files.

use super::host::{AppArmor, DEFAULT_PROFILE};
use super::{Degraded, Host};
use crate::api::{self, security_profile::ProfileType};
use crate::error::{Error, Result};

/// The AppArmor profile of a container: the new field, or the deprecated one. `None`: unconfined.
///
/// Who asks for nothing gets the default profile where it can be had, and is told where not; who asks for it gets an error.
#[expect(deprecated, reason = "older clients say it there")]
pub fn of_container(
    context: &api::LinuxContainerSecurityContext,
    host: &Host,
    degraded: &mut Vec<Degraded>,
) -> Result<Option<String>> {
    if let Some(profile) = &context.apparmor {
        return apparmor(profile, host);
    }
    if !context.apparmor_profile.is_empty() {
        return apparmor(&from_text(&context.apparmor_profile)?, host);
    }
    let Some(found) = &host.apparmor else { return Ok(None) };
    if let Some(why) = &found.lacking {
        degraded.push(Degraded::new(
            "security_context.apparmor",
            DEFAULT_PROFILE,
            format!("unconfined: {why}"),
        ));
        return Ok(None);
    }
    Ok(Some(DEFAULT_PROFILE.to_owned()))
}

/// `runtime/default`, `unconfined`, `localhost/NAME`.
fn from_text(text: &str) -> Result<api::SecurityProfile> {
    let (kind, name) = match (text, text.strip_prefix("localhost/")) {
        ("runtime/default", _) => (ProfileType::RuntimeDefault, ""),
        ("unconfined", _) => (ProfileType::Unconfined, ""),
        (_, Some(name)) => (ProfileType::Localhost, name),
        (other, None) => {
            return Err(Error::invalid(format!("apparmor_profile {other:?}"))
                .cure("it is runtime/default, unconfined or localhost/NAME"));
        }
    };
    Ok(api::SecurityProfile { profile_type: kind.into(), localhost_ref: name.to_owned() })
}

/// The AppArmor profile that a field means. `None`: unconfined.
pub fn apparmor(profile: &api::SecurityProfile, host: &Host) -> Result<Option<String>> {
    let (kind, name) = (profile_type("apparmor", profile)?, profile.localhost_ref.as_str());
    match (kind, &host.apparmor) {
        (ProfileType::Unconfined, _) | (ProfileType::RuntimeDefault, None) => Ok(None),
        (ProfileType::RuntimeDefault, Some(found)) => match &found.lacking {
            None => Ok(Some(DEFAULT_PROFILE.to_owned())),
            Some(why) => Err(Error::unsupported(format!("apply the default AppArmor profile: {why}"))),
        },
        (ProfileType::Localhost, None) => Err(Error::unsupported(format!("apply AppArmor profile {name:?}"))
            .cure("AppArmor is not enabled on this host")),
        (ProfileType::Localhost, Some(found)) => loaded(name, found).map(Some),
    }
}

fn loaded(name: &str, found: &AppArmor) -> Result<String> {
    let name = name.strip_prefix("localhost/").unwrap_or(name);
    if name.is_empty() {
        return Err(Error::invalid("apparmor: Localhost without localhost_ref").cure("name a loaded profile"));
    }
    let Some(profiles) = &found.profiles else {
        let why = found.lacking.as_deref().unwrap_or("the kernel's profiles can't be seen");
        return Err(Error::unsupported(format!("apply AppArmor profile {name:?}: {why}")));
    };
    if name != "unconfined" && !profiles.contains(name) {
        return Err(Error::invalid(format!("apply AppArmor profile {name:?}: it is not loaded"))
            .cure("load it with apparmor_parser"));
    }
    Ok(name.to_owned())
}

/// The type, as a value that can be matched.
pub fn profile_type(field: &str, profile: &api::SecurityProfile) -> Result<ProfileType> {
    ProfileType::try_from(profile.profile_type)
        .map_err(|_| Error::invalid(format!("{field}: unknown profile type {}", profile.profile_type)))
}

/// Label of the process, label of its mounts; none where SELinux is off, as in every other runtime. What is not given is what
/// containers have by default, so that a level alone makes sense.
pub fn selinux(options: Option<&api::SeLinuxOption>, host: &Host) -> Option<(String, String)> {
    if !host.selinux {
        return None;
    }
    let given = |value: &str, default: &str| if value.is_empty() { default } else { value }.to_owned();
    let none = api::SeLinuxOption::default();
    let options = options.unwrap_or(&none);
    let user = given(&options.user, "system_u");
    let level = given(&options.level, "s0");
    let process = [&user, &given(&options.role, "system_r"), &given(&options.r#type, "container_t"), &level];
    let mount = [&user, "object_r", "container_file_t", &level];
    let join = |parts: &[&str]| parts.join(":");
    Some((join(&process.map(String::as_str)), join(&mount)))
}
