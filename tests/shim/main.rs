//! Black-box tests of the shim, one file per topic; what it does under real containerds is in tests/engines/shim.

mod attached;
mod bad_input;
mod callers;
mod crowd;
mod ends;
mod execs;
mod footprint;
mod killed;
mod life;
mod logs;
mod starting;
mod streams;
mod systemd;
