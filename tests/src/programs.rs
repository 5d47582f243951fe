//! Where the programs that tests need come from: the probe (built here when needed), busybox, the project's directories.
//!
//! It installs nothing.

use std::os::unix::fs::PermissionsExt;
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

/// Copies a program, ready to be executed. Another program does the writing: this process has other tests' threads, a child that one of
/// them has just forked holds every descriptor that is open here until its own exec, and what is open for writing can't be executed
/// (ETXTBSY).
///
/// # Panics
/// When it can't be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let output = Command::new("cp").arg(from).arg(to).output().expect("cp runs");
    assert!(output.status.success(), "copy {}: {}", from.display(), String::from_utf8_lossy(&output.stderr));
}

/// Writes a program, a script as a rule; executable, and by another program as [`copy_program`].
///
/// # Panics
/// When it can't be written.
pub fn write_program(to: &Path, text: impl AsRef<[u8]>) {
    let draft = to.with_added_extension("draft");
    std::fs::write(&draft, text).unwrap_or_else(|e| panic!("{}: {e}", draft.display()));
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).expect("make it executable");
    copy_program(&draft, to);
    std::fs::remove_file(draft).expect("remove the draft");
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
    copy_program(&target().join("debug").join(program), &draft);
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
