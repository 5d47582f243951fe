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
mod remote;
mod server;
mod spdy;
#[cfg(test)]
mod tests;
mod token;
mod websocket;
mod wire;

pub use server::Server;
