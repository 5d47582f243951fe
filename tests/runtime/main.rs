//! Black-box tests of the OCI runtime, one file per topic.

mod cgroup;
mod devices;
mod exec;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod rootfs;
mod seccomp;
mod smoke;
mod terminal;
