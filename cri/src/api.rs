//! CRI's messages and services, made by build.rs from proto/api.proto. No logic.
#![allow(missing_docs, clippy::all, rust_2018_idioms, rustdoc::all, deprecated)]

tonic::include_proto!("runtime.v1");
