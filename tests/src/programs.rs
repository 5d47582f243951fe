//! Where the programs that tests need come from: the probe (built here when needed), busybox, the project's directories.
//!
//! It installs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The static probe: `$PROBE`, or built by cargo.
pub fn probe() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os("PROBE").map_or_else(build_probe, PathBuf::from))
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's output directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Debian's static busybox, where it is installed.
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|p| p.exists())
}

fn build_probe() -> PathBuf {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.current_dir(repository()).args(["build", "--quiet", "--release", "--package", "probe", "--target"]);
    let triple = if sysroot.join("lib/rustlib").join(&musl).exists() {
        musl
    } else {
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
        format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
    };
    let status = cargo.arg(&triple).arg("--target-dir").arg(target()).status().expect("cargo runs");
    assert!(status.success(), "the probe doesn't build");
    target().join(triple).join("release/probe")
}

/// rt built so that it fails or dies at the step that a variable names: `$RT_FAILPOINTS`, or built by cargo.
pub fn failpoints() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os("RT_FAILPOINTS").map_or_else(build_failpoints, PathBuf::from))
}

fn build_failpoints() -> PathBuf {
    built_with_failpoints("rt", "runtime")
}

/// In the usual place, with the features of the whole workspace: its dependencies are built there already. Then copied, so that nobody
/// takes it for the usual program.
fn built_with_failpoints(program: &str, package: &str) -> PathBuf {
    let status = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .current_dir(repository())
        .args(["build", "--quiet", "--workspace", "--bin", program, "--features"])
        .arg(format!("{package}/failpoints"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{program} with fail points doesn't build");
    let directory = target().join("failpoints");
    std::fs::create_dir_all(&directory).expect("make a directory");
    let path = directory.join(program);
    // By another name first: a test may be executing the former one.
    let draft = directory.join(format!(".{program}.{}", std::process::id()));
    std::fs::copy(target().join("debug").join(program), &draft).expect("copy the program");
    std::fs::rename(&draft, &path).expect("rename the program");
    path
}

/// rt-cri built so that it dies or fails at the stage that a variable names: `$RT_CRI_FAILPOINTS`, or built by cargo.
pub fn cri_failpoints() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::var_os("RT_CRI_FAILPOINTS").map_or_else(build_cri_failpoints, PathBuf::from)
    })
}

fn build_cri_failpoints() -> PathBuf {
    built_with_failpoints("rt-cri", "cri")
}
