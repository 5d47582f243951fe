//! `rt update`: changes the limits of a container. What isn't named stays as it is.

use std::io::Read;
use std::path::Path;

use super::kill::not_running;
use super::limits::{merge, without_zeros};
use super::options::{Global, Limits, Update};
use crate::error::{Context, Error, Kind, Result};
use crate::id::Id;
use crate::parent::cgroup::Cgroup;
use crate::plan::cgroup::{Driver, Purpose, Request, plan};
use crate::spec::Resources;
use crate::state::{CgroupRecord, StateDir, Status};

/// Far more than any engine writes.
const LONGEST: u64 = 1 << 20;

/// Sets the limits, then stores them: an update of some of them starts from there.
pub fn update(global: &Global, options: &Update) -> Result<i32> {
    if options.l3_cache_schema.is_some() || options.mem_bw_schema.is_some() {
        return Err(Error::unsupported("limit caches and memory bandwidth: Intel RDT is not supported yet"));
    }
    let new = without_zeros(read(&options.limits)?);
    let mut container = StateDir::new(&global.root).open_locked(&options.id)?;
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(not_running(&container));
    }
    let mut record = container.record().clone();
    let Some(cgroup) = &mut record.cgroup else {
        let what = format!("limit container \"{}\": it has no cgroup of its own", options.id);
        return Err(Error::unsupported(what));
    };
    for warning in set(&options.id, cgroup, &new)? {
        tracing::warn!("{warning}");
    }
    cgroup.resources = Some(merge(cgroup.resources.take().unwrap_or_default(), new));
    container.commit(record)?;
    Ok(0)
}

/// Returns what is to be shown.
fn set(id: &Id, record: &CgroupRecord, new: &Resources) -> Result<Vec<String>> {
    let driver = if record.unit.is_some() { Driver::Systemd } else { Driver::Cgroupfs };
    let mut plan = plan(&Request {
        id: id.as_str(),
        cgroups_path: None, // the record knows where it is
        resources: Some(new),
        annotations: None,
        driver,
        purpose: Purpose::Update(record.resources.as_ref()),
    })?;
    let what = || format!("limit container \"{id}\"");
    let cgroup = Cgroup::open(record).what(what)?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("{}: its cgroup {} is gone", what(), record.path.display()))
    })?;
    let mut warnings = std::mem::take(&mut plan.warnings);
    warnings.append(&mut cgroup.update(&plan).what(what)?);
    Ok(warnings)
}

fn read(limits: &Limits) -> Result<Resources> {
    match limits {
        Limits::Flags(resources) => Ok((**resources).clone()),
        Limits::Stdin => parse(std::io::stdin().lock(), Path::new("standard input")),
        Limits::File(path) => {
            let file = std::fs::File::open(path).what(|| format!("open {}", path.display()))?;
            parse(file, path)
        }
    }
}

fn parse(source: impl Read, name: &Path) -> Result<Resources> {
    let what = || format!("read limits from {}", name.display());
    let mut text = Vec::new();
    source.take(LONGEST + 1).read_to_end(&mut text).what(what)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::new(Kind::Invalid, format!("{}: longer than {LONGEST} bytes", what())));
    }
    serde_json::from_slice(&text).map_err(|error| Error::invalid(format!("{}: {error}", what())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_limits_say_where() {
        let error = |text: &str| parse(text.as_bytes(), Path::new("/r.json")).unwrap_err().to_string();
        assert!(
            error("{\"memory\":\n{\"limit\":\"x\"}}")
                .starts_with("read limits from /r.json: invalid type: string")
        );
        assert!(error("{\"memory\":\n{\"limit\":\"x\"}}").ends_with("at line 2 column 12"));
        assert!(error("").contains("EOF"));
        assert_eq!(error(&" ".repeat(2 << 20)), "read limits from /r.json: longer than 1048576 bytes");
    }
}
