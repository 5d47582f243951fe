//! Makes Rust types of the shim's protocols for its tests: from the protocol files, not from the shim's code.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../shim/proto");
    let files = [
        "pod.proto",
        "runtime/task/v3/shim.proto",
        "runtime/bootstrap/v1/bootstrap.proto",
        "types/introspection.proto",
    ];
    let places = ["../shim/proto", "../shim/proto/containerd"];
    let mut config = prost_build::Config::new();
    config.disable_comments(["."]);
    config.include_file("protocols.rs");
    config.compile_fds(protox::compile(files, places)?)?;
    Ok(())
}
