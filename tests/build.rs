//! Makes Rust types of the shim's protocols and of CRI, with CRI's clients: from the protocol files, not from our code.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../shim/proto");
    let files = [
        "pod.proto",
        "runtime/task/v3/shim.proto",
        "runtime/bootstrap/v1/bootstrap.proto",
        "services/ttrpc/events/v1/events.proto",
        "events/task.proto",
        "types/introspection.proto",
        "types/runc/options/oci.proto",
        "cgroups/cgroup2/stats/metrics.proto",
    ];
    let places = ["../shim/proto", "../shim/proto/containerd"];
    let mut config = prost_build::Config::new();
    config.disable_comments(["."]);
    config.include_file("protocols.rs");
    config.compile_fds(protox::compile(files, places)?)?;
    println!("cargo:rerun-if-changed=../cri/proto");
    let cri = protox::compile(["api.proto"], ["../cri/proto"])?;
    let set = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("cri.desc");
    std::fs::write(set, prost::Message::encode_to_vec(&cri))?;
    tonic_prost_build::configure().build_server(false).disable_comments(["."]).compile_fds(cri)?;
    Ok(())
}
