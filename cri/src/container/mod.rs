//! Containers: one file per RPC verb (create, start, stop, remove, status, list, update, log, exec), and the steps that they are made
//! of. It does not know gRPC.

pub mod check;
pub mod create;
pub mod exec;
pub mod exit;
pub mod image_mount;
pub mod list;
pub mod log;
pub mod place;
pub mod remove;
pub mod signal;
pub mod start;
pub mod status;
pub mod stop;
pub mod update;
pub mod volume;
