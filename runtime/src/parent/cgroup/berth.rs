//! The cgroup of a container that is being made, whichever driver makes it and when: before there is a process, or around one.
//!
//! Dropped before [`Berth::keep`], what was made is removed.

use super::{Cgroup, Site};
use crate::error::{Error, Result};
use crate::plan::cgroup::CgroupPlan;
use crate::spec::Resources;
use crate::state::CgroupRecord;

/// From a place to a cgroup.
#[derive(Debug)]
pub struct Berth<'a> {
    plan: Option<&'a CgroupPlan>,
    /// The host's user to whom it is given.
    owner: Option<u32>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No cgroup of its own, or nothing yet.
    Nothing,
    Planned(Site),
    Made(Cgroup),
}

impl<'a> Berth<'a> {
    /// Where it will be, and who of the host gets it. Without a plan it does nothing.
    pub fn find(plan: Option<&'a CgroupPlan>, owner: Option<u32>) -> Result<Self> {
        let state = match plan {
            Some(plan) => State::Planned(Site::find(plan)?),
            None => State::Nothing,
        };
        Ok(Self { plan, owner, state })
    }

    /// What is stored about it.
    pub fn record(&self, resources: Option<Resources>) -> Option<CgroupRecord> {
        match &self.state {
            State::Nothing => None,
            State::Planned(site) => Some(site.record(resources)),
            State::Made(cgroup) => Some(cgroup.record(resources)),
        }
    }

    /// Makes it, if that needs no process. Who may not make any does without (`is_rootless`), if there is nothing to limit.
    pub fn make(&mut self, is_rootless: impl FnOnce() -> bool) -> Result<()> {
        match (self.plan, std::mem::replace(&mut self.state, State::Nothing)) {
            (Some(plan), State::Planned(site)) if !site.needs_process() => match site.create(plan) {
                Ok(cgroup) => self.state = State::Made(cgroup),
                Err(error) if not_ours(&error) && is_rootless() => match plan.writes.first() {
                    None => tracing::info!("the container stays in the caller's cgroup: {error}"),
                    Some(write) => return Err(error.cure(format!(
                        "{} needs a cgroup that is yours: run this in `systemd-run --user --scope --property Delegate=yes`, or limit nothing",
                        write.limit
                    ))),
                },
                Err(error) => return Err(error),
            },
            (_, state) => self.state = state,
        }
        Ok(())
    }

    /// Whether it is made around a process: [`Berth::adopt`].
    pub fn needs_process(&self) -> bool {
        matches!(&self.state, State::Planned(site) if site.needs_process())
    }

    /// Makes it around a process, unless it is there.
    pub fn adopt(&mut self, pid: i32) -> Result<()> {
        match (self.plan, std::mem::replace(&mut self.state, State::Nothing)) {
            (Some(plan), State::Planned(site)) => {
                let (cgroup, warnings) = site.start_unit(plan, pid)?;
                show(&warnings);
                self.state = State::Made(cgroup);
            }
            (_, state) => self.state = state,
        }
        Ok(())
    }

    /// Sets the limits and the device rules.
    pub fn limit(&self) -> Result<()> {
        let (Some(plan), State::Made(cgroup)) = (self.plan, &self.state) else { return Ok(()) };
        show(&cgroup.apply(plan)?);
        self.owner.map_or(Ok(()), |uid| cgroup.delegate(uid))
    }

    /// Where it is.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        match &self.state {
            State::Made(cgroup) => Some(cgroup),
            _ => None,
        }
    }

    /// Where it will be.
    pub fn site(&self) -> Option<&Site> {
        match &self.state {
            State::Planned(site) => Some(site),
            _ => None,
        }
    }

    /// From now on it stays.
    pub fn keep(self) {
        if let State::Made(cgroup) = self.state {
            cgroup.keep();
        }
    }
}

/// Another user's, or read-only here.
fn not_ours(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

fn show(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
