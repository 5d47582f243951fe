//! A process that goes into user namespaces of its own, and has them run a program of its choice in place of every other.

use crate::sys::{self, Arg};
use std::ffi::CString;
use std::io::{Read, Write};

/// What programs are replaced by: this one, under another name. Of the ELF header the last byte of e_ident differs, which no loader
/// reads, so that it is not replaced itself.
pub const HANDLER: &str = "/handler";

/// One after the other: `below` (a user and mount namespace, setgroups denied), `wide` (those and a network namespace, with all ids that
/// are there), `handler` (a binfmt_misc(5) handler for ELF programs, opened by this process). KERNEL(6.7): of the user namespace.
pub fn burrow(steps: &[String]) -> Result<i32, String> {
    for step in steps {
        match step.as_str() {
            "below" => below()?,
            "wide" => wide()?,
            "handler" => register()?,
            _ => return Err(format!("{step}: no such step")),
        }
    }
    println!("ready");
    std::io::stdout().flush().map_err(|e| format!("stdout: {e}"))?;
    Ok(0)
}

/// The program in whose place this one runs is the first argument.
pub fn stand_in(args: &[String]) -> i32 {
    let [uid, ..] = sys::user_ids();
    eprintln!("HANDLER: instead of {:?}, uid {uid}", args.get(1));
    42
}

fn unshare(flags: i32) -> Result<(), String> {
    let mut args = [Arg::Number(i64::from(flags))];
    sys::syscall(libc::SYS_unshare, &mut args).map(drop).map_err(|errno| format!("unshare: errno {errno}"))
}

fn write(path: &str, text: &[u8]) -> Result<(), String> {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(text)).map_err(|e| format!("write {path}: {e}"))
}

fn below() -> Result<(), String> {
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    write("/proc/self/setgroups", b"deny")?;
    write("/proc/self/uid_map", b"0 0 1")?;
    write("/proc/self/gid_map", b"0 0 1")
}

/// More than one id is mapped from the namespace above.
fn wide() -> Result<(), String> {
    let pipe = || std::io::pipe().map_err(|e| format!("pipe: {e}"));
    let ((mut told, tell), (mut done, end)) = (pipe()?, pipe()?);
    let us = std::process::id();
    if sys::fork().map_err(|errno| format!("fork: errno {errno}"))? == 0 {
        drop((tell, done));
        let waited = told.read_to_end(&mut Vec::new());
        let maps = ["uid_map", "gid_map"].map(|map| write(&format!("/proc/{us}/{map}"), b"0 0 65536"));
        drop(end);
        sys::leave(i32::from(waited.is_err() || maps.iter().any(Result::is_err)));
    }
    drop((told, end));
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
    drop(tell);
    done.read_to_end(&mut Vec::new()).map(drop).map_err(|e| format!("wait for the maps: {e}"))
}

/// On a kernel without that, no program is replaced, and it is said.
fn register() -> Result<(), String> {
    let text = |text: &str| CString::new(text).map(Arg::Text).map_err(|e| e.to_string());
    let mut args = [text("b")?, text("/tmp")?, text("binfmt_misc")?, Arg::Number(0), Arg::Number(0)];
    if let Err(errno) = sys::syscall(libc::SYS_mount, &mut args) {
        println!("no handler: errno {errno}");
        return Ok(());
    }
    let magic = format!("\\x7fELF\\x02\\x01\\x01{}", "\\x00".repeat(9));
    let mask = format!("{}\\x00{}", "\\xff".repeat(7), "\\xff".repeat(8));
    write("/tmp/register", format!(":x:M:0:{magic}:{mask}:{HANDLER}:F").as_bytes())
}
