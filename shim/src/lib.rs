//! The shim as a library: what `containerd-shim-rt-v2` does, and the client with which a manager of pods talks to it.

pub mod about;
pub mod api;
pub mod bootstrap;
mod cgroup;
mod children;
pub mod cli;
pub mod client;
pub mod error;
pub mod events;
mod io;
pub mod leftover;
mod log;
mod oom;
mod open;
pub mod options;
pub mod pause;
pub mod place;
pub mod pod;
mod process;
pub mod record;
pub mod request;
mod rt;
pub mod serve;
pub mod service;
pub mod start;
mod state;
pub mod trace;
pub mod ttrpc;

pub use error::{Context, Error, Kind, Result};
