//! Where inputs are tried: a mount namespace with an empty tmpfs at [`SCRATCH`], and a network namespace in which nothing can be reached
//! but this machine's loopback.

use std::cell::Cell;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// An empty tmpfs of 64 MB and 20 000 inodes. Its path is short, so that inputs come upon it.
pub const SCRATCH: &str = "/mnt";

/// Takes the calling thread, and those that it starts, there; once.
///
/// # Panics
/// Where it can't: it needs root.
pub fn enter() {
    thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });
    if INSIDE.replace(true) {
        return;
    }
    let cure = "make surroundings for inputs (run it as root)";
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect(cure);
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect(cure);
    let options = Some("size=64m,nr_inodes=20000,mode=755");
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), MsFlags::MS_NODEV | MsFlags::MS_NOSUID, options)
        .expect(cure);
    let up =
        Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("run ip (package iproute2)");
    assert!(up.success(), "bring the loopback interface up: ip ended with {up}");
}
