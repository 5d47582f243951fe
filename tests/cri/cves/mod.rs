//! One test for each CVE that CRI servers of the field have had, named after it: what was done then is done to our server.
//!
//! Either the server refuses, or what it does stays inside. A table of all of them, with the defence of each, is in `cri/README.md`.

mod containerd;
mod crio;
mod images;
mod streams;

use crate::images::registry::{Image, Registry, archive};
use std::path::{Path, PathBuf};
use tests::cri::{Container, Pod, Surroundings};
use tests::{Case, Value, json, until};

/// A directory of the host with a file, which no pod here is given.
fn outside(case: &Case) -> PathBuf {
    let dir = case.dir().join("outside");
    std::fs::create_dir(&dir).expect("make a directory");
    std::fs::write(dir.join("secret"), "host").expect("write");
    dir
}

/// Nothing was made, changed or removed there.
#[track_caller]
fn untouched(outside: &Path) {
    let names: Vec<_> = std::fs::read_dir(outside).expect("the directory").flatten().collect();
    assert_eq!(names.len(), 1, "outside of the container: {names:?}");
    let text = std::fs::read_to_string(outside.join("secret")).expect("the file");
    assert_eq!(text, "host", "outside of the container");
}

/// A path of the host, as an image may write it to be led there.
fn upwards(outside: &Path) -> String {
    format!("/../../../../../../../..{}", outside.display())
}

/// Serves an image of these files, with the probe as /bin/probe, and pulls it.
fn pulled(here: &Surroundings, registry: &Registry, files: &[(&str, &[u8])], config: &Value) -> String {
    let probe = std::fs::read(tests::probe()).expect("the probe");
    let mut all: Vec<(&str, &[u8])> = vec![("bin/probe", &probe)];
    all.extend(files);
    let name = registry.add("app:1", &Image::of(&[archive(&all)], config));
    here.pull(&name);
    name
}

/// A container of such an image that does what the probe is told.
fn probe<'p>(pod: &'p Pod<'_>, name: &str, image: &str, words: &[&str]) -> Container<'p> {
    let all: Vec<&str> = ["/bin/probe"].into_iter().chain(words.iter().copied()).collect();
    let mut container = pod.container(name, &all);
    container.config["image"]["image"] = json!(image);
    container
}

/// What the server has taken of memory at most, in bytes.
pub fn most_memory(here: &Surroundings) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", here.server_pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// How many descriptors a process has.
fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Waits until the server has no more descriptors than before, but for a few that it keeps for later.
#[track_caller]
fn gives_back(here: &Surroundings, before: usize) {
    until("what the calls had is given back", || {
        (descriptors(here.server_pid()) <= before + 4).then_some(())
    });
}
