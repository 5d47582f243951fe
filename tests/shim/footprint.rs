//! What idle pods cost: memory of their own, wake-ups.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::shim::Shim;
use tests::*;

/// Memory that would be free again without the process, in kilobytes: pages that no other process maps. What shims share, their
/// program's file above all, counts for none, which is right where there are several.
fn own_kb(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory map");
    let fields = text.lines().filter(|line| line.starts_with("Private_"));
    fields.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

fn switches(pid: u32) -> u64 {
    let mut count = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten() {
        let text = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains("_ctxt_switches:"));
        count += lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>();
    }
    count
}

/// A pod as rt-cri has it: a shim, and the program that our shim brings.
fn pod(case: &Case, shim: &Shim<'_>, pause: &Path) -> u32 {
    let mut bundle = case.bundle();
    copy_program(pause, &bundle.host_path("/pause"));
    bundle.args(["/pause"]);
    shim.create(&bundle);
    shim.start(bundle.id()).pid
}

#[test]
fn idle_pods_cost_less_than_a_megabyte_each_and_no_wake_ups() {
    let case = case!();
    let pause = shim::pause();
    let shims = ["a", "b", "c"].map(|name| case.shim_named(name));
    let pauses = shims.each_ref().map(|shim| pod(&case, shim, &pause));
    for (shim, pause) in shims.iter().zip(pauses) {
        let (shim, pause) = (own_kb(shim.pid()), own_kb(pause));
        assert!(shim + pause <= 1000, "{shim} kB and {pause} kB");
    }
    let all: Vec<u32> = shims.iter().map(Shim::pid).chain(pauses).collect();
    let count = || all.iter().map(|pid| switches(*pid)).sum::<u64>();
    let settled = until("they are quiet", || {
        let before = count();
        std::thread::sleep(Duration::from_millis(300));
        (count() == before).then_some(before)
    });
    // Quiet means quiet, not a pause between two wake-ups.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(count(), settled);
}
