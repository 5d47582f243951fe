//! Streaming: exec, attach and port-forward between Kubernetes' clients and the shim, over SPDY/3.1 and WebSocket.
//!
//! ```text
//! URL with a token ─▶ server (HTTP upgrade) ─▶ spdy | websocket ─▶ channels ─▶ remote (exec, attach) | forward ─▶ backend
//! ```
//!
//! Processes live in the shim, not here: a connection that ends, or a restart of the server, ends no process.

pub mod backend;
pub mod channel;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod halves;
#[cfg(test)]
mod mutations;
mod negotiate;
pub mod pods;
pub mod remote;
pub mod room;
pub mod rpc;
mod server;
mod socket;
pub mod spdy;
#[cfg(test)]
mod tests;
mod tls;
mod token;
pub mod websocket;
pub mod wire;

pub use server::Server;

/// `[streaming]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server for exec, attach and port-forward listens; port 0 is any that is free. Who can connect there still
    /// needs a URL, and kubelet is the one that gets them: keep it on loopback.
    pub address: std::net::SocketAddr,
    /// The certificate (PEM, with what it is signed by) of this address; with its key, URLs are https. Empty: plain HTTP.
    pub tls_cert_file: std::path::PathBuf,
    /// The certificate's key (PEM).
    pub tls_key_file: std::path::PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            tls_cert_file: std::path::PathBuf::new(),
            tls_key_file: std::path::PathBuf::new(),
        }
    }
}
