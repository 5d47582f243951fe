//! `probe watch`: looks at everybody in this PID namespace as fast as it can, stops whoever is new, and tells what of the host it saw.
//!
//! What counts as the host's is in `judge`.

use crate::judge::{self, Found, Judge, Tally, everybody};
use crate::sys::{self, Arg};
use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

/// How often a new process is stopped, looked at and let go.
const STOPS: usize = 25;

const PTRACE_SEIZE: i64 = 0x4206;
const PTRACE_INTERRUPT: i64 = 0x4207;

/// `SECONDS WORKERS KEY=VALUE…`: see [`Judge::new`]. Each worker says what it saw and how much it looked at.
pub fn watch(rest: &[String]) -> Result<i32, String> {
    let [seconds, workers, words @ ..] = rest else { return Err("SECONDS WORKERS are missing".to_owned()) };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
    let (seconds, workers) = (number(seconds)?, number(workers)?);
    let judge = Judge::new(words)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let before: BTreeSet<i32> = everybody().into_iter().collect();
    say("watching\n");
    let mut children = Vec::new();
    for _ in 0..workers {
        match sys::fork().map_err(|errno| format!("fork: errno {errno}"))? {
            0 => {
                work(&judge, before, end);
                sys::leave(0);
            }
            pid => children.push(pid),
        }
    }
    // As PID 1 it reaps whoever is left to it, its workers among them.
    while !children.is_empty() {
        let gone = sys::reap();
        children.retain(|pid| !gone.contains(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
    say("done\n");
    Ok(0)
}

fn say(text: &str) {
    // One write a text: the workers share the file.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

fn work(judge: &Judge, before: BTreeSet<i32>, end: Instant) {
    let own = std::process::id().cast_signed();
    let (mut tally, mut looks, mut met, mut stops) = (Tally::default(), 0_u64, 0_u64, 0_u64);
    let mut ours = before;
    let mut known = BTreeSet::new();
    while Instant::now() < end {
        for pid in everybody() {
            let mut found = Found::new();
            // The other workers are as old as this one.
            if ours.contains(&pid) || (own - 16..own + 16).contains(&pid) && is_ours(pid) {
                ours.insert(pid);
                continue;
            }
            if !known.insert(pid) {
                judge.look(pid, &mut found);
                looks += 1;
                tally.add(pid, found);
                continue;
            }
            met += 1;
            for round in 0..STOPS {
                if !judge::stop(pid) {
                    break;
                }
                stops += 1;
                judge.look(pid, &mut found);
                looks += 1;
                if round % 4 == 3 {
                    traced(pid, || judge.look(pid, &mut found));
                }
                judge::go_on(pid);
                judge.look(pid, &mut found);
            }
            judge::go_on(pid);
            tally.add(pid, found);
        }
    }
    say(&format!("{}watched: {met} met, {looks} looks, {stops} stops\n", tally.lines()));
}

/// A worker of this watcher: it has the same arguments.
fn is_ours(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).ok() == std::fs::read("/proc/self/cmdline").ok()
}

/// Stopped as debuggers do, where that is allowed.
fn traced(pid: i32, look: impl FnOnce()) {
    let ptrace = |request: i64| {
        let mut args = [Arg::Number(request), Arg::Number(pid.into()), Arg::Number(0), Arg::Number(0)];
        sys::syscall(libc::SYS_ptrace, &mut args).is_ok()
    };
    if !ptrace(PTRACE_SEIZE) {
        return;
    }
    ptrace(PTRACE_INTERRUPT);
    // For 100 ms at most: it may be dead by now.
    for _ in 0..1000 {
        let options = i64::from(libc::__WALL | libc::WNOHANG);
        let mut args = [Arg::Number(pid.into()), Arg::Number(0), Arg::Number(options), Arg::Number(0)];
        if sys::syscall(libc::SYS_wait4, &mut args) != Ok(0) {
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    look();
    ptrace(libc::PTRACE_DETACH.into());
}
