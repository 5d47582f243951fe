//! CreateContainer: record, writable layer, spec, and the container in the shim, whose process then waits for StartContainer. What fails
//! is undone by the very code of RemoveContainer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shim::api::pod;

use super::{check, place, remove, signal};
use crate::api;
use crate::claim;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::image::unpack::Cancel;
use crate::image::{Image, Users};
use crate::node::{Container, Node, Sandbox, container_name};
use crate::oci::{self, Made};
use crate::paths;
use crate::record::{ContainerMeta, ContainerStage, ContainerStatus, Kept, SandboxStage, Versioned, file};
use crate::sandbox::spec;
use crate::stage::Stages;

/// What the kernel and our own files need.
const QUICK: Duration = Duration::from_secs(20);
/// A volume that is large or far away may take its time.
const SLOW: Duration = Duration::from_secs(110);

/// Creates a container, joins the creation of the same one, or names the one that was.
pub async fn create(node: &Arc<Node>, request: api::CreateContainerRequest) -> Result<String> {
    let config = request.config.ok_or_else(|| Error::invalid("the container config is missing"))?;
    check::config(&config)?;
    let sandbox = node.sandbox(&request.pod_sandbox_id)?;
    check_ready(&sandbox)?;
    let wanted = config.image.as_ref().map_or("", |image| image.image.as_str());
    let image = node.images.find(wanted).ok_or_else(|| {
        Error::not_found(format!("image {} is not here", crate::table::shown(wanted))).cure("pull it first")
    })?;
    let name = container_name(&sandbox.id, &config);
    let container = claim::one(
        (&node.containers, &node.jobs),
        &name,
        || {
            let container = new(node, &sandbox, &image, config.clone())?;
            Ok((container.id.clone(), container))
        },
        |there| {
            check_same(there, &config)?;
            Ok(there.stage() == ContainerStage::Created)
        },
        (
            |container| format!("create {}", container.id),
            |container| make(Arc::clone(node), Arc::clone(&sandbox), container, Arc::clone(&image)),
        ),
    );
    Ok(container.await?.id.clone())
}

fn check_ready(sandbox: &Sandbox) -> Result<()> {
    if sandbox.stage() == SandboxStage::Ready {
        return Ok(());
    }
    Err(Error::new(Kind::WrongStatus, format!("sandbox {} is not ready", sandbox.id))
        .cure("run a new one: a stopped sandbox takes no containers"))
}

fn new(
    node: &Node,
    sandbox: &Sandbox,
    image: &Image,
    config: api::ContainerConfig,
) -> Result<Arc<Container>> {
    let id = paths::new_id()?;
    let linux = config.linux.clone().unwrap_or_default();
    let status = ContainerStatus { resources: linux.resources.unwrap_or_default(), ..ContainerStatus::new() };
    let path = node.paths.container_record(&id).join("status");
    let status = Kept::new(path, &node.boot, Versioned { version: 1, status }, node.containers.changes());
    let meta = ContainerMeta {
        sandbox: sandbox.id.clone(),
        image_id: image.id.clone(),
        image_ref: image.id.clone(),
        mounted_images: mounted(node, &config),
        created_at: paths::now(),
        log_path: check::log_path(&sandbox.config, &config),
        stop_signal: signal::stop_signal(config.stop_signal, image_signal(image)),
        config,
        id,
    };
    Ok(Arc::new(Container::new(meta, status)))
}

fn image_signal(image: &Image) -> Option<&str> {
    image.config.config().as_ref().and_then(|config| config.stop_signal().as_deref())
}

/// One that is not here is refused where it would be mounted.
fn mounted(node: &Node, config: &api::ContainerConfig) -> BTreeMap<usize, String> {
    let mounts = oci::container::image_mounts(config).into_iter();
    mounts.filter_map(|(at, asked, _)| Some((at, node.images.find(&asked.image)?.id.clone()))).collect()
}

fn check_same(container: &Container, config: &api::ContainerConfig) -> Result<()> {
    let name = container.name();
    let cure = "remove it, or raise the attempt";
    if container.config != *config {
        let what = format!("container {} has the metadata {name} with another config", container.id);
        return Err(Error::new(Kind::Exists, what).cure(cure));
    }
    match container.stage() {
        ContainerStage::Making | ContainerStage::Created => Ok(()),
        stage => {
            let what = format!("container {} has the metadata {name} and is {stage:?}", container.id);
            Err(Error::new(Kind::Exists, what.to_lowercase()).cure(cure))
        }
    }
}

async fn make(
    node: Arc<Node>,
    sandbox: Arc<Sandbox>,
    container: Arc<Container>,
    image: Arc<Image>,
) -> Result<()> {
    let (node, sandbox, container, image) = (&node, &sandbox, &container, &image);
    let stages = Stages::new("create");
    let Err(error) = all(node, sandbox, (container, image), &stages).await else {
        super::status::tell(node, container, api::ContainerEventType::ContainerCreatedEvent);
        return Ok(());
    };
    let error = error.during(format!("create container {}", container.name()));
    tracing::warn!(container = container.id, "undo: {error}");
    if let Err(left) = remove::undo(node, container).await {
        tracing::error!(container = container.id, "not all could be undone, it is listed as exited: {left}");
    }
    Err(error)
}

async fn all(
    node: &Arc<Node>,
    sandbox: &Arc<Sandbox>,
    (container, image): (&Arc<Container>, &Arc<Image>),
    stages: &Stages,
) -> Result<()> {
    stages.at("write record", QUICK, record(node, container)).await?;
    stages.at("make writable layer", QUICK, place::layer(node, sandbox, container, image)).await?;
    let made = stages.at("make spec", SLOW, bundle(node, sandbox, container, image)).await?;
    let pid = stages.at("create in the shim", SLOW, in_shim(node, sandbox, container)).await?;
    // The sandbox may have been stopped meanwhile: then this container must not stay.
    check_ready(sandbox)?;
    let signal = signal::degraded(container.config.stop_signal, image_signal(image));
    container.status.set_saved_first(|status| {
        status.stage = ContainerStage::Created;
        status.pid = pid;
        status.user = made.user.clone();
        status.degraded = made.degraded.iter().chain(&signal).map(ToString::to_string).collect();
        status.timeline = stages.marks();
    })
}

async fn record(node: &Node, container: &Container) -> Result<()> {
    let dir = node.paths.container_record(&container.id);
    paths::own_dir(&dir)?;
    file::write(&dir.join("meta"), &node.boot, &container.meta)
}

async fn bundle(
    node: &Arc<Node>,
    sandbox: &Arc<Sandbox>,
    container: &Arc<Container>,
    image: &Arc<Image>,
) -> Result<Made> {
    let (node, sandbox) = (Arc::clone(node), Arc::clone(sandbox));
    let (container, image) = (Arc::clone(container), Arc::clone(image));
    let cancel = Cancel::default();
    // Dropped with this future, when the stage's time is over.
    let _waiting = cancel.on_drop();
    // Looks at paths that may lie on anything: not on a thread that answers others.
    let made = tokio::task::spawn_blocking(move || {
        let config = &container.config;
        let place = place::place(&node, &sandbox, (&container, &image), &cancel)?;
        let facts = place::facts(&sandbox);
        let users = users(config, &image, &cancel)?;
        let request = oci::container::Request {
            config,
            sandbox_config: &spec::config(&sandbox),
            image: oci::container::Image {
                name: config.image.as_ref().map_or("", |image| image.image.as_str()),
                config: image.config.config().as_ref(),
                layers: &image.layers,
                users: &users,
            },
            place: &place,
            sandbox: &facts,
            host: &host::now(&node.host(), config),
        };
        let made = oci::container::spec(&request)?;
        spec::write_bundle(&node.paths.bundle(&container.id), &made.config())?;
        Ok(made)
    });
    made.await.map_err(|error| Error::internal(format!("make the spec: {error}")))?
}

/// What the image knows of who the container should run as.
fn users(config: &api::ContainerConfig, image: &Image, cancel: &Cancel) -> Result<Users> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let name = context.map_or("", |context| context.run_as_username.as_str());
    let uid = context.and_then(|context| context.run_as_user.as_ref()).map(|uid| uid.value.to_string());
    image.users(&[name, uid.as_deref().unwrap_or_default()], cancel)
}

async fn in_shim(node: &Node, sandbox: &Sandbox, container: &Container) -> Result<u32> {
    let config = &container.config;
    let stdio = pod::Stdio {
        terminal: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log_path: container.log_path.clone(),
        // A pod may have its hands on it: the shim follows no link from there on, and makes what is missing.
        log_directory: sandbox.config.log_directory.trim_end_matches('/').to_owned(),
        ..Default::default()
    };
    let request = pod::CreateRequest {
        id: container.id.clone(),
        bundle: node.paths.bundle(&container.id).to_string_lossy().into_owned(),
        stdio: Some(stdio),
        cgroup: String::new(),
    };
    Ok(sandbox.shim().await?.create(&request).await?.pid)
}
