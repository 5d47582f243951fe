//! The user's program: found as the user, looked at, executed.

use std::convert::Infallible;
use std::ffi::{CStr, CString};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::target::spent;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Task;
use crate::sys::exec::{Strings, execve};
use crate::sys::process;

/// A program that is ready to run.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Strings,
    envp: Strings,
}

/// What nohup(1), shells, supervisors and language runtimes are known to ignore; SIGCHLD was seen to by [`crate::sys::start`].
const IGNORED_BY_CALLERS: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGPIPE,
    Signal::SIGTERM,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Where execvp(3) looks when there is no PATH, as Go does: nowhere.
const NO_PATH: &[u8] = b"";

/// Looks the program up in the PATH of its own environment.
pub fn find(task: &Task, environment: Vec<CString>) -> Result<Program> {
    let name = &task.process.args[0];
    let path = if name.as_bytes().contains(&b'/') { direct(name)? } else { search(name, &environment)? };
    Ok(Program { path, argv: Strings::new(task.process.args.clone()), envp: Strings::new(environment) })
}

/// The words are Go's and runc's: engines make exit code 127 of "no such file or directory" and "executable file not found",
/// 126 of "permission denied".
fn says(name: &CStr, kind: Kind, why: &str) -> Error {
    Error::new(kind, format!("exec: {:?}: {why}", name.to_string_lossy()))
}

fn direct(name: &CStr) -> Result<CString> {
    match usable(name) {
        Ok(stat) => not_ourselves(name, &stat).map(|()| name.to_owned()),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let why = format!("stat {}: no such file or directory", name.to_string_lossy());
            Err(says(name, Kind::Invalid, &why).cure("it must exist in the container's root filesystem"))
        }
        Err(Errno::ISDIR) => Err(says(name, Kind::Denied, "is a directory: permission denied")),
        Err(Errno::ACCESS) => {
            Err(says(name, Kind::Denied, "permission denied").cure("the user must be allowed to execute it"))
        }
        Err(errno) => Err(Error::os(errno.raw_os_error(), format!("exec: {:?}", name.to_string_lossy()))),
    }
}

fn search(name: &CStr, environment: &[CString]) -> Result<CString> {
    let path =
        environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH=")).unwrap_or(NO_PATH);
    let mut denied = false;
    for dir in path.split(|byte| *byte == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let Ok(candidate) = CString::new([dir, b"/", name.to_bytes()].concat()) else { continue };
        match usable(&candidate) {
            Ok(stat) => return not_ourselves(&candidate, &stat).map(|()| candidate),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(
            says(name, Kind::Denied, "permission denied").cure("the user must be allowed to execute it")
        );
    }
    Err(says(name, Kind::Invalid, "executable file not found in $PATH"))
}

/// A file that this user may execute.
fn usable(path: &CStr) -> rustix::io::Result<Stat> {
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&handle)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    spent(handle);
    Ok(stat)
}

/// CVE-2019-5736: a container that names our own executable (through /proc/self/exe) would run it inside, where it can be
/// opened for writing later.
fn not_ourselves(path: &CStr, theirs: &Stat) -> Result<()> {
    let ours = rustix::fs::stat(c"/proc/self/exe");
    if ours.is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)) {
        return Err(says(path, Kind::Denied, "permission denied: it is the runtime's own executable"));
    }
    Ok(())
}

/// What the program inherits beside its environment: descriptors, signal dispositions, the signal mask.
///
/// ORDER: before the system call filter, which need not allow any of these calls; only execve comes after it.
pub fn settle(pass_fds: u32, signals: SigSet) -> Result<()> {
    // CVE-2024-21626: whatever the caller left open does not go in.
    process::close_on_exec_from(3 + pass_fds).what(|| "mark descriptors close-on-exec")?;
    // Ignored signals stay ignored over execve: nohup, a background job of a shell or a supervisor may be the caller, and the
    // container is none of these. The mask is the caller's too, as it was before the runtime blocked anything.
    for signal in IGNORED_BY_CALLERS {
        process::default_signal(signal, SigHandler::SigDfl).what(|| format!("reset {signal}"))?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None)
        .what(|| "set the signal mask")
}

impl Program {
    /// The last thing that init does.
    pub fn execute(&self) -> Result<Infallible> {
        let errno = execve(&self.path, &self.argv, &self.envp);
        let error = Error::os(errno as i32, format!("exec {}", self.path.to_string_lossy()));
        Err(match errno {
            // The file itself was found before.
            nix::errno::Errno::ENOENT => error.cure(
                "the interpreter in its first line, or its dynamic loader, is missing in the container",
            ),
            nix::errno::Errno::ENOEXEC => {
                error.cure("it is no program for this machine, and no script that begins with #!")
            }
            _ => error,
        })
    }
}
