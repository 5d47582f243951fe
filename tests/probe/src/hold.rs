//! `probe hold`: holds up whoever comes into this PID namespace, by signals or as a tracer.

use crate::judge::everybody;
use crate::sys::{self, Arg};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PTRACE_SEIZE: i64 = 0x4206;
const PTRACE_INTERRUPT: i64 = 0x4207;
/// Stops even who is being killed. KERNEL: PTRACE_O_TRACEEXIT
const TRACE_EXIT: i64 = 0x40;

/// `SECONDS stop|trace|trace-exit`: says `holding`, holds everybody who is new for that long, and then says how many there were.
pub fn hold(rest: &[String]) -> Result<i32, String> {
    let [seconds, how] = rest else { return Err("SECONDS stop|trace|trace-exit are missing".to_owned()) };
    let seconds = seconds.parse().map_err(|_| format!("{seconds} is not a number"))?;
    let tracer = match how.as_str() {
        "stop" => None,
        "trace" => Some(0),
        "trace-exit" => Some(TRACE_EXIT),
        _ => return Err(format!("{how}: no such way to hold somebody")),
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let before: BTreeSet<i32> = everybody().into_iter().collect();
    let mut held = BTreeSet::new();
    println!("holding");
    while Instant::now() < end {
        for pid in everybody().into_iter().filter(|pid| !before.contains(pid)) {
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
