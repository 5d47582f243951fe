//! An OCI runtime as a library: everything that the `rt` program does, callable in process.
//!
//! It does not supervise: what it starts is the caller's child (or subreaper's), and nothing stays running in here.

pub mod bundle;
pub mod child;
pub mod cli;
pub mod clock;
pub mod error;
pub mod hooks;
pub mod id;
pub mod init;
pub mod link;
pub mod log;
pub mod ops;
pub mod outfile;
pub mod parent;
pub mod plan;
pub mod privilege;
pub mod spawn;
pub mod spec;
pub mod state;
pub mod step;
pub mod sys;

pub use error::{Context, Error, Kind, Result};
