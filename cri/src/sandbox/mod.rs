//! Sandboxes: one file per RPC verb.
