//! Network namespaces bound under /run/netns, where people and CNI plugins' daemons look.
//!
//! The server's own threads never change theirs: whoever enters a namespace is a thread that ends with it. What is inside
//! beyond the loopback is not made here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::link;
use super::socket::Socket;
use crate::error::{Context, Error, Kind, Result};

/// Where namespaces are bound.
pub const FOLDER: &str = "/run/netns";

/// The path at which the namespace of `id` is bound.
pub fn path(id: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("rt-{id}"))
}

/// Makes a namespace with its loopback up and binds it. One that is there is left as it is.
pub fn make(id: &str) -> Result<PathBuf> {
    bind_in_thread(id, || {
        unshare(CloneFlags::CLONE_NEWNET).what(|| "unshare the network namespace")?;
        raise_loopback()
    })
}

/// Binds the namespace at `source`, with its loopback up. One that is bound for `id` already is left as it is.
pub fn adopt(id: &str, source: &Path) -> Result<PathBuf> {
    let namespace = File::open(source).what(|| format!("open network namespace {}", source.display()))?;
    adopt_open(id, namespace.into())
}

/// The same, of an open namespace.
pub fn adopt_open(id: &str, namespace: OwnedFd) -> Result<PathBuf> {
    bind_in_thread(id, move || {
        enter(&namespace)?;
        raise_loopback()
    })
}

/// Removes what is bound for `id`. Nothing there is fine.
pub fn remove(id: &str) -> Result<()> {
    let path = path(id);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(Error::os(errno as i32, format!("unmount {}", path.display()))),
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).what(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The ids of all that is bound here by servers like this one.
pub fn bound() -> Result<Vec<String>> {
    let entries = match fs::read_dir(FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.what(|| format!("list {FOLDER}"))?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.strip_prefix("rt-").map(str::to_owned)).collect())
}

/// Opens a namespace. Errors: nothing there, or no namespace.
pub fn open(path: &Path) -> Result<OwnedFd> {
    let what = || format!("open network namespace {}", path.display());
    let file = File::open(path).what(what)?;
    if !is_bound(path)? {
        return Err(Error::new(Kind::NotFound, "it is not a namespace").during(what()));
    }
    Ok(file.into())
}

/// A routing socket inside a namespace.
pub fn route_socket(namespace: OwnedFd) -> Result<Socket> {
    on_own_thread(move || {
        enter(&namespace)?;
        Socket::route()
    })
}

/// Runs `work` on a thread inside a namespace.
pub fn inside<T: Send + 'static>(
    namespace: OwnedFd,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    on_own_thread(move || {
        enter(&namespace)?;
        work()
    })
}

fn enter(namespace: &OwnedFd) -> Result<()> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).what(|| "enter the network namespace")
}

/// On a thread of its own: `prepare` puts it into the namespace, which is then bound.
fn bind_in_thread(id: &str, prepare: impl FnOnce() -> Result<()> + Send + 'static) -> Result<PathBuf> {
    let target = path(id);
    let what = format!("make network namespace {}", target.display());
    ready_folder().what(|| what.clone())?;
    if is_bound(&target)? {
        return Ok(target);
    }
    let place = target.clone();
    on_own_thread(move || {
        prepare()?;
        bind_own(&place)
    })
    .what(|| what)?;
    Ok(target)
}

/// Binds the calling thread's network namespace.
fn bind_own(target: &Path) -> Result<()> {
    let created =
        OpenOptions::new().read(true).create(true).truncate(false).write(true).mode(0o444).open(target);
    created.what(|| format!("create {}", target.display()))?;
    let own = "/proc/thread-self/ns/net";
    let bound = mount(Some(own), target, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    if bound.is_err() {
        let _ = fs::remove_file(target);
    }
    bound.what(|| format!("bind {own} at {}", target.display()))
}

fn raise_loopback() -> Result<()> {
    // The loopback of every namespace has the number 1.
    Socket::route()?.send(vec![link::raise(1)])?.map_err(|refusal| refusal.during("raise the loopback"))
}

/// A shared mount, as `ip netns` makes it: what is bound there is seen, and released, in every mount namespace.
fn ready_folder() -> Result<()> {
    fs::create_dir_all(FOLDER).what(|| format!("create {FOLDER}"))?;
    let share =
        || mount(None::<&str>, FOLDER, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    let shared = |done: nix::Result<()>| done.what(|| format!("make {FOLDER} a shared mount"));
    match share() {
        Err(Errno::EINVAL) => {} // no mount yet
        done => return shared(done),
    }
    let folder = File::open(FOLDER).what(|| format!("open {FOLDER}"))?;
    // `ip netns` takes the same lock for the same work. So may anybody who may read the directory, for as long as he likes: without
    // it we would at worst bind the directory once more.
    let _lock = lock_soon(folder);
    match share() {
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(FOLDER), FOLDER, None::<&str>, flags, None::<&str>)
                .what(|| format!("bind {FOLDER} on itself"))?;
            shared(share())
        }
        done => shared(done),
    }
}

/// The lock, if it is free within a second.
fn lock_soon(mut folder: File) -> Option<Flock<File>> {
    for _ in 0..20 {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((file, _)) => folder = file,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

fn is_bound(path: &Path) -> Result<bool> {
    match statfs(path) {
        Ok(stat) => Ok(stat.filesystem_type() == NSFS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::os(errno as i32, format!("look at {}", path.display()))),
    }
}

fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new().name("netns".to_owned()).stack_size(256 << 10);
    let thread = thread.spawn(work).what(|| "start a thread")?;
    thread.join().unwrap_or_else(|_| Err(Error::internal("a thread in a network namespace panicked")))
}
