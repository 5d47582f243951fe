//! An OCI runtime as a library: everything that the `rt` program does, callable in process.
//!
//! It does not supervise: what it starts is the caller's child (or subreaper's), and nothing stays running in here.

pub mod cli;
pub mod clock;
pub mod error;
pub mod id;
pub mod log;
pub mod ops;
pub mod parent;
pub mod plan;
pub mod spec;
pub mod state;
pub mod sys;

pub use error::{Context, Error, Kind, Result};
