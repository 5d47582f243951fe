//! What each operation can be asked for, typed and checked as far as that goes without looking at the system.
//!
//! Paths are absolute. Nothing in here reads the command line: that is [`crate::cli`], which fills these.

use std::path::PathBuf;
use std::time::Duration;

use crate::id::Id;
use crate::spec::Resources;

/// What stands before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The state directory.
    pub root: PathBuf,
    /// Whether the user chose it: then it must exist for `list`.
    pub root_origin: Origin,
    /// Who makes cgroups.
    pub cgroups: CgroupDriver,
    /// Whether this is a user who may not make them.
    pub rootless: Rootless,
}

/// Whether `rt` is to do without rights that only the host's root has: a cgroup that can't be made is then done without,
/// unless there are limits to set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rootless {
    /// As it is found.
    #[default]
    Auto,
    /// In any case.
    Yes,
    /// In no case.
    No,
}

impl Rootless {
    /// Whether it is so.
    pub fn holds(self) -> bool {
        match self {
            Self::Auto => crate::privilege::is_rootless(),
            Self::Yes => true,
            Self::No => false,
        }
    }
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody chose it.
    Default,
    /// It stands on the command line.
    Given,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// mkdir in the cgroup2 file system.
    #[default]
    Cgroupfs,
    /// A scope of systemd's.
    Systemd,
    /// Nobody: the container stays in the caller's.
    Disabled,
}

/// `create`.
#[derive(Debug, Clone, PartialEq)]
pub struct Create {
    /// Of the new container.
    pub id: Id,
    /// How.
    pub launch: Launch,
}

/// `run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Of the new container.
    pub id: Id,
    /// How.
    pub launch: Launch,
    /// Leave when it is started.
    pub detach: bool,
    /// Don't delete it when it is over.
    pub keep: bool,
    /// Don't adopt orphans of the container.
    pub no_subreaper: bool,
}

/// `plan`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Of the container that would be.
    pub id: Id,
    /// How.
    pub launch: Launch,
}

/// What `create`, `run` and `plan` have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Launch {
    /// The directory with the config.
    pub bundle: PathBuf,
    /// Another config than the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// Where a pidfd of init goes.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets init's pid.
    pub pid_file: Option<PathBuf>,
    /// Use MS_MOVE and chroot, for a root file system on the initial ramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on go in, beside those of socket activation.
    pub preserve_fds: u32,
    /// An overlay as root file system.
    pub overlay: Option<Overlay>,
    /// A running container to share namespaces with.
    pub share: Option<Share>,
}

/// `--overlay` and `--overlay-upper`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Read-only layers, topmost first; none: the bundle's own rootfs.
    pub lowers: Vec<PathBuf>,
    /// The writable layer; absent: a tmpfs that dies with the container.
    pub upper: Option<PathBuf>,
}

/// `--share`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The container that has the namespaces.
    pub with: Id,
    /// Which of them; sorted, each once.
    pub namespaces: Vec<SharedNamespace>,
}

/// A namespace that containers can share by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharedNamespace {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues, with /dev/shm.
    Ipc,
    /// Host name.
    Uts,
    /// Processes.
    Pid,
}

impl SharedNamespace {
    /// As it is called in `config.json`.
    pub fn spec_name(self) -> &'static str {
        match self {
            Self::Net => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Pid => "pid",
        }
    }
}

/// `exec`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exec {
    /// A container that runs.
    pub id: Id,
    /// The command, or where it is written.
    pub what: ExecWhat,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// Where a pidfd of the process goes.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets the process's pid.
    pub pid_file: Option<PathBuf>,
    /// Leave when it is started.
    pub detach: bool,
    /// How many descriptors from 3 on go in.
    pub preserve_fds: u32,
    /// A cgroup below the container's, which must exist.
    pub cgroup: Option<String>,
    /// Also in a paused container.
    pub ignore_paused: bool,
    /// An inherited socket: a byte there says when, the pid is the answer.
    pub gate: Option<i32>,
}

/// What `exec` runs.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecWhat {
    /// A process as in `config.json`, in a file.
    File {
        /// Where.
        path: PathBuf,
        /// Give it a pseudo-terminal even if the file doesn't say so: conmon says it in both places.
        tty: bool,
    },
    /// The container's own process with another command and these changes.
    Command {
        /// argv, not empty.
        args: Vec<String>,
        /// Changes.
        changes: ExecChanges,
    },
}

/// What differs from the container's own process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecChanges {
    /// Working directory.
    pub cwd: Option<String>,
    /// Added to the environment.
    pub env: Vec<String>,
    /// Give it a pseudo-terminal.
    pub tty: bool,
    /// Who it runs as: uid, gid (absent: as it was).
    pub user: Option<(u32, Option<u32>)>,
    /// Added to the supplementary groups.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Can't gain privileges.
    pub no_new_privs: Option<bool>,
    /// Added to the bounding, effective and permitted sets, and to the ambient one if any are inheritable.
    pub caps: Vec<String>,
}

/// `kill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Whom.
    pub id: Id,
    /// 0 to 64; 0 only asks whether it is there.
    pub signal: i32,
    /// A container that is not running is no error.
    pub all: bool,
}

/// `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Whom.
    pub id: Id,
    /// Kill it first; no error if there is none.
    pub force: bool,
}

/// `list`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct List {
    /// How.
    pub format: Format,
    /// Ids only.
    pub quiet: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ps {
    /// Of which container.
    pub id: Id,
    /// How.
    pub format: Format,
    /// For ps(1); empty: `-ef`.
    pub args: Vec<std::ffi::OsString>,
}

/// `update`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Whom.
    pub id: Id,
    /// From where.
    pub limits: Limits,
    /// Intel RDT: L3 cache schema.
    pub l3_cache_schema: Option<String>,
    /// Intel RDT: memory bandwidth schema.
    pub mem_bw_schema: Option<String>,
}

/// Where new limits come from. Those that are absent stay as they are.
#[derive(Debug, Clone)]
pub enum Limits {
    /// JSON on standard input.
    Stdin,
    /// JSON in a file.
    File(PathBuf),
    /// Flags.
    Flags(Box<Resources>),
}

impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteSpec {
    /// Where to; absent: the current directory.
    pub bundle: Option<PathBuf>,
    /// For an ordinary user.
    pub rootless: bool,
}

/// `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Of which container.
    pub id: Id,
    /// Print once and leave.
    pub stats: bool,
    /// Between two prints.
    pub interval: Duration,
}
