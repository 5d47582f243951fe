//! Makes a client of CRI's api.proto: from the interface definition, not from the server's code.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../cri/proto");
    let descriptors = protox::compile(["api.proto"], ["../../cri/proto"])?;
    tonic_prost_build::configure().build_server(false).disable_comments(["."]).compile_fds(descriptors)?;
    Ok(())
}
