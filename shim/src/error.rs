//! The shim's errors are the runtime's. Whoever answers a caller maps [`Kind`] once, to a ttrpc code or an exit code.

pub use runtime::error::{Context, Error, Kind, Result};
