//! The commands that take an id and little else.

use lexopt::Parser;

use super::{
    Command, Entry, Flag, OptionsEnd, Read, Result, Takes, docs, needs_id, nothing_more, only_id, parse_id,
    read,
};
use crate::cli::values;
use crate::error::Error;
use crate::id::Id;
use crate::ops::options::{Delete, Events, Format, Kill, List, WriteSpec};

pub const START: Entry = Entry {
    name: "start",
    summary: "start the program of a created container",
    arguments: "ID",
    details: "",
    docs: || docs(NONE),
    read: |parser| read_id(parser, "start", Command::Start),
};

pub const STATE: Entry = Entry {
    name: "state",
    summary: "print a container's state as JSON",
    arguments: "ID",
    details: "",
    docs: || docs(NONE),
    read: |parser| read_id(parser, "state", Command::State),
};

pub const PAUSE: Entry = Entry {
    name: "pause",
    summary: "stop all processes of a container until `rt resume`",
    arguments: "ID",
    details: "",
    docs: || docs(NONE),
    read: |parser| read_id(parser, "pause", Command::Pause),
};

pub const RESUME: Entry = Entry {
    name: "resume",
    summary: "let the processes of a paused container go on",
    arguments: "ID",
    details: "",
    docs: || docs(NONE),
    read: |parser| read_id(parser, "resume", Command::Resume),
};

pub const KILL: Entry = Entry {
    name: "kill",
    summary: "send a signal to a container's init process",
    arguments: "ID [SIGNAL]",
    details: "SIGNAL is a number, or a name with or without SIG; TERM if it is left out. KILL of a container without a PID \
              namespace of its own reaches all of its processes.",
    docs: || docs(KILL_FLAGS),
    read: read_kill,
};

pub const DELETE: Entry = Entry {
    name: "delete",
    summary: "remove a stopped or created container",
    arguments: "ID",
    details: "",
    docs: || docs(DELETE_FLAGS),
    read: read_delete,
};

pub const LIST: Entry = Entry {
    name: "list",
    summary: "print all containers of the state directory",
    arguments: "",
    details: "",
    docs: || docs(LIST_FLAGS),
    read: read_list,
};

pub const SPEC: Entry = Entry {
    name: "spec",
    summary: "write a config.json to start from",
    arguments: "",
    details: "Never overwrites one.",
    docs: || docs(SPEC_FLAGS),
    read: read_spec,
};

pub const FEATURES: Entry = Entry {
    name: "features",
    summary: "print what this program can do, as JSON",
    arguments: "",
    details: "",
    docs: || docs(NONE),
    read: read_features,
};

pub const EVENTS: Entry = Entry {
    name: "events",
    summary: "print resource usage as JSON",
    arguments: "ID",
    details: "One object a line, in the form of `runc events`; `oom` when the kernel killed a process for memory.",
    docs: || docs(EVENTS_FLAGS),
    read: read_events,
};

pub const CHECKPOINT: Entry = Entry {
    name: "checkpoint",
    summary: "save a running container (not supported yet)",
    arguments: "ID",
    details: "",
    docs: || docs(NONE),
    read: |_| Err(Error::unsupported("rt checkpoint is not supported yet")),
};

pub const RESTORE: Entry = Entry {
    name: "restore",
    summary: "bring back a saved container (not supported yet)",
    arguments: "ID",
    details: "",
    docs: || docs(NONE),
    read: |_| Err(Error::unsupported("rt restore is not supported yet")),
};

static NONE: &[&[Flag<()>]] = &[];

#[derive(Default)]
struct KillDraft {
    all: bool,
}

static KILL_FLAGS: &[&[Flag<KillDraft>]] =
    &[&[Flag::with_short('a', "all", Takes::Nothing, "no error if the container isn't running", |o, v| {
        o.all = v.on()?;
        Ok(())
    })]];

#[derive(Default)]
struct DeleteDraft {
    force: bool,
}

static DELETE_FLAGS: &[&[Flag<DeleteDraft>]] = &[&[Flag::with_short(
    'f',
    "force",
    Takes::Nothing,
    "kill it first if it runs; no error if it doesn't exist",
    |o, v| {
        o.force = v.on()?;
        Ok(())
    },
)]];

const FORMATS: &[(&str, Format)] = &[("table", Format::Table), ("json", Format::Json)];

static LIST_FLAGS: &[&[Flag<List>]] = &[&[
    Flag::with_short('f', "format", Takes::Value("FORMAT"), "table (default) or json", |o, v| {
        o.format = v.choice(FORMATS)?;
        Ok(())
    }),
    Flag::with_short('q', "quiet", Takes::Nothing, "only the ids", |o, v| {
        o.quiet = v.on()?;
        Ok(())
    }),
]];

static SPEC_FLAGS: &[&[Flag<WriteSpec>]] = &[&[
    Flag::with_short(
        'b',
        "bundle",
        Takes::Value("DIR"),
        "write it there (default: the current directory)",
        |o, v| {
            o.bundle = v.path()?;
            Ok(())
        },
    ),
    Flag::new(
        "rootless",
        Takes::Nothing,
        "for a user namespace in which the current user is root",
        |o, v| {
            o.rootless = v.on()?;
            Ok(())
        },
    ),
]];

struct EventsDraft {
    stats: bool,
    interval: std::time::Duration,
}

impl Default for EventsDraft {
    fn default() -> Self {
        Self { stats: false, interval: std::time::Duration::from_secs(5) }
    }
}

static EVENTS_FLAGS: &[&[Flag<EventsDraft>]] = &[&[
    Flag::new("interval", Takes::Value("TIME"), "between two prints (default: 5s)", |o, v| {
        let text = v.text()?;
        o.interval = values::duration(&text).ok_or_else(|| {
            Error::invalid(format!("option --interval must be a time such as 5s, not {text:?}"))
        })?;
        Ok(())
    }),
    Flag::new("stats", Takes::Nothing, "print once and leave", |o, v| {
        o.stats = v.on()?;
        Ok(())
    }),
]];

fn read_id(parser: &mut Parser, command: &str, make: fn(Id) -> Command) -> Result<Option<Command>> {
    match read(parser, &format!("rt {command}"), NONE, OptionsEnd::Never)? {
        Read::Options((), arguments) => Ok(Some(make(only_id(command, arguments)?))),
        Read::Help => Ok(None),
    }
}

fn read_kill(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(KillDraft { all }, arguments) = read(parser, "rt kill", KILL_FLAGS, OptionsEnd::Never)?
    else {
        return Ok(None);
    };
    let mut arguments = arguments.into_iter();
    let id = parse_id(&arguments.next().ok_or_else(|| needs_id("kill"))?)?;
    let signal = match arguments.next() {
        Some(signal) if !signal.is_empty() => values::signal(&signal.to_string_lossy())?,
        _ => libc::SIGTERM,
    };
    nothing_more("kill", arguments)?;
    Ok(Some(Command::Kill(Kill { id, signal, all })))
}

fn read_delete(parser: &mut Parser) -> Result<Option<Command>> {
    match read(parser, "rt delete", DELETE_FLAGS, OptionsEnd::Never)? {
        Read::Options(DeleteDraft { force }, arguments) => {
            Ok(Some(Command::Delete(Delete { id: only_id("delete", arguments)?, force })))
        }
        Read::Help => Ok(None),
    }
}

fn read_list(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(list, arguments) = read(parser, "rt list", LIST_FLAGS, OptionsEnd::Never)? else {
        return Ok(None);
    };
    nothing_more("list", arguments.into_iter())?;
    Ok(Some(Command::List(list)))
}

fn read_spec(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(spec, arguments) = read(parser, "rt spec", SPEC_FLAGS, OptionsEnd::Never)? else {
        return Ok(None);
    };
    nothing_more("spec", arguments.into_iter())?;
    Ok(Some(Command::Spec(spec)))
}

fn read_features(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options((), arguments) = read(parser, "rt features", NONE, OptionsEnd::Never)? else {
        return Ok(None);
    };
    nothing_more("features", arguments.into_iter())?;
    Ok(Some(Command::Features))
}

fn read_events(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(EventsDraft { stats, interval }, arguments) =
        read(parser, "rt events", EVENTS_FLAGS, OptionsEnd::Never)?
    else {
        return Ok(None);
    };
    let id = only_id("events", arguments)?;
    Ok(Some(Command::Events(Events { id, stats, interval })))
}
