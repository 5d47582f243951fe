//! Makes Rust types and the services' traits of CRI's api.proto (k8s.io/cri-api v0.37.2, Apache-2.0) and of our own images.proto.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["api.proto", "images.proto"], ["proto"])?;
    // Comments of the .proto file are not ours to hold to our lints.
    // The long list is put together from what is encoded already.
    let encoded = (".runtime.v1.ListContainersResponse", "crate::container::list::Answer");
    tonic_prost_build::configure()
        .disable_comments(["."])
        .extern_path(encoded.0, encoded.1)
        .compile_fds(descriptors)?;
    Ok(())
}
