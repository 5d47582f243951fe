//! The words of a profile (actions, operators, architectures, flags) and the errors about those that nobody knows.
//!
//! What rules mean together is decided in `rules`.

use std::fmt::Arguments;

use crate::error::{Error, Result};

/// Actions that are carried out; `SCMP_ACT_NOTIFY` is known but not one of them yet.
pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Comparisons of an argument.
pub const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Architectures that a profile may name on any machine.
pub const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Flags of seccomp(2) that a profile may ask for.
pub const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// `errno` that an action has without one: EPERM.
const EPERM: u32 = 1;
/// KERNEL(4.17): SECCOMP_FILTER_FLAG_SPEC_ALLOW
const SPEC_ALLOW: u32 = 4;

/// SECCOMP_RET_KILL_THREAD
pub const KILL_THREAD: u32 = 0;
/// SECCOMP_RET_ERRNO; the errno is in the lower half.
pub const ERRNO: u32 = 0x0005_0000;
/// SECCOMP_RET_TRACE; the message is in the lower half.
pub const TRACE: u32 = 0x7ff0_0000;
/// SECCOMP_RET_LOG
pub const LOG: u32 = 0x7ffc_0000;
/// SECCOMP_RET_ALLOW
pub const ALLOW: u32 = 0x7fff_0000;

/// The value that the filter returns for an action; `place` is where in the config it stands.
///
/// SPEC: config-linux.md#seccomp: an errno for an action that has none is an error.
pub fn action(place: Arguments<'_>, name: &str, errno: Option<u32>) -> Result<u32> {
    let simple = match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => return with_value(place, ERRNO, errno),
        "SCMP_ACT_TRACE" => return with_value(place, TRACE, errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => {
            let what = format!("{place}: SCMP_ACT_NOTIFY is not supported yet");
            return Err(Error::unsupported(what).cure("take the rules that notify out of the profile"));
        }
        _ => return Err(unknown(place, "action", name, ACTIONS)),
    };
    match errno {
        None => Ok(simple),
        Some(errno) => Err(Error::invalid(format!("{place}: {name} takes no errno, but {errno} is given"))),
    }
}

fn with_value(place: Arguments<'_>, action: u32, value: Option<u32>) -> Result<u32> {
    let value = value.unwrap_or(EPERM);
    // KERNEL: SECCOMP_RET_DATA has 16 bits, and of an errno more than MAX_ERRNO is cut to that.
    let most = if action == ERRNO { 4095 } else { 0xffff };
    if value > most {
        return Err(Error::invalid(format!("{place}: errno {value} is not in 0..={most}")));
    }
    Ok(action | value)
}

/// The flags for seccomp(2). Absent ones mean SPEC_ALLOW, as for runc; an empty list means none.
///
/// WAIT_KILLABLE_RECV sets how a notification is waited for; without such rules it has no effect, and the kernel refuses it then.
pub fn flags(names: Option<&[String]>) -> Result<u32> {
    let Some(names) = names else { return Ok(SPEC_ALLOW) };
    let mut flags = 0;
    for (at, name) in names.iter().enumerate() {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => 1,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            _ => return Err(unknown(format_args!("linux.seccomp.flags[{at}]"), "flag", name, FLAGS)),
        };
    }
    Ok(flags)
}

/// The error for a word that is not one of `known`.
pub fn unknown(place: Arguments<'_>, kind: &str, name: &str, known: &[&str]) -> Error {
    Error::invalid(format!("{place}: unknown {kind} {name:?}")).cure(format!("known: {}", known.join(", ")))
}
