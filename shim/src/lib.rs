//! The shim as a library: what `containerd-shim-rt-v2` does, and the client with which a manager of pods talks to it.

pub mod api;
