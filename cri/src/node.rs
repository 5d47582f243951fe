//! The server's whole state in one place: configuration, what the host is, the tables of sandboxes and containers, and the parts that
//! work on them. It has no flow of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use shim::client::Client;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::events::Events;
use crate::image::Store;
use crate::jobs::Jobs;
use crate::network::Network;
use crate::oci::Host;
use crate::paths::Paths;
use crate::record::{
    ContainerMeta, ContainerStage, ContainerStatus, Kept, SandboxMeta, SandboxStage, SandboxStatus,
};
use crate::shims::{self, Shims};
use crate::table::Table;

/// Everything that requests work on.
pub struct Node {
    /// As read.
    pub config: Config,
    /// Directories.
    pub paths: Paths,
    /// The boot that this server runs in.
    pub boot: String,
    /// The host, as far as specs depend on it.
    pub host: RwLock<Arc<Host>>,
    /// OCI runtimes by handler.
    pub runtimes: std::collections::BTreeMap<String, PathBuf>,
    /// Sandboxes, those in the making too.
    pub sandboxes: Table<Sandbox>,
    /// Containers, those in the making too.
    pub containers: Table<Container>,
    /// What ListContainers has told of them last.
    pub list: crate::container::list::Whole,
    /// Starting and reaping shims.
    pub shims: Shims,
    /// The pod network.
    pub network: Network,
    /// Images.
    pub images: Arc<Store>,
    /// Work in progress on sandboxes and containers, by verb and id.
    pub jobs: Jobs<()>,
    /// For GetContainerEvents.
    pub events: Arc<Events>,
    /// What is kept between questions about usage.
    pub stats: crate::stats::Stats,
}

impl std::ops::Deref for Sandbox {
    type Target = SandboxMeta;

    fn deref(&self) -> &SandboxMeta {
        &self.meta
    }
}

impl std::ops::Deref for Container {
    type Target = ContainerMeta;

    fn deref(&self) -> &ContainerMeta {
        &self.meta
    }
}

/// A sandbox in memory.
#[derive(Debug)]
pub struct Sandbox {
    /// What never changes.
    pub meta: SandboxMeta,
    /// What does.
    pub status: Arc<Kept<SandboxStatus>>,
    /// What its network lacked when it was checked last; empty: nothing.
    pub network_fault: Mutex<String>,
    shim: Mutex<Option<Client>>,
    dir: PathBuf,
}

/// A container in memory.
#[derive(Debug)]
pub struct Container {
    /// What never changes.
    pub meta: ContainerMeta,
    /// What does.
    pub status: Arc<Kept<ContainerStatus>>,
    /// Its line of ListContainers.
    pub line: crate::container::list::Line,
    /// What its statistics say that they are of.
    pub attributes: OnceLock<crate::encoded::Encoded>,
}

impl Sandbox {
    /// `dir` is the pod's directory.
    pub fn new(meta: SandboxMeta, status: Arc<Kept<SandboxStatus>>, dir: PathBuf) -> Self {
        Self { meta, status, network_fault: Mutex::default(), shim: Mutex::new(None), dir }
    }

    /// The pod's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection to its shim: the one there is, or a new one.
    pub async fn shim(&self) -> Result<Client> {
        let there = self.shim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = there.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let limit = Duration::from_secs(2);
        let client = tokio::time::timeout(limit, shims::reach(&self.dir)).await.map_err(|_| {
            Error::new(Kind::Timeout, format!("the shim of sandbox {} does not answer", self.meta.id))
        })??;
        *self.shim.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// How far it is.
    pub fn stage(&self) -> SandboxStage {
        self.status.look(|status| status.stage)
    }

    /// Whether clients see it.
    pub fn is_listed(&self) -> bool {
        self.stage() != SandboxStage::Making
    }

    /// The name that its metadata makes: one sandbox of that name at a time.
    pub fn name(&self) -> String {
        sandbox_name(&self.meta.config)
    }

    /// Whether the pod shares the host's network.
    pub fn is_on_host_network(&self) -> bool {
        use crate::api::NamespaceMode;
        let options = self.meta.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let options = options.and_then(|context| context.namespace_options.as_ref());
        options.is_some_and(|options| options.network == NamespaceMode::Node as i32)
    }

    /// Whether the pod shares the host's IPC namespace.
    pub fn is_on_host_ipc(&self) -> bool {
        use crate::api::NamespaceMode;
        let options = self.meta.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let options = options.and_then(|context| context.namespace_options.as_ref());
        options.is_some_and(|options| options.ipc == NamespaceMode::Node as i32)
    }
}

impl Container {
    /// Of what is recorded of it.
    pub fn new(meta: ContainerMeta, status: Arc<Kept<ContainerStatus>>) -> Self {
        Self { meta, status, line: Default::default(), attributes: OnceLock::new() }
    }

    /// How far it is.
    pub fn stage(&self) -> ContainerStage {
        self.status.look(|status| status.stage)
    }

    /// Whether clients see it.
    pub fn is_listed(&self) -> bool {
        self.stage() != ContainerStage::Making
    }

    /// The name that its metadata makes.
    pub fn name(&self) -> String {
        container_name(&self.meta.sandbox, &self.meta.config)
    }
}

/// `name_namespace_uid_attempt`.
pub fn sandbox_name(config: &crate::api::PodSandboxConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt)
}

/// `sandbox_name_attempt`.
pub fn container_name(sandbox: &str, config: &crate::api::ContainerConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!("{sandbox}_{}_{}", metadata.name, metadata.attempt)
}

impl Node {
    /// The host as last looked at.
    pub fn host(&self) -> Arc<Host> {
        Arc::clone(&self.host.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The containers of a sandbox, those in the making too.
    pub fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers.all().into_iter().filter(|container| container.meta.sandbox == sandbox).collect()
    }

    /// The images that containers are made of, by id.
    pub fn images_in_use(&self) -> std::collections::HashSet<String> {
        let all = self.containers.all();
        let of = |container: &Arc<Container>| {
            let mounted = container.meta.mounted_images.values().cloned();
            mounted.chain([container.meta.image_id.clone()]).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }

    /// Tells the store which images are still used, so that it removes what was kept for containers that are gone.
    pub fn collect_images(&self) {
        if let Err(error) = self.images.collect(&self.images_in_use()) {
            tracing::warn!("collect layers that no container uses: {error}");
        }
    }

    /// A sandbox that clients see.
    pub fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        let sandbox = self.sandboxes.get(id)?;
        if sandbox.is_listed() {
            return Ok(sandbox);
        }
        Err(Error::not_found(format!("sandbox {} is still being made", sandbox.meta.id)))
    }

    /// A container that clients see.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        let container = self.containers.get(id)?;
        if container.is_listed() {
            return Ok(container);
        }
        Err(Error::not_found(format!("container {} is still being made", container.meta.id)))
    }

    /// The sandbox of a container.
    pub fn sandbox_of(&self, container: &Container) -> Result<Arc<Sandbox>> {
        self.sandboxes.get(&container.meta.sandbox)
    }

    /// The OCI runtime of a handler; empty is the default one.
    pub fn runtime(&self, handler: &str) -> Result<&Path> {
        match self.runtimes.get(handler) {
            Some(path) => Ok(path),
            None => {
                let known: Vec<&str> = self.runtimes.keys().map(String::as_str).collect();
                Err(Error::invalid(format!("no runtime handler {}", crate::table::shown(handler)))
                    .cure(format!("known: {}", known.join(", "))))
            }
        }
    }
}
