//! `update`: limits by flags, or by a file.

use std::path::PathBuf;

use lexopt::Parser;

use super::{Command, Entry, Flag, Given, OptionsEnd, Read, Result, Takes, docs, only_id, read};
use crate::cli::{absolute, values};
use crate::error::Error;
use crate::ops::options::{Limits, Update};
use crate::spec::{BlockIo, Cpu, Memory, Pids, Resources};

pub const UPDATE: Entry = Entry {
    name: "update",
    summary: "change a container's limits",
    arguments: "ID",
    details: "What isn't named stays as it is. With --resources, the other options are ignored, as runc does; its JSON is \
              that of linux.resources in config.json. Sizes take a unit: 64m, 1.5GiB; -1 is no limit.",
    docs: || docs(FLAGS),
    read: read_update,
};

#[derive(Default)]
struct Draft {
    file: Option<Source>,
    resources: Resources,
    l3_cache_schema: Option<String>,
    mem_bw_schema: Option<String>,
}

enum Source {
    Stdin,
    File(PathBuf),
}

impl Draft {
    fn cpu(&mut self) -> &mut Cpu {
        self.resources.cpu.get_or_insert_default()
    }

    fn memory(&mut self) -> &mut Memory {
        self.resources.memory.get_or_insert_default()
    }
}

/// `None` if it is empty.
fn size(v: Given, name: &str) -> Result<Option<i64>> {
    let Some(text) = v.filled()? else { return Ok(None) };
    match values::size(&text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::invalid(format!("option --{name} needs a size such as 64m, or -1, not {text:?}"))),
    }
}

static FLAGS: &[&[Flag<Draft>]] = &[
    &[
        Flag::with_short(
            'r',
            "resources",
            Takes::Value("FILE"),
            "read limits as JSON from FILE, from standard input if it is -",
            |o, v| {
                o.file = match v.filled()?.as_deref() {
                    None => None,
                    Some("-") => Some(Source::Stdin),
                    Some(path) => Some(Source::File(absolute(path.as_ref())?)),
                };
                Ok(())
            },
        ),
        Flag::new("memory", Takes::Value("SIZE"), "memory", |o, v| {
            o.memory().limit = size(v, "memory")?;
            Ok(())
        }),
        Flag::new(
            "memory-reservation",
            Takes::Value("SIZE"),
            "memory that is protected from reclaim",
            |o, v| {
                o.memory().reservation = size(v, "memory-reservation")?;
                Ok(())
            },
        ),
        Flag::new("memory-swap", Takes::Value("SIZE"), "memory and swap together", |o, v| {
            o.memory().swap = size(v, "memory-swap")?;
            Ok(())
        }),
        Flag::new(
            "cpu-quota",
            Takes::Value("US"),
            "microseconds of CPU time per period, -1 for no limit",
            |o, v| {
                o.cpu().quota = v.number()?;
                Ok(())
            },
        ),
        Flag::new("cpu-period", Takes::Value("US"), "that period", |o, v| {
            o.cpu().period = v.number()?;
            Ok(())
        }),
        Flag::new("cpu-burst", Takes::Value("US"), "microseconds that may be saved up", |o, v| {
            o.cpu().burst = v.number()?;
            Ok(())
        }),
        Flag::new("cpu-share", Takes::Value("N"), "CPU weight, 2 to 262144", |o, v| {
            o.cpu().shares = v.number()?;
            Ok(())
        }),
        Flag::new("cpu-idle", Takes::Value("0|1"), "1: run only when nothing else wants to", |o, v| {
            o.cpu().idle = v.number()?;
            Ok(())
        }),
        Flag::new("cpuset-cpus", Takes::Value("LIST"), "CPUs, such as 0-3,7", |o, v| {
            o.cpu().cpus = v.filled()?;
            Ok(())
        }),
        Flag::new("cpuset-mems", Takes::Value("LIST"), "NUMA nodes, such as 0-1", |o, v| {
            o.cpu().mems = v.filled()?;
            Ok(())
        }),
    ],
    &[
        Flag::new("pids-limit", Takes::Value("N"), "number of tasks, -1 for no limit", |o, v| {
            o.resources.pids = v.number()?.map(|limit| Pids { limit: Some(limit) });
            Ok(())
        }),
        Flag::new("blkio-weight", Takes::Value("N"), "I/O weight, 10 to 1000", |o, v| {
            let weight = v.number()?.filter(|&weight| weight != 0);
            o.resources.block_io =
                weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() });
            Ok(())
        }),
        Flag::new("l3-cache-schema", Takes::Value("SCHEMA"), "Intel RDT: L3 cache", |o, v| {
            o.l3_cache_schema = v.filled()?;
            Ok(())
        }),
        Flag::new("mem-bw-schema", Takes::Value("SCHEMA"), "Intel RDT: memory bandwidth", |o, v| {
            o.mem_bw_schema = v.filled()?;
            Ok(())
        }),
        // cgroup v1 only, known so that old callers get as far as the plan, which says what it thinks of them.
        Flag::new("cpu-rt-period", Takes::Value("US"), "", |o, v| {
            o.cpu().realtime_period = v.number()?;
            Ok(())
        }),
        Flag::new("cpu-rt-runtime", Takes::Value("US"), "", |o, v| {
            o.cpu().realtime_runtime = v.number()?;
            Ok(())
        }),
        Flag::new("kernel-memory", Takes::Value("SIZE"), "", |o, v| {
            o.memory().kernel = size(v, "kernel-memory")?;
            Ok(())
        }),
        Flag::new("kernel-memory-tcp", Takes::Value("SIZE"), "", |o, v| {
            o.memory().kernel_tcp = size(v, "kernel-memory-tcp")?;
            Ok(())
        }),
    ],
];

fn read_update(parser: &mut Parser) -> Result<Option<Command>> {
    let Read::Options(draft, arguments) = read(parser, "rt update", FLAGS, OptionsEnd::Never)? else {
        return Ok(None);
    };
    let id = only_id("update", arguments)?;
    let limits = match draft.file {
        Some(Source::Stdin) => Limits::Stdin,
        Some(Source::File(path)) => Limits::File(path),
        None => Limits::Flags(Box::new(draft.resources)),
    };
    let Draft { l3_cache_schema, mem_bw_schema, .. } = draft;
    Ok(Some(Command::Update(Box::new(Update { id, limits, l3_cache_schema, mem_bw_schema }))))
}
