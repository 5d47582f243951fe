//! Starting shims and reaching them. A shim lives until its pod is stopped, longer than this server if need be; this file does not
//! decide what the pod's containers do.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use runtime::sys::spawn::Spawn;
use shim::client::Client;

use crate::error::{Context, Error, Kind, Result};
use crate::host::shims::{Cgroup, cgroup, score};
use crate::oci::{Driver, Host};

/// The socket of a pod's shim, within its directory.
pub const SOCKET: &str = "shim.sock";

/// How this server's shims are started.
#[derive(Debug)]
pub struct Shims {
    program: PathBuf,
    log_level: String,
    runtime_root: PathBuf,
    systemd: bool,
    cgroup: Cgroup,
    oom_score_adj: i32,
    /// Our children, to be reaped by nobody else.
    children: Mutex<Vec<Pid>>,
}

impl Shims {
    /// `program` is absolute.
    pub fn new(program: PathBuf, log_level: &str, runtime_root: PathBuf, host: &Host) -> Self {
        let path = cgroup();
        if let Err(why) = &path {
            tracing::info!("shims stay in the server's cgroup: {why}");
        }
        let (oom_score_adj, clamped) = score(host);
        if let Some(clamped) = clamped {
            tracing::info!("oom_score_adj of shims: {clamped}");
        }
        Self {
            program,
            log_level: log_level.to_owned(),
            runtime_root,
            systemd: host.driver == Driver::Systemd,
            cgroup: Cgroup::new(path.ok()),
            oom_score_adj,
            children: Mutex::default(),
        }
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
        let (null, log, socket) = (OwnedFd::from(null), OwnedFd::from(log), OwnedFd::from(socket));
        let spawn = Spawn {
            program: &text(self.program.as_os_str())?,
            args: &args,
            environment: &environment(),
            // None of 0, 1 and 2 is ours, and the log, if it is 3, comes before the socket.
            descriptors: [null.as_fd(), log.as_fd(), log.as_fd(), socket.as_fd()],
            cgroup: None,
        };
        let pid = self
            .cgroup
            .with(|cgroup| Spawn { cgroup, ..spawn }.call())
            .what(|| format!("execute the shim {}", self.program.display()))?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
        self.protect(pid);
        Ok(pid.as_raw().unsigned_abs())
    }

    /// A shim that the kernel ends takes its pod along.
    fn protect(&self, pid: Pid) {
        let path = format!("/proc/{pid}/oom_score_adj");
        if let Err(error) = std::fs::write(&path, self.oom_score_adj.to_string()) {
            tracing::warn!("set the shim's {path} to {}: {error}", self.oom_score_adj);
        }
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

/// Ours, without what systemd meant for this process alone.
fn environment() -> Vec<CString> {
    const OURS: [&str; 4] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    std::env::vars_os()
        .filter(|(name, _)| !OURS.iter().any(|ours| name == ours))
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}
