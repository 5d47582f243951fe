//! Black-box tests of the CRI server, by crictl, one file per topic.

mod bad_input;
mod crash;
mod crowd;
mod cves;
mod degraded;
mod flow;
mod fsck;
mod images;
mod inside;
mod limits;
mod listen;
mod logs;
mod mounts;
mod namespaces;
mod private;
mod property;
mod reboot;
mod security;
mod sweep;
mod users;

/// Private surroundings with a registry and a server, for the test this stands in.
macro_rules! surroundings {
    () => {
        tests::cri::Surroundings::new(tests::test_name!())
    };
}
use surroundings;
