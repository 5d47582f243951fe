//! Runs hooks: the container's state on standard input, a deadline, and their output in the error if they fail.
//!
//! SPEC: config.md#posix-platform-hooks. Used on the host's side and, for the hooks that run in the container, by init.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::fs::MemfdFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::spec::Hook;

/// How much of a failed hook's output an error tells: its end.
const TOLD: u64 = 2048;

/// Keeps from hooks what the caller of the runtime left open; `first` is the lowest descriptor that is none of theirs.
pub fn shut_out_descriptors(first: u32) -> Result<()> {
    crate::sys::process::close_on_exec_from(first).what(|| "mark descriptors close-on-exec")
}

/// Runs the hooks of one kind in order; the first failure ends it.
pub fn run_all(kind: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for (at, hook) in hooks.iter().enumerate() {
        run(hook, state).what(|| format!("run hook {kind}[{at}] {}", hook.path))?;
    }
    Ok(())
}

fn run(hook: &Hook, state: &[u8]) -> Result<()> {
    let mut input = memory("hook-state")?;
    input.write_all(state).and_then(|()| input.rewind()).what(|| "prepare its standard input")?;
    let output = memory("hook-output")?;
    let second = output.try_clone().what(|| "prepare its output")?;
    let third = output.try_clone().what(|| "prepare its output")?;
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    let env = hook.env.iter().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(env).stdin(input).stdout(second).stderr(third);
    let mut child = command.spawn().what(|| "start it").map_err(|error| match error.errno() {
        Some(libc::ENOENT) => error.cure("the hook, or the interpreter in its first line, is missing"),
        _ => error,
    })?;
    let status = match hook.timeout {
        None => child.wait().what(|| "wait for it")?,
        Some(seconds) => {
            let pidfd = crate::sys::pidfd::open(child.id().cast_signed()).what(|| "open a pidfd of it")?;
            let timeout = Duration::from_secs(seconds.unsigned_abs());
            if crate::sys::pidfd::wait_exit(&pidfd, timeout) == Err(nix::errno::Errno::ETIMEDOUT) {
                child.kill().what(|| "kill it")?;
                child.wait().what(|| "wait for it")?;
                return Err(Error::new(
                    Kind::Timeout,
                    format!("it took longer than its timeout of {seconds} s{}", told(output)),
                ));
            }
            child.wait().what(|| "wait for it")?
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(Error::new(Kind::Internal, format!("{}{}", ended(status), told(output))))
}

fn memory(name: &str) -> Result<File> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from).what(|| "make a memory file")
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended in an unknown way".to_owned(),
    }
}

fn told(mut output: File) -> String {
    let end = output.seek(SeekFrom::End(0)).unwrap_or(0);
    let mut text = Vec::new();
    let read = output
        .seek(SeekFrom::Start(end.saturating_sub(TOLD)))
        .and_then(|_| output.take(TOLD).read_to_end(&mut text));
    match (read, String::from_utf8_lossy(&text).trim()) {
        (Ok(_), said) if !said.is_empty() => format!(", output: {said:?}"),
        _ => String::new(),
    }
}
