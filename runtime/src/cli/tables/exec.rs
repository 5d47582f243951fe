//! `exec` and `ps`: the commands that end in another program's arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Parser;

use super::{
    Command, Entry, Flag, OptionsEnd, Read, Result, Takes, docs, needs_id, nothing_more, parse_id, read,
};
use crate::cli::values;
use crate::error::Error;
use crate::ops::options::{Exec, ExecChanges, ExecWhat, Format, Ps};

pub const EXEC: Entry = Entry {
    name: "exec",
    summary: "run a further process in a container",
    arguments: "ID COMMAND [ARGUMENT…] | -p FILE ID",
    details: "The process starts as the container's own one would, with another command and what the options change. \
              Options stand before ID. The exit code is the command's, 128+N if signal N ended it, and 255 if it could \
              not be started.",
    docs: || docs(EXEC_FLAGS),
    read: read_exec,
};

pub const PS: Entry = Entry {
    name: "ps",
    summary: "print the processes of a container",
    arguments: "ID [PS-OPTION…]",
    details: "PS-OPTIONs are for ps(1), -ef by default. Options of rt stand before ID.",
    docs: || docs(PS_FLAGS),
    read: read_ps,
};

#[derive(Default)]
struct ExecDraft {
    process: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    detach: bool,
    preserve_fds: u32,
    cgroup: Option<String>,
    ignore_paused: bool,
    gate: Option<i32>,
    changes: ExecChanges,
}

static EXEC_FLAGS: &[&[Flag<ExecDraft>]] = &[
    &[
        Flag::with_short(
            'p',
            "process",
            Takes::Value("FILE"),
            "what to run, as `process` in config.json",
            |o, v| {
                o.process = v.path()?;
                Ok(())
            },
        ),
        Flag::new("cwd", Takes::Value("DIR"), "working directory in the container", |o, v| {
            o.changes.cwd = v.filled()?;
            Ok(())
        }),
        Flag::with_short(
            'e',
            "env",
            Takes::Value("NAME=VALUE"),
            "add to the environment; can be repeated",
            |o, v| {
                o.changes.env.push(v.text()?);
                Ok(())
            },
        ),
        Flag::with_short('t', "tty", Takes::Nothing, "give it a pseudo-terminal", |o, v| {
            o.changes.tty = v.on()?;
            Ok(())
        }),
        Flag::with_short('u', "user", Takes::Value("UID[:GID]"), "run as this user", |o, v| {
            // An empty one is no "not given": whoever forgot to fill a variable would get the container's root.
            o.changes.user = Some(values::user(&v.text()?)?);
            Ok(())
        }),
        Flag::with_short(
            'g',
            "additional-gids",
            Takes::Value("GID"),
            "add a supplementary group; can be repeated",
            |o, v| {
                o.changes.additional_gids.extend(v.number::<u32>()?);
                Ok(())
            },
        ),
        Flag::with_short('c', "cap", Takes::Value("CAP"), "add a capability; can be repeated", |o, v| {
            o.changes.caps.extend(v.filled()?);
            Ok(())
        }),
        Flag::new("no-new-privs", Takes::Nothing, "it can't gain privileges by execve(2)", |o, v| {
            o.changes.no_new_privs = Some(v.on()?);
            Ok(())
        }),
        Flag::new("apparmor", Takes::Value("PROFILE"), "AppArmor profile", |o, v| {
            o.changes.apparmor = v.filled()?;
            Ok(())
        }),
        Flag::new("process-label", Takes::Value("LABEL"), "SELinux label", |o, v| {
            o.changes.process_label = v.filled()?;
            Ok(())
        }),
    ],
    &[
        Flag::with_short('d', "detach", Takes::Nothing, "leave when it is started", |o, v| {
            o.detach = v.on()?;
            Ok(())
        }),
        Flag::new(
            "console-socket",
            Takes::Value("SOCKET"),
            "send the terminal's master to this AF_UNIX socket",
            |o, v| {
                o.console_socket = v.path()?;
                Ok(())
            },
        ),
        Flag::new(
            "pidfd-socket",
            Takes::Value("SOCKET"),
            "send a pidfd of the process to this AF_UNIX socket",
            |o, v| {
                o.pidfd_socket = v.path()?;
                Ok(())
            },
        ),
        Flag::new("pid-file", Takes::Value("FILE"), "write the process's id to FILE", |o, v| {
            o.pid_file = v.path()?;
            Ok(())
        }),
        Flag::new(
            "preserve-fds",
            Takes::Value("N"),
            "pass N more descriptors, after standard error",
            |o, v| {
                o.preserve_fds = v.number()?.unwrap_or(0);
                Ok(())
            },
        ),
        Flag::new("cgroup", Takes::Value("PATH"), "run it in this cgroup below the container's", |o, v| {
            let path = v.text()?;
            match (&o.cgroup, path.contains(':')) {
                (_, true) => {
                    let what = format!("option --cgroup: {path:?} names a controller");
                    Err(Error::unsupported(what).cure("cgroup v2 has one tree: give the path alone"))
                }
                (Some(_), false) => {
                    Err(Error::invalid("option --cgroup is given twice: cgroup v2 has one tree"))
                }
                (None, false) => {
                    o.cgroup = Some(path);
                    Ok(())
                }
            }
        }),
        Flag::new("ignore-paused", Takes::Nothing, "also in a paused container", |o, v| {
            o.ignore_paused = v.on()?;
            Ok(())
        }),
        Flag::new(
            "gate",
            Takes::Value("FD"),
            "make the process when a byte comes from this inherited socket; its id goes there when it executes",
            |o, v| {
                o.gate = v.number()?;
                Ok(())
            },
        ),
    ],
];

#[derive(Default)]
struct PsDraft {
    format: Format,
}

static PS_FLAGS: &[&[Flag<PsDraft>]] = &[&[Flag::with_short(
    'f',
    "format",
    Takes::Value("FORMAT"),
    "table (default) or json: the process ids",
    |o, v| {
        o.format = v.choice(&[("table", Format::Table), ("json", Format::Json)])?;
        Ok(())
    },
)]];

fn read_exec(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(draft, arguments) = read(parser, "rt exec", EXEC_FLAGS, OptionsEnd::AtFirstArgument)?
    else {
        return Ok(None);
    };
    let mut arguments = arguments.into_iter();
    let id = parse_id(&arguments.next().ok_or_else(|| needs_id("exec"))?)?;
    let what = match draft.process {
        Some(path) => {
            nothing_more("exec", arguments)?;
            let tty = draft.changes.tty;
            if draft.changes != (ExecChanges { tty, ..ExecChanges::default() }) {
                let what = "rt exec: --process says all about the process, other options can't change it";
                return Err(Error::invalid(what));
            }
            ExecWhat::File { path, tty }
        }
        None => ExecWhat::Command { args: command(arguments)?, changes: draft.changes },
    };
    Ok(Some(Command::Exec(Box::new(Exec {
        id,
        what,
        console_socket: draft.console_socket,
        pidfd_socket: draft.pidfd_socket,
        pid_file: draft.pid_file,
        detach: draft.detach,
        preserve_fds: draft.preserve_fds,
        cgroup: draft.cgroup,
        ignore_paused: draft.ignore_paused,
        gate: draft.gate,
    }))))
}

fn command(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    let args = arguments
        .map(|arg| {
            arg.into_string().map_err(|arg| {
                Error::invalid(format!("rt exec: the argument {arg:?} is not UTF-8"))
                    .cure("use --process FILE")
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if args.is_empty() {
        return Err(Error::invalid("rt exec needs a command").cure("see `rt exec --help`"));
    }
    Ok(args)
}

fn read_ps(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(PsDraft { format }, arguments) =
        read(parser, "rt ps", PS_FLAGS, OptionsEnd::AtFirstArgument)?
    else {
        return Ok(None);
    };
    let mut arguments = arguments.into_iter();
    let id = parse_id(&arguments.next().ok_or_else(|| needs_id("ps"))?)?;
    Ok(Some(Command::Ps(Ps { id, format, args: arguments.collect() })))
}
