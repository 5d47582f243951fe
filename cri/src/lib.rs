//! The CRI server as a library: everything that `rt-cri` does.

pub mod api;
