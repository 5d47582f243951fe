//! Opens everything that the server has: directories, programs, the host, images, the network. It serves nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use crate::config::Config;
use crate::error::{Context, Error, Kind, Result};
use crate::events::Events;
use crate::image::Store;
use crate::jobs::Jobs;
use crate::network::Network;
use crate::node::Node;
use crate::paths::{self, Paths};
use crate::shims::Shims;
use crate::table::Table;
use crate::{host, sandbox};

/// Of which lists can always have all, with the names and states: `bounds::ANSWER` holds 3.8 kB of each.
const SANDBOXES: usize = 4096;
const CONTAINERS: usize = 8192;

/// Opens a node whose tables are empty.
pub async fn open(config: Config) -> Result<Arc<Node>> {
    let paths = Paths::new(&config);
    for dir in paths.own() {
        paths::own_dir(&dir)?;
    }
    // Never closed: the lock is the process's.
    std::mem::forget(lock(&paths.state)?);
    sandbox::spec::install_pause(&paths.pause_rootfs())?;
    let mut host = host::look(&config)?;
    host.apparmor = tokio::task::spawn_blocking(host::apparmor::look_and_load)
        .await
        .map_err(|error| Error::internal(format!("look at AppArmor: {error}")))?;
    if let Some(why) = host.apparmor.as_ref().and_then(|found| found.lacking.as_deref()) {
        tracing::warn!("containers without a profile of their own are not confined by AppArmor: {why}");
    }
    let runtimes = config
        .runtimes
        .iter()
        .map(|(name, runtime)| {
            Ok((name.clone(), program(&runtime.path).what(|| format!("find the runtime of handler {name}"))?))
        })
        .collect::<Result<_>>()?;
    let shim = program(&config.shim.path).what(|| "find the shim")?;
    let shims = Shims::new(shim, &config.shim.log_level, paths.runtime_root(), &host);
    let network = Network::open(&config.cni, &paths.network())?;
    let images = Store::open(&paths.images(), &config.registry)?;
    Ok(Arc::new(Node {
        boot: paths::boot_id()?,
        host: RwLock::new(Arc::new(host)),
        runtimes,
        sandboxes: Table::new("sandbox", SANDBOXES),
        containers: Table::new("container", CONTAINERS),
        list: Default::default(),
        shims,
        network,
        images,
        jobs: Jobs::new(),
        events: Arc::new(Events::new(&config.events)),
        stats: crate::stats::Stats::open(&paths.root),
        paths,
        config,
    }))
}

/// One server for one state directory, as long as the file is open.
pub fn lock(state: &Path) -> Result<std::fs::File> {
    let path = state.join("lock");
    let file = std::fs::File::create(&path).what(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::new(Kind::Exists, format!("another server has {}", state.display()))
            .cure("end it, or give this one its own --state, --root and --listen")),
    }
}

/// A program by its path, or by its name: beside this one, then in PATH.
pub fn program(name: &Path) -> Result<PathBuf> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
    };
    if name.components().count() > 1 {
        let path = std::path::absolute(name).what(|| format!("look at {}", name.display()))?;
        return is_program(&path)
            .then_some(path)
            .ok_or_else(|| Error::not_found(format!("{} is no program", name.display())));
    }
    let own = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = own.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join(name));
    places.find(is_program).ok_or_else(|| {
        Error::not_found(format!("{} is neither beside this program nor in PATH", name.display()))
            .cure("install it, or name its path in the configuration")
    })
}
