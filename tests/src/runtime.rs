//! Which runtime is under test: ours, or a reference that the same tests are run against.
//!
//! Chosen by `RT_UNDER_TEST`: `rt` (the default), `runc`, `crun`, or the path of one.

use crate::programs::target;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A runtime's name and executable.
pub struct Runtime {
    name: String,
    version: String,
    path: PathBuf,
}

impl Runtime {
    /// The one that this run tests.
    pub fn under_test() -> &'static Runtime {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| {
            let asked = std::env::var("RT_UNDER_TEST").unwrap_or_else(|_| "rt".to_owned());
            find(&asked).unwrap_or_else(|e| panic!("RT_UNDER_TEST={asked}: {e}"))
        })
    }

    /// Whether it is the one named: `rt`, `runc`, `crun`, or of such a version, `runc 1.1`.
    pub fn is(&self, name: &str) -> bool {
        match name.split_once(' ') {
            None => self.name == name,
            Some((name, version)) => self.name == name && self.version.starts_with(&format!("{version}.")),
        }
    }

    /// Its executable.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn find(asked: &str) -> Result<Runtime, String> {
    let path = if asked.contains('/') { PathBuf::from(asked) } else { named(asked)? };
    let version =
        Command::new(&path).arg("--version").output().map_err(|e| format!("{}: {e}", path.display()))?;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    // The first line is `NAME version X`.
    let mut words = text.split_whitespace();
    let name = words.next().ok_or_else(|| format!("{}: no version", path.display()))?.to_owned();
    let version = words.nth(1).unwrap_or_default().to_owned();
    Ok(Runtime { name, version, path })
}

fn named(name: &str) -> Result<PathBuf, String> {
    let built = match name {
        "rt" => target().join("bin/rt"),
        _ => target().join("peers/bin").join(name),
    };
    if built.exists() {
        return Ok(built);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|d| d.join(name))
        .find(|p| p.exists());
    match (found, name) {
        (Some(path), "runc" | "crun") => Ok(path),
        (_, "rt") => Err(format!("{} is not there; build it with hack/build", built.display())),
        _ => Err(format!("neither {} nor in PATH", built.display())),
    }
}
