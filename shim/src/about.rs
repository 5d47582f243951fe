//! `-info` and `-v`: what this runtime is and can do.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use prost::Message;
use prost_types::Any;

use crate::api::containerd::types::{RuntimeInfo, RuntimeVersion};
use crate::error::{Context, Error, Result};
use crate::options::RuntimeOptions;
use crate::place;

/// The type of the runtime-spec's Features, whose encoding is JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// The version, for people.
pub fn version() -> String {
    format!("containerd-shim-rt-v2 {}\n", env!("CARGO_PKG_VERSION"))
}

/// containerd's RuntimeInfo; the options that it sends on stdin may name another runtime.
///
/// # Errors
/// The runtime can't be run.
pub fn run() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut input).what(|| "read what containerd sends")?;
    let options = Any::decode(input.as_slice())
        .map_err(|error| Error::invalid(format!("read the runtime's options: {error}")))?;
    let asked = RuntimeOptions::read(Some(&options))?.program();
    let program = place::runtime_program(asked.as_deref().unwrap_or(Path::new("")))?;
    let output = Command::new(&program)
        .arg("features")
        .stdin(Stdio::null())
        .output()
        .what(|| format!("run {}", program.display()))?;
    let info = RuntimeInfo {
        name: "io.containerd.rt.v2".to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        }),
        options: (!options.type_url.is_empty()).then_some(options),
        // A runtime without this command says nothing about itself.
        features: output
            .status
            .success()
            .then(|| Any { type_url: FEATURES.to_owned(), value: output.stdout }),
        annotations: Default::default(),
    };
    Ok(info.encode_to_vec())
}
