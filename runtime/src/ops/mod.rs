//! The operations of the runtime specification and of runc, one file each: what they do to the system, in order.
//!
//! They print what they were asked for on standard output and give the exit code; errors go up to the command line.

pub mod options;
pub mod stdout;
