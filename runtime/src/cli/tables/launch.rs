//! `run`, `create` and `plan`: the commands that take a bundle.

use std::path::PathBuf;

use lexopt::Parser;

use super::{
    Command, Entry, Flag, Id, OptionsEnd, Read, Result, Takes, docs, needs_id, nothing_more, only_id, read,
};
use crate::cli::{target, values};
use crate::error::Error;
use crate::ops::options::{Create, Launch, Overlay, Plan, Run};

pub const RUN: Entry = Entry {
    name: "run",
    summary: "create a container, start it, and wait until it is over",
    arguments: "BUNDLE | [-b BUNDLE] ID",
    details: "BUNDLE is a directory with a config.json and a root file system. Given as an argument, the container's id \
              is made from its name, or is what --id says. Such an argument is taken for a bundle if it holds a \
              config.json, and either has a slash in it or the current directory has no config.json; else it is the \
              container's id, and the bundle is the current directory or what -b says.\n\
              Signals are passed on; the exit code is the container's, 128+N if signal N ended it, and 1 if it could \
              not be started.",
    docs: || docs(RUN_FLAGS),
    read: read_run,
};

pub const CREATE: Entry = Entry {
    name: "create",
    summary: "create a container that waits for `rt start`",
    arguments: "[-b BUNDLE] ID",
    details: "BUNDLE is a directory with a config.json and a root file system.",
    docs: || docs(CREATE_FLAGS),
    read: read_create,
};

pub const PLAN: Entry = Entry {
    name: "plan",
    summary: "print what would be done for a bundle, as JSON, and do nothing",
    arguments: "[BUNDLE]",
    details: "Needs no privileges and doesn't touch the system. The first thing to add to a bug report.",
    docs: || docs(PLAN_FLAGS),
    read: read_plan,
};

/// Options of `run` while they are read.
#[derive(Default)]
struct RunDraft {
    launch: Launch,
    id: Option<Id>,
    detach: bool,
    keep: bool,
    no_subreaper: bool,
}

/// Options of `create` while they are read.
#[derive(Default)]
struct CreateDraft {
    launch: Launch,
}

/// Options of `plan` while they are read.
#[derive(Default)]
struct PlanDraft {
    launch: Launch,
    id: Option<Id>,
}

/// Whoever has the options that these commands share.
trait HasLaunch {
    fn launch(&mut self) -> &mut Launch;
}

impl HasLaunch for RunDraft {
    fn launch(&mut self) -> &mut Launch {
        &mut self.launch
    }
}

impl HasLaunch for CreateDraft {
    fn launch(&mut self) -> &mut Launch {
        &mut self.launch
    }
}

impl HasLaunch for PlanDraft {
    fn launch(&mut self) -> &mut Launch {
        &mut self.launch
    }
}

/// What decides how the container looks.
const fn shape<O: HasLaunch>() -> [Flag<O>; 7] {
    [
        Flag::with_short(
            'b',
            "bundle",
            Takes::Value("DIR"),
            "the bundle (default: the current directory)",
            |o: &mut O, v| {
                o.launch().bundle = v.path()?.unwrap_or_default();
                Ok(())
            },
        ),
        Flag::with_short(
            'f',
            "config",
            Takes::Value("FILE"),
            "read FILE, not the bundle's config.json",
            |o: &mut O, v| {
                o.launch().config = v.path()?;
                Ok(())
            },
        ),
        Flag::new(
            "overlay",
            Takes::MaybeValue("LOWER[:LOWER…]"),
            "an overlay as root: layers topmost first, by default of the bundle's rootfs; \\: is a colon",
            |o: &mut O, v| {
                let upper = o.launch().overlay.take().and_then(|overlay| overlay.upper);
                let lowers = values::overlay(v.attached()?.as_deref())?.lowers;
                o.launch().overlay = Some(Overlay { lowers, upper });
                Ok(())
            },
        ),
        Flag::new(
            "overlay-upper",
            Takes::Value("DIR"),
            "keep the overlay's changes in DIR (default: a tmpfs that dies with the container)",
            |o: &mut O, v| {
                let upper =
                    v.path()?.ok_or_else(|| Error::invalid("option --overlay-upper needs a directory"))?;
                o.launch().overlay.get_or_insert_default().upper = Some(upper);
                Ok(())
            },
        ),
        Flag::new(
            "no-pivot",
            Takes::Nothing,
            "no pivot_root(2): for a root file system in a ramdisk",
            |o: &mut O, v| {
                o.launch().no_pivot = v.on()?;
                Ok(())
            },
        ),
        Flag::new("no-new-keyring", Takes::Nothing, "keep the caller's session keyring", |o: &mut O, v| {
            o.launch().no_new_keyring = v.on()?;
            Ok(())
        }),
        Flag::new(
            "preserve-fds",
            Takes::Value("N"),
            "pass N more descriptors, after standard error and those of $LISTEN_FDS",
            |o: &mut O, v| {
                o.launch().preserve_fds = v.number()?.unwrap_or(0);
                Ok(())
            },
        ),
    ]
}

/// How it hangs together with those around it.
const fn ties<O: HasLaunch>() -> [Flag<O>; 4] {
    [
        Flag::new(
            "console-socket",
            Takes::Value("SOCKET"),
            "send the terminal's master to this AF_UNIX socket",
            |o: &mut O, v| {
                o.launch().console_socket = v.path()?;
                Ok(())
            },
        ),
        Flag::new(
            "pidfd-socket",
            Takes::Value("SOCKET"),
            "send a pidfd of init to this AF_UNIX socket",
            |o: &mut O, v| {
                o.launch().pidfd_socket = v.path()?;
                Ok(())
            },
        ),
        Flag::new("pid-file", Takes::Value("FILE"), "write init's process id to FILE", |o: &mut O, v| {
            o.launch().pid_file = v.path()?;
            Ok(())
        }),
        Flag::new(
            "share",
            Takes::Value("ID[=NAMESPACES]"),
            "share namespaces of a running container: some of net,ipc,uts,pid (default: net,ipc,uts)",
            |o: &mut O, v| {
                o.launch().share = Some(values::share(&v.text()?)?);
                Ok(())
            },
        ),
    ]
}

static CREATE_FLAGS: &[&[Flag<CreateDraft>]] = &[&shape(), &ties()];

static PLAN_FLAGS: &[&[Flag<PlanDraft>]] = &[
    &shape(),
    &[Flag::new(
        "id",
        Takes::Value("ID"),
        "the container's id (default: made from the bundle's name)",
        |o, v| {
            o.id = Some(Id::parse(&v.text()?)?);
            Ok(())
        },
    )],
];

static RUN_FLAGS: &[&[Flag<RunDraft>]] = &[
    &[
        Flag::new(
            "id",
            Takes::Value("ID"),
            "the container's id (default: made from the bundle's name)",
            |o, v| {
                o.id = Some(Id::parse(&v.text()?)?);
                Ok(())
            },
        ),
        Flag::with_short('d', "detach", Takes::Nothing, "leave when the container is started", |o, v| {
            o.detach = v.on()?;
            Ok(())
        }),
        Flag::new("keep", Takes::Nothing, "don't delete the container when it is over", |o, v| {
            o.keep = v.on()?;
            Ok(())
        }),
        Flag::new("no-subreaper", Takes::Nothing, "don't adopt the container's orphans", |o, v| {
            o.no_subreaper = v.on()?;
            Ok(())
        }),
    ],
    &shape(),
    &ties(),
];

fn read_create(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(CreateDraft { launch }, arguments) =
        read(parser, "rt create", CREATE_FLAGS, OptionsEnd::Never)?
    else {
        return Ok(None);
    };
    let id = only_id("create", arguments)?;
    let launch = Launch { bundle: target::bundle_or_here(&launch.bundle)?, ..launch };
    Ok(Some(Command::Create(Box::new(Create { id, launch }))))
}

fn read_run(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(draft, arguments) = read(parser, "rt run", RUN_FLAGS, OptionsEnd::Never)? else {
        return Ok(None);
    };
    let mut arguments = arguments.into_iter();
    let argument = arguments.next();
    nothing_more("run", arguments)?;
    let RunDraft { launch, id, detach, keep, no_subreaper } = draft;
    let said = target::Said { bundle: launch.bundle.clone(), id, argument, config: launch.config.clone() };
    let (bundle, id) = target::of_run(said)?.ok_or_else(|| needs_id("run"))?;
    let launch = Launch { bundle, ..launch };
    Ok(Some(Command::Run(Box::new(Run { id, launch, detach, keep, no_subreaper }))))
}

fn read_plan(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(PlanDraft { launch, id }, arguments) =
        read(parser, "rt plan", PLAN_FLAGS, OptionsEnd::Never)?
    else {
        return Ok(None);
    };
    let mut arguments = arguments.into_iter();
    let argument = arguments.next().map(PathBuf::from);
    nothing_more("plan", arguments)?;
    if argument.is_some() && launch.bundle != PathBuf::new() {
        return Err(Error::invalid("rt plan: the bundle is given twice, by -b and as an argument"));
    }
    let bundle = target::bundle_or_here(&argument.unwrap_or_else(|| launch.bundle.clone()))?;
    let id = match id {
        Some(id) => id,
        None => target::id_from_bundle(&bundle)?,
    };
    Ok(Some(Command::Plan(Box::new(Plan { id, launch: Launch { bundle, ..launch } }))))
}
