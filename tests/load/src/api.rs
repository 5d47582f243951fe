//! CRI's messages and clients, made by build.rs from the server's proto/api.proto. No logic.
#![allow(missing_docs, clippy::all, rust_2018_idioms, rustdoc::all, deprecated)]

tonic::include_proto!("runtime.v1");
