//! Black-box tests of the OCI runtime, one file per topic.

mod bad_input;
mod binds;
mod cgroup;
mod commands;
mod devices;
mod engines;
mod escapes;
mod exec;
mod hooks;
mod idmapped;
mod leftovers;
mod lifecycle;
mod mounts;
mod namespaces;
mod notify;
mod overlay;
mod privileges;
mod process;
mod rootfs;
mod seccomp;
mod shared_mounts;
mod sharing;
mod smoke;
mod starting;
mod systemd;
mod terminal;
