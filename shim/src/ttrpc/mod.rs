//! ttrpc: containerd's small RPC protocol. A ten-byte header around protobuf messages, unary calls, many at once on one connection.
//!
//! Knows no service. Own framing, because the crates for it bring a second protobuf stack and a thread pool: an idle shim would
//! be larger by more than it may have in all.

mod channel;
mod connection;
mod frame;
mod message;
mod server;
#[cfg(test)]
mod tests;

pub use channel::Channel;
pub use connection::Hello;
pub use message::{Code, Metadatum, Request, Status};
pub use server::{Service, Stop, serve};
