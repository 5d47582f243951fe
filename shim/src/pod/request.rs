//! What a pod can be asked for and what that answers: plain values, no protocol's types. Nothing here does anything.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How the shim runs `rt`, and where it keeps its things.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the pod: the sandbox, or the lone container.
    pub id: String,
    /// The shim's own directory, on a tmpfs: records of exits, console sockets, short-lived files.
    pub dir: PathBuf,
    /// The runtime's program.
    pub rt: PathBuf,
    /// Its `--root`.
    pub rt_root: PathBuf,
    /// Whether cgroups are made by systemd, where [`Create::runtime`] doesn't say.
    pub systemd_cgroup: bool,
}

/// A process of the pod: a container's own, or an exec in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The container's id.
    pub container: String,
    /// The exec's id; none: the container's own process.
    pub exec: Option<String>,
}

impl Target {
    /// The container's own process.
    pub fn container(id: impl Into<String>) -> Self {
        Self { container: id.into(), exec: None }
    }

    /// As the protocols say it: an empty `exec` is the container's own process.
    pub fn of(container: impl Into<String>, exec: impl Into<String>) -> Self {
        let exec = exec.into();
        Self { container: container.into(), exec: (!exec.is_empty()).then_some(exec) }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.exec {
            None => write!(f, "container \"{}\"", self.container),
            Some(exec) => write!(f, "exec \"{exec}\" in container \"{}\"", self.container),
        }
    }
}

/// Makes a container; its process waits for start.
#[derive(Debug, Clone, PartialEq)]
pub struct Create {
    /// `rt`'s container id.
    pub id: String,
    /// Absolute; holds config.json.
    pub bundle: PathBuf,
    /// Its streams.
    pub stdio: Stdio,
    /// The root file system's mounts, as a snapshotter writes them; they go into the field `run.rt.rootfs`, so the host
    /// never has them. Empty: as config.json says.
    pub rootfs_mounts: Vec<RootfsMount>,
    /// How `rt` is run for this container.
    pub runtime: RuntimeChoice,
}

/// One mount of a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsMount {
    /// overlay, bind, ext4, …
    pub kind: String,
    /// A device, a directory, or a name.
    pub source: String,
    /// As for mount(8).
    pub options: Vec<String>,
}

/// What containerd's options of a container say about the runtime. Default: as the shim's own [`Options`] say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// Another program.
    pub program: Option<PathBuf>,
    /// Another `--root`.
    pub root: Option<PathBuf>,
    /// Cgroups by systemd; none: as the shim's own options say.
    pub systemd_cgroup: Option<bool>,
    /// `--no-pivot`.
    pub no_pivot_root: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Who owns the pipes of the container's streams: uid, gid. None: the user of the container's process.
    pub stream_owner: Option<(u32, u32)>,
}

/// Where a process's streams lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdio {
    /// /dev/null.
    Null,
    /// CRI: a log file, and clients that attach.
    Log(LogStdio),
    /// containerd: named pipes that it reads and writes. An empty path is /dev/null; `stderr` is unused with a terminal.
    Fifos(Fifos),
    /// CRI exec: connections that a client opens with the token of [`Started`].
    Streams(Streams),
}

/// See [`Stdio::Log`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogStdio {
    /// The file in the CRI format; none: output that nobody is attached to is dropped.
    pub path: Option<PathBuf>,
    /// The pod's own directory, above the file: neither it nor what is below may be a link, and what is missing is made. None: the file's
    /// directory, which is there.
    pub directory: Option<PathBuf>,
    /// The file's size at most; 0: no cap.
    pub max_bytes: u64,
    /// Longest piece of a line in bytes; 0: 16384.
    pub line_max: usize,
    /// Keep a stdin that clients can attach to, or /dev/null.
    pub stdin: Stdin,
    /// A terminal of this size at first, or pipes.
    pub terminal: Option<Size>,
}

/// Whether there is a stdin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stdin {
    /// /dev/null.
    #[default]
    Null,
    /// Open until the container ends.
    Kept,
    /// Closes when the first attached client closes its own.
    Once,
}

/// See [`Stdio::Fifos`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fifos {
    /// Path or empty.
    pub stdin: String,
    /// Path or empty; `file://PATH` appends to a file.
    pub stdout: String,
    /// Path or empty.
    pub stderr: String,
    /// A terminal, or three separate streams.
    pub terminal: bool,
}

/// See [`Stdio::Streams`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    /// A client will connect its stdin; else /dev/null.
    pub stdin: bool,
    /// Likewise.
    pub stdout: bool,
    /// Likewise.
    pub stderr: bool,
    /// A terminal of this size at first, or pipes.
    pub terminal: Option<Size>,
    /// How long output is still read after the process ended, while something else holds it; zero: two seconds.
    pub drain: Duration,
}

/// A terminal's size in characters; zeros: unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// An extra process in a container, not yet started.
#[derive(Debug, Clone, PartialEq)]
pub struct Exec {
    /// Container and exec id; the exec id may not be empty.
    pub target: Target,
    /// What runs.
    pub what: ExecWhat,
    /// Its streams.
    pub stdio: Stdio,
    /// SIGKILL after that; none: no limit.
    pub timeout: Option<Duration>,
}

impl Exec {
    /// How many bytes ask for it.
    pub fn size(&self) -> usize {
        match &self.what {
            ExecWhat::Process(json) => json.len(),
            ExecWhat::Args(words) => words.iter().map(|word| word.len() + size_of::<String>()).sum(),
        }
    }
}

/// What an exec runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecWhat {
    /// The runtime-spec's Process as JSON. `terminal` in it is overridden by the stdio's.
    Process(Vec<u8>),
    /// The container's own process with these arguments.
    Args(Vec<String>),
}

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// As the host sees it.
    pub pid: u32,
    /// When.
    pub at: SystemTime,
    /// With [`Stdio::Streams`]: for the connections, which have ten seconds to come. Else empty.
    pub token: String,
}

/// Ends a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The container's id.
    pub id: String,
    /// 1 to 64.
    pub signal: i32,
    /// Until SIGKILL; zero: at once.
    pub grace: Duration,
}

/// One signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Whom.
    pub target: Target,
    /// 1 to 64.
    pub signal: i32,
    /// To whom of the container.
    pub reach: Reach,
}

/// Whom a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process. SIGKILL of a container without a PID namespace of its own ends all of it.
    One,
    /// All processes of the container.
    All,
}

/// What removal does with a process that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfRunning {
    /// WrongStatus.
    Refuse,
    /// Kill it, then remove.
    Kill,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// 128 + signal for a signal.
    pub exit_code: i32,
    /// When.
    pub at: SystemTime,
    /// The cgroup in which the kernel killed for memory; none: it did not.
    pub oom_cgroup: Option<String>,
    /// Empty, or why it ended if not by itself ("exec timed out", …).
    pub reason: String,
}

/// What is left to say of something that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// As the host saw it; 0: it never had one.
    pub pid: u32,
    /// Its end; a created container that never ran ends with 137.
    pub ended: Ended,
}

/// Whose streams a client wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Of which process.
    pub target: Target,
    /// Which connections will come.
    pub stdin: bool,
    /// Likewise.
    pub stdout: bool,
    /// Likewise; none with a terminal.
    pub stderr: bool,
}

/// Permission to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// For the connections, which have ten seconds to come.
    pub token: String,
    /// Whether the process has a terminal: then all output is stdout.
    pub terminal: bool,
}

/// Which stream a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamName {
    /// From the client.
    Stdin,
    /// To the client.
    Stdout,
    /// To the client.
    Stderr,
}

impl StreamName {
    /// `stdin`, `stdout` or `stderr`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "stdin" => Some(Self::Stdin),
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}
