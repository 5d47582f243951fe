//! The only unsafe code of the crate: thin, total, without policy; one file per kernel facility.
//!
//! A wrapper takes and returns owned or borrowed descriptors and Rust values, and reports errno through [`nix::Result`].
#![allow(unsafe_code)]

pub mod alarm;
pub mod pidfd;
