//! The command line: reads it into typed options, calls the operation, prints an error once, gives the exit code.
//!
//! What the operations do is in [`crate::ops`]; how flags are written stands once, in `tables`.

mod dispatch;
mod flag;
mod help;
mod nearest;
mod tables;
mod target;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};

pub use dispatch::run;
pub use values::signal;

use crate::error::{Context, Error, Result};
use crate::id::Id;
use crate::log::LogOptions;
use crate::ops::options::{
    Create, Delete, Events, Exec, Global, Kill, List, Plan, Ps, Run, Update, WriteSpec,
};

/// A command line that was understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Prints a text: help, or the version.
    Print(String),
    /// Makes a container that waits for `start`.
    Create(Box<Create>),
    /// Makes a container and starts it.
    Run(Box<Run>),
    /// Starts what waits.
    Start(Id),
    /// Prints the state.
    State(Id),
    /// Sends a signal.
    Kill(Kill),
    /// Removes a container.
    Delete(Delete),
    /// Prints all containers.
    List(List),
    /// Runs a further process.
    Exec(Box<Exec>),
    /// Prints the processes.
    Ps(Ps),
    /// Stops all processes for a while.
    Pause(Id),
    /// Lets them go on.
    Resume(Id),
    /// Changes limits.
    Update(Box<Update>),
    /// Prints what is used.
    Events(Events),
    /// Writes a config to start from.
    Spec(WriteSpec),
    /// Prints what this program can do.
    Features,
    /// Prints what would be done.
    Plan(Box<Plan>),
}

impl Command {
    /// The exit code when the command fails. Engines tell a failed `exec` from a command that failed by 255.
    pub fn failure_code(&self) -> i32 {
        if matches!(self, Self::Exec(_)) { 255 } else { 1 }
    }
}

/// What a command line says. The log comes first and apart: it gets the error, if the rest is wrong.
pub struct Invocation {
    /// Where messages go.
    pub log: LogOptions,
    /// The rest.
    pub request: Result<(Global, Command)>,
}

/// Reads a command line without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut parser = Parser::from_args(args);
    let mut before = tables::Before::default();
    let request = read_request(&mut parser, &mut before);
    Invocation { log: before.log, request }
}

fn read_request(parser: &mut Parser, before: &mut tables::Before) -> Result<(Global, Command)> {
    let command = match read_before(parser, before)? {
        First::Text(text) => Command::Print(text),
        First::Command(name) => read_command(parser, &name)?,
    };
    Ok((before.global()?, command))
}

/// What ends the global options.
enum First {
    Command(OsString),
    Text(String),
}

fn read_before(parser: &mut Parser, before: &mut tables::Before) -> Result<First> {
    while let Some(arg) = parser.next().map_err(|e| flag::broken(&e))? {
        match arg {
            Arg::Value(name) => return Ok(First::Command(name)),
            Arg::Long("help") | Arg::Short('h') => return Ok(First::Text(help::overview())),
            Arg::Long("version") | Arg::Short('v') => return Ok(First::Text(version())),
            Arg::Long(name) => {
                let name = name.to_owned();
                tables::set_global(parser, before, &name)?;
            }
            Arg::Short(short) => {
                return Err(Error::invalid(format!("unknown option -{short} of rt")).cure("see `rt --help`"));
            }
        }
    }
    Ok(First::Text(help::overview()))
}

fn read_command(parser: &mut Parser, name: &OsString) -> Result<Command> {
    let name = name.to_string_lossy();
    if name == "help" {
        return match parser.next().map_err(|e| flag::broken(&e))? {
            Some(Arg::Value(topic)) => Ok(Command::Print(help::page(find(&topic.to_string_lossy())?))),
            _ => Ok(Command::Print(help::overview())),
        };
    }
    let entry = find(&name)?;
    match (entry.read)(parser)? {
        Some(command) => Ok(command),
        None => Ok(Command::Print(help::page(entry))),
    }
}

fn find(name: &str) -> Result<&'static tables::Entry> {
    tables::COMMANDS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let error = Error::invalid(format!("unknown command {name:?}"));
        match nearest::nearest(name, tables::COMMANDS.iter().map(|entry| entry.name)) {
            Some(near) => error.cure(format!("did you mean `rt {near}`?")),
            None => error.cure("`rt --help` lists the commands"),
        }
    })
}

/// What `--version` prints: the first three lines are what engines read.
pub fn version() -> String {
    let mut text = format!("rt version {}\n", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = option_env!("RT_COMMIT").filter(|commit| !commit.is_empty()) {
        text.push_str(&format!("commit: {commit}\n"));
    }
    let link = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    let libc = if cfg!(target_env = "musl") { "musl" } else { "glibc" };
    text.push_str(&format!(
        "spec: {}\nbuild: {} {}, {link}\n",
        crate::spec::VERSION,
        std::env::consts::ARCH,
        libc
    ));
    text
}

/// Against the directory that the program was started in; links are left alone.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).what(|| format!("make {} absolute", path.display()))
}

#[cfg(test)]
mod tests;
