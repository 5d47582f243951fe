//! Removal of what was found. It removes nothing else.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use super::Finding;
use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::image::Store;
use crate::network::Network;
use crate::paths::{self, Paths};
use crate::server::program;

/// Removes all; the first error is returned, the others are printed.
pub fn all(config: &Config, found: &[Finding]) -> Result<()> {
    let paths = Paths::new(config);
    let mut first = Ok(());
    for finding in found {
        if let Err(error) = one(config, &paths, finding) {
            eprintln!("rt-cri: {finding}: {error}");
            first = first.and(Err(error.during("repair")));
        }
    }
    first = first.and(network(config, &paths, found));
    let flaws: Vec<_> = found
        .iter()
        .filter_map(|finding| match finding {
            Finding::Image(flaw) => Some(flaw.clone()),
            _ => None,
        })
        .collect();
    if !flaws.is_empty() {
        let store = Store::open(&paths.images(), &config.registry)?;
        first = first.and(store.repair(&flaws, &HashSet::new()).map(drop));
    }
    first
}

fn one(config: &Config, paths: &Paths, finding: &Finding) -> Result<()> {
    match finding {
        Finding::Torn(dir) | Finding::Directory(dir) => paths::remove_dir(dir),
        Finding::Orphan(id) => paths::remove_dir(&paths.container_record(id)),
        Finding::Container(id) => container(config, paths, id),
        Finding::Mount(point) => unmount(point),
        Finding::Namespace(path) => {
            unmount(Path::new(path))?;
            std::fs::remove_file(path).what(|| format!("remove {path}"))
        }
        Finding::Cgroup(path) => {
            std::fs::remove_dir(path).what(|| format!("remove cgroup {}", path.display()))
        }
        // These are removed together.
        Finding::Network(_) | Finding::Image(_) => Ok(()),
    }
}

fn unmount(point: &Path) -> Result<()> {
    umount2(point, MntFlags::MNT_DETACH).what(|| format!("unmount {}", point.display()))
}

/// Ends it, if it runs: nobody could ever stop it otherwise.
fn container(config: &Config, paths: &Paths, id: &str) -> Result<()> {
    let name = config.runtimes.get(&config.default_runtime).map(|runtime| runtime.path.clone());
    let runtime = program(&name.unwrap_or_else(|| "rt".into()))?;
    let mut command = Command::new(&runtime);
    command.arg("--root").arg(paths.runtime_root()).args(["delete", "--force", id]);
    let output = command.output().what(|| format!("execute {}", runtime.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::internal(format!("delete container {id}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Gives back what pods were given that don't exist.
fn network(config: &Config, paths: &Paths, found: &[Finding]) -> Result<()> {
    let gone = |id: &String| found.contains(&Finding::Network(id.clone()));
    if !found.iter().any(|finding| matches!(finding, Finding::Network(_))) {
        return Ok(());
    }
    let network = Network::open(&config.cni, &paths.network())?;
    let live: BTreeSet<String> = network.pods().into_iter().filter(|id| !gone(id)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.what(|| "start a thread for the network")?.block_on(network.gc(&live))
}
