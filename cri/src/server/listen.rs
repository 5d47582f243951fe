//! The socket: systemd's, or our own that only root and root's group may connect to. It does not speak gRPC.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio_stream::wrappers::UnixListenerStream;

use crate::error::{Context, Error, Kind, Result};

/// A socket that is listened on.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    /// Ours, to be removed at the end.
    path: Option<PathBuf>,
}

/// SPEC: sd_listen_fds(3): the first descriptor that is passed.
const FIRST: i32 = 3;

/// Takes what systemd passes, or binds `address` (`unix:///path`, or a path).
pub fn listen(address: &str) -> Result<Socket> {
    if let Some(listener) = passed()? {
        return Ok(Socket { listener, path: None });
    }
    let path = path(address)?;
    if let Some(parent) = path.parent() {
        crate::paths::host_dir(parent)?;
    }
    if UnixStream::connect(&path).is_ok() {
        return Err(Error::new(Kind::Exists, format!("somebody serves {} already", path.display()))
            .cure("end it, or give another --listen with another --root and --state"));
    }
    let _ = std::fs::remove_file(&path);
    let listener = bind(&path)?;
    Ok(Socket { listener, path: Some(path) })
}

/// The path of an address.
pub fn path(address: &str) -> Result<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    if path.starts_with('/') && path.len() < 108 {
        return Ok(path.into());
    }
    Err(Error::invalid(format!("the address {address:?} is no unix:///PATH of less than 108 bytes")))
}

/// Bound beside and renamed, so that nobody can connect before the mode is set.
fn bind(path: &Path) -> Result<UnixListener> {
    let beside = path.with_extension(format!("{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside).what(|| format!("listen on {}", beside.display()))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))
        .what(|| format!("set the mode of {}", beside.display()))?;
    std::os::unix::fs::chown(&beside, Some(0), Some(0))
        .what(|| format!("change the owner of {}", beside.display()))?;
    std::fs::rename(&beside, path).what(|| format!("rename {} to {}", beside.display(), path.display()))?;
    Ok(listener)
}

/// systemd's socket, where the environment says that there is one for this process.
fn passed() -> Result<Option<UnixListener>> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none_or(|count| count == 0)
    {
        return Ok(None);
    }
    let what = || format!("take descriptor {FIRST}, which LISTEN_FDS says is a socket to serve");
    let passed = runtime::sys::process::inherited(FIRST).what(what)?;
    match rustix::net::sockopt::socket_acceptconn(&passed) {
        Ok(true) => Ok(Some(UnixListener::from(passed))),
        Ok(false) => Err(Error::invalid("it does not listen").during(what())),
        Err(errno) => Err(errno).what(what),
    }
}

impl Socket {
    /// Its connections.
    pub fn incoming(&self) -> Result<UnixListenerStream> {
        let listener = self.listener.try_clone().what(|| "duplicate the socket")?;
        listener.set_nonblocking(true).what(|| "make the socket non-blocking")?;
        let listener = tokio::net::UnixListener::from_std(listener).what(|| "listen on the socket")?;
        Ok(UnixListenerStream::new(listener))
    }

    /// Removes its file, if that is ours.
    pub fn remove(&self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}
