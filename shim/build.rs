//! Makes Rust types of the protocols: containerd's task API, events and bootstrap, the metrics of cgroups, and our pod service.
//! Builds the pause program that the shim embeds.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

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
    pause()
}

/// Builds the pause program for the shim's own target: no library, so that any Rust toolchain has all that it needs.
fn pause() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=pause");
    let program = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("pause");
    let status = Command::new(env::var_os("RUSTC").ok_or("no RUSTC")?)
        .args(["--edition", "2024", "--crate-name", "pause", "--crate-type", "bin"])
        .args(["--target", &env::var("TARGET")?])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
            "-C",
            "relocation-model=static",
        ])
        .args(["-C", "link-self-contained=no", "-C", "default-linker-libraries=no", "-C", "relro-level=off"])
        .args(["-nostartfiles", "-nostdlib", "-static"].map(|argument| format!("-Clink-arg={argument}")))
        // One page for all of it, and no notes.
        .args(["-Clink-arg=-fuse-ld=bfd", "-Clink-arg=-Wl,-n,-z,noseparate-code,--build-id=none"])
        .arg("-o")
        .arg(program)
        .arg("pause/main.rs")
        .status()?;
    if status.success() { Ok(()) } else { Err("build the pause program".into()) }
}
