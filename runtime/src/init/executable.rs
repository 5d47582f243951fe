//! The user's program: found as the user, looked at, executed.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::interpreter::{self, Interpreter};
use super::target::is_regular;
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

/// Looks the program up in the PATH of its own environment. `in_between`: another process, cloned by this one into another PID namespace,
/// will execute it.
pub fn find(task: &Task, environment: Vec<CString>, in_between: bool) -> Result<Program> {
    let name = &task.process.args[0];
    let by_path = name.as_bytes().contains(&b'/');
    let path = if by_path { direct(name, in_between)? } else { search(name, &environment, in_between)? };
    Ok(Program { path, argv: Strings::new(task.process.args.clone()), envp: Strings::new(environment) })
}

/// The words are Go's and runc's: engines make exit code 127 of "no such file or directory" and "executable file not found",
/// 126 of "permission denied".
fn says(name: &CStr, kind: Kind, why: &str) -> Error {
    Error::new(kind, format!("exec: {:?}: {why}", name.to_string_lossy()))
}

fn direct(name: &CStr, in_between: bool) -> Result<CString> {
    match usable(name) {
        Ok(()) => match interpreted(name, in_between, 0) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::LOOP) => Err(magic(name)),
            Err(errno) => Err(not_executed(name, errno.raw_os_error())),
        },
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let why = format!("stat {}: no such file or directory", name.to_string_lossy());
            Err(says(name, Kind::Invalid, &why).cure("it must exist in the container's root filesystem"))
        }
        Err(Errno::ISDIR) => Err(says(name, Kind::Denied, "is a directory: permission denied")),
        Err(Errno::ACCESS) => {
            Err(says(name, Kind::Denied, "permission denied").cure("the user must be allowed to execute it"))
        }
        Err(Errno::LOOP) => Err(magic(name)),
        Err(errno) => Err(Error::os(errno.raw_os_error(), format!("exec: {:?}", name.to_string_lossy()))),
    }
}

fn magic(name: &CStr) -> Error {
    says(name, Kind::Denied, "permission denied: it, its interpreter or its loader is reached by a link of /proc to what a process has open, or by too many links")
        .cure("name the file itself")
}

fn search(name: &CStr, environment: &[CString], in_between: bool) -> Result<CString> {
    let path =
        environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH=")).unwrap_or(NO_PATH);
    let mut denied = false;
    for dir in path.split(|byte| *byte == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let Ok(candidate) = CString::new([dir, b"/", name.to_bytes()].concat()) else { continue };
        match usable(&candidate) {
            Ok(()) => {}
            Err(errno) => {
                denied |= matches!(errno, Errno::ACCESS | Errno::LOOP);
                continue;
            }
        }
        // The first that may be executed is executed, whether or not that succeeds.
        match interpreted(&candidate, in_between, 0) {
            Ok(()) => return Ok(candidate),
            Err(Errno::LOOP) => denied = true,
            Err(errno) => return Err(not_executed(&candidate, errno.raw_os_error())),
        }
    }
    if denied {
        return Err(
            says(name, Kind::Denied, "permission denied").cure("the user must be allowed to execute it")
        );
    }
    Err(says(name, Kind::Invalid, "executable file not found in $PATH"))
}

/// A file that this user may execute, and that is not reached by way of what a process has open.
///
/// It is executed by its name in the end, and so may be another file by then: execveat(2) of a handle would name the process after
/// the descriptor's number (up to Linux 6.13), and hand scripts a name that is closed. Whoever wins that race wins nothing. This
/// process has no descriptor of the host's ([`super::shut`]), its own executable is a copy that nobody else has, it has the user's rights
/// and none but these: what its name may lead to, the user can reach by himself.
fn usable(path: &CStr) -> rustix::io::Result<()> {
    let handle = open(path, OFlags::PATH)?;
    let stat = rustix::fs::fstat(&handle)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err(Errno::ISDIR),
        FileType::RegularFile => {}
        _ => return Err(Errno::ACCESS), // as execve(2) has it
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// What the kernel opens to run it: none is reached by what a process has open. KERNEL: a script's interpreter may be a script, five deep.
///
/// KERNEL: /proc/self leads nowhere in a procfs of another PID namespace. So the process in between lets nothing pass that it can't find.
fn interpreted(path: &CStr, in_between: bool, depth: usize) -> rustix::io::Result<()> {
    const DEEPEST: usize = 5;
    // Who may execute need not be allowed to read: then the kernel alone knows.
    let Ok(file) = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) else { return Ok(()) };
    for interpreter in interpreter::all(&file) {
        let (Interpreter::OfScript(name) | Interpreter::Loader(name)) = &interpreter;
        match (open(name, OFlags::PATH), &interpreter) {
            (Err(errno), _) if errno == Errno::LOOP || in_between => return Err(errno),
            // What is no file is not opened: it may be a device.
            (Ok(handle), Interpreter::OfScript(name)) if depth < DEEPEST && is_regular(&handle).is_ok() => {
                interpreted(name, in_between, depth + 1)?;
            }
            // What else may be wrong with it is said by execve.
            _ => {}
        }
    }
    Ok(())
}

/// The process's own root is the container's by now.
fn open(path: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// What the program inherits beside its environment: descriptors and signal dispositions.
///
/// ORDER: before the system call filter, which need not allow any of these calls.
pub fn settle(pass_fds: u32) -> Result<()> {
    // CVE-2024-21626: whatever the caller left open does not go in.
    process::close_on_exec_from(3 + pass_fds).what(|| "mark descriptors close-on-exec")?;
    // Ignored signals stay ignored over execve: nohup, a background job of a shell or a supervisor may be the caller, and the
    // container is none of these.
    for signal in IGNORED_BY_CALLERS {
        process::default_signal(signal, SigHandler::SigDfl).what(|| format!("reset {signal}"))?;
    }
    Ok(())
}

/// The mask that the program inherits: the caller's, as it was before the runtime blocked anything.
pub fn settle_mask(signals: SigSet) -> Result<()> {
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None)
        .what(|| "set the signal mask")
}

impl Program {
    /// The last thing that init does.
    pub fn execute(&self) -> Result<Infallible> {
        let errno = execve(&self.path, &self.argv, &self.envp);
        Err(not_executed(&self.path, errno as i32))
    }
}

fn not_executed(path: &CStr, errno: i32) -> Error {
    let error = Error::os(errno, format!("exec {}", path.to_string_lossy()));
    match errno {
        // The file itself was found before.
        libc::ENOENT => error
            .cure("the interpreter in its first line, or its dynamic loader, is missing in the container"),
        libc::ENOEXEC => error.cure("it is no program for this machine, and no script that begins with #!"),
        _ => error,
    }
}
