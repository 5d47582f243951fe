//! Runs `rt`: which arguments, from which file, and what it said if it did not succeed. It knows no states.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use tokio::sync::oneshot;

use crate::children::Children;
use crate::error::{Context, Error, Kind, Result};
use crate::pod::{Options, RuntimeChoice};
use crate::request;
use runtime::sys::mount::{Depth, MountAttr, mount_setattr};

/// What is read of what `rt` said: a hook's words may be in it.
const SAID: u64 = 1 << 20;

/// The program, opened once, so that nobody can write to it while it runs (CVE-2019-5736) and all of a pod's life has one.
#[derive(Debug)]
pub struct Runtime {
    /// Left to the end of the process: closing the last descriptor of a mount takes the kernel up to a tenth of a second on a busy
    /// machine, and the answer to the shutdown would wait for it.
    own: ManuallyDrop<OwnedFd>,
    options: Options,
    calls: u64,
}

/// The three standard streams of a process to be; none: /dev/null.
pub type Ends = [Option<OwnedFd>; 3];

/// One call of `rt`.
#[derive(Debug)]
pub struct Call<'a> {
    /// What the container's creator chose.
    pub choice: &'a RuntimeChoice,
    /// Command and arguments.
    pub args: Vec<OsString>,
    /// Streams that it passes on.
    pub ends: Ends,
    /// Until it is killed.
    pub patience: Duration,
}

/// An `rt` that runs.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    exit: oneshot::Receiver<i32>,
    log: PathBuf,
    patience: Duration,
    command: String,
    request: Option<Arc<str>>,
}

impl Runtime {
    /// Opens the program.
    pub fn open(options: &Options) -> Result<Self> {
        let own = sealed(&options.rt).what(|| format!("open the runtime {}", options.rt.display()))?;
        Ok(Self { own: ManuallyDrop::new(own), options: options.clone(), calls: 0 })
    }

    /// The `--root` of a container.
    pub fn root<'a>(&'a self, choice: &'a RuntimeChoice) -> &'a Path {
        choice.root.as_deref().unwrap_or(&self.options.rt_root)
    }

    /// Whether a container has another program than `rt` for its runtime.
    pub fn is_other(&self, choice: &RuntimeChoice) -> bool {
        use std::os::unix::fs::MetadataExt;
        let file = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        choice.program.as_deref().is_some_and(|program| file(program) != file(&self.options.rt))
    }

    /// A path in the shim's directory that no other call uses.
    pub fn scratch(&mut self, purpose: &str) -> PathBuf {
        self.calls += 1;
        self.options.dir.join(format!("{purpose}-{}", self.calls))
    }

    /// Starts it.
    pub fn call(&mut self, children: &mut Children, call: Call<'_>) -> Result<Running> {
        let name = call.args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let log = self.scratch("rt-log");
        let mut command = self.command(call.choice);
        command.arg("--log").arg(&log).args(["--log-format", "json"]);
        let systemd = call.choice.systemd_cgroup.unwrap_or(self.options.systemd_cgroup);
        command.args(systemd.then_some("--systemd-cgroup")).args(&call.args);
        let [stdin, stdout, stderr] = call.ends.map(|end| end.map_or_else(Stdio::null, Stdio::from));
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = command.spawn().what(|| format!("run rt {name}"))?;
        let exit = children.program(child.id());
        Ok(Running {
            pid: child.id(),
            exit,
            log,
            patience: call.patience,
            command: name,
            request: request::current(),
        })
    }

    fn command(&self, choice: &RuntimeChoice) -> Command {
        let mut command = match &choice.program {
            Some(program) => Command::new(program),
            None => {
                let mut command = Command::new(format!("/proc/self/fd/{}", self.own.as_raw_fd()));
                command.arg0("rt");
                command
            }
        };
        command.arg("--root").arg(self.root(choice));
        // Meant for the shim, if for anyone: `rt` would pass them on to the container.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        if let Some(request) = request::current() {
            command.env(request::VARIABLE, &*request);
        }
        command
    }
}

impl Running {
    /// Waits for its end. Error with the whole of what it said; one that takes too long is killed.
    pub async fn done(self) -> Result<()> {
        request::within(self.request.clone(), self.end()).await
    }

    async fn end(mut self) -> Result<()> {
        let ended = match tokio::time::timeout(self.patience, &mut self.exit).await {
            Ok(ended) => ended.map_err(|_| self.error(Kind::Unavailable, "the shim is ending")),
            Err(_) => Err(self.too_slow().await),
        };
        let said = last_error(&self.log);
        let _ = std::fs::remove_file(&self.log);
        match (ended?, said) {
            (0, _) => Ok(()),
            (_, Some(said)) => Err(self.error(said.kind(), said.msg)),
            // Kind::Unavailable: what it has begun may be half done.
            (code, None) if code > 128 && code != 255 => {
                Err(self.error(Kind::Unavailable, format!("killed by signal {}", code - 128)))
            }
            (code, None) => Err(self.error(Kind::Internal, format!("it ended with {code} and said nothing"))),
        }
    }

    /// Itself if its end was not seen yet; else nothing is left of it.
    pub fn if_it_runs(mut self) -> Option<Self> {
        match self.exit.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => Some(self),
            Ok(_) | Err(_) => {
                let _ = std::fs::remove_file(&self.log);
                None
            }
        }
    }

    /// Not wanted any more: it is killed, and nothing is left of it.
    pub fn abandon(self) {
        let _ = std::fs::remove_file(&self.log); // now, should the shim end before it has
        if let Some(running) = self.if_it_runs() {
            running.kill();
            tokio::spawn(running.done());
        }
    }

    /// It is our child and not reaped, else `exit` would have said so: the pid is still its own.
    fn kill(&self) {
        if let Ok(pidfd) =
            i32::try_from(self.pid).map_or(Err(nix::errno::Errno::ESRCH), runtime::sys::pidfd::open)
        {
            let _ = runtime::sys::pidfd::send_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL);
        }
    }

    async fn too_slow(&mut self) -> Error {
        self.kill();
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut self.exit).await;
        self.error(Kind::Timeout, format!("no end after {} s: killed", self.patience.as_secs()))
    }

    fn error(&self, kind: Kind, said: impl Into<String>) -> Error {
        Error::new(kind, said).during(format!("rt {}", self.command))
    }
}

/// A read-only mount of the program costs nothing; where mounts can't be had, a sealed copy in memory. KERNEL(5.12)
fn sealed(path: &Path) -> Result<OwnedFd> {
    let mount = || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(CWD, path, flags).what(|| "clone its mount")?;
        let set = libc::MOUNT_ATTR_RDONLY;
        mount_setattr(&mount, c"", Depth::One, MountAttr { set, ..Default::default() })
            .what(|| "make it read-only")?;
        Ok(mount)
    };
    mount().or_else(|_: Error| {
        let file =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).what(|| "open it")?;
        runtime::ops::sealed::memory_copy(&file)
    })
}

/// The last error in a log of JSON lines; its warnings go to the shim's own log, and all of it to who wants to see much.
fn last_error(log: &Path) -> Option<Line> {
    let mut text = Vec::new();
    File::open(log).ok()?.take(SAID).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut last = None;
    for line in text.lines() {
        tracing::debug!("rt: {line}");
        let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
        match line.level.as_str() {
            "error" | "fatal" | "panic" => last = Some(line),
            "warning" => tracing::warn!("rt: {}", line.msg),
            _ => {}
        }
    }
    last
}

/// As logrus writes it, and what `rt` adds.
#[derive(serde::Deserialize)]
struct Line {
    level: String,
    msg: String,
    #[serde(default)]
    kind: String,
}

impl Line {
    /// What `rt` says that it is; of another runtime, and of a kind that is newer than this shim, what its words mean.
    fn kind(&self) -> Kind {
        match self.kind.as_str() {
            "not-found" => Kind::NotFound,
            "exists" => Kind::Exists,
            "invalid" => Kind::Invalid,
            "wrong-status" => Kind::WrongStatus,
            "unsupported" => Kind::Unsupported,
            "denied" => Kind::Denied,
            "timeout" => Kind::Timeout,
            // A system call of `rt`'s is none of the shim's: its words say which, and who called can't branch on more.
            "os" | "internal" => Kind::Internal,
            _ => meaning(&self.msg),
        }
    }
}

/// Words of runc's that other runtimes keep for those who search for them.
fn meaning(said: &str) -> Kind {
    let has = |words: &str| said.contains(words);
    if has("container with given ID already exists") {
        Kind::Exists
    } else if has("does not exist") && has("container") {
        Kind::NotFound
    } else if has("container not running")
        || has("cannot start a")
        || has("cannot exec in")
        || has("not paused")
    {
        Kind::WrongStatus
    } else {
        Kind::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_what_rt_said() {
        let path = std::env::temp_dir().join(format!("shim-rt-log-{}", std::process::id()));
        let lines = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\"}\n\
                     {\"level\":\"warning\",\"msg\":\"no\"}\nhalf a li";
        std::fs::write(&path, lines).unwrap();
        assert_eq!(last_error(&path).unwrap().msg, "a \"b\"");
        std::fs::remove_file(&path).unwrap();
        assert!(last_error(&path).is_none());
    }

    #[test]
    fn rt_says_what_kind_of_error_it_is_and_others_by_their_words() {
        let kind = |line: &str| serde_json::from_str::<Line>(line).unwrap().kind();
        let said = |kind: &str| format!("{{\"level\":\"error\",\"msg\":\"container not running\"{kind}}}");
        assert_eq!(kind(&said(r#","kind":"invalid","errno":"EINVAL""#)), Kind::Invalid);
        assert_eq!(kind(&said(r#","kind":"os""#)), Kind::Internal);
        assert_eq!(kind(&said(r#","kind":"of tomorrow""#)), Kind::WrongStatus);
        assert_eq!(kind(&said("")), Kind::WrongStatus);
        assert_eq!(meaning("container with given ID already exists"), Kind::Exists);
        assert_eq!(meaning("container \"x\" does not exist"), Kind::NotFound);
        assert_eq!(meaning("mount proc: EPERM"), Kind::Internal);
    }
}
