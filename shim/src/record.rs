//! What survives the shim: how containers ended, in `<dir>/exits/ID.json`, until they are removed. Whoever finds a shim dead
//! reads there what it had not been told yet. Everything else lives in `rt`'s own state.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::pod::Ended;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exit {
    exit_code: i32,
    /// Nanoseconds since the epoch.
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oom_cgroup: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Keeps it: whole or not at all.
pub fn keep(dir: &Path, id: &str, ended: &Ended) -> Result<()> {
    let path = path(dir, id);
    let what = || format!("keep the exit of container \"{id}\" in {}", path.display());
    let at = ended.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let exit = Exit {
        exit_code: ended.exit_code,
        at: u64::try_from(at).unwrap_or(u64::MAX),
        oom_cgroup: ended.oom_cgroup.clone(),
        reason: ended.reason.clone(),
    };
    let text =
        serde_json::to_vec(&exit).map_err(|e| Error::new(Kind::Internal, e.to_string()).during(what()))?;
    let draft = path.with_extension("new");
    std::fs::create_dir_all(dir.join("exits")).what(what)?;
    std::fs::write(&draft, text).what(what)?;
    std::fs::rename(&draft, &path).what(what)
}

/// It was removed: whoever asked for that knows how it ended.
pub fn forget(dir: &Path, id: &str) {
    let _ = std::fs::remove_file(path(dir, id)); // one that never ended has none
}

/// Nothing is left to be told.
pub fn close(dir: &Path) {
    let _ = std::fs::remove_dir(dir.join("exits")); // there is none if nothing ended; one that is not empty stays
}

/// How a container of a shim that is gone had ended; none: not before the shim.
pub fn read(dir: &Path, id: &str) -> Option<Ended> {
    let exit: Exit = serde_json::from_slice(&std::fs::read(path(dir, id)).ok()?).ok()?;
    let at: SystemTime = UNIX_EPOCH + Duration::from_nanos(exit.at);
    Some(Ended { exit_code: exit.exit_code, at, oom_cgroup: exit.oom_cgroup, reason: exit.reason })
}

fn path(dir: &Path, id: &str) -> PathBuf {
    dir.join("exits").join(format!("{id}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_as_it_was_kept_until_it_is_forgotten() {
        let dir = std::env::temp_dir().join(format!("shim-record-{}", std::process::id()));
        let at = UNIX_EPOCH + Duration::from_nanos(1_795_271_696_123_456_789);
        let ended = Ended { exit_code: 137, at, oom_cgroup: Some("/c".into()), reason: "x".into() };
        keep(&dir, "a", &ended).unwrap();
        assert_eq!(read(&dir, "a"), Some(ended));
        forget(&dir, "a");
        assert_eq!(read(&dir, "a"), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
