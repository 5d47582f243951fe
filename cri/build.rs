//! Makes Rust types and the services' traits of CRI's api.proto (k8s.io/cri-api v0.37.2, Apache-2.0) and of our own images.proto.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["api.proto", "images.proto"], ["proto"])?;
    // Comments of the .proto file are not ours to hold to our lints.
    // The long lists are put together from what is encoded already.
    let containers = (".runtime.v1.ListContainersResponse", "crate::encoded::Encoded");
    let stats = (".runtime.v1.ListContainerStatsResponse", "crate::encoded::Listed");
    let attributes = (".runtime.v1.ContainerAttributes", "crate::encoded::Encoded");
    tonic_prost_build::configure()
        .disable_comments(["."])
        .extern_path(containers.0, containers.1)
        .extern_path(stats.0, stats.1)
        .extern_path(attributes.0, attributes.1)
        .compile_fds(descriptors)?;
    Ok(())
}
