//! The three RPCs that give out URLs. The container or pod is looked at now, so that a client hears at once what is wrong with it.

use std::sync::Arc;

use super::backend::{Exec, Streams};
use super::server::Server;
use crate::api;
use crate::container::exec::{check, running};
use crate::error::{Error, Kind, Result};
use crate::node::Node;
use crate::record::SandboxStage;

/// `Exec`.
pub fn exec(node: &Arc<Node>, server: &Server, request: api::ExecRequest) -> Result<api::ExecResponse> {
    let container = running(node, &request.container_id)?;
    check(&request.cmd)?;
    let api::ExecRequest { cmd: command, tty, stdin, stdout, stderr, .. } = request;
    let streams = Streams { stdin, stdout, stderr, tty };
    let url = server.exec(Exec { container: container.id.clone(), command, streams })?;
    Ok(api::ExecResponse { url })
}

/// `Attach`.
pub fn attach(
    node: &Arc<Node>,
    server: &Server,
    request: &api::AttachRequest,
) -> Result<api::AttachResponse> {
    let container = running(node, &request.container_id)?;
    let &api::AttachRequest { stdin, tty, stdout, stderr, .. } = request;
    if tty != container.config.tty {
        let (asked, is) = if tty { ("with", "none") } else { ("without", "one") };
        return Err(Error::new(
            Kind::Invalid,
            format!("attach to container {} {asked} a terminal: it has {is}", container.id),
        ));
    }
    if stdin && !container.config.stdin {
        return Err(Error::new(
            Kind::Invalid,
            format!("attach to the stdin of container {}: it was created without one", container.id),
        ));
    }
    let url = server.attach(container.id.clone(), Streams { stdin, stdout, stderr, tty })?;
    Ok(api::AttachResponse { url })
}

/// `PortForward`. The ports are the client's to name on each stream.
pub fn forward(
    node: &Arc<Node>,
    server: &Server,
    request: &api::PortForwardRequest,
) -> Result<api::PortForwardResponse> {
    let sandbox = node.sandbox(&request.pod_sandbox_id)?;
    if sandbox.stage() != SandboxStage::Ready {
        return Err(Error::new(
            Kind::WrongStatus,
            format!("forward ports of sandbox {}: it is not ready", sandbox.meta.id),
        ));
    }
    Ok(api::PortForwardResponse { url: server.forward(sandbox.meta.id.clone())? })
}
