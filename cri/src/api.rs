//! CRI's messages and services, made by build.rs from proto/api.proto, and those of `rt-cri images`. No logic.
#![allow(missing_docs, clippy::all, rust_2018_idioms, rustdoc::all, deprecated)]

tonic::include_proto!("runtime.v1");

/// What `rt-cri images` asks a server for beyond CRI.
pub mod images {
    tonic::include_proto!("rt.images.v1");
}
