//! The verbs that do one thing: each prints what it got and says so in its exit code.
//!
//! No retries and no judgement; errors of the system come out as `errno N` on stdout with exit code 0 where a test asks for them
//! (`open`, `try-syscall`, `stat`), else as a message with exit code 1.

use crate::{dev, numbers, sys};
use serde_json::json;
use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

type Done = Result<i32, String>;

/// Runs the verb named.
pub fn act(verb: &str, rest: &[String]) -> Done {
    let first = || rest.first().map(String::as_str).ok_or("an argument is missing".to_owned());
    let second = || rest.get(1).map(String::as_str).ok_or("a second argument is missing".to_owned());
    match verb {
        "sleep" => sleep(rest.first()),
        "exit" => parse(first()?),
        "kill-self" => {
            sys::kill_self(parse(first()?)?);
            Ok(99)
        }
        "read" => rest.iter().try_for_each(|path| read(path)).map(|()| 0),
        "write" => write(first()?, second()?),
        "append" => append(first()?, second()?),
        "stat" => print(&rest.iter().map(|p| dev::describe(Path::new(p))).collect::<Vec<_>>().into()),
        "list" => list(first()?),
        "open" => open(first()?, second()?),
        "try-syscall" => rest.split(|a| a == "--").try_for_each(try_syscall).map(|()| 0),
        "old-socket" => match sys::old_socket(parse(first()?)?) {
            Ok(_) => say("ok"),
            Err(errno) => say(&format!("errno {errno}")),
        },
        "listen" => listen(first()?, rest.get(1)),
        "connect" => connect(first()?, second()?),
        "shm-write" => write(&format!("/dev/shm/{}", first()?), second()?),
        "shm-read" => read(&format!("/dev/shm/{}", first()?)).map(|()| 0),
        "sysv-write" => sysv(first()?, Some(second()?)),
        "sysv-read" => sysv(first()?, None),
        "signal-wait" => signal_wait(rest.first()),
        "notify" => notify(first()?),
        "notify-descriptor" => notify_descriptor(),
        "notify-flood" => notify_flood(first()?),
        "print-lines" => print_lines(first()?),
        "fill" => fill(),
        "eat-memory" => eat_memory(first()?),
        "spin" => spin(first()?),
        "fork" => fork(first()?),
        "orphan" => orphan(),
        "bequeath" => bequeath(first()?, &rest[1..]),
        "tty-size" => say(&format!("{:?}", sys::terminal(0))),
        _ => Err("no such verb".to_owned()),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn say(line: &str) -> Done {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| format!("stdout: {e}"))?;
    Ok(0)
}

fn print(value: &serde_json::Value) -> Done {
    say(&value.to_string())
}

/// As PID 1 a process dies of no signal it doesn't handle: SIGTERM and SIGINT are waited for, orphans are reaped.
fn sleep(time: Option<&String>) -> Done {
    let end = time.map(|t| parse::<f64>(t)).transpose()?.map(|t| Instant::now() + Duration::from_secs_f64(t));
    sys::block_signals();
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match sys::wait_signal(left) {
            Some(libc::SIGTERM | libc::SIGINT) | None => return Ok(0),
            Some(_) => sys::reap(),
        };
    }
}

fn read(path: &str) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|e| format!("read {path}: {e}"))?;
    let mut out = std::io::stdout();
    // Flushed: a later act of a chain may sleep, and the file need not end a line.
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(|e| format!("stdout: {e}"))
}

fn write(path: &str, text: &str) -> Done {
    std::fs::write(path, text).map_err(|e| format!("write {path}: {e}"))?;
    Ok(0)
}

fn append(path: &str, text: &str) -> Done {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| format!("append to {path}: {e}"))?;
    Ok(0)
}

fn list(path: &str) -> Done {
    let entries = std::fs::read_dir(path).map_err(|e| format!("list {path}: {e}"))?;
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    print(&json!(names))
}

/// FLAGS: any of r, w, c (create), d (directory), joined.
fn open(path: &str, flags: &str) -> Done {
    let mut options = std::fs::OpenOptions::new();
    options.read(flags.contains('r')).write(flags.contains('w')).create(flags.contains('c'));
    match options.open(path) {
        Ok(_) => say("ok"),
        Err(e) => say(&format!("errno {}", e.raw_os_error().unwrap_or(0))),
    }
}

fn try_syscall(args: &[String]) -> Result<(), String> {
    let (name, args) = args.split_first().ok_or("a name is missing")?;
    let number = numbers::syscall(name).ok_or_else(|| format!("{name}: not a call this program knows"))?;
    let mut raw = args.iter().map(|arg| argument(arg)).collect::<Result<Vec<_>, _>>()?;
    match sys::syscall(number, &mut raw) {
        Ok(result) => say(&format!("ok {result}")),
        Err(errno) => say(&format!("errno {errno}")),
    }?;
    Ok(())
}

fn argument(text: &str) -> Result<sys::Arg, String> {
    if let Some(text) = text.strip_prefix("s:") {
        return CString::new(text).map(sys::Arg::Text).map_err(|e| e.to_string());
    }
    if let Some(size) = text.strip_prefix("b:") {
        return Ok(sys::Arg::Buffer(vec![0; parse(size)?]));
    }
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).map(u64::cast_signed).map_err(|e| e.to_string())?,
        None => parse(text)?,
    };
    Ok(sys::Arg::Number(number))
}

/// Echoes what each of COUNT peers sends; without COUNT, of every peer.
fn listen(port: &str, count: Option<&String>) -> Done {
    let count = count.map(|c| parse::<u64>(c)).transpose()?;
    let socket = TcpListener::bind(("127.0.0.1", parse(port)?)).map_err(|e| format!("bind: {e}"))?;
    say(&format!("listening {port}"))?;
    for _ in 0..count.unwrap_or(u64::MAX) {
        let (mut peer, _) = socket.accept().map_err(|e| format!("accept: {e}"))?;
        let mut bytes = [0; 4096];
        let got = peer.read(&mut bytes).map_err(|e| format!("read: {e}"))?;
        peer.write_all(&bytes[..got]).map_err(|e| format!("write: {e}"))?;
    }
    Ok(0)
}

fn connect(port: &str, text: &str) -> Done {
    let mut peer = TcpStream::connect(("127.0.0.1", parse(port)?)).map_err(|e| format!("connect: {e}"))?;
    peer.write_all(text.as_bytes()).map_err(|e| format!("write: {e}"))?;
    let mut back = String::new();
    peer.read_to_string(&mut back).map_err(|e| format!("read: {e}"))?;
    say(&back)
}

fn sysv(key: &str, text: Option<&str>) -> Done {
    let seen = sys::sysv_segment(parse(key)?, text).map_err(|e| format!("shmget: errno {e}"))?;
    say(&seen)
}

/// As sd_notify(3) does.
fn notify(text: &str) -> Done {
    let path = std::env::var("NOTIFY_SOCKET").map_err(|e| format!("NOTIFY_SOCKET: {e}"))?;
    let socket = std::os::unix::net::UnixDatagram::unbound().map_err(|e| e.to_string())?;
    socket.send_to(text.as_bytes(), &path).map(|_| 0).map_err(|e| format!("{path}: {e}"))
}

/// A message with a descriptor.
fn notify_descriptor() -> Done {
    let path = std::env::var("NOTIFY_SOCKET").map_err(|e| format!("NOTIFY_SOCKET: {e}"))?;
    let socket = std::os::unix::net::UnixDatagram::unbound().map_err(|e| e.to_string())?;
    socket.connect(&path).map_err(|e| format!("{path}: {e}"))?;
    match sys::send_descriptor(socket.as_raw_fd(), socket.as_raw_fd()) {
        Ok(()) => say("ok"),
        Err(errno) => say(&format!("errno {errno}")),
    }
}

/// Writes to stdout until there has been no room for a second.
fn fill() -> Done {
    let mut flags = [1, libc::F_SETFL.into(), libc::O_NONBLOCK.into()].map(sys::Arg::Number);
    sys::syscall(libc::SYS_fcntl, &mut flags).map_err(|e| format!("fcntl: errno {e}"))?;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        if std::io::stdout().write(&[b'x'; 1000]).is_ok() {
            since = Instant::now();
        }
    }
    Ok(0)
}

/// As many messages as it can for so many seconds; prints how many.
fn notify_flood(seconds: &str) -> Done {
    let path = std::env::var("NOTIFY_SOCKET").map_err(|e| format!("NOTIFY_SOCKET: {e}"))?;
    let socket = std::os::unix::net::UnixDatagram::unbound().map_err(|e| e.to_string())?;
    socket.connect(&path).map_err(|e| format!("{path}: {e}"))?;
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let end = Instant::now() + Duration::from_secs_f64(parse(seconds)?);
    let mut sent = 0u64;
    while Instant::now() < end {
        sent += u64::from(socket.send(b"STATUS=still here").is_ok());
    }
    say(&sent.to_string())
}

fn signal_wait(count: Option<&String>) -> Done {
    sys::block_signals();
    say("ready")?;
    for _ in 0..count.map(|c| parse::<u64>(c)).transpose()?.unwrap_or(1) {
        match sys::wait_signal(None) {
            Some(signal) => say(&format!("signal {signal}"))?,
            None => return Err("sigtimedwait failed".to_owned()),
        };
    }
    Ok(0)
}

/// Lines of 100 bytes, as fast as stdout takes them; at least as many bytes as asked for.
fn print_lines(bytes: &str) -> Done {
    let line = [&[b'x'; 99][..], b"\n"].concat();
    let lines = line.repeat((64 << 10) / line.len());
    let (mut out, mut left) = (std::io::stdout(), parse::<usize>(bytes)?);
    while left > 0 {
        out.write_all(&lines).map_err(|e| format!("stdout: {e}"))?;
        left = left.saturating_sub(lines.len());
    }
    Ok(0)
}

/// Touches each page, so that the memory is really had; says how far it came every 1/16.
fn eat_memory(bytes: &str) -> Done {
    let total: usize = parse(bytes)?;
    let step = (total / 16).max(4096);
    let mut held = Vec::new();
    while held.len() * step < total {
        held.push(vec![1u8; step]);
        say(&format!("ate {}", held.len() * step))?;
    }
    say("full")
}

fn spin(seconds: &str) -> Done {
    let end = Instant::now() + Duration::from_secs_f64(parse(seconds)?);
    let mut turns = 0u64;
    while Instant::now() < end {
        turns = std::hint::black_box(turns + 1);
    }
    say(&format!("turns {turns}"))
}

/// Children that wait; prints how many there could be, then ends them.
fn fork(count: &str) -> Done {
    let mut children = Vec::new();
    let mut stop = 0;
    for _ in 0..parse::<u64>(count)? {
        match sys::fork() {
            Ok(0) => {
                sys::block_signals();
                sys::wait_signal(None);
                sys::leave(0);
            }
            Ok(pid) => children.push(pid),
            Err(errno) => {
                stop = errno;
                break;
            }
        }
    }
    say(&format!("forked {} errno {stop}", children.len()))?;
    for pid in children {
        sys::kill(pid, libc::SIGKILL).map_err(|e| format!("kill: errno {e}"))?;
    }
    Ok(0)
}

/// A child in a PID namespace of its own, whose pid is printed; then this process is that program.
fn bequeath(program: &str, args: &[String]) -> Done {
    let errno = |e| format!("a new pid namespace: errno {e}");
    let ours = std::fs::File::open("/proc/self/ns/pid").map_err(|e| format!("/proc/self/ns/pid: {e}"))?;
    let new_pids = sys::Arg::Number(libc::CLONE_NEWPID.into());
    sys::syscall(libc::SYS_unshare, &mut [new_pids]).map_err(errno)?;
    let child = sys::fork().map_err(errno)?;
    if child == 0 {
        let _ = sleep(None);
        sys::leave(0);
    }
    let back = [ours.as_raw_fd().into(), libc::CLONE_NEWPID.into()].map(sys::Arg::Number);
    sys::syscall(libc::SYS_setns, &mut { back }).map_err(errno)?;
    say(&child.to_string())?;
    Err(format!("{program}: {}", std::process::Command::new(program).args(args).exec()))
}

/// A grandchild whose parent is gone: prints its pid; it ends when told to (SIGTERM).
fn orphan() -> Done {
    let (mut from, to) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    if sys::fork().map_err(|e| format!("fork: errno {e}"))? == 0 {
        if let Ok(0) = sys::fork() {
            drop(from);
            let _ = write!(&to, "{}", std::process::id());
            drop(to);
            let _ = sleep(None);
            sys::leave(0);
        }
        sys::leave(0);
    }
    drop(to);
    let mut pid = String::new();
    from.read_to_string(&mut pid).map_err(|e| format!("read: {e}"))?;
    sys::reap();
    say(&pid)
}

/// What a hook is given goes to FILE; then the exit code and delay asked for.
pub fn hook(rest: &[String]) -> Done {
    let (file, options) = rest.split_first().ok_or("a file is missing")?;
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin).map_err(|e| format!("stdin: {e}"))?;
    let option = |name: &str| options.iter().find_map(|o| o.strip_prefix(name)).map(parse::<u64>);
    let link = |ns: &str| std::fs::read_link(format!("/proc/self/ns/{ns}")).ok();
    let seen = json!({
        "argv": std::fs::read_to_string("/proc/self/cmdline").ok().map(|t| t.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>()),
        "env": std::env::vars().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().ok(),
        "stdin": stdin,
        "mnt": link("mnt"), "pid": link("pid"), "net": link("net"), "uts": link("uts"), "user": link("user"),
        "fds": (0..1024).filter(|&fd| sys::fd_flags(fd).is_some()).collect::<Vec<_>>(),
        "time_us": std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok().map(|d| d.as_micros().to_string()),
    });
    append(file, &format!("{seen}\n"))?;
    if let Some(seconds) = option("sleep=") {
        std::thread::sleep(Duration::from_secs(seconds?));
    }
    if option("say=").is_some() {
        eprintln!("hook says why");
    }
    option("exit=").map_or(Ok(0), |code| code.map(|c| i32::try_from(c).unwrap_or(1)))
}
