//! `rt ps`: the processes in a container's cgroup, as ids or as ps(1) shows them.

use std::process::{Command, Stdio};

use super::kill::occupants;
use super::options::{Format, Global, Ps};
use super::stdout;
use crate::error::{Context, Error, Kind, Result};
use crate::state::StateDir;

/// Prints them.
pub fn ps(global: &Global, options: &Ps) -> Result<i32> {
    let container = StateDir::new(&global.root).open(&options.id)?;
    let mut pids = match occupants(&container)? {
        Some(occupants) => occupants.processes()?,
        None if container.record().cgroup.is_some() => Vec::new(),
        None => {
            let what = format!("list processes of container \"{}\": it has no cgroup of its own", options.id);
            return Err(Error::unsupported(what));
        }
    };
    pids.sort_unstable();
    let text = match options.format {
        Format::Json => {
            let ids: Vec<String> = pids.iter().map(i32::to_string).collect();
            format!("[{}]\n", ids.join(","))
        }
        Format::Table => keep_rows(&run_ps(&options.args)?, &pids)?,
    };
    stdout::print(text.as_bytes())?;
    Ok(0)
}

fn run_ps(args: &[std::ffi::OsString]) -> Result<String> {
    let what = || "run ps(1)".to_owned();
    let mut command = Command::new("ps");
    if args.is_empty() {
        command.arg("-ef");
    }
    let output =
        command.args(args).stdin(Stdio::null()).output().what(what).map_err(|error| match error.errno() {
            Some(libc::ENOENT) => error.cure("install procps, or use --format json"),
            _ => error,
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(Kind::Invalid, format!("{}: {}: {}", what(), output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The head line, and those whose PID column has one of the ids.
fn keep_rows(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_ascii_whitespace().position(|name| name == "PID").ok_or_else(|| {
        Error::invalid(format!("find the PID column of ps(1) in {head:?}")).cure("its options must show one")
    })?;
    let mine = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: i32| pids.binary_search(&pid).is_ok())
    };
    Ok(std::iter::once(head).chain(lines.filter(mine)).fold(String::new(), |all, line| all + line + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_by_their_pid_column() {
        let output = "UID  PID PPID CMD\nroot   7    1 sh -c 8\nroot   8    7 sleep\nroot  70    8 x\n";
        assert_eq!(
            keep_rows(output, &[8, 70]).unwrap(),
            "UID  PID PPID CMD\nroot   8    7 sleep\nroot  70    8 x\n"
        );
        assert_eq!(keep_rows(output, &[]).unwrap(), "UID  PID PPID CMD\n");
        let error = keep_rows("UID CMD\nroot sh\n", &[1]).unwrap_err().to_string();
        assert_eq!(error, "find the PID column of ps(1) in \"UID CMD\" (its options must show one)");
    }
}
