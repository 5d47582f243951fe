//! Sets the limits of a plan. What a host lacks is an error that names the cure, or a warning where the plan says so.

use rustix::io::Errno;

use super::{Cgroup, controllers, devices, files};
use crate::error::{Error, Kind, Result, errno_text};
use crate::parent::systemd;
use crate::plan::cgroup::{CgroupPlan, Need, OnError, Write};

impl Cgroup {
    /// Sets all limits and the device rules. Returns what was left out, to be shown.
    pub fn apply(&self, plan: &CgroupPlan) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        self.limit(plan, &mut warnings)?;
        if let Some(program) = &plan.devices {
            let place = self.site.absolute();
            let programs = if self.fresh { devices::Before::None } else { devices::Before::Unknown };
            devices::apply(self.fd(), program, programs).map_err(|error| {
                error.during(format!("set the device rules of cgroup {}", place.display()))
            })?;
        }
        Ok(warnings)
    }

    /// The same for a container that exists: refuses what it could not live with, and enables what nobody needed before.
    pub fn update(&self, plan: &CgroupPlan) -> Result<Vec<String>> {
        self.check_memory(plan)?;
        let wanted = controllers::Wanted::of(plan);
        if let Some((above, _)) = self.site.path.rsplit_once('/').or(Some((".", "")))
            && !files::below(&self.site.mount.root, above).is_ok_and(|dir| wanted.enable(&dir))
        {
            // What can't be enabled is told when its file is missing.
            let _ = self.site.descend(above, &wanted);
        }
        let mut warnings = match &self.site.unit {
            Some(unit) => systemd::change(unit, &plan.properties)?,
            None => Vec::new(),
        };
        // ORDER: the files last: what systemd rounds or does not know is right in the end.
        warnings.append(&mut self.apply(plan)?);
        Ok(warnings)
    }

    fn limit(&self, plan: &CgroupPlan, warnings: &mut Vec<String>) -> Result<()> {
        let mut later = Vec::new();
        for write in &plan.writes {
            match self.set(&write.file, &write.value) {
                Ok(()) => {}
                Err(Errno::INVAL) if write.on_error == OnError::RetryLast => later.push(write),
                Err(errno) => self.fallen(write, errno, warnings)?,
            }
        }
        for write in later {
            if let Err(errno) = self.set(&write.file, &write.value) {
                self.fallen(write, errno, warnings)?;
            }
        }
        Ok(())
    }

    fn set(&self, file: &str, value: &str) -> rustix::io::Result<()> {
        files::write(&self.dir, file, value)
    }

    /// What a failed write means.
    fn fallen(&self, write: &Write, errno: Errno, warnings: &mut Vec<String>) -> Result<()> {
        // KERNEL: with nsdelegate, files of a controller that was not delegated are there, but EPERM.
        if !matches!(errno, Errno::NOENT | Errno::PERM | Errno::ACCESS) {
            let what = format!("{}: write {:?} to {}", limit(write), write.value, self.file(&write.file));
            let error = Error::os(errno.raw_os_error(), what);
            return Err(match errno {
                Errno::NODEV => error.cure("there is no such device here"),
                Errno::INVAL => error.cure("the kernel does not take this value"),
                Errno::BUSY => error.cure("a part of it is in use"),
                _ => error,
            });
        }
        if let OnError::Instead(file, value) = &write.on_error {
            match self.set(file, value) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    let what = format!("{}: write {value:?} to {}", limit(write), self.file(file));
                    return Err(Error::os(errno.raw_os_error(), what));
                }
            }
        }
        if write.need == Need::Lifts && errno == Errno::NOENT {
            return Ok(());
        }
        let (what, cure) = self.why(write, errno);
        match write.need {
            Need::Degradable => warnings.push(format!("{what}; the container runs without it ({cure})")),
            Need::Required | Need::Lifts => return Err(Error::new(Kind::Unsupported, what).cure(cure)),
        }
        Ok(())
    }

    fn why(&self, write: &Write, errno: Errno) -> (String, String) {
        let file = self.file(&write.file);
        let (Some(controller), Errno::NOENT) = (write.controller(), errno) else {
            let text = errno_text(errno.raw_os_error());
            return (
                format!("{}: open {file}: {text}", limit(write)),
                "see the owner of the file".to_owned(),
            );
        };
        let own = files::read(&self.dir, "cgroup.controllers").unwrap_or_default();
        if own.split_whitespace().any(|name| name == controller) {
            let what =
                format!("{}: there is no {file}, though the {controller} controller is there", limit(write));
            return (what, "this kernel lacks the feature".to_owned());
        }
        let mount = &self.site.mount;
        let why = controllers::why_missing(controller, &mount.root, &mount.path, &self.site.path);
        (format!("{}: the {controller} controller {}", limit(write), why.reason), why.cure)
    }

    fn file(&self, name: &str) -> String {
        self.site.absolute().join(name).display().to_string()
    }

    /// SPEC: config-linux.md#memory, checkBeforeUpdate. Below what is used, the kernel would kill instead of refusing.
    fn check_memory(&self, plan: &CgroupPlan) -> Result<()> {
        let Some(check) = plan.memory_check else { return Ok(()) };
        let used = |file| files::read_number(&self.dir, file).ok().flatten();
        let Some(memory) = used("memory.current") else { return Ok(()) };
        let both = memory + used("memory.swap.current").unwrap_or(0);
        for (field, limit, used) in [("limit", check.limit, memory), ("swap", check.limit_and_swap, both)] {
            if let Some(limit) = limit.filter(|limit| *limit <= used) {
                return Err(Error::invalid(format!(
                    "linux.resources.memory.{field} {limit} is not above the {used} bytes in use"
                ))
                .cure("checkBeforeUpdate asks to refuse that"));
            }
        }
        Ok(())
    }
}

fn limit(write: &Write) -> String {
    format!("limit linux.resources.{}", write.limit)
}
