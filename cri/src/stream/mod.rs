//! Streaming: exec, attach and port-forward between Kubernetes' clients and the shim, over SPDY/3.1 and WebSocket.
//!
//! ```text
//! URL with a token ─▶ server (HTTP upgrade) ─▶ spdy | websocket ─▶ channels ─▶ remote (exec, attach) | forward ─▶ backend
//! ```
//!
//! Processes live in the shim, not here: a connection that ends, or a restart of the server, ends no process.

pub mod backend;
mod channel;
mod forward;
pub mod pods;
mod remote;
pub mod rpc;
mod server;
mod spdy;
#[cfg(test)]
mod tests;
mod token;
mod websocket;
mod wire;

pub use server::Server;

/// `[streaming]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server for exec, attach and port-forward listens; port 0 is any that is free. Who can connect there still
    /// needs a URL, and kubelet is the one that gets them: keep it on loopback.
    pub address: std::net::SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}
