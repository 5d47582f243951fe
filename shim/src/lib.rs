//! The shim as a library: what `containerd-shim-rt-v2` does, and the client with which a manager of pods talks to it.

pub mod api;
pub mod client;
pub mod error;
pub mod pod;
pub mod ttrpc;

pub use error::{Context, Error, Kind, Result};
