//! Containers: one file per RPC verb.
