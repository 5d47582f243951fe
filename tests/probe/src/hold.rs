//! `probe hold`: holds up whoever comes into this PID namespace, by signals or as a tracer, or has its descriptors.

use crate::judge::everybody;
use crate::sys::{self, Arg};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const PTRACE_SEIZE: i64 = 0x4206;
const PTRACE_INTERRUPT: i64 = 0x4207;
/// Stops even who is being killed. KERNEL: PTRACE_O_TRACEEXIT
const TRACE_EXIT: i64 = 0x40;

/// `SECONDS [all-]stop|stop-once|trace|trace-exit`: says `holding`, holds everybody who is new for that long, or everybody, and then says
/// how many there were. With `stop-once` each is stopped when it is first seen, and never again.
pub fn hold(rest: &[String]) -> Result<i32, String> {
    let [seconds, how] = rest else {
        return Err("SECONDS stop|stop-once|trace|trace-exit are missing".to_owned());
    };
    let seconds = seconds.parse().map_err(|_| format!("{seconds} is not a number"))?;
    let (all, how) = how.strip_prefix("all-").map_or((false, how.as_str()), |how| (true, how));
    let tracer = match how {
        "stop" | "stop-once" => None,
        "trace" => Some(0),
        "trace-exit" => Some(TRACE_EXIT),
        _ => return Err(format!("{how}: no such way to hold somebody")),
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let us = std::process::id().cast_signed();
    let before: BTreeSet<i32> = if all { [us].into() } else { everybody().into_iter().collect() };
    let mut held = BTreeSet::new();
    println!("holding");
    while Instant::now() < end {
        for pid in everybody().into_iter().filter(|pid| !before.contains(pid)) {
            if how == "stop-once" && held.contains(&pid) {
                continue;
            }
            let done = match tracer {
                None => sys::kill(pid, libc::SIGSTOP).is_ok(),
                Some(options) => trace(pid, options),
            };
            if done && held.insert(pid) {
                println!("held {pid}");
            }
        }
    }
    println!("done, {} held", held.len());
    Ok(0)
}

fn trace(pid: i32, options: i64) -> bool {
    let ptrace = |request: i64, data: i64| {
        let mut args = [Arg::Number(request), Arg::Number(pid.into()), Arg::Number(0), Arg::Number(data)];
        sys::syscall(libc::SYS_ptrace, &mut args).is_ok()
    };
    ptrace(PTRACE_SEIZE, options) && ptrace(PTRACE_INTERRUPT, 0)
}

/// `SECONDS`, and `eat`: takes all descriptors of everybody else that it may have, and what is in FIFOs, with `eat`. Says `keeping`.
pub fn keep(rest: &[String]) -> Result<i32, String> {
    let seconds = rest.first().and_then(|text| text.parse().ok()).ok_or("SECONDS are missing")?;
    let eats = rest.get(1).is_some_and(|word| word == "eat");
    let us = std::process::id().cast_signed();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut kept = Vec::new();
    for pid in everybody().into_iter().filter(|pid| *pid != us) {
        kept.extend(descriptors(pid));
    }
    println!("keeping {}", kept.len());
    while Instant::now() < end {
        if eats {
            for fd in &kept {
                eat(*fd);
            }
        } else {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(0)
}

/// `SECONDS`: the same by a process that is left behind, once it has them; from when on the first process waits for this one.
pub fn leave_keeper(rest: &[String]) -> Result<i32, String> {
    let (mut from, to) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    if sys::fork().map_err(|e| format!("fork: errno {e}"))? == 0 {
        drop(from);
        while !waits(1) {
            std::thread::yield_now();
        }
        let kept = descriptors(1);
        let _ = write!(&to, "{}", kept.len());
        drop(to);
        let _ = keep(rest);
        sys::leave(0);
    }
    drop(to);
    let mut many = String::new();
    from.read_to_string(&mut many).map_err(|e| format!("read: {e}"))?;
    if many.parse::<usize>().is_ok_and(|many| many > 0) { Ok(0) } else { Err(format!("got {many:?}")) }
}

/// Whether it waits for a child.
fn waits(pid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    [libc::SYS_wait4, libc::SYS_waitid].iter().any(|wait| call.starts_with(&format!("{wait} ")))
}

const PIDFD_GETFD: i64 = 438;

/// Copies of its descriptors.
fn descriptors(pid: i32) -> Vec<i64> {
    let call = |number: i64, args: [i64; 3]| sys::syscall(number, &mut args.map(Arg::Number));
    let Ok(pidfd) = call(libc::SYS_pidfd_open, [pid.into(), 0, 0]) else { return Vec::new() };
    (0..64).filter_map(|fd| call(PIDFD_GETFD, [pidfd, fd, 0]).ok()).collect()
}

/// Reads what is there, of what does not wait.
fn eat(fd: i64) {
    let nonblocking = sys::syscall(libc::SYS_fcntl, &mut [fd, libc::F_GETFL.into(), 0].map(Arg::Number))
        .is_ok_and(|flags| flags & i64::from(libc::O_NONBLOCK) != 0);
    if nonblocking {
        let _ = sys::syscall(libc::SYS_read, &mut [Arg::Number(fd), Arg::Buffer(vec![0]), Arg::Number(1)]);
    }
}
