//! `exec`: one more process in a container that runs.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;

use super::birth::{self, Pace};
use super::console::{self, Terminal};
use super::gate::Gate;
use super::options::{Exec, ExecChanges, ExecWhat, Global};
use super::{attend, launch, rootless, sealed, streams};
use crate::child::Child;
use crate::error::{Context, Error, Kind, Result};
use crate::init::{self, Birth};
use crate::link::Message;
use crate::outfile::Name;
use crate::parent::place;
use crate::plan::namespaces::{Kind as Namespace, Namespaces};
use crate::plan::seccomp::{self, Filter};
use crate::plan::{self, Task};
use crate::spawn::spawn_beside;
use crate::spec::{Capabilities, Process};
use crate::state::{Container, Depth, Origin, ProcessId, Record, StateDir, Status};

/// The stored filter: the kernel takes 4096 instructions of 8 bytes, after 4 bytes of flags.
const MAX_FILTER: u64 = 4 + 4096 * 8;

/// Far above what any engine writes.
const MAX_PROCESS: u64 = 16 << 20;

/// Gives the command's exit code, or 0 if it leaves before.
pub fn exec(global: &Global, options: &Exec) -> Result<i32> {
    sealed::ensure()?;
    streams::protect()?;
    crate::sys::process::undumpable().what(|| "make this process undumpable")?;
    let gate = options.gate.map(Gate::take).transpose()?;
    let container = StateDir::new(&global.root).open(&options.id)?;
    rootless::ensure_beside(container.record())?;
    // ORDER: before its status is looked at: it may be a pipe, whose writer takes his time.
    let process = read_process(&options.what)?;
    check_status(&container, options)?;
    let what = || format!("exec in container {:?}", options.id.as_str());
    let task = task(&container, options, process).what(what)?;
    let holder = if options.detach { Terminal::Handed } else { Terminal::Relayed };
    console::check(task.process.terminal.is_some(), options.console_socket.is_some(), holder)?;
    let signals = if options.detach {
        SigSet::thread_get_mask().what(|| "read the signal mask")?
    } else {
        attend::block_signals()?
    };
    if let Some(gate) = &gate {
        gate.stays_here(task.process.pass_fds)?;
        gate.wait()?;
        check_status(&container, options)?;
    }
    let scheduled = task.process.scheduling.cpu.is_some();
    let told = options.pidfd_socket.is_some() || task.process.terminal.is_some() || scheduled;
    let pace = if told { Pace::Halting } else { Pace::Straight };
    let mut child = bring_up(&container, options, (&task, pace), signals).what(what)?;
    if pace == Pace::Straight {
        birth::say(&mut child, &Message::Start).what(what)?;
    }
    if child.born().what(what)? {
        init::scheduler(&task, child.pid.as_raw()).what(what)?;
    }
    let terminal = match pace {
        Pace::Straight => None,
        Pace::Halting => birth::ready(&mut child, &task).what(what)?,
    };
    let terminal = console::hand_over(terminal, options.console_socket.as_deref())?;
    launch::send_pidfd(&child, options.pidfd_socket.as_deref())?;
    // While the command is on its way; whoever reads it waits for this process.
    let pid_file =
        options.pid_file.as_ref().map(|path| launch::pid_file(path, child.pid.as_raw())).transpose()?;
    birth::go(&mut child, pace).what(what).inspect_err(|_| {
        let _ = pid_file.as_ref().map(Name::remove);
    })?;
    child.keep();
    if let Some(gate) = gate {
        gate.passed(child.pid.as_raw());
    }
    if options.detach { Ok(0) } else { attend::attend(child.pid, &child.pidfd, terminal, None) }
}

/// Engines know these words from runc.
fn check_status(container: &Container, options: &Exec) -> Result<()> {
    match container.status()? {
        Status::Stopped => Err(Error::new(Kind::WrongStatus, "cannot exec in a stopped container")),
        Status::Creating => {
            Err(Error::new(Kind::WrongStatus, "cannot exec in a container that is still being created"))
        }
        Status::Paused if !options.ignore_paused => {
            Err(Error::new(Kind::WrongStatus, "cannot exec in a paused container")
                .cure("`rt resume` it, or give --ignore-paused: then the command starts when it is resumed"))
        }
        _ => Ok(()),
    }
}

fn bring_up(
    container: &Container,
    options: &Exec,
    (task, pace): (&Task, Pace),
    signals: SigSet,
) -> Result<Child> {
    let record = container.record();
    let init = record.init.ok_or_else(|| Error::new(Kind::WrongStatus, "the container has no process"))?;
    let beside =
        init.open()?.ok_or_else(|| Error::new(Kind::WrongStatus, "cannot exec in a stopped container"))?;
    let root = root(record, init)?;
    let cgroup = cgroup(record, options)?;
    if let Some(cpus) = &task.process.scheduling.initial_cpus {
        init::affinity(cpus)?;
    }
    let awaits_go = task.process.oom_score_adj.is_some();
    let which = flags(record);
    let spawn = |cgroup: Option<&OwnedFd>| {
        let beside = rustix::io::fcntl_dupfd_cloexec(&beside, 3).what(|| "duplicate a pidfd")?;
        let origin = Origin::of(record, init, Depth::Child)?;
        let paused = record.cgroup.as_ref().map(|cgroup| cgroup.path.clone());
        let terminal = task.process.terminal.is_some();
        spawn_beside((beside, origin), which, (cgroup.map(AsFd::as_fd), paused, terminal), |link, joined| {
            let start = if pace == Pace::Straight { init::Start::Straight } else { init::Start::Link };
            let (root, seen) = (root.as_ref(), which.contains(CloneFlags::CLONE_NEWPID));
            init::run(&Birth {
                task,
                home: None,
                root,
                joined: &joined,
                link,
                awaits_go,
                seen,
                start,
                signals,
            })
        })
    };
    let child = match spawn(cgroup.as_ref()) {
        // The container has moved its processes into cgroups of its own below: where init is, there is room.
        Err(error) if error.errno() == Some(libc::EBUSY) && options.cgroup.is_none() => {
            spawn(Some(&cgroup_of(init.pid)?))?
        }
        child => child?,
    };
    if let Some(score) = task.process.oom_score_adj {
        place::oom_score(child.pid, score)?;
        child.link.send(&Message::Go)?;
    }
    Ok(child)
}

/// In a mount namespace of its own the container's root is the namespace's. Else it is only that of its processes, and whoever joins
/// has the root of the others, the host's maybe.
fn root(record: &Record, init: ProcessId) -> Result<Option<OwnedFd>> {
    if record.has_own(Namespace::Mount) {
        return Ok(None);
    }
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = format!("/proc/{}/root", init.pid);
    let root = rustix::fs::open(&path, flags, Mode::empty()).what(|| "open the container's root")?;
    // ORDER: asked after it was opened: else it could be that of whoever has this pid now.
    if init.is_alive()? {
        return Ok(Some(root));
    }
    Err(Error::new(Kind::WrongStatus, "cannot exec in a stopped container"))
}

fn flags(record: &Record) -> CloneFlags {
    let kinds = record.namespaces.iter().filter_map(|namespace| Namespace::parse(&namespace.kind));
    kinds.fold(CloneFlags::empty(), |flags, kind| flags | CloneFlags::from_bits_retain(kind.flag() as i32))
}

fn cgroup(record: &Record, options: &Exec) -> Result<Option<OwnedFd>> {
    let Some(cgroup) = &record.cgroup else { return Ok(None) };
    let mut path = cgroup.path.clone();
    if let Some(below) = &options.cgroup {
        let below = std::path::Path::new(below.trim_start_matches('/'));
        if below.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(Error::invalid(format!(
                "--cgroup {}: it must be a path below the container's cgroup",
                below.display()
            )));
        }
        path.push(below);
    }
    open_cgroup(&path).map(Some)
}

fn open_cgroup(path: &std::path::Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).what(|| format!("open cgroup {}", path.display()))
}

fn cgroup_of(pid: i32) -> Result<OwnedFd> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).what(|| format!("read {file}"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    open_cgroup(&crate::parent::cgroup::mount_point()?.join(path.trim_start_matches('/')))
}

/// A process of the container: its namespaces, filter, keyring and personality, and what the caller asks for.
fn task(container: &Container, options: &Exec, process: Option<Process>) -> Result<Task> {
    let record = container.record();
    let mut warnings = Vec::new();
    let mut process = plan::process::plan(&spec(record, &options.what, process), &mut warnings)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    launch::pass_descriptors(&mut process, options.preserve_fds)?;
    let user = record.has(Namespace::User);
    let join = |kind| plan::namespaces::Join { kind, path: std::path::PathBuf::new() };
    let mut task = Task {
        namespaces: Namespaces {
            new: Vec::new(),
            late: Vec::new(),
            join: user.then(|| join(Namespace::User)).into_iter().collect(),
        },
        time_offsets: None,
        process,
        seccomp: filter(container)?,
        keyring: true,
        memory_policy: None,
        personality: record.personality.as_ref().map(plan::personality).transpose()?,
    };
    launch::possible_capabilities(&mut task)?;
    Ok(task)
}

fn filter(container: &Container) -> Result<Option<Filter>> {
    let Some(name) = &container.record().seccomp else { return Ok(None) };
    let bytes = container.read_file(name, MAX_FILTER)?;
    let filter = bytes.split_first_chunk::<4>().and_then(|(flags, program)| {
        Some(Filter {
            flags: u32::from_le_bytes(*flags),
            program: seccomp::from_bytes(program)?,
            ignored: Vec::new(),
        })
    });
    filter.map(Some).ok_or_else(|| Error::new(Kind::Internal, format!("the stored filter {name} is broken")))
}

/// None: it is the container's own with changes.
fn read_process(what: &ExecWhat) -> Result<Option<Process>> {
    let ExecWhat::File { path, tty } = what else { return Ok(None) };
    let what = || format!("read the process file {}", path.display());
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_PROCESS + 1).read_to_end(&mut text)).what(what)?;
    if text.len() as u64 > MAX_PROCESS {
        return Err(Error::invalid(format!("{}: it has more than {MAX_PROCESS} bytes", what())));
    }
    let mut process: Process = serde_json::from_slice(&text)
        .map_err(|error| Error::invalid(format!("parse the process file {}: {error}", path.display())))?;
    process.terminal |= *tty;
    Ok(Some(process))
}

fn spec(record: &Record, what: &ExecWhat, read: Option<Process>) -> Process {
    let own = record.process.as_ref();
    if let ExecWhat::Command { args, changes } = what {
        let mut process = own.cloned().unwrap_or_default();
        process.args = args.clone().into();
        change(&mut process, changes);
        return process;
    }
    let mut process = read.unwrap_or_default();
    process.oom_score_adj = process.oom_score_adj.or_else(|| own.and_then(|own| own.oom_score_adj));
    process
}

fn change(process: &mut Process, changes: &ExecChanges) {
    if let Some(cwd) = &changes.cwd {
        process.cwd.clone_from(cwd);
    }
    process.env.extend(changes.env.iter().cloned());
    process.terminal = changes.tty;
    let mut user = process.user.clone().unwrap_or_default();
    if let Some((uid, gid)) = changes.user {
        user.uid = uid;
        user.gid = gid.unwrap_or(user.gid);
    }
    user.additional_gids.extend(&changes.additional_gids);
    process.user = Some(user);
    if changes.process_label.is_some() {
        process.selinux_label.clone_from(&changes.process_label);
    }
    if changes.apparmor.is_some() {
        process.apparmor_profile.clone_from(&changes.apparmor);
    }
    process.no_new_privileges = changes.no_new_privs.unwrap_or(process.no_new_privileges);
    if !changes.caps.is_empty() {
        // CVE-2022-29162: never the inheritable set.
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        let inheritable = !sets.inheritable.is_empty();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(changes.caps.iter().cloned());
        }
        if inheritable {
            sets.ambient.extend(changes.caps.iter().cloned());
        }
    }
}
