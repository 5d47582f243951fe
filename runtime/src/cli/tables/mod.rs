//! The table of commands. Each has its flags in a table of its own, from which it is read and explained.

mod exec;
mod launch;
mod lifecycle;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Parser;

use super::Command;
use super::flag::{Doc, Flag, Given, OptionsEnd, Read, Takes, read};
use super::values::parse_id;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::log::{Level, LogFormat, LogOptions};
use crate::ops::options::{CgroupDriver, Global, Origin};

/// Where container state is kept if nobody says otherwise.
pub const DEFAULT_ROOT: &str = "/run/rt";

/// One command.
pub struct Entry {
    /// As it is called.
    pub name: &'static str,
    /// One line for the overview, without a full stop.
    pub summary: &'static str,
    /// The arguments, as in a usage line.
    pub arguments: &'static str,
    /// What else one should know: whole sentences.
    pub details: &'static str,
    /// Its flags, for help.
    pub docs: fn() -> Vec<&'static Doc>,
    /// Reads the rest of the command line; `None` is a call for help.
    pub read: fn(&mut Parser) -> Result<Option<Command>>,
}

/// All commands, in the order in which a container meets them.
pub static COMMANDS: &[Entry] = &[
    launch::RUN,
    launch::CREATE,
    lifecycle::START,
    exec::EXEC,
    lifecycle::STATE,
    lifecycle::LIST,
    exec::PS,
    lifecycle::KILL,
    lifecycle::DELETE,
    lifecycle::PAUSE,
    lifecycle::RESUME,
    update::UPDATE,
    lifecycle::EVENTS,
    lifecycle::SPEC,
    launch::PLAN,
    lifecycle::FEATURES,
    lifecycle::CHECKPOINT,
    lifecycle::RESTORE,
];

/// The global options while they are read.
#[derive(Debug, Default)]
pub struct Before {
    /// Where messages go.
    pub log: LogOptions,
    root: Option<PathBuf>,
    cgroups: CgroupDriver,
}

impl Before {
    /// All of them together.
    pub fn global(&self) -> Result<Global> {
        let (root, root_origin) = match &self.root {
            Some(root) => (root.clone(), Origin::Given),
            None => (PathBuf::from(DEFAULT_ROOT), Origin::Default),
        };
        if root.components().all(|part| matches!(part, std::path::Component::RootDir)) {
            return Err(Error::invalid("option --root must not be /"));
        }
        Ok(Global { root, root_origin, cgroups: self.cgroups })
    }
}

static GLOBAL: &[Flag<Before>] = &[
    Flag::new(
        "root",
        Takes::Value("DIR"),
        "keep container state in DIR, best on a tmpfs (default: /run/rt)",
        |o, v| {
            o.root = Some(v.path()?.ok_or_else(|| Error::invalid("option --root needs a directory"))?);
            Ok(())
        },
    ),
    Flag::new("log", Takes::Value("FILE"), "append messages to FILE (default: standard error)", |o, v| {
        o.log.file = v.path()?;
        Ok(())
    }),
    Flag::new("log-format", Takes::Value("FORMAT"), "text (default) or json", |o, v| {
        o.log.format =
            v.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json), ("", LogFormat::Text)])?;
        Ok(())
    }),
    Flag::new(
        "log-level",
        Takes::Value("LEVEL"),
        "error, warning (default), info, debug or trace",
        |o, v| {
            o.log.level = Some(v.choice(&[
                ("error", Level::Error),
                ("warning", Level::Warning),
                ("info", Level::Info),
                ("debug", Level::Debug),
                ("trace", Level::Trace),
            ])?);
            Ok(())
        },
    ),
    Flag::new("debug", Takes::Nothing, "the same as --log-level debug", |o, v| {
        if v.on()? {
            o.log.level = Some(Level::Debug);
        }
        Ok(())
    }),
    Flag::new(
        "systemd-cgroup",
        Takes::Nothing,
        "let systemd make cgroups; cgroupsPath is then slice:prefix:name",
        |o, v| {
            o.cgroups = if v.on()? { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
            Ok(())
        },
    ),
    Flag::new(
        "cgroup-manager",
        Takes::Value("WHO"),
        "who makes cgroups: cgroupfs (default), systemd, or disabled",
        |o, v| {
            o.cgroups = v.choice(&[
                ("cgroupfs", CgroupDriver::Cgroupfs),
                ("systemd", CgroupDriver::Systemd),
                ("disabled", CgroupDriver::Disabled),
            ])?;
            Ok(())
        },
    ),
    Flag::new(
        "rootless",
        Takes::Value("WHETHER"),
        "auto (default) or false; true is not supported yet",
        |_, v| {
            let words =
                [("auto", false), ("false", false), ("0", false), ("", false), ("true", true), ("1", true)];
            match v.choice(&words)? {
                false => Ok(()),
                true => Err(Error::unsupported("--rootless=true: rootless containers are not supported yet")
                    .cure("run rt as root")),
            }
        },
    ),
];

/// How the global options are written.
pub fn global_docs() -> Vec<&'static Doc> {
    docs(&[GLOBAL])
}

/// Reads one global option.
pub fn set_global(parser: &mut Parser, before: &mut Before, name: &str) -> Result<()> {
    super::flag::set_one(parser, before, ("rt", name), &[GLOBAL])
}

fn docs<O>(tables: &[&'static [Flag<O>]]) -> Vec<&'static Doc> {
    tables.iter().copied().flatten().map(|flag| &flag.doc).collect()
}

/// The command's only argument.
fn only_id(command: &str, arguments: Vec<OsString>) -> Result<Id> {
    let mut arguments = arguments.into_iter();
    let id = arguments.next().ok_or_else(|| needs_id(command))?;
    nothing_more(command, arguments)?;
    parse_id(&id)
}

fn needs_id(command: &str) -> Error {
    Error::invalid(format!("rt {command} needs a container id")).cure(format!("see `rt {command} --help`"))
}

fn nothing_more(command: &str, mut rest: impl Iterator<Item = OsString>) -> Result<()> {
    match rest.next() {
        None => Ok(()),
        Some(extra) => Err(Error::invalid(format!("rt {command}: unexpected argument {extra:?}"))
            .cure(format!("see `rt {command} --help`"))),
    }
}
