//! Makes Rust types of the protocols: containerd's task API, events and bootstrap, the metrics of cgroups, and our pod service.

use std::error::Error;

const FILES: [&str; 9] = [
    "runtime/task/v2/shim.proto",
    "runtime/task/v3/shim.proto",
    "runtime/bootstrap/v1/bootstrap.proto",
    "services/ttrpc/events/v1/events.proto",
    "events/task.proto",
    "types/introspection.proto",
    "types/runtimeoptions/v1/api.proto",
    "types/runc/options/oci.proto",
    "cgroup2/stats/metrics.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = FILES.iter().copied().chain(["pod.proto"]);
    let descriptors = protox::compile(files, ["proto/containerd", "proto/cgroups", "proto"])?;
    let mut config = prost_build::Config::new();
    // Comments of the .proto files are not ours to hold to our lints.
    config.disable_comments(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
