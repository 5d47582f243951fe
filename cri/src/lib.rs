//! The CRI server as a library: everything that `rt-cri` does.

pub mod api;
pub mod claim;
pub mod cli;
pub mod config;
pub mod container;
pub mod error;
pub mod events;
pub mod fsck;
pub mod host;
pub mod image;
pub mod jobs;
pub mod metrics;
pub mod network;
pub mod node;
pub mod oci;
pub mod paths;
pub mod preflight;
pub mod record;
pub mod recover;
pub mod sandbox;
pub mod server;
pub mod shims;
pub mod stage;
pub mod stats;
pub mod stream;
pub mod table;
