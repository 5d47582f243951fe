//! Where inputs are tried: a mount namespace with an empty tmpfs at [`SCRATCH`], in which nothing else can be written, and a network
//! namespace in which nothing can be reached but this machine's loopback.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runtime::sys::mount::{Depth, MountAttr, mount_setattr};
use rustix::fs::{Mode, OFlags};

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
    let own = own_places();
    for place in &own {
        mount(Some(place), place, none, MsFlags::MS_BIND, none).expect(cure);
    }
    let change = |place: &Path, set, clear, depth| {
        let tree = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect(cure);
        mount_setattr(&tree, c"", depth, MountAttr { set, clear, ..Default::default() }).expect(cure);
    };
    change(Path::new("/"), libc::MOUNT_ATTR_RDONLY, 0, Depth::Tree);
    for place in &own {
        change(place, 0, libc::MOUNT_ATTR_RDONLY, Depth::One);
    }
    let options = Some("size=64m,nr_inodes=20000,mode=755");
    mount(Some("tmpfs"), SCRATCH, Some("tmpfs"), MsFlags::MS_NODEV | MsFlags::MS_NOSUID, options)
        .expect(cure);
    let up =
        Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("run ip (package iproute2)");
    assert!(up.success(), "bring the loopback interface up: ip ended with {up}");
}

/// Where libFuzzer itself writes, by its arguments: what it comes upon, what broke something, what its parts tell each other.
fn own_places() -> Vec<PathBuf> {
    let written = |arg: String| match arg.strip_prefix('-') {
        None => Some(PathBuf::from(arg)),
        Some(option) => ["artifact_prefix=", "merge_control_file="]
            .iter()
            .find_map(|name| option.strip_prefix(name).map(PathBuf::from)),
    };
    std::env::args().skip(1).filter_map(written).filter(|place| place.exists()).collect()
}
