//! The process part of the spec → numbers and names that the kernel takes. Used for a container's process and for exec alike.

use std::ffi::CString;

use serde::Serialize;

use super::capabilities::{self, Capabilities};
use super::idmap::id;
use super::scheduling::{self, Scheduling};
use super::text;
use crate::error::{Error, Result};
use crate::spec;

/// A process to start.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// argv, not empty.
    pub args: Vec<CString>,
    /// `NAME=VALUE`.
    pub env: Vec<CString>,
    /// Absolute.
    pub cwd: CString,
    /// Rows and columns of the pseudo-terminal, if it gets one; 0 × 0: as it comes.
    pub terminal: Option<(u16, u16)>,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// umask(2).
    pub umask: u32,
    /// Resource limits: number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i16>,
    /// CPU, I/O and memory placement.
    pub scheduling: Scheduling,
    /// The five sets.
    pub capabilities: Capabilities,
    /// Can't gain privileges by execve(2).
    pub no_new_privileges: bool,
    /// AppArmor profile to change to at execve(2).
    pub apparmor_profile: Option<String>,
    /// SELinux label to change to at execve(2).
    pub selinux_label: Option<String>,
    /// How many descriptors of the caller's, from 3 on, the process keeps. Not from the config.
    pub pass_fds: u32,
}

/// Names of the limits, at their numbers in asm-generic/resource.h.
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// RLIMIT_NPROC, of which libraries disagree about the type.
pub const NPROC: u32 = 6;

/// SPEC: config.md#process. The strings are warnings.
pub fn plan(process: &spec::Process, warnings: &mut Vec<String>) -> Result<Process> {
    let args = text::list("process.args", &process.args)?;
    if args.is_empty() {
        return Err(Error::invalid("process.args is empty").cure("name the program to run"));
    }
    if args[0].is_empty() {
        return Err(Error::invalid("process.args[0] is empty").cure("name the program to run"));
    }
    let cwd = if process.cwd.is_empty() {
        return Err(Error::invalid("process.cwd is empty").cure("give an absolute path, such as \"/\""));
    } else if !process.cwd.starts_with('/') {
        return Err(Error::invalid(format!("process.cwd {:?} is not absolute", process.cwd))
            .cure("it is a path in the container that starts with \"/\""));
    } else {
        text::one("process.cwd", &process.cwd)?
    };
    let user = process.user.clone().unwrap_or_default();
    let (mut capabilities, unknown) =
        process.capabilities.as_ref().map(capabilities::plan).unwrap_or_default();
    if !unknown.is_empty() {
        warnings.push(format!("ignoring unknown capabilities: {}", unknown.join(", ")));
    }
    // KERNEL: capabilities(7): raising any other ambient capability fails. Engines and `runc spec` have written such sets for years.
    let in_vain = capabilities.ambient & !(capabilities.permitted & capabilities.inheritable);
    if in_vain != 0 {
        warnings.push(format!(
            "ignoring ambient capabilities that are not both permitted and inheritable: {}",
            capabilities::names(in_vain)
        ));
        capabilities.ambient &= !in_vain;
    }
    let groups = user.additional_gids.0.into_iter().map(|group| id("process.user.additionalGids", group));
    Ok(Process {
        args,
        env: environment(&process.env)?,
        cwd,
        terminal: process
            .terminal
            .then(|| process.console_size.map_or((0, 0), |size| (size.height, size.width))),
        uid: id("process.user.uid", user.uid)?,
        gid: id("process.user.gid", user.gid)?,
        groups: groups.collect::<Result<_>>()?,
        umask: user.umask.unwrap_or(0o022) & 0o777,
        rlimits: rlimits(&process.rlimits)?,
        oom_score_adj: oom_score_adj(process.oom_score_adj)?,
        scheduling: scheduling::plan(process)?,
        capabilities,
        no_new_privileges: process.no_new_privileges,
        apparmor_profile: process.apparmor_profile.clone().filter(|name| !name.is_empty()),
        selinux_label: process.selinux_label.clone().filter(|label| !label.is_empty()),
        pass_fds: 0,
    })
}

/// The last value of a name wins, as in runc; the order of the names stays.
fn environment(env: &[String]) -> Result<Vec<CString>> {
    let mut list: Vec<&str> = Vec::with_capacity(env.len());
    for (at, entry) in env.iter().enumerate() {
        let Some((name, _)) = entry.split_once('=') else {
            return Err(
                Error::invalid(format!("process.env[{at}] {entry:?} has no \"=\"")).cure("write NAME=VALUE")
            );
        };
        if name.is_empty() {
            return Err(
                Error::invalid(format!("process.env[{at}] {entry:?} has no name")).cure("write NAME=VALUE")
            );
        }
        let twin =
            list.iter().position(|known| known.split_once('=').is_some_and(|(other, _)| other == name));
        match twin {
            Some(twin) => list[twin] = entry,
            None => list.push(entry),
        }
    }
    list.iter().map(|entry| text::one("process.env", entry)).collect()
}

fn rlimits(list: &[spec::Rlimit]) -> Result<Vec<(u32, u64, u64)>> {
    let mut limits: Vec<(u32, u64, u64)> = Vec::with_capacity(list.len());
    for (at, limit) in list.iter().enumerate() {
        let number = limit
            .kind
            .strip_prefix("RLIMIT_")
            .and_then(|name| RLIMITS.iter().position(|known| *known == name))
            .ok_or_else(|| {
                Error::invalid(format!("process.rlimits[{at}]: unknown type {:?}", limit.kind))
                    .cure(format!("the types are RLIMIT_{}", RLIMITS.join(", RLIMIT_")))
            })? as u32;
        if limits.iter().any(|(known, ..)| *known == number) {
            return Err(Error::invalid(format!("process.rlimits[{at}]: {} is given twice", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(Error::invalid(format!(
                "process.rlimits[{at}]: {}: soft {} is above hard {}",
                limit.kind, limit.soft, limit.hard
            )));
        }
        limits.push((number, limit.soft, limit.hard));
    }
    Ok(limits)
}

/// The spec's name of a limit, for messages.
pub fn rlimit_name(number: u32) -> String {
    RLIMITS.get(number as usize).map_or_else(|| number.to_string(), |name| format!("RLIMIT_{name}"))
}

fn oom_score_adj(value: Option<i64>) -> Result<Option<i16>> {
    let Some(value) = value else { return Ok(None) };
    match i16::try_from(value) {
        Ok(score @ -1000..=1000) => Ok(Some(score)),
        _ => Err(Error::invalid(format!("process.oomScoreAdj {value} is not in -1000..=1000"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> spec::Process {
        spec::Process { args: vec!["true".to_owned()].into(), cwd: "/".into(), ..Default::default() }
    }

    #[test]
    fn the_last_value_of_a_name_wins_in_the_place_of_the_first() {
        let env = ["A=1", "B=2", "A=3"].map(String::from);
        assert_eq!(environment(&env).unwrap(), [CString::new("A=3").unwrap(), CString::new("B=2").unwrap()]);
    }

    #[test]
    fn mistakes_say_where_and_what() {
        type Change = fn(&mut spec::Process);
        let cases: [(Change, &str); 9] = [
            (|p| p.args.clear(), "process.args is empty (name the program to run)"),
            (|p| p.args[0] = "a\0b".into(), "process.args[0] \"a\\0b\" contains a NUL"),
            (
                |p| p.cwd = "tmp".into(),
                "process.cwd \"tmp\" is not absolute (it is a path in the container that starts with \"/\")",
            ),
            (|p| p.cwd.clear(), "process.cwd is empty (give an absolute path, such as \"/\")"),
            (|p| p.env = vec!["X".to_owned()].into(), "process.env[0] \"X\" has no \"=\" (write NAME=VALUE)"),
            (|p| p.oom_score_adj = Some(1001), "process.oomScoreAdj 1001 is not in -1000..=1000"),
            (
                |p| p.rlimits = vec![spec::Rlimit { kind: "RLIMIT_CPU".into(), soft: 2, hard: 1 }].into(),
                "process.rlimits[0]: RLIMIT_CPU: soft 2 is above hard 1",
            ),
            (
                |p| {
                    p.rlimits =
                        vec![spec::Rlimit { kind: "RLIMIT_CPU".into(), ..Default::default() }; 2].into();
                },
                "process.rlimits[1]: RLIMIT_CPU is given twice",
            ),
            (
                |p| p.rlimits = vec![spec::Rlimit { kind: "NOFILE".into(), ..Default::default() }].into(),
                "process.rlimits[0]: unknown type \"NOFILE\" (the types are RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME)",
            ),
        ];
        for (change, message) in cases {
            let mut bad = process();
            change(&mut bad);
            assert_eq!(plan(&bad, &mut Vec::new()).unwrap_err().to_string(), message);
        }
    }
}
