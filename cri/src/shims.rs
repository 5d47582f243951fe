//! Starting shims and reaching them. A shim lives until its pod is stopped, longer than this server if need be; this file does not
//! decide what the pod's containers do.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use shim::client::Client;

use crate::error::{Context, Error, Kind, Result};

/// The socket of a pod's shim, within its directory.
pub const SOCKET: &str = "shim.sock";

/// How this server's shims are started.
#[derive(Debug)]
pub struct Shims {
    program: PathBuf,
    log_level: String,
    runtime_root: PathBuf,
    systemd: bool,
    /// Our children, to be reaped by nobody else.
    children: Mutex<Vec<Pid>>,
}

impl Shims {
    /// `program` is absolute.
    pub fn new(program: PathBuf, log_level: &str, runtime_root: PathBuf, systemd: bool) -> Self {
        Self { program, log_level: log_level.to_owned(), runtime_root, systemd, children: Mutex::default() }
    }

    /// Starts the shim of the pod `id`, whose directory is `dir`, with the OCI runtime at `runtime`. Its socket answers from now on:
    /// the backlog holds the first call. The pid is returned.
    pub fn start(&self, id: &str, dir: &Path, runtime: &Path) -> Result<u32> {
        let socket = listen(&dir.join(SOCKET))?;
        let args = self.args(id, dir, runtime)?;
        let mut options = std::fs::OpenOptions::new();
        let log = dir.join("shim.log");
        let log = options
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .what(|| format!("open {}", log.display()))?;
        let null = std::fs::File::open("/dev/null").what(|| "open /dev/null")?;
        let pid =
            spawn(&self.program, &args, [&OwnedFd::from(null), &OwnedFd::from(log)], &OwnedFd::from(socket))
                .what(|| format!("execute the shim {}", self.program.display()))?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
        Ok(pid.as_raw().unsigned_abs())
    }

    fn args(&self, id: &str, dir: &Path, runtime: &Path) -> Result<Vec<CString>> {
        let mut args = vec![self.program.as_os_str(), "serve".as_ref()];
        args.extend::<[&std::ffi::OsStr; 10]>([
            "--id".as_ref(),
            id.as_ref(),
            "--dir".as_ref(),
            dir.as_os_str(),
            "--rt".as_ref(),
            runtime.as_os_str(),
            "--rt-root".as_ref(),
            self.runtime_root.as_os_str(),
            "--log-level".as_ref(),
            self.log_level.as_ref(),
        ]);
        if self.systemd {
            args.push("--systemd-cgroup".as_ref());
        }
        args.into_iter().map(text).collect()
    }

    /// Reaps those of our children that ended.
    pub fn reap(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|pid| match waitpid(*pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => status.pid().is_none(),
            Err(errno) => errno == nix::errno::Errno::EINTR,
        });
    }
}

/// Connects to the shim of the pod whose directory is `dir`.
///
/// # Errors
/// `Unavailable` if nobody listens: that shim is dead.
pub async fn reach(dir: &Path) -> Result<Client> {
    Client::connect(dir.join(SOCKET)).await.map_err(Error::from)
}

fn listen(path: &Path) -> Result<UnixListener> {
    // A leftover of a shim that was started here before.
    let _ = std::fs::remove_file(path);
    let socket = UnixListener::bind(path).what(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .what(|| format!("set the mode of {}", path.display()))?;
    Ok(socket)
}

fn text(text: &std::ffi::OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::new(Kind::Invalid, format!("NUL in {}", text.display())))
}

/// One posix_spawn (a vfork: it costs the same for a large server): a session of its own, no signal blocked, 3 is the socket.
fn spawn(program: &Path, args: &[CString], streams: [&OwnedFd; 2], socket: &OwnedFd) -> nix::Result<Pid> {
    /// KERNEL: none; glibc 2.26 and musl 1.2 know it, nix has no name for it.
    const SETSID: i32 = 0x80;
    let mut actions = PosixSpawnFileActions::init()?;
    let [null, log] = streams;
    // ORDER: 0, 1 and 2 are none of the sources, but one of the first two may be 3. A socket that is 3 already loses its
    // close-on-exec flag by the last.
    actions.add_dup2(null.as_raw_fd(), 0)?;
    actions.add_dup2(log.as_raw_fd(), 1)?;
    actions.add_dup2(log.as_raw_fd(), 2)?;
    actions.add_dup2(socket.as_raw_fd(), 3)?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::from_bits_retain(SETSID as _)
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    let environment: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| name != "NOTIFY_SOCKET" && name != "LISTEN_FDS" && name != "LISTEN_PID")
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    posix_spawn(program, &actions, &attributes, args, &environment)
}
