//! The system call filter: which profile a request means, and the runtime's own default one. It reads no files.

mod table;

use std::collections::HashSet;
use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Op, LinuxSyscall,
};

use super::lsm::profile_type;
use crate::api::{self, security_profile::ProfileType};
use crate::error::{Error, Result};

/// Which profile is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// None.
    Unconfined,
    /// Ours.
    Default,
    /// One in a file.
    File(PathBuf),
}

/// A container's choice.
#[expect(deprecated, reason = "older clients say it there")]
pub fn of_container(context: &api::LinuxContainerSecurityContext) -> Result<Choice> {
    choice(context.seccomp.as_ref(), &context.seccomp_profile_path)
}

/// A sandbox's choice.
#[expect(deprecated, reason = "older clients say it there")]
pub fn of_sandbox(context: &api::LinuxSandboxSecurityContext) -> Result<Choice> {
    choice(context.seccomp.as_ref(), &context.seccomp_profile_path)
}

/// The new field, or the deprecated one; neither means none.
fn choice(profile: Option<&api::SecurityProfile>, deprecated: &str) -> Result<Choice> {
    let file = |path: &str| {
        if path.starts_with('/') && !path.contains('\0') {
            return Ok(Choice::File(path.into()));
        }
        Err(Error::invalid(format!("seccomp: profile {path:?} is not an absolute path")))
    };
    match profile {
        Some(profile) => match profile_type("seccomp", profile)? {
            ProfileType::RuntimeDefault => Ok(Choice::Default),
            ProfileType::Unconfined => Ok(Choice::Unconfined),
            ProfileType::Localhost => file(&profile.localhost_ref),
        },
        None => match deprecated {
            "" | "unconfined" => Ok(Choice::Unconfined),
            "runtime/default" | "docker/default" => Ok(Choice::Default),
            other => match other.strip_prefix("localhost/") {
                Some(path) => file(path),
                None => Err(Error::invalid(format!("seccomp_profile_path {other:?}"))
                    .cure("it is runtime/default, unconfined or localhost/PATH")),
            },
        },
    }
}

/// The filter of a choice. `text` is the file's content, `bounding` what the container's capabilities are.
pub fn filter(
    choice: &Choice,
    text: Option<&[u8]>,
    bounding: &HashSet<Capability>,
) -> Result<Option<LinuxSeccomp>> {
    match (choice, text) {
        (Choice::Unconfined, _) => Ok(None),
        (Choice::Default, _) => Ok(Some(default_profile(bounding))),
        (Choice::File(path), None) => {
            Err(Error::internal(format!("seccomp profile {} was not read", path.display())))
        }
        (Choice::File(path), Some(text)) => parse(text)
            .map_err(|error| error.during(format!("read seccomp profile {}", path.display())))
            .map(Some),
    }
}

/// The runtime-spec's form. Docker's has conditions that this form would drop in silence, so it is refused.
fn parse(text: &[u8]) -> Result<LinuxSeccomp> {
    let value: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| Error::invalid(error.to_string()))?;
    let given = |value: &serde_json::Value, field: &str| {
        value.get(field).is_some_and(|value| match value {
            serde_json::Value::Array(all) => !all.is_empty(),
            serde_json::Value::Object(all) => !all.is_empty(),
            other => !other.is_null(),
        })
    };
    let rules = value.get("syscalls").and_then(|rules| rules.as_array()).map_or(&[][..], Vec::as_slice);
    if given(&value, "archMap") || rules.iter().any(|rule| given(rule, "includes") || given(rule, "excludes"))
    {
        return Err(Error::unsupported("it has docker's form (archMap, includes, excludes)")
            .cure("write the runtime-spec's form: architectures, and rules without conditions"));
    }
    serde_json::from_value(value).map_err(|error| Error::invalid(error.to_string()))
}

/// What containers get that ask for RuntimeDefault: as containerd's and moby's, nearly. What is refused gets EPERM; unknown calls
/// get ENOSYS from `rt`.
pub fn default_profile(bounding: &HashSet<Capability>) -> LinuxSeccomp {
    let mut names: Vec<&str> = table::ALWAYS.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    names.extend(table::OF_THIS_MACHINE);
    for (capability, allowed) in table::WITH_CAPABILITY {
        if bounding.contains(capability) {
            names.extend(allowed.split_whitespace());
        }
    }
    names.sort_unstable();
    names.dedup();
    let mut rules = vec![rule(&names, Action::ScmpActAllow, None, &[])];
    let mut allow_if = |name: &str, arg| rules.push(rule(&[name], Action::ScmpActAllow, None, &[arg]));
    for persona in table::PERSONALITIES {
        allow_if("personality", arg(0, *persona, None, Op::ScmpCmpEq));
    }
    for (op, family) in table::SOCKET_FAMILIES {
        allow_if("socket", arg(0, *family, None, *op));
    }
    // 32-bit programs can make sockets through it, of a family that is in memory that a filter can't read. Their libcs use socket(2)
    // since Linux 4.3 has it, or where this is missing.
    let missing = Some(libc::ENOSYS.unsigned_abs());
    rules.push(rule(&["socketcall"], Action::ScmpActErrno, missing, &[]));
    let mut allow_if = |name: &str, arg| rules.push(rule(&[name], Action::ScmpActAllow, None, &[arg]));
    if !bounding.contains(&Capability::SysAdmin) {
        allow_if("clone", arg(0, table::NEW_NAMESPACES, Some(0), Op::ScmpCmpMaskedEq));
        // Its flags are in memory that a filter can't read; libcs fall back to clone when it isn't there.
        rules.push(rule(&["clone3"], Action::ScmpActErrno, missing, &[]));
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(Action::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.unsigned_abs()))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(rules));
    profile
}

fn rule(names: &[&str], action: Action, errno: Option<u32>, args: &[LinuxSeccompArg]) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|&name| name.to_owned()).collect())
        .set_action(action)
        .set_errno_ret(errno)
        .set_args((!args.is_empty()).then(|| args.to_vec()));
    rule
}

fn arg(index: usize, value: u64, value_two: Option<u64>, op: Op) -> LinuxSeccompArg {
    let mut builder = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    if let Some(value) = value_two {
        builder = builder.value_two(value);
    }
    // It has no setters, and its builder asks for nothing that could be missing.
    builder.build().unwrap_or_default()
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchNative]
    }
}

#[cfg(test)]
mod tests;
