//! `probe report`: everything this process sees, as one JSON object.
//!
//! What can't be asked (no /proc, a filter in the way) is null or holds the errno; nothing is guessed.

use crate::{dev, numbers, sys};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Prints the report, or writes it to the file named.
pub fn print(rest: &[String]) -> Result<i32, String> {
    let text = report().to_string();
    match rest.first() {
        Some(path) => std::fs::write(path, text).map_err(|e| format!("write {path}: {e}"))?,
        None => println!("{text}"),
    }
    Ok(0)
}

/// The whole picture.
fn report() -> Value {
    // First: reading anything else opens descriptors of its own.
    let fds = descriptors();
    let mut all = json!({ "fds": fds });
    for part in [process(), confinement(), surroundings()] {
        if let (Value::Object(all), Value::Object(part)) = (&mut all, part) {
            all.extend(part);
        }
    }
    all
}

/// Who this process is and how it was started.
fn process() -> Value {
    let [sid, pgid] = sys::session();
    json!({
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "sid": sid,
        "pgid": pgid,
        "uid": sys::user_ids(),
        "gid": sys::group_ids(),
        "groups": sys::groups(),
        "umask": sys::umask(),
        "cwd": std::env::current_dir().ok().map(|p| p.to_string_lossy().into_owned()),
        "argv": strings("/proc/self/cmdline"),
        "env": environment(),
        "exe": link("/proc/self/exe"),
        "signals": { "ignored": sys::ignored_signals(), "blocked": sys::blocked_signals() },
        "terminal": (0..3).map(sys::terminal).collect::<Vec<_>>(),
        "controlling_terminal": std::fs::File::open("/dev/tty").is_ok(),
        "stdio": (0..3).map(|fd| link(&format!("/proc/self/fd/{fd}"))).collect::<Vec<_>>(),
    })
}

/// What it may and may not do.
fn confinement() -> Value {
    json!({
        "rlimits": limits(),
        "capabilities": capabilities(),
        "no_new_privs": number(sys::prctl(libc::PR_GET_NO_NEW_PRIVS, 0)),
        "seccomp": number(sys::prctl(libc::PR_GET_SECCOMP, 0)),
        "securebits": number(sys::prctl(libc::PR_GET_SECUREBITS, 0)),
        "dumpable": number(sys::prctl(libc::PR_GET_DUMPABLE, 0)),
        "parent_death_signal": sys::parent_death_signal(),
        "personality": number(sys::syscall(libc::SYS_personality, &mut [sys::Arg::Number(0xffff_ffff)])),
        "oom_score_adj": text("/proc/self/oom_score_adj").and_then(|t| t.parse::<i64>().ok()),
        "label": text("/proc/self/attr/current"),
        "schedule": schedule(),
        "io_priority": io_priority(),
        "cpus": sys::cpus(),
        "memory_policy": sys::memory_policy().map_or_else(errno, |(mode, nodes)| json!([mode, nodes])),
        "keyring": sys::session_keyring().map_or_else(errno, |(id, text)| json!({ "id": id, "description": text })),
    })
}

/// The world around it.
fn surroundings() -> Value {
    let (hostname, domainname) = sys::names();
    json!({
        "hostname": hostname,
        "domainname": domainname,
        "mounts": mounts(),
        "dev": dev::tree(Path::new("/dev")),
        "root": dev::describe(Path::new("/")),
        "namespaces": namespaces(),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "time_offsets": text("/proc/self/timens_offsets"),
        "cgroup": text("/proc/self/cgroup"),
        "interfaces": interfaces(),
    })
}

fn errno(number: i32) -> Value {
    json!({ "errno": number })
}

fn number(result: Result<i64, i32>) -> Value {
    result.map_or_else(errno, Value::from)
}

fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|t| t.trim_end().to_owned())
}

fn link(path: &str) -> Option<String> {
    std::fs::read_link(path).ok().map(|t| t.to_string_lossy().into_owned())
}

fn strings(path: &str) -> Option<Vec<String>> {
    let bytes = std::fs::read(path).ok()?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    Some(bytes.split(|&b| b == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect())
}

fn environment() -> Vec<String> {
    std::env::vars_os().map(|(k, v)| format!("{}={}", k.to_string_lossy(), v.to_string_lossy())).collect()
}

/// Open descriptors, found without /proc; with it, their targets.
fn descriptors() -> Vec<Value> {
    (0..4096)
        .filter_map(|fd| {
            let flags = sys::fd_flags(fd)?;
            let target = link(&format!("/proc/self/fd/{fd}"));
            Some(json!({ "fd": fd, "target": target, "close_on_exec": flags & libc::FD_CLOEXEC != 0 }))
        })
        .collect()
}

fn limits() -> Value {
    let entries = numbers::LIMITS.iter().zip(0..).map(|(name, resource)| {
        let limit = sys::rlimit(resource).map_or_else(errno, |[soft, hard]| json!([soft, hard]));
        (format!("RLIMIT_{name}"), limit)
    });
    Value::Object(entries.collect())
}

fn capabilities() -> Value {
    let names = |bits: u64| -> Vec<String> {
        (0..64).filter(|i| bits >> i & 1 == 1).map(numbers::capability).collect()
    };
    let asked = |ask: &dyn Fn(i64) -> Result<i64, i32>| -> u64 {
        (0..64).filter(|&cap| ask(cap) == Ok(1)).fold(0, |bits, cap| bits | 1 << cap)
    };
    let bounding = asked(&|cap| sys::prctl(libc::PR_CAPBSET_READ, cap));
    let ambient = asked(&|cap| {
        sys::syscall(
            libc::SYS_prctl,
            &mut [
                sys::Arg::Number(libc::PR_CAP_AMBIENT.into()),
                sys::Arg::Number(libc::PR_CAP_AMBIENT_IS_SET.into()),
                sys::Arg::Number(cap),
            ],
        )
    });
    match sys::capabilities() {
        Err(e) => errno(e),
        Ok([inheritable, permitted, effective]) => json!({
            "inheritable": names(inheritable), "permitted": names(permitted), "effective": names(effective),
            "bounding": names(bounding), "ambient": names(ambient),
        }),
    }
}

fn schedule() -> Value {
    sys::schedule().map_or_else(errno, |s| {
        json!({ "policy": s.policy, "flags": s.flags, "nice": s.nice, "priority": s.priority,
                "runtime": s.runtime, "deadline": s.deadline, "period": s.period })
    })
}

fn io_priority() -> Value {
    sys::io_priority().map_or_else(errno, |packed| json!({ "class": packed >> 13, "level": packed & 0x1fff }))
}

fn namespaces() -> Value {
    let mut found = Map::new();
    for name in
        ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts", "pid_for_children", "time_for_children"]
    {
        found.insert(name.to_owned(), json!(link(&format!("/proc/self/ns/{name}"))));
    }
    Value::Object(found)
}

/// The mount table: one object per line of mountinfo, octal escapes undone.
fn mounts() -> Option<Vec<Value>> {
    let table = text("/proc/self/mountinfo")?;
    Some(table.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Value> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.splitn(3, ' ');
    let list = |text: &str| -> Vec<String> { text.split(',').map(plain).collect() };
    Some(json!({
        "id": front.first()?.parse::<u64>().ok()?,
        "parent": front.get(1)?.parse::<u64>().ok()?,
        "device": front.get(2)?,
        "root": plain(front.get(3)?),
        "point": plain(front.get(4)?),
        "options": list(front.get(5)?),
        "propagation": front.get(6..)?,
        "type": back.next()?,
        "source": plain(back.next()?),
        "super": list(back.next()?),
    }))
}

/// mountinfo writes space, tab, newline and backslash as `\ooo`.
fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn interfaces() -> Option<Value> {
    let table = text("/proc/net/dev")?;
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    let flags = |name: &str| sys::interface_flags(name).map_or_else(errno, Value::from);
    Some(Value::Object(names.map(|name| (name.to_owned(), flags(name))).collect()))
}
