//! What is known of a container between two commands: its directory, its record, its status. It has no effect on containers.

mod dir;
mod liveness;
mod origin;
mod owner;
mod place;
mod record;
mod status;

pub use dir::{Container, Leftover, Reserved, StateDir};
pub use liveness::{ProcessId, Progress, children, held_below, progress};
pub use origin::{Depth, NamespaceId, Origin};
pub use owner::name as user_name;
pub use place::SECCOMP;
pub use record::{CgroupRecord, Record, Report, RootMount};
pub use status::{Stage, Status};

#[cfg(test)]
mod tests;
