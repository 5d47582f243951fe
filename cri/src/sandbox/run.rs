//! RunPodSandbox: the pod's record, network, files, shim and pause process, in that order. What fails is undone by the very code of
//! StopPodSandbox and RemovePodSandbox.

use std::sync::Arc;
use std::time::Duration;

use shim::api::pod;

use super::{cgroup, files, network, remove, spec, watch};
use crate::api::{self, ContainerEventType as What};
use crate::claim;
use crate::error::{Error, Kind, Result};
use crate::node::{Node, Sandbox, sandbox_name};
use crate::paths;
use crate::record::{Kept, SandboxMeta, SandboxStage, SandboxStatus, Versioned, file};
use crate::stage::Stages;

/// What the kernel and our own files need.
const QUICK: Duration = Duration::from_secs(20);
/// What plugins may need, in all.
const NETWORK: Duration = Duration::from_secs(120);

/// Runs a sandbox, joins the one that is being made of the same request, or names the one that was.
pub async fn run(node: &Arc<Node>, request: api::RunPodSandboxRequest) -> Result<String> {
    let config = request.config.ok_or_else(|| Error::invalid("the sandbox config is missing"))?;
    super::check::config(&config)?;
    let handler = match request.runtime_handler.as_str() {
        "" => node.config.default_runtime.clone(),
        handler => handler.to_owned(),
    };
    node.runtime(&handler)?;
    let name = sandbox_name(&config);
    let sandbox = claim::one(
        (&node.sandboxes, &node.jobs),
        &name,
        || {
            let sandbox = new(node, config.clone(), (handler.clone(), request.runtime_handler.clone()))?;
            Ok((sandbox.id.clone(), sandbox))
        },
        |there| {
            check_same(there, &config, &handler)?;
            Ok(there.stage() == SandboxStage::Ready)
        },
        (|sandbox| format!("run {}", sandbox.id), |sandbox| make(Arc::clone(node), sandbox)),
    );
    Ok(sandbox.await?.id.clone())
}

fn new(node: &Node, config: api::PodSandboxConfig, handler: (String, String)) -> Result<Arc<Sandbox>> {
    let id = paths::new_id()?;
    let asked = config.linux.as_ref().map_or("", |linux| linux.cgroup_parent.as_str());
    let (cgroup_parent, cgroup_parent_is_ours) = cgroup::parent(asked, &id, node.host().driver)?;
    let (handler, handler_asked) = handler;
    let created_at = paths::now();
    let status = Versioned { version: 1, status: SandboxStatus::new() };
    let status = Kept::new(
        node.paths.sandbox_record(&id).join("status"),
        &node.boot,
        status,
        node.sandboxes.changes(),
    );
    let dir = node.paths.pod(&id);
    let meta =
        SandboxMeta { id, config, handler, handler_asked, created_at, cgroup_parent, cgroup_parent_is_ours };
    Ok(Arc::new(Sandbox::new(meta, status, dir)))
}

fn check_same(sandbox: &Sandbox, config: &api::PodSandboxConfig, handler: &str) -> Result<()> {
    let name = sandbox.name();
    if sandbox.config != *config || sandbox.handler != handler {
        return Err(Error::new(
            Kind::Exists,
            format!("sandbox {} has the metadata {name} with another config", sandbox.id),
        )
        .cure("remove it, or raise the attempt"));
    }
    if sandbox.stage() == SandboxStage::Stopped {
        return Err(Error::new(
            Kind::Exists,
            format!("sandbox {} has the metadata {name} and is stopped", sandbox.id),
        )
        .cure("remove it, or raise the attempt"));
    }
    Ok(())
}

async fn make(node: Arc<Node>, sandbox: Arc<Sandbox>) -> Result<()> {
    let (node, sandbox, stages) = (&node, &sandbox, Stages::new("run"));
    let Err(error) = all(node, sandbox, &stages).await else {
        for what in [What::ContainerCreatedEvent, What::ContainerStartedEvent] {
            super::status::tell(node, sandbox, what);
        }
        watch::start(node, sandbox);
        return Ok(());
    };
    let error = error.during(format!("run sandbox {}", sandbox.name()));
    tracing::warn!(sandbox = sandbox.id, "undo: {error}");
    if let Err(left) = remove::undo(node, sandbox).await {
        tracing::error!(sandbox = sandbox.id, "not all could be undone, it is listed as not ready: {left}");
    }
    Err(error)
}

async fn all(node: &Arc<Node>, sandbox: &Arc<Sandbox>, stages: &Stages) -> Result<()> {
    stages.at("write record", QUICK, record(node, sandbox)).await?;
    let netns = stages.at("make network namespace", QUICK, network::namespace(node, sandbox)).await?;
    stages.at("set up network", NETWORK, network::attach(node, sandbox, netns.as_deref())).await?;
    stages.at("make files", QUICK, files::create(node, sandbox)).await?;
    let made = stages.at("make spec", QUICK, spec::write(node, sandbox, netns)).await?;
    stages.at("start shim", QUICK, shim(node, sandbox)).await?;
    let pid = stages.at("create pause container", QUICK, create(node, sandbox)).await?;
    stages.at("start pause container", QUICK, start(sandbox)).await?;
    let adopted = stages.at("adopt network namespace", QUICK, network::adopt(node, sandbox, pid)).await?;
    if adopted.is_some() {
        stages.at("set up network", NETWORK, network::attach(node, sandbox, adopted.as_deref())).await?;
        // Addresses come from the network, and name servers may.
        stages.at("write network files", QUICK, files::write_network_files(node, sandbox)).await?;
    }
    let ready = |status: &mut SandboxStatus| {
        status.stage = SandboxStage::Ready;
        status.pause_pid = pid;
        status.degraded = made.degraded.iter().map(ToString::to_string).collect();
        status.timeline = stages.marks();
    };
    // Recorded before it can be listed: what clients have seen survives a crash.
    sandbox.status.set_saved_first(ready)
}

async fn record(node: &Node, sandbox: &Sandbox) -> Result<()> {
    let dir = node.paths.sandbox_record(&sandbox.id);
    paths::own_dir(&dir)?;
    file::write(&dir.join("meta"), &node.boot, &sandbox.meta)?;
    paths::own_dir(sandbox.dir())
}

async fn shim(node: &Node, sandbox: &Sandbox) -> Result<()> {
    let runtime = node.runtime(&sandbox.handler)?;
    let pid = node.shims.start(&sandbox.id, sandbox.dir(), runtime)?;
    sandbox.status.set(|status| status.shim_pid = pid).await
}

async fn create(node: &Node, sandbox: &Sandbox) -> Result<u32> {
    let bundle = node.paths.bundle(&sandbox.id).to_string_lossy().into_owned();
    let request = pod::CreateRequest {
        id: sandbox.id.clone(),
        bundle,
        stdio: Some(pod::Stdio::default()),
        cgroup: String::new(),
    };
    Ok(sandbox.shim().await?.create(&request).await?.pid)
}

async fn start(sandbox: &Sandbox) -> Result<()> {
    sandbox.shim().await?.start(&sandbox.id).await?;
    Ok(())
}
