//! Black-box tests of the OCI runtime, one file per topic.

mod smoke;
