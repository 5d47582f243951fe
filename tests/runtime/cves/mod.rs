//! One test for each CVE that runtimes of the field have had, named after it: what was done then is done to the runtime under test.
//!
//! Either the runtime refuses, or what it does stays inside; which of both is its choice unless a test says so. "Bites" says against
//! what the attack was seen to succeed: an old version of a reference, or our own code with its defence taken out. A table of all
//! of them, with the defence of each, is in `runtime/README.md`. Ways out that have no number are in `escapes.rs`.

mod crun;
mod runc;
mod runc_descriptors;
mod runc_links;
mod youki;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tests::*;

/// A directory of the host with a file, which no container here is given.
pub fn outside(case: &Case) -> PathBuf {
    let dir = case.dir().join("outside");
    std::fs::create_dir(&dir).expect("make a directory");
    std::fs::write(dir.join("secret"), "host").expect("write");
    dir
}

/// Nothing was made, changed or removed there.
#[track_caller]
pub fn untouched(outside: &Path) {
    let names: Vec<String> = std::fs::read_dir(outside)
        .expect("the directory")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["secret"], "outside of the container");
    let text = std::fs::read_to_string(outside.join("secret")).expect("the file");
    assert_eq!(text, "host", "outside of the container");
}

/// No mounts at or below this path.
pub fn drop_mounts(bundle: &mut Bundle, path: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| {
        !m["destination"].as_str().is_some_and(|d| d == path || d.starts_with(&format!("{path}/")))
    });
}

/// Links that an image may bring to lead to a path of the host: by its name, and upwards first.
pub fn ways_to(outside: &Path) -> [String; 2] {
    [outside.to_string_lossy().into_owned(), format!("../../../../../../../../..{}", outside.display())]
}

/// Exchanges two names as fast as it can while `body` runs: what another container does that shares the volume.
pub fn while_exchanging<T>(one: &Path, other: &Path, body: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags)
                    .expect("exchange two names");
            }
        });
        let over = Over(&over);
        let done = body();
        drop(over);
        done
    })
}

/// Ends the exchange also where the body panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
