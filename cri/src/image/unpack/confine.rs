//! What the threads that unpack a layer may do, so that a fault in what reads strangers' bytes gives them nothing: one directory by
//! Landlock, and the system calls that files and threads need by seccomp. No other file, no program, no connection, no other process.
//!
//! Both hold for a thread and those that it starts, for good; so it is called on a thread that does nothing else afterwards.

use crate::error::{Context, Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::sys::signal::SigSet;
use runtime::plan::seccomp::{Arch, compile, to_bytes};
use runtime::spec::Seccomp;
use serde_json::json;
use std::path::Path;
use std::sync::{Once, OnceLock};

/// KERNEL(5.19): without this version of Landlock links and renames between two directories are refused whatever a rule says.
const LEAST: ABI = ABI::V2;
/// What is asked for where the kernel has it: files, TCP, abstract sockets and signals to others.
const MOST: ABI = ABI::V6;

/// What reading a stream, making files by handle, memory and threads take. Names that an architecture lacks are passed over.
const CALLS: &[&str] = &[
    "open",
    "mkdir",
    "read",
    "readv",
    "pread64",
    "preadv",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "lseek",
    "_llseek",
    "close",
    "fcntl",
    "fcntl64",
    "openat",
    "openat2",
    "fstat",
    "fstat64",
    "newfstatat",
    "fstatat64",
    "statx",
    "fstatfs",
    "fstatfs64",
    "ftruncate",
    "ftruncate64",
    "fchown",
    "fchownat",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fsetxattr",
    "lsetxattr",
    "fgetxattr",
    "flistxattr",
    "utimensat",
    "mkdirat",
    "mknodat",
    "linkat",
    "symlinkat",
    "unlinkat",
    "renameat",
    "renameat2",
    "readlinkat",
    "readlink",
    "getdents64",
    "futex",
    "mmap",
    "mmap2",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "brk",
    "set_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "sigaltstack",
    "rt_sigprocmask",
    "rt_sigreturn",
    "gettid",
    "getpid",
    "clock_gettime",
    "clock_nanosleep",
    "nanosleep",
    "restart_syscall",
    "getrandom",
    "exit",
    "exit_group",
];
/// KERNEL: CLONE_THREAD, without which clone(2) makes a process.
const CLONE_THREAD: u64 = 0x10000;
/// KERNEL: PR_SET_NAME of prctl(2), for the names of threads; PR_SET_VMA, by which glibc names memory.
const PRCTL: [u64; 2] = [15, 0x5356_4d41];

/// From here on this thread has nothing but the directory `place`, and what it has open.
pub fn confine(place: &Path) -> Result<()> {
    let what = || "confine the thread that unpacks";
    // Handlers of signals that mean the process belong to other threads.
    SigSet::all().thread_block().what(what)?;
    rustix::thread::set_no_new_privs(true).what(what)?;
    let directory = PathFd::new(place).map_err(|error| Error::internal(error.to_string())).what(what)?;
    match landlocked(directory) {
        Ok(()) => {}
        Err(error) if unsupported(&error) => say_once(&error.to_string()),
        Err(error) => {
            return Err(Error::internal(error.to_string()).during("restrict files by Landlock")).what(what);
        }
    }
    match filter() {
        Ok(program) => runtime::sys::seccomp::load(program, 0).what(|| "load seccomp filter").what(what),
        Err(error) => Err(error.clone()).what(what),
    }
}

fn landlocked(directory: PathFd) -> Result<(), RulesetError> {
    let files: BitFlags<AccessFs> = AccessFs::from_all(MOST) & !AccessFs::Execute;
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(MOST))?
        .handle_access(AccessNet::from_all(MOST))?
        .scope(Scope::from_all(MOST))?
        .create()?
        .add_rule(PathBeneath::new(directory, files))?
        .restrict_self()
        .map(|_| ())
}

/// Whether the kernel has no Landlock, or too old a one, which is what can fail where rights are named; anything else is a fault.
fn unsupported(error: &RulesetError) -> bool {
    matches!(error, RulesetError::HandleAccesses(_))
}

fn say_once(why: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!("layers are unpacked without Landlock, confined by seccomp alone: {why} (boot with lsm=landlock,… on Linux 5.19 or newer)");
    });
}

/// The filter, made once.
fn filter() -> &'static Result<Vec<u8>> {
    static FILTER: OnceLock<Result<Vec<u8>>> = OnceLock::new();
    FILTER.get_or_init(|| {
        let native = Arch::NATIVE;
        let allowed = |names: &[&str]| json!({"names": names, "action": "SCMP_ACT_ALLOW"});
        let when = |name: &str, operator: &str, value: u64| {
            let argument = json!({"index": 0, "value": value, "valueTwo": value, "op": operator});
            json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
        };
        let mut rules = vec![
            allowed(CALLS),
            when("clone", "SCMP_CMP_MASKED_EQ", CLONE_THREAD),
            // A filter can't see its flags: the C library takes clone(2) then.
            json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}),
        ];
        rules.extend(PRCTL.map(|option| when("prctl", "SCMP_CMP_EQ", option)));
        let profile =
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::EPERM, "syscalls": rules});
        let profile: Seccomp = serde_json::from_value(profile).what(|| "make seccomp profile")?;
        let filter = compile(&profile, native)?;
        let filter = filter.ok_or_else(|| Error::internal("the seccomp profile asks for none"))?;
        Ok(to_bytes(&filter.program))
    })
}
