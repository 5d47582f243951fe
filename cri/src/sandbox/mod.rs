//! Sandboxes: one file per RPC verb (run, stop, remove, status, list, update), and the steps that they are made of. It does not know
//! gRPC.

pub mod cgroup;
pub mod check;
pub mod files;
pub mod list;
pub mod network;
pub mod remove;
pub mod run;
pub mod shimless;
pub mod spec;
pub mod status;
pub mod stop;
pub mod update;
pub mod watch;
