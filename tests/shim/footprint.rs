//! What an idle shim costs: private memory, wake-ups.

use tests::*;

/// Pages that a process has for itself, in kilobytes. Clean ones are the program's file, which all shims share: with one shim alone
/// they would be counted as its own.
fn private_kb(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory map");
    let fields = text.lines().filter(|line| line.starts_with("Private_Dirty"));
    fields.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

fn switches(pid: u32) -> u64 {
    let mut count = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten() {
        let text = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains("_ctxt_switches:"));
        count += lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>();
    }
    count
}

#[test]
fn an_idle_pod_costs_less_than_a_megabyte_and_no_wake_ups() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    shim.create(&bundle);
    shim.start(bundle.id());
    let used = private_kb(shim.pid());
    assert!(used <= 1000, "{used} kB");
    let settled = until("it is quiet", || {
        let before = switches(shim.pid());
        std::thread::sleep(std::time::Duration::from_millis(300));
        (switches(shim.pid()) == before).then_some(before)
    });
    // Quiet means quiet, not a pause between two wake-ups.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(switches(shim.pid()), settled);
}
