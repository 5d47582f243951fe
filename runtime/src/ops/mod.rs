//! The operations of the runtime specification and of runc, one file each: what they do to the system, in order.
//!
//! They print what they were asked for on standard output and give the exit code; errors go up to the command line.

mod again;
pub mod attend;
mod birth;
pub mod console;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
mod gate;
pub mod kill;
pub mod launch;
pub mod limits;
pub mod list;
pub mod notify;
pub mod options;
pub mod pause;
pub mod plan;
mod poststart;
pub mod ps;
pub mod relay;
mod rootless;
pub mod run;
pub mod sealed;
pub mod share;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
mod stdout;
pub mod streams;
pub mod update;

pub use stdout::print;
