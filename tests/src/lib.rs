//! The harness of the black-box tests: bundles, the runtime under test, what the probe saw, and the leak check.
//!
//! It links against none of our crates and knows nothing of their insides; expectations stand in the topic files.

mod bundle;
mod call;
mod case;
pub mod config;
pub mod cri;
mod leaks;
mod programs;
mod report;
mod running;
mod runtime;
pub mod shim;
pub mod terminal;
mod victim;
mod wait;

pub use bundle::Bundle;
pub use call::{Call, Output, Started};
pub use case::{Case, Cgroups};
pub use programs::{busybox, copy_program, failpoints, probe, target, write_program};
pub use report::{Mount, Report};
pub use running::Running;
pub use runtime::Runtime;
pub use serde_json::{Value, json};
pub use victim::{Victim, identity, seconds};
pub use wait::{DEADLINE, until, within};

/// The name of the test function this stands in, `topic::name`, for directories and cgroups.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let full = std::any::type_name_of_val(&here);
        let full = full.strip_suffix("::here").unwrap_or(full);
        full.split_once("::").map_or(full, |(_, rest)| rest)
    }};
}

/// A case of the test it stands in: `case!()` on a host with cgroup2 at its usual place.
#[macro_export]
macro_rules! case {
    () => {
        $crate::Case::new($crate::test_name!())
    };
}

/// Ends the test it stands in; the reason is printed past libtest's capture, for the summary to count.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::say_skip($crate::test_name!(), &format!($($reason)+));
        return;
    }};
}

/// Ends the test where the peer named is the one under test: it is known to differ, for the reason given.
#[macro_export]
macro_rules! unless {
    ($peer:literal, $reason:literal) => {
        if $crate::Runtime::under_test().is($peer) {
            $crate::skip!("{} differs: {}", $peer, $reason);
        }
    };
}

/// Ends the test where a reference is under test: what is tested is rt's own.
#[macro_export]
macro_rules! only_rt {
    ($reason:literal) => {
        if !$crate::Runtime::under_test().is("rt") {
            $crate::skip!("only rt: {}", $reason);
        }
    };
}

/// Prints the line that a summary counts.
pub fn say_skip(test: &str, reason: &str) {
    use std::io::Write;
    // Written to the descriptor itself: what `eprintln!` prints in a passing test is swallowed by libtest.
    // In one piece, else other tests' lines come between.
    let _ = std::io::stderr().write_all(format!("SKIP {test}: {reason}\n").as_bytes());
}
