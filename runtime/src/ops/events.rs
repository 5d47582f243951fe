//! `rt events`: what a container uses, once or every few seconds, and when the kernel killed one of its processes for memory.
//! It ends with the container, or when nobody reads on.

use std::time::{Duration, Instant};

use super::kill::{not_running, occupants};
use super::options::{Events, Global};
use super::stats::{self, Stats};
use super::stdout::{self, Reader};
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::parent::occupants::{Occupants, Watch};
use crate::state::{StateDir, Status};

#[derive(serde::Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints them, one object a line.
pub fn events(global: &Global, options: &Events) -> Result<i32> {
    let container = StateDir::new(&global.root).open(&options.id)?;
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(not_running(&container));
    }
    let Some(occupants) = occupants(&container)? else {
        let what = format!("watch container \"{}\": it has no cgroup of its own", options.id);
        return Err(Error::unsupported(what));
    };
    if options.stats {
        print("stats", &options.id, Some(read(&occupants)?))?;
    } else {
        follow(&options.id, &occupants, options.interval)?;
    }
    Ok(0)
}

fn follow(id: &Id, occupants: &Occupants, interval: Duration) -> Result<()> {
    let watch = Watch::new(occupants)?;
    let mut kills = oom_kills(occupants)?;
    let mut next = Instant::now() + interval;
    while watch.wait_until(next)? {
        let now = oom_kills(occupants)?;
        for _ in kills..now {
            if print("oom", id, None)? == Reader::Gone {
                return Ok(());
            }
        }
        kills = now;
        if Instant::now() >= next {
            if print("stats", id, Some(read(occupants)?))? == Reader::Gone {
                return Ok(());
            }
            next = Instant::now() + interval;
        }
    }
    Ok(())
}

fn oom_kills(occupants: &Occupants) -> Result<u64> {
    let events = occupants.read_file("memory.events")?.unwrap_or_default();
    Ok(stats::value(&stats::flat(&events), "oom_kill"))
}

fn read(occupants: &Occupants) -> Result<Stats> {
    let sizes: Vec<String> = occupants
        .files()?
        .iter()
        .filter_map(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".current").map(str::to_owned))
        .filter(|size| !size.contains('.'))
        .collect();
    // A file that can't be read is one whose controller isn't there: its numbers are then unknown, not an error.
    Ok(stats::read(|name| occupants.read_file(name).ok().flatten(), &sizes))
}

fn print(kind: &'static str, id: &Id, data: Option<Stats>) -> Result<Reader> {
    let mut text = serde_json::to_vec(&Event { kind, id, data })
        .map_err(|error| Error::new(Kind::Internal, format!("print as JSON: {error}")))?;
    text.push(b'\n');
    stdout::offer(&text)
}
