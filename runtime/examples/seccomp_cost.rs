//! What a seccomp profile costs a program that has just started: `seccomp_cost PROFILE.json [RUNS]`.
//!
//! Each run is a process of its own, as for `rt`: it parses the profile, then makes and loads the filter, once. Prints minimum, median
//! and 99th percentile in microseconds, and of a second compilation in the same process, which finds everything in the caches.

use std::process::Command;
use std::time::Instant;

use runtime::plan::seccomp::{Arch, compile, to_bytes};
use runtime::spec::Seccomp;

#[global_allocator]
static ALLOCATOR: runtime::sys::alloc::Bump = runtime::sys::alloc::Bump::new();

const ONCE: &str = "--once";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, profile, ONCE] => once(profile),
        [this, profile] => many(this, profile, 500),
        [this, profile, runs] => many(this, profile, runs.parse().expect("a number of runs")),
        _ => panic!("usage: seccomp_cost PROFILE.json [RUNS]"),
    }
}

fn once(profile: &str) {
    let text = std::fs::read(profile).expect("read the profile");
    let spec: Seccomp = serde_json::from_slice(&text).expect("parse the profile");
    let _ = Instant::now();
    let started = Instant::now();
    let filter = compile(&spec, Arch::NATIVE).expect("a valid profile").expect("a filter");
    let bytes = to_bytes(&filter.program);
    let cold = started.elapsed();
    let started = Instant::now();
    let again = compile(&spec, Arch::NATIVE).expect("a valid profile");
    let warm = started.elapsed();
    assert_eq!(again.as_ref(), Some(&filter));
    let started = Instant::now();
    runtime::sys::seccomp::load(&bytes, filter.flags).expect("load the filter");
    let load = started.elapsed();
    println!("{} {} {} {}", cold.as_nanos(), warm.as_nanos(), load.as_nanos(), filter.program.len());
}

fn many(this: &str, profile: &str, runs: usize) {
    let mut columns: [Vec<u128>; 4] = Default::default();
    let mut length = 0;
    for _ in 0..runs {
        let output = Command::new(this).args([profile, ONCE]).output().expect("run this program again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u128> =
            line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let [cold, warm, load, insns] = numbers[..] else { panic!("{line}") };
        for (column, number) in columns.iter_mut().zip([cold, warm, load, cold + load]) {
            column.push(number);
        }
        length = insns;
    }
    println!("{profile}: {length} instructions, {runs} runs; us: min median p99");
    for (name, column) in ["build", "build again", "load", "build + load"].iter().zip(&mut columns) {
        column.sort_unstable();
        let at = |share: usize| column[(runs - 1) * share / 100] as f64 / 1000.0;
        println!("  {name:12} {:7.1} {:7.1} {:7.1}", at(0), at(50), at(99));
    }
}
