//! The first test of all: an engine's bundle runs.

use tests::*;

#[test]
fn engine_bundle_runs() {
    let case = case!();
    let report = case.see(&mut case.bundle());
    assert_eq!(report["hostname"], "box");
}
