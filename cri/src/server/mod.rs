//! The server's life: start, recovery before the first answer, serving, draining. Pods outlive it.

mod answer;
mod condition;
mod grpc;
mod in_flight;
mod listen;
mod notify;
mod open;
mod runtime_service;
#[cfg(test)]
mod unit;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;

use crate::api::image_service_server::ImageServiceServer;
use crate::api::images::images_server::ImagesServer;
use crate::api::runtime_service_server::RuntimeServiceServer;
use crate::config::Config;
use crate::error::{Context, Result};
use crate::image::commands::CommandRpc;
use crate::image::service::ImageRpc;
use crate::node::Node;

pub use open::{lock, open, program};

/// What kubelet and cri-tools allow, both ways.
const MESSAGE: usize = 16 << 20;
/// How long work in progress is waited for at the end.
const DRAIN: Duration = Duration::from_secs(20);

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).what(|| "listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).what(|| "listen to SIGINT")?;
    // Secrets of registries and what clients type pass through its memory: no process of a container's may read it, and no dump has it.
    nix::sys::prctl::set_dumpable(false).what(|| "make the process undumpable")?;
    more_descriptors();
    let socket = listen::listen(&config.listen)?;
    let node = open(config).await?;
    reap(&node)?;
    crate::recover::recover(&node).await?;
    for event in crate::sandbox::status::standing(&node) {
        node.events.recover(&event.container_id, event.container_event_type());
    }
    tokio::spawn(give_back_memory());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let pods = Arc::new(crate::stream::pods::Pods(Arc::clone(&node)));
    let streams = crate::stream::Server::start(&node.config.streaming, pods).await?;
    crate::metrics::start(&node.config.metrics, &node).await?;
    let service = RuntimeServiceServer::new(runtime_service::Service::new(Arc::clone(&node), streams))
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE);
    let routes = Routes::new(service).add_service(images(&node)).add_service(image_commands(&node)).prepare();
    let serving = tokio::spawn(grpc::serve(socket.incoming()?, routes, stopped));
    tracing::info!(listen = node.config.listen, "ready");
    notify::notify("READY=1\nSTATUS=serving");
    tokio::spawn(crate::sandbox::network::check_all(Arc::clone(&node)));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining: pods go on");
    notify::notify("STOPPING=1");
    stop.send_replace(true);
    let drained = tokio::time::timeout(DRAIN, async {
        node.jobs.drain().await;
        // Streams of events don't end by themselves: what answers within the time has answered.
        let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
    });
    if drained.await.is_err() {
        tracing::warn!(
            "work was still going on after {} s: the next start finishes or undoes it",
            DRAIN.as_secs()
        );
    }
    socket.remove();
    Ok(())
}

/// What a crowd of requests has left free in the heap goes back to the kernel.
async fn give_back_memory() {
    let mut minutes = tokio::time::interval(Duration::from_secs(60));
    loop {
        minutes.tick().await;
        runtime::sys::memory::give_back();
    }
}

/// The soft limit is for programs that use select(2): a thousand forwarded connections need more. Shims get it too, containers have
/// the limits of their specs.
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("raise the limit of open descriptors: {error}");
    }
}

/// The image service; what containers use stays on disk when their image is removed.
fn images(node: &Arc<Node>) -> ImageServiceServer<ImageRpc> {
    let containers = Arc::clone(node);
    let in_use = move || containers.images_in_use();
    ImageServiceServer::new(ImageRpc::new(Arc::clone(&node.images), Arc::new(in_use)))
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE)
}

/// What `rt-cri images` asks for besides.
fn image_commands(node: &Arc<Node>) -> ImagesServer<CommandRpc> {
    let containers = Arc::clone(node);
    let in_use = move || containers.images_in_use();
    ImagesServer::new(CommandRpc::new(Arc::clone(&node.images), Arc::new(in_use)))
}

/// Reaps shims that end.
fn reap(node: &Arc<Node>) -> Result<()> {
    let mut children = signal(SignalKind::child()).what(|| "listen to SIGCHLD")?;
    let node = Arc::clone(node);
    tokio::spawn(async move {
        while children.recv().await.is_some() {
            node.shims.reap();
        }
    });
    Ok(())
}
