//! The floor: what the kernel itself needs for `run` of the benchmark's bundles. It makes the calls and nothing else.
//!
//! No config is read, nothing is checked beyond each call's success, nothing is kept. `floor run|bare|plain ROOTFS CGROUP` makes a
//! container of the rootfs and waits for its `/bin/true` (`plain`: the engine's bundle without seccomp). `floor rss COMMAND…` runs a
//! command and prints its peak resident size in kB on stderr: this program is small enough not to be what is measured.
//!
//! As a runtime must, it runs from a copy of itself that nobody else has, and closes what is the host's before the program's name is
//! looked up. The copy is of this program, which is smaller than a runtime.
#![no_main]

#[path = "floor/filters.rs"]
mod filters;
#[path = "sys/kernel.rs"]
mod kernel;

use kernel::{Arg, Errno, address, call, leave};
use libc as c;
use std::ffi::{CStr, c_char};

/// What the bundle asks for.
#[derive(Clone, Copy, PartialEq)]
enum Bundle {
    Engine,
    EngineWithoutSeccomp,
    Bare,
}

/// What `kernel::main` calls.
fn run(args: &[&CStr; 8], pointers: &[*const c_char]) -> i32 {
    let bundle = match args[1].to_bytes() {
        b"run" => Bundle::Engine,
        b"plain" => Bundle::EngineWithoutSeccomp,
        b"bare" => Bundle::Bare,
        b"rss" => return rss(args[2], &pointers[2..]),
        _ => return 2,
    };
    let sealed = args[0].to_bytes() == b"sealed";
    match if sealed { parent(bundle, args[2], args[3]) } else { seal(args) } {
        Ok(code) => code,
        Err(errno) => {
            eprintln!("floor: {}", std::io::Error::from_raw_os_error(errno));
            1
        }
    }
}

/// Executes a copy of this program, in a tmpfs that is attached nowhere and read-only from then on.
fn seal(args: &[&CStr; 8]) -> Result<i32, Errno> {
    let own = call(c::SYS_open, [c"/proc/self/exe".into(), (c::O_RDONLY | c::O_CLOEXEC).into()])?;
    let context = call(c::SYS_fsopen, [c"tmpfs".into(), 1.into()])?;
    // FSCONFIG_SET_STRING, which a kernel without huge pages refuses; FSCONFIG_CMD_CREATE
    let _ = call(c::SYS_fsconfig, [context.into(), 1.into(), c"huge".into(), c"always".into(), 0.into()]);
    call(c::SYS_fsconfig, [context.into(), 6.into(), 0.into(), 0.into(), 0.into()])?;
    let room = call(c::SYS_fsmount, [context.into(), 1.into(), (NO_SUID | NO_DEV).into()])?;
    let flags = c::O_WRONLY | c::O_CREAT | c::O_EXCL | c::O_CLOEXEC;
    let file = call(c::SYS_openat, [room.into(), c"floor".into(), flags.into(), 0o500.into()])?;
    while call(c::SYS_sendfile, [file.into(), own.into(), 0.into(), (1i64 << 30).into()])? > 0 {}
    call(c::SYS_close, [file.into()])?;
    let copy = call(c::SYS_openat, [room.into(), c"floor".into(), (c::O_PATH | c::O_CLOEXEC).into()])?;
    // FSCONFIG_SET_FLAG, FSCONFIG_CMD_RECONFIGURE
    call(c::SYS_fsconfig, [context.into(), 0.into(), c"ro".into(), 0.into(), 0.into()])?;
    call(c::SYS_fsconfig, [context.into(), 7.into(), 0.into(), 0.into(), 0.into()])?;
    let pointers =
        [c"sealed".as_ptr(), args[1].as_ptr(), args[2].as_ptr(), args[3].as_ptr(), std::ptr::null()];
    Err(kernel::execve_fd(copy, &pointers))
}

fn rss(path: &CStr, args: &[*const c_char]) -> i32 {
    let pid = kernel::fork();
    if pid == 0 {
        kernel::execve(path, args);
        leave(127);
    }
    match kernel::wait(pid) {
        Ok((status, kilobytes)) => {
            eprintln!("{kilobytes}");
            c::WEXITSTATUS(status)
        }
        Err(_) => 1,
    }
}

fn parent(bundle: Bundle, rootfs: &CStr, cgroup: &CStr) -> Result<i32, Errno> {
    call(c::SYS_mkdir, [cgroup.into(), 0o755.into()])?;
    let group = call(c::SYS_open, [cgroup.into(), (c::O_DIRECTORY | c::O_CLOEXEC).into()])?;
    filters::attach_devices(group)?;
    let mut namespaces = c::CLONE_NEWPID | c::CLONE_NEWNS | c::CLONE_NEWIPC | c::CLONE_NEWUTS;
    if bundle != Bundle::Bare {
        namespaces |= c::CLONE_NEWNET | c::CLONE_NEWCGROUP;
    }
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    let flags = namespaces as u32 as u64 | 0x2_0000_0000; // CLONE_INTO_CGROUP
    let words = [flags, 0, 0, 0, c::SIGCHLD as u64, 0, 0, 0, 0, 0, group as u64];
    let pid = call(c::SYS_clone3, [words[..].into(), (size_of_val(&words) as i64).into()])?;
    if pid == 0 {
        let errno = child(bundle, rootfs).err().unwrap_or(0);
        eprintln!("floor: {}", std::io::Error::from_raw_os_error(errno));
        leave(125);
    }
    let (status, _) = kernel::wait(pid)?;
    call(c::SYS_rmdir, [cgroup.into()])?;
    Ok(c::WEXITSTATUS(status))
}

/// Everything up to execve, in the child.
fn child(bundle: Bundle, rootfs: &CStr) -> Result<(), Errno> {
    call(c::SYS_setsid, [])?;
    let none = || Arg::Number(0);
    call(c::SYS_mount, [none(), c"/".into(), none(), ((c::MS_REC | c::MS_SLAVE) as i64).into(), none()])?;
    let root = open_tree(c::AT_FDCWD, rootfs, 0)?;
    move_to_path(root, rootfs)?;
    let root = call(c::SYS_open, [rootfs.into(), (c::O_DIRECTORY | c::O_PATH | c::O_CLOEXEC).into()])?;
    if bundle == Bundle::Bare {
        mount(root, c"proc", c"proc", 0, &[])?;
        mount(root, c"dev", c"tmpfs", 0, &[])?;
    } else {
        engine_mounts(root)?;
        call(c::SYS_sethostname, [c"box".into(), 3.into()])?;
        kernel::loopback_up()?;
    }
    devices(root)?;
    call(c::SYS_fchdir, [root.into()])?;
    call(c::SYS_pivot_root, [c".".into(), c".".into()])?;
    call(c::SYS_umount2, [c".".into(), c::MNT_DETACH.into()])?;
    call(c::SYS_chdir, [c"/".into()])?;
    call(c::SYS_close_range, [3.into(), i64::from(u32::MAX).into(), 0.into()])?;
    if bundle != Bundle::Bare {
        restrict_paths()?;
    }
    call(c::SYS_close_range, [3.into(), i64::from(u32::MAX).into(), 0.into()])?;
    call(c::SYS_umask, [0o022.into()])?;
    call(c::SYS_keyctl, [1.into(), c"floor".into()])?; // KEYCTL_JOIN_SESSION_KEYRING
    identity()?;
    call(c::SYS_prctl, [c::PR_SET_NO_NEW_PRIVS.into(), 1.into(), 0.into(), 0.into(), 0.into()])?;
    if bundle == Bundle::Engine {
        filters::load_seccomp()?;
    }
    Err(kernel::execve(c"/bin/true", &[c"true".as_ptr(), std::ptr::null()]))
}

fn open_tree(at: i32, path: &CStr, more: i32) -> Result<i32, Errno> {
    const CLONE: i32 = 1;
    call(c::SYS_open_tree, [at.into(), path.into(), (CLONE | c::O_CLOEXEC | more).into()])
}

/// move_mount(2) of a detached tree onto what a descriptor shows.
fn move_to(tree: i32, target: i32) -> Result<(), Errno> {
    const EMPTY_BOTH: i32 = 0x4 | 0x40;
    call(c::SYS_move_mount, [tree.into(), c"".into(), target.into(), c"".into(), EMPTY_BOTH.into()])?;
    call(c::SYS_close, [tree.into()])?;
    call(c::SYS_close, [target.into()]).map(|_| ())
}

fn move_to_path(tree: i32, path: &CStr) -> Result<(), Errno> {
    call(c::SYS_move_mount, [tree.into(), c"".into(), c::AT_FDCWD.into(), path.into(), 0x4.into()])?;
    call(c::SYS_close, [tree.into()]).map(|_| ())
}

fn target(root: i32, path: &CStr) -> Result<i32, Errno> {
    // struct open_how: flags, mode, resolve (RESOLVE_IN_ROOT)
    let how = [(c::O_PATH | c::O_CLOEXEC) as u64, 0, 0x10];
    call(c::SYS_openat2, [root.into(), path.into(), how[..].into(), (size_of_val(&how) as i64).into()])
}

/// A new file system at a path below the root; `attributes` are MOUNT_ATTR_ bits.
fn mount(
    root: i32,
    path: &CStr,
    kind: &CStr,
    attributes: i32,
    options: &[(&CStr, &CStr)],
) -> Result<(), Errno> {
    const SET_STRING: i32 = 1;
    const CREATE: i32 = 6;
    let place = match target(root, path) {
        Err(c::ENOENT) => {
            call(c::SYS_mkdirat, [root.into(), path.into(), 0o755.into()])?;
            target(root, path)?
        }
        other => other?,
    };
    let context = call(c::SYS_fsopen, [kind.into(), 1.into()])?;
    for (key, value) in options {
        call(c::SYS_fsconfig, [context.into(), SET_STRING.into(), (*key).into(), (*value).into(), 0.into()])?;
    }
    call(c::SYS_fsconfig, [context.into(), CREATE.into(), 0.into(), 0.into(), 0.into()])?;
    let tree = call(c::SYS_fsmount, [context.into(), 1.into(), attributes.into()])?;
    call(c::SYS_close, [context.into()])?;
    move_to(tree, place)
}

const READ_ONLY: i32 = 1;
const NO_SUID: i32 = 2;
const NO_DEV: i32 = 4;
const NO_EXEC: i32 = 8;

fn engine_mounts(root: i32) -> Result<(), Errno> {
    let none = NO_SUID | NO_DEV | NO_EXEC;
    mount(root, c"proc", c"proc", none, &[])?;
    mount(root, c"dev", c"tmpfs", NO_SUID | 0x20, &[(c"mode", c"755"), (c"size", c"65536k")])?;
    let pts = [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    mount(root, c"dev/pts", c"devpts", NO_SUID | NO_EXEC, &pts[1..])?;
    mount(root, c"dev/shm", c"tmpfs", none, &[(c"mode", c"1777"), (c"size", c"65536k")])?;
    mount(root, c"dev/mqueue", c"mqueue", none, &[])?;
    mount(root, c"sys", c"sysfs", none | READ_ONLY, &[])?;
    mount(root, c"sys/fs/cgroup", c"cgroup2", none | READ_ONLY, &[])
}

fn devices(root: i32) -> Result<(), Errno> {
    let nodes =
        [(c"dev/null", 3), (c"dev/zero", 5), (c"dev/full", 7), (c"dev/random", 8), (c"dev/urandom", 9)];
    let there = |result: Result<i32, Errno>| match result {
        Ok(_) | Err(c::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    };
    call(c::SYS_umask, [0.into()])?;
    for (path, minor) in nodes {
        there(call(
            c::SYS_mknodat,
            [root.into(), path.into(), ((c::S_IFCHR | 0o666) as i64).into(), (0x100 | minor).into()],
        ))?;
    }
    there(call(
        c::SYS_mknodat,
        [root.into(), c"dev/tty".into(), ((c::S_IFCHR | 0o666) as i64).into(), 0x500.into()],
    ))?;
    let links = [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"pts/ptmx", c"dev/ptmx"),
    ];
    for (to, path) in links {
        there(call(c::SYS_symlinkat, [to.into(), root.into(), path.into()]))?;
    }
    Ok(())
}

/// Ten masks and five read-only paths; those that this kernel lacks cost their look-up alone.
fn restrict_paths() -> Result<(), Errno> {
    let open = |path: &CStr| call(c::SYS_open, [path.into(), (c::O_PATH | c::O_CLOEXEC).into()]);
    let files = [
        c"/proc/kcore",
        c"/proc/keys",
        c"/proc/latency_stats",
        c"/proc/timer_list",
        c"/proc/timer_stats",
        c"/proc/sched_debug",
    ];
    for path in files {
        if let Ok(place) = open(path) {
            move_to(open_tree(c::AT_FDCWD, c"/dev/null", 0)?, place)?;
        }
    }
    let context = call(c::SYS_fsopen, [c"tmpfs".into(), 1.into()])?;
    call(c::SYS_fsconfig, [context.into(), 6.into(), 0.into(), 0.into(), 0.into()])?;
    let empty = call(c::SYS_fsmount, [context.into(), 1.into(), READ_ONLY.into()])?;
    for path in [c"/proc/acpi", c"/proc/asound", c"/proc/scsi", c"/sys/firmware"] {
        if let Ok(place) = open(path) {
            move_to(open_tree(empty, c"", c::AT_EMPTY_PATH)?, place)?;
        }
    }
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    let attributes = [READ_ONLY as u64, 0, 0, 0];
    for path in [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"] {
        let Ok(place) = open(path) else { continue };
        let tree = open_tree(c::AT_FDCWD, path, 0)?;
        let size = size_of_val(&attributes) as i64;
        call(
            c::SYS_mount_setattr,
            [tree.into(), c"".into(), c::AT_EMPTY_PATH.into(), attributes[..].into(), size.into()],
        )?;
        move_to(tree, place)?;
    }
    Ok(())
}

/// Groups, ids and the capabilities that engines leave.
fn identity() -> Result<(), Errno> {
    const KEPT: u64 = 0xa804_25fb;
    for capability in 0..41 {
        if KEPT >> capability & 1 == 0 {
            call(c::SYS_prctl, [c::PR_CAPBSET_DROP.into(), capability.into(), 0.into(), 0.into(), 0.into()])?;
        }
    }
    call(c::SYS_setgroups, [0.into(), 0.into()])?;
    call(c::SYS_setresgid, [0.into(), 0.into(), 0.into()])?;
    call(c::SYS_setresuid, [0.into(), 0.into(), 0.into()])?;
    let header = [0x2008_0522u64];
    let sets = [KEPT | KEPT << 32, 0, 0];
    call(c::SYS_capset, [header[..].into(), sets[..].into()])?;
    let _ = address(&sets);
    Ok(())
}
