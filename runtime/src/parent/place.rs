//! What the parent gives a newborn init before it may go: id maps, a score for the OOM killer.

use nix::unistd::Pid;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::idmap::{self, IdMap};

/// Writes the maps of init's new user namespace.
pub fn id_maps(pid: Pid, maps: &IdMap) -> Result<()> {
    for (file, lines) in [("uid_map", idmap::lines(&maps.uids)), ("gid_map", idmap::lines(&maps.gids))] {
        // The kernel takes a map in a single write.
        std::fs::write(format!("/proc/{pid}/{file}"), &lines)
            .what(|| format!("write {lines:?} to /proc/{pid}/{file}"))
            .map_err(|error| match error.errno() {
                Some(libc::EPERM) => {
                    error.cure("mapping ids of others needs CAP_SETUID and CAP_SETGID over them")
                }
                _ => error,
            })?;
    }
    Ok(())
}

/// From here and not by init: in a user namespace it may not write this file of its own.
pub fn oom_score(pid: Pid, score: i16) -> Result<()> {
    let what = || format!("set oom_score_adj to {score}");
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).what(what).map_err(|error| {
        match error.errno() {
            Some(libc::EACCES | libc::EPERM) => Error::new(Kind::Denied, what()).cure(
                "it is below the runtime's own, and lowering it needs CAP_SYS_RESOURCE, which this process lacks",
            ),
            _ => error,
        }
    })
}
