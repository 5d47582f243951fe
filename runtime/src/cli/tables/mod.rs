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
use crate::ops::options::{CgroupDriver, Global, Origin, Rootless};

/// Where container state is kept if nobody says otherwise: root's, and below `XDG_RUNTIME_DIR` of others.
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
    rootless: Rootless,
}

impl Before {
    /// All of them together.
    pub fn global(&self) -> Result<Global> {
        let (root, root_origin) = match &self.root {
            Some(root) => (root.clone(), Origin::Given),
            None => (self.default_root(), Origin::Default),
        };
        if root.components().all(|part| matches!(part, std::path::Component::RootDir)) {
            return Err(Error::invalid("option --root must not be /"));
        }
        Ok(Global { root, root_origin, cgroups: self.cgroups, rootless: self.rootless })
    }

    fn default_root(&self) -> PathBuf {
        match crate::privilege::runtime_dir() {
            Some(dir) if self.rootless.holds() => dir.join("rt"),
            _ => DEFAULT_ROOT.into(),
        }
    }
}

static GLOBAL: &[Flag<Before>] = &[
    Flag::new(
        "root",
        Takes::Value("DIR"),
        "keep container state in DIR, best on a tmpfs (default: /run/rt; of users $XDG_RUNTIME_DIR/rt)",
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
        "true: do without a cgroup that can't be made; false: don't; auto (default): as the user is",
        |o, v| {
            o.rootless = v.choice(&[
                ("auto", Rootless::Auto),
                ("", Rootless::Auto),
                ("true", Rootless::Yes),
                ("1", Rootless::Yes),
                ("false", Rootless::No),
                ("0", Rootless::No),
            ])?;
            Ok(())
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
