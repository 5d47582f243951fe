//! Effects on the host, by `rt` itself: before init is born, while it waits, and after it is gone.

pub mod cgroup;
pub mod filesystem;
pub mod mountinfo;
pub mod neighbour_hooks;
pub mod occupants;
pub mod overlay;
pub mod place;
pub mod prepare;
pub mod procfs;
pub mod shared_memory;
pub mod shared_root;
pub mod spare;
pub mod systemd;
mod userns;
