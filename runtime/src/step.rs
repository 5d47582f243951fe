//! The steps of making a container, by name: for `--debug`, for errors, and as places where a test build can be made to fail.
//!
//! A build with the feature `failpoints` reads `RT_FAIL_AT=STEP` (this step fails), `RT_DIE_AT=STEP` (SIGKILL there) and
//! `RT_STOP_AT=STEP` (a wait for SIGCONT there; `all` waits at every step); any other build has no such code.

use crate::error::Result;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A step, in the order in which they are taken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Step { $($(#[$doc])* $variant,)* }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, as `RT_FAIL_AT` takes it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

steps! {
    /// Parent: the id is reserved and the first record written.
    Reserve = "reserve",
    /// Parent: the cgroup is made.
    Cgroup = "cgroup",
    /// Parent: mount sources are opened.
    Prepare = "prepare",
    /// Parent: init is born.
    Clone = "clone",
    /// Parent: id maps, cgroup scope, network devices.
    Place = "place",
    /// Parent: the cgroup's limits and device rules are set.
    Resources = "resources",
    /// Init: begins; where it needs id maps or a scope, once the parent says go.
    Go = "go",
    /// Init: joins namespaces.
    Join = "join",
    /// Init: becomes root of its user namespace.
    Root = "root",
    /// Init: a session and a keyring of its own.
    Session = "session",
    /// Init: the loopback device goes up.
    Loopback = "loopback",
    /// Init: the root filesystem is attached.
    Rootfs = "rootfs",
    /// Init: mounts.
    Mounts = "mounts",
    /// Init: nodes and links in /dev.
    Devices = "devices",
    /// Parent: prestart and createRuntime hooks.
    RuntimeHooks = "runtime-hooks",
    /// Init: createContainer hooks.
    ContainerHooks = "container-hooks",
    /// Init: kernel parameters, host name.
    Sysctl = "sysctl",
    /// Init: AppArmor and SELinux.
    Labels = "labels",
    /// Init: the root changes.
    Pivot = "pivot",
    /// Init: what is not the container's is closed.
    Shut = "shut",
    /// Init: the pseudo-terminal.
    Terminal = "terminal",
    /// Init: masked and read-only paths, read-only root.
    Mask = "mask",
    /// Init: resource limits, scheduling, personality, memory policy.
    Limits = "limits",
    /// Init: user, groups, capabilities.
    User = "user",
    /// Init: working directory and executable are looked up.
    Executable = "executable",
    /// Init: the system call filter, where somebody could see the process without.
    Filter = "filter",
    /// Init: enters the PID namespace, where others live in that.
    Birth = "birth",
    /// Init: says that it is ready.
    Ready = "ready",
    /// Parent: the terminal's other end is where it belongs.
    Console = "console",
    /// Parent: the record is committed.
    Commit = "commit",
    /// Parent: the pid file is written.
    PidFile = "pid-file",
    /// Start: init is told to go on.
    Release = "release",
    /// Init: waits for start.
    Start = "start",
    /// Init: startContainer hooks.
    StartHooks = "start-hooks",
    /// Init: the system call filter, where it must be last.
    Seccomp = "seccomp",
    /// Init: execve.
    Exec = "exec",
    /// Delete: processes are ended.
    DeleteKill = "delete-kill",
    /// Delete: the cgroup is removed.
    DeleteCgroup = "delete-cgroup",
    /// Delete: the record is removed.
    DeleteState = "delete-state",
}

/// What a test build is told: before the environment is forgotten ([`crate::sys::start::forget_arguments_and_environment`]).
#[cfg(feature = "failpoints")]
fn told(name: &str) -> Option<&'static str> {
    use std::sync::OnceLock;
    static TOLD: OnceLock<Vec<(String, String)>> = OnceLock::new();
    let told = TOLD.get_or_init(|| std::env::vars().filter(|(name, _)| name.starts_with("RT_")).collect());
    told.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whether a test wants this process to do without something that this kernel has: `RT_LACKS=NAME[,NAME]`.
#[cfg(feature = "failpoints")]
pub fn lacks(name: &str) -> bool {
    told("RT_LACKS").is_some_and(|all| all.split(',').any(|lacking| lacking == name))
}

/// Never.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn lacks(_: &str) -> bool {
    false
}

/// Passes the step, unless a test wants it to fail or to be the last thing that this process does.
#[cfg(feature = "failpoints")]
pub fn reach(step: Step) -> Result<()> {
    if told("RT_DIE_AT") == Some(step.name()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        // The first process of a pid namespace is spared signals that it sends itself, but not a crash.
        std::process::abort();
    }
    if told("RT_FAIL_AT") == Some(step.name()) {
        return Err(crate::error::Error::new(crate::Kind::Internal, format!("fail point {}", step.name())));
    }
    if told("RT_STOP_AT").is_some_and(|name| name == step.name() || name == "all") {
        stop(step)
            .map_err(|errno| crate::error::Error::os(errno as i32, format!("stop at {}", step.name())))?;
    }
    Ok(())
}

/// Waits for SIGCONT, with the step as this process's name (`comm`), for whoever looks from outside. Not by SIGSTOP, which the first
/// process of a PID namespace ignores.
#[cfg(feature = "failpoints")]
fn stop(step: Step) -> nix::Result<()> {
    use nix::sys::{prctl, signal};
    let mut wanted = signal::SigSet::empty();
    wanted.add(signal::Signal::SIGCONT);
    let before = wanted.thread_swap_mask(signal::SigmaskHow::SIG_BLOCK)?;
    let name = prctl::get_name()?;
    let at = std::ffi::CString::new(step.name()).map_err(|_| nix::errno::Errno::EINVAL)?;
    prctl::set_name(&at)?;
    wanted.wait()?;
    prctl::set_name(&name)?;
    before.thread_set_mask()
}

/// Passes the step.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_: Step) -> Result<()> {
    Ok(())
}
