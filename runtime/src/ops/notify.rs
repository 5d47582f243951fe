//! `NOTIFY_SOCKET`: that a service in the container is ready, passed on to the systemd that waits for it. SPEC: sd_notify(3)
//!
//! systemd hears only processes of the unit's own cgroup, where the container's are not. So the container gets a socket of its own, and this
//! process says the word for it. As runc does: nothing but `READY=1` goes through, with init's pid if nobody of ours stays.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;

use super::options::Global;
use crate::error::{Context, Result};
use crate::id::Id;
use crate::outfile;
use crate::spec::{Mount, Spec};

const VARIABLE: &str = "NOTIFY_SOCKET";
/// Where the container has it: the directory is mounted, so that `start` may put the socket there later.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";

/// The longest message that is read whole; sd_notify's are far shorter.
const LONGEST: usize = 4096;

/// How many messages are read in a while: who says more waits, and costs this process nothing. The kernel keeps a dozen.
const MOST: u32 = 32;
const WHILE: Duration = Duration::from_millis(250);
/// How many of those that are there when the container has ended. KERNEL: net.unix.max_dgram_qlen, as far as it is usual.
const LAST: u32 = 1024;

/// Somebody waits for a container to be ready.
#[derive(Debug)]
pub struct Notify {
    host: OsString,
    directory: PathBuf,
}

impl Notify {
    /// None if `$NOTIFY_SOCKET` is not set.
    pub fn wanted(global: &Global, id: &Id) -> Option<Self> {
        let host = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())?;
        Some(Self { host, directory: global.root.join(id.as_str()).join("notify") })
    }

    /// Puts the variable and the mount in the config; false where they can't be there, or are there: engines that listen themselves do so.
    pub fn rewrite(&self, spec: &mut Spec) -> bool {
        let (Some(process), Some(linux)) = (&mut spec.process, &spec.linux) else { return false };
        let own_mounts = linux.namespaces.iter().any(|space| space.kind == "mount" && space.path.is_none());
        let told = process.env.iter().any(|entry| entry.starts_with("NOTIFY_SOCKET="));
        if !own_mounts || told {
            return false;
        }
        process.env.push(format!("{VARIABLE}={INSIDE}/{NAME}"));
        let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        spec.mounts.push(Mount {
            destination: INSIDE.to_owned(),
            kind: Some("bind".to_owned()),
            source: Some(self.directory.to_string_lossy().into_owned()),
            options: options.into(),
            ..Mount::default()
        });
        true
    }

    /// Makes the directory that is mounted. It goes with the container's state.
    pub fn make(&self) -> Result<()> {
        std::fs::create_dir(&self.directory).what(|| format!("make {}", self.directory.display()))
    }

    /// Makes the socket; None if the container has no place for it.
    pub fn listen(self) -> Result<Option<Listener>> {
        let what = || format!("listen in {} for the container to be ready", self.directory.display());
        let Ok(directory) = std::fs::File::open(&self.directory) else { return Ok(None) };
        // By descriptor: an address has but 108 bytes.
        let path = format!("/proc/self/fd/{}/{NAME}", std::os::fd::AsRawFd::as_raw_fd(&directory));
        let _ = std::fs::remove_file(&path);
        // For whoever the container's users are: the directory is nowhere but in the container and in ours. ORDER: made with that mode:
        // by its name one could change that of what somebody has put in its place.
        let mask = rustix::process::umask(Mode::empty());
        let socket = UnixDatagram::bind(&path);
        rustix::process::umask(mask);
        let socket = socket.what(what)?;
        socket.set_nonblocking(true).what(what)?;
        // Whoever could send one says how long its close takes, which is ours.
        crate::sys::net::refuse_descriptors(&socket).what(what)?;
        Ok(Some(Listener { host: self.host, socket, done: false, left: MOST, since: Instant::now() }))
    }
}

/// The socket that the container has.
#[derive(Debug)]
pub struct Listener {
    host: OsString,
    socket: UnixDatagram,
    done: bool,
    /// How many messages are still read in the while that began `since`.
    left: u32,
    since: Instant,
}

impl Listener {
    /// Whether there is nothing more to pass on. To be dropped then: who says more would wait for ever for somebody who reads it.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What to poll, and for how long at most; nothing while enough was read.
    pub fn waiting(&self) -> (Option<BorrowedFd<'_>>, Option<Duration>) {
        if self.left > 0 {
            return (Some(self.socket.as_fd()), None);
        }
        // At least a millisecond: less would be no wait.
        let rest = WHILE.saturating_sub(self.since.elapsed());
        (None, Some(rest.max(Duration::from_millis(1))))
    }

    /// Reads what there is, or as much of it as is read in a while, and says that the container is ready, if it is. The container runs,
    /// whether or not somebody hears of it.
    pub fn pass_on(&mut self, main_pid: Option<i32>) {
        if self.left < MOST && self.since.elapsed() >= WHILE {
            self.left = MOST;
        }
        if self.left == MOST {
            self.since = Instant::now();
        }
        let mut message = [0; LONGEST];
        while !self.done && self.left > 0 {
            let Ok(length) = self.socket.recv(&mut message) else { return };
            self.left -= 1;
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                self.done = true;
                if let Err(error) = self.say(main_pid) {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    /// The same once the container has ended: its last word may have come right before.
    pub fn pass_on_the_last(&mut self, main_pid: Option<i32>) {
        (self.left, self.since) = (LAST, Instant::now());
        self.pass_on(main_pid);
    }

    /// Waits until it is ready or has ended (no pidfd: it has), for those who then leave.
    pub fn wait_ready(mut self, pid: i32, pidfd: Option<&OwnedFd>) -> Result<()> {
        while let Some(pidfd) = pidfd.filter(|_| !self.done) {
            let (socket, pause) = self.waiting();
            let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
            let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
            fds.extend(socket.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut fds, pause.as_ref()))
                .what(|| "wait for the container to be ready")?;
            if !fds[0].revents().is_empty() {
                break;
            }
            self.pass_on(Some(pid));
        }
        self.pass_on_the_last(Some(pid));
        Ok(())
    }

    fn say(&self, main_pid: Option<i32>) -> Result<()> {
        let what = || format!("say to {} that the container is ready", self.host.display());
        let (address, _handle) = match self.host.as_bytes().strip_prefix(b"@") {
            Some(name) => (SocketAddr::from_abstract_name(name), None),
            None => {
                let (handle, address) = outfile::socket(Path::new(&self.host)).what(what)?;
                (SocketAddr::from_pathname(address), Some(handle))
            }
        };
        let main_pid = main_pid.map_or(String::new(), |pid| format!("MAINPID={pid}\n"));
        let socket = UnixDatagram::unbound().what(what)?;
        socket.send_to_addr(format!("{main_pid}READY=1\n").as_bytes(), &address.what(what)?).what(what)?;
        Ok(())
    }
}
