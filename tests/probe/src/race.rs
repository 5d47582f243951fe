//! Two sides of a race: `exchange` swaps files as fast as it can while a container is made, `guard` looks afterwards, from inside, whether
//! what should be covered is.

use crate::links;
use crate::sys::{self, Arg};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

const EXCHANGE: i64 = 2;

/// `SECONDS A B [A B…]`: each A with its B and back, in turn, again and again: half of the time all are as they were, and at the end.
pub fn exchange(rest: &[String]) -> Result<i32, String> {
    let (seconds, names) = rest.split_first().ok_or("SECONDS is missing")?;
    let seconds = seconds.parse().map_err(|_| format!("{seconds} is not a number"))?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut turns = 0_u64;
    println!("exchanging");
    let _ = std::io::Write::flush(&mut std::io::stdout());
    while Instant::now() < end {
        for pair in names.chunks_exact(2) {
            swap(&pair[0], &pair[1])?;
            swap(&pair[0], &pair[1])?;
        }
        turns += 1;
    }
    println!("exchanged {turns} times");
    Ok(0)
}

fn swap(a: &str, b: &str) -> Result<(), String> {
    let text = |path: &str| CString::new(path).map(Arg::Text).map_err(|e| e.to_string());
    let here = || Arg::Number(libc::AT_FDCWD.into());
    let mut args = [here(), text(a)?, here(), text(b)?, Arg::Number(EXCHANGE)];
    sys::syscall(libc::SYS_renameat2, &mut args)
        .map(drop)
        .map_err(|errno| format!("exchange {a} and {b}: errno {errno}"))
}

/// `MARKER NAME…`: whether the host's marker is out of reach, the working directory inside, and every /proc and /sys masked, under whatever
/// of these names they are now. `!NAME` must not be there.
pub fn guard(rest: &[String]) -> Result<i32, String> {
    let (marker, names) = rest.split_first().ok_or("MARKER is missing")?;
    links::reach(std::slice::from_ref(marker))?;
    for name in names.iter().filter_map(|name| name.strip_prefix('!')) {
        if std::fs::symlink_metadata(name).is_ok() {
            println!("hit: {name} is there");
        }
    }
    let usual = ["/proc".to_owned(), "/sys".to_owned()];
    let names: Vec<&String> = names.iter().filter(|name| !name.starts_with('!')).chain(&usual).collect();
    // Each is a link at this moment, and a directory at the next.
    for _ in 0..50 {
        for name in &names {
            let options = libc::O_NONBLOCK | libc::O_DIRECTORY;
            let Ok(dir) = File::options().read(true).custom_flags(options).open(name) else { continue };
            if open(&dir, "self/stat", libc::O_RDONLY).is_some() {
                look_at_proc(&dir);
            } else if open(&dir, "kernel/uevent_seqnum", libc::O_RDONLY).is_some() {
                look_at_sys(&dir);
            }
        }
    }
    println!("guarded");
    Ok(0)
}

fn look_at_proc(dir: &File) {
    if open(dir, "sys/kernel/domainname", libc::O_WRONLY).is_some() {
        println!("hit: sys of a /proc can be written");
    }
    for file in ["keys", "timer_list"] {
        let mut text = [0; 16];
        let read = open(dir, file, libc::O_RDONLY).and_then(|mut file| file.read(&mut text).ok());
        if read.is_some_and(|bytes| bytes > 0) {
            println!("hit: {file} of a /proc is not masked");
        }
    }
}

fn look_at_sys(dir: &File) {
    // To write there would do something: whether one could is asked of the mount.
    if sys::writable(dir) {
        println!("hit: a /sys can be written");
    }
    let firmware = open(dir, "firmware", libc::O_RDONLY | libc::O_DIRECTORY);
    let entries =
        firmware.and_then(|dir| std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok());
    if entries.is_some_and(|mut entries| entries.next().is_some()) {
        println!("hit: firmware of a /sys is not masked");
    }
}

fn open(dir: &File, name: &str, flags: i32) -> Option<File> {
    sys::open_at(dir, &CString::new(name).ok()?, flags | libc::O_NONBLOCK).ok()
}
