//! Black-box tests of the CRI server, by crictl, one file per topic.

mod crash;
mod flow;
mod images;
mod mounts;
mod namespaces;
mod security;
mod users;

/// Private surroundings with a registry and a server, for the test this stands in.
macro_rules! surroundings {
    () => {
        tests::cri::Surroundings::new(tests::test_name!())
    };
}
use surroundings;
