//! The CRI server as a library: everything that `rt-cri` does.

pub mod api;
pub mod config;
pub mod container;
pub mod error;
pub mod image;
pub mod network;
pub mod oci;
pub mod record;
pub mod sandbox;
pub mod stats;
pub mod stream;
