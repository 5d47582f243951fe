//! From a bundle to a container process that waits for start: what `create` and `run` have in common, top to bottom.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::SigSet;

use super::birth::{Pace, awaits_go, bring_up};
use super::console::{self, Terminal};
use super::notify::{Listener, Notify};
use super::options::{CgroupDriver, Global, Launch};
use super::rootless;
use super::share::Partner;
use crate::bundle::Bundle;
use crate::child::Child;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::id::Id;
use crate::init::{self, Birth, Home};
use crate::link::Message;
use crate::outfile::Name;
use crate::parent::cgroup::{Berth, Cgroup};
use crate::parent::neighbour_hooks;
use crate::parent::prepare;
use crate::parent::prepare::Prepared;
use crate::parent::shared_root::SharedRoot;
use crate::parent::spare;
use crate::plan::cgroup::Driver;
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::process::Process;
use crate::plan::{Plan, Task, capabilities};
use crate::spawn::{Cradle, hooks_stay_outside, open_joined, spawn};
use crate::spec::{Hooks, Spec};
use crate::state::{Container, ProcessId, Record, Reserved, SECCOMP, Stage, StateDir, Status};
use crate::step::{Step, reach};

/// A container whose init waits for its start, or goes straight on.
#[derive(Debug)]
pub struct Launched {
    /// Its record, committed.
    pub container: Container,
    /// Init.
    pub child: Child,
    /// The terminal's master, unless it went to the console socket.
    pub terminal: Option<OwnedFd>,
    /// Whether init waits for Start.
    pub pace: Pace,
    /// Hears from the container that it is ready, if somebody waits for that and this process starts it.
    pub notify: Option<Listener>,
}

/// Who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedBy {
    /// A later `start`, through the FIFO.
    Fifo,
    /// This process, through the link.
    Link,
}

/// What `create` and `run` do differently.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Who starts the container.
    pub start: StartedBy,
    /// Where its terminal's master may go.
    pub terminal: Terminal,
    /// The signal mask that the user's program gets.
    pub signals: SigSet,
}

impl Caller {
    fn pace(&self, plan: &Plan, options: &Launch) -> Pace {
        let told = options.pid_file.is_some() || options.pidfd_socket.is_some();
        if self.start == StartedBy::Fifo || plan.task.process.terminal.is_some() || told {
            Pace::Halting
        } else {
            Pace::Straight
        }
    }
}

/// A plan and what it was made from.
#[derive(Debug)]
pub struct Planned {
    /// What will be done.
    pub plan: Plan,
    /// The config, as the options changed it.
    pub spec: Spec,
    /// The container that lends its namespaces.
    pub partner: Option<Partner>,
    /// Who waits for the container to be ready.
    pub notify: Option<Notify>,
}

/// The plan of a bundle under the options of the command line.
pub fn plan(global: &Global, id: &Id, options: &Launch, terminal: Terminal) -> Result<Planned> {
    let Bundle { path, mut spec } = Bundle::load(&options.bundle, options.config.as_deref())?;
    rootless::translate(&mut spec)?;
    let partner = options.share.as_ref().map(|share| Partner::find(global, share)).transpose()?;
    let notify = Notify::wanted(global, id).filter(|notify| notify.rewrite(&mut spec));
    let warnings = partner.as_ref().map(|partner| partner.sharing.rewrite(&mut spec));
    let mut plan = Plan::new(id.as_str(), &path, &spec, driver(global))?;
    plan.warnings.extend(warnings.into_iter().flatten());
    if let Some(partner) = &partner {
        partner.sharing.share_memory(&mut plan)?;
    }
    if options.no_pivot && plan.task.namespaces.makes(Namespace::Mount) {
        plan.surroundings.rootfs.entry = crate::plan::rootfs::Entry::MoveAndChroot;
    }
    if let Some(overlay) = &options.overlay {
        plan.overlay(&overlay.lowers, overlay.upper.as_deref())?;
    }
    if options.no_new_keyring {
        plan.task.keyring = false;
    }
    console::check(plan.task.process.terminal.is_some(), options.console_socket.is_some(), terminal)?;
    pass_descriptors(&mut plan.task.process, options.preserve_fds)?;
    Ok(Planned { plan, spec, partner, notify })
}

fn driver(global: &Global) -> Option<Driver> {
    match global.cgroups {
        CgroupDriver::Cgroupfs => Some(Driver::Cgroupfs),
        CgroupDriver::Systemd => Some(Driver::Systemd),
        CgroupDriver::Disabled => None,
    }
}

/// Makes the container. Whatever fails, nothing is left: each guard undoes its part when it is dropped.
pub fn launch(global: &Global, id: &Id, options: &Launch, caller: Caller) -> Result<Launched> {
    let Planned { mut plan, spec, partner, notify } = plan(global, id, options, caller.terminal)?;
    // CVE-2016-9962: nobody looks into this process or init while they hold what the container must not have.
    crate::sys::process::undumpable().what(|| "make this process undumpable")?;
    possible_capabilities(&mut plan.task)?;
    warn(&plan);
    if spec.hooks.is_some() {
        hooks::shut_out_descriptors(3 + plan.task.process.pass_fds)?;
    }
    let joined = open_joined(&plan.task.namespaces)?;
    partner.as_ref().map_or(Ok(()), |partner| partner.vouch(&plan, &joined))?;
    spare::host(&plan.surroundings, &joined)?;
    if !plan.hooks.create_container.is_empty() {
        hooks_stay_outside(&plan.task.namespaces, &joined)?;
    }
    // ORDER: the id first: that it is taken explains a cgroup in use. The record after both: it names a cgroup to kill.
    let reserved = StateDir::new(&global.root).reserve(id)?;
    let mut berth = Berth::find(plan.cgroup.as_ref(), plan.delegates_cgroup())?;
    let mut record = record(id, &plan, spec, &berth);
    reserved.commit(&record)?;
    reach(Step::Reserve)?;
    let notify = hear(notify, caller.start)?;
    let mut prepared = prepare::prepare(&plan, berth.site(), &joined)?;
    partner.map_or(Ok(()), |partner| partner.lend(&plan, &mut prepared))?;
    let shared_root = shared_root(&plan, &prepared, &mut record, &reserved)?;
    reach(Step::Prepare)?;
    berth.make(|| global.rootless.holds())?;
    reach(Step::Cgroup)?;
    let fifo = match caller.start {
        StartedBy::Fifo => Some(reserved.make_fifo()?),
        StartedBy::Link => None,
    };
    // ORDER: before init: dropped in turn, they go when it is gone.
    let fresh = std::mem::take(&mut prepared.fresh);
    let nest = Nest { reserved: &reserved, record: &record, prepared: &prepared, fifo: fifo.as_ref() };
    let mut child = bear(&plan, &caller, (&nest, &berth, &joined))?;
    drop((prepared, fifo));
    reach(Step::Clone)?;
    record.init = Some(ProcessId::of(child.pid.as_raw())?);
    let pace = caller.pace(&plan, options);
    let terminal = bring_up(&plan, &mut child, (&reserved, &mut record, &mut berth), pace)
        .map_err(|error| killed_for_memory(error, berth.cgroup()))?;
    if !plan.hooks.start_container.is_empty() {
        child.unhurried();
    }
    let terminal = console::hand_over(terminal, options.console_socket.as_deref())?;
    reach(Step::Console)?;
    let (container, child) = finish(reserved, record, child, (options, caller.start))?;
    berth.keep();
    SharedRoot::keep(shared_root);
    fresh.keep();
    Ok(Launched { container, child, terminal, pace, notify })
}

/// Where the container will say that it is ready; who starts it listens.
fn hear(notify: Option<Notify>, start: StartedBy) -> Result<Option<Listener>> {
    let Some(notify) = notify else { return Ok(None) };
    notify.make()?;
    match start {
        StartedBy::Link => notify.listen(),
        StartedBy::Fifo => Ok(None),
    }
}

/// What init is born with.
struct Nest<'a> {
    reserved: &'a Reserved,
    record: &'a Record,
    prepared: &'a Prepared,
    fifo: Option<&'a OwnedFd>,
}

/// Init is born, and begins at once unless it has to wait for Go.
fn bear(
    plan: &Plan,
    caller: &Caller,
    (nest, berth, joined): (&Nest<'_>, &Berth<'_>, &[(Namespace, OwnedFd)]),
) -> Result<Child> {
    let hook_state = nest.record.hook_state(Status::Creating);
    let start_hook_state = nest.record.hook_state(Status::Created);
    let awaits_go = awaits_go(plan, berth);
    let hooks = !plan.hooks.create_container.is_empty();
    let cradle = Cradle { cgroup: berth.cgroup().map(Cgroup::fd), joined, hooks };
    spawn(&plan.task, &cradle, |link, joined| {
        // ORDER: first of all: the lock ends with this process, not with init, which may outlive it by a SIGKILL.
        if crate::sys::process::let_go(nest.reserved.lock(), link.as_fd()).is_err() {
            return; // which ends this process, and the parent says so
        }
        let home = Home {
            around: &plan.surroundings,
            prepared: nest.prepared,
            hooks: &plan.hooks,
            hooks_beside: neighbour_hooks::has_any(plan),
            state: &hook_state,
            start_state: &start_hook_state,
        };
        let birth = Birth {
            task: &plan.task,
            home: Some(home),
            root: None,
            joined: &joined,
            link,
            awaits_go,
            seen: plan.task.namespaces.joins(Namespace::Pid),
            start: nest.fifo.map_or(init::Start::Link, init::Start::Fifo),
            signals: caller.signals,
        };
        init::run(&birth)
    })
}

/// ORDER: written down before it is attached.
fn shared_root(
    plan: &Plan,
    prepared: &Prepared,
    record: &mut Record,
    reserved: &Reserved,
) -> Result<Option<SharedRoot>> {
    let root = SharedRoot::of(plan, prepared)?;
    if let Some(root) = &root {
        record.root_mount = Some(root.record().clone());
        reserved.commit(record)?;
    }
    Ok(root)
}

/// Known capabilities that this host does not have to give are left out, with a warning, as runc does. A user namespace has them all.
pub fn possible_capabilities(task: &mut Task) -> Result<()> {
    if task.namespaces.has(Namespace::User) {
        return Ok(());
    }
    let possible = crate::sys::process::capget().what(|| "read capabilities")?.permitted;
    let wanted = task.process.capabilities;
    let lacking = (wanted.bounding | wanted.permitted | wanted.effective) & !possible;
    if lacking != 0 {
        tracing::warn!("the host cannot give {}: left out", capabilities::names(lacking));
        task.process.capabilities = wanted.within(possible);
    }
    Ok(())
}

fn warn(plan: &Plan) {
    let cgroup = plan.cgroup.iter().flat_map(|cgroup| &cgroup.warnings);
    for warning in plan.warnings.iter().chain(cgroup) {
        tracing::warn!("{warning}");
    }
}

/// A limit that is too low for init itself shows as its sudden death.
fn killed_for_memory(error: Error, cgroup: Option<&Cgroup>) -> Error {
    if error.kind() == Kind::Internal && cgroup.is_some_and(|cgroup| cgroup.oom_kills() > 0) {
        return Error::new(Kind::Denied, "container init was OOM-killed (memory limit too low?)");
    }
    error
}

fn finish(
    reserved: Reserved,
    mut record: Record,
    child: Child,
    (options, start): (&Launch, StartedBy),
) -> Result<(Container, Child)> {
    // ORDER: the truth before anyone is told of it, the pid file last.
    record.stage = Stage::Created;
    reserved.commit(&record)?;
    reach(Step::Commit)?;
    if let Some(path) = &options.pid_file {
        pid_file(path, child.pid.as_raw())?;
    }
    reach(Step::PidFile)?;
    if start == StartedBy::Fifo {
        child.link.send(&Message::Committed)?;
    }
    let container = reserved.keep(record);
    Ok((container, child))
}

/// What is needed of the config later; see [`Record`].
fn record(id: &Id, plan: &Plan, spec: Spec, berth: &Berth<'_>) -> Record {
    let mut record = Record::new(id.clone(), plan.bundle.clone(), plan.surroundings.rootfs.path.clone());
    record.oci_version = spec.oci_version;
    record.annotations = spec.annotations.unwrap_or_default();
    record.hooks = spec.hooks.map(|hooks| Hooks {
        poststart: hooks.poststart,
        poststop: hooks.poststop,
        ..Hooks::default()
    });
    record.start_hooks = !plan.hooks.start_container.is_empty();
    record.process = spec.process;
    record.seccomp = plan.task.seccomp.is_some().then(|| SECCOMP.to_owned());
    record.cgroup = berth.record(None);
    if let Some(linux) = spec.linux {
        record.cgroup = berth.record(linux.resources);
        record.namespaces = linux.namespaces.0;
        record.uid_mappings = linux.uid_mappings.0;
        record.gid_mappings = linux.gid_mappings.0;
        record.personality = linux.personality;
    }
    record
}

/// Whole or not at all: whoever waits for the file must not find half a number. Gives it, for those who take it back.
pub fn pid_file(path: &std::path::Path, pid: i32) -> Result<Name> {
    Name::find(path)
        .and_then(|name| name.write(pid.to_string().as_bytes()).map(|()| name))
        .what(|| format!("write the pid file {}", path.display()))
}

/// Tells the caller's socket a pidfd of init, which no recycled pid can fool.
pub fn send_pidfd(child: &Child, socket: Option<&std::path::Path>) -> Result<()> {
    let Some(path) = socket else { return Ok(()) };
    console::send_fd(&child.pidfd, path, b"pidfd")
        .what(|| format!("send a pidfd to the socket {}", path.display()))
}

/// SPEC of socket activation: sd_listen_fds(3); the descriptors from 3 on go in, and the container's process is PID 1 there.
pub fn pass_descriptors(process: &mut Process, preserve: u32) -> Result<()> {
    let listen = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    process.pass_fds = preserve.checked_add(listen).filter(|count| *count < 1 << 20).ok_or_else(|| {
        Error::invalid(format!("pass {preserve} + {listen} descriptors: too many"))
            .cure("see --preserve-fds and LISTEN_FDS")
    })?;
    if listen > 0 {
        process.env.extend([c"LISTEN_PID=1".to_owned()]);
        process.env.extend(std::ffi::CString::new(format!("LISTEN_FDS={listen}")).ok());
    }
    // Of those that go in, each must be there: a number that happens to be free would be given to something of ours.
    for fd in 3..3 + process.pass_fds {
        let open = std::path::Path::new("/proc/self/fd").join(fd.to_string()).symlink_metadata().is_ok();
        if !open {
            return Err(Error::invalid(format!("pass descriptor {fd} into the container: it is not open"))
                .cure("see --preserve-fds"));
        }
    }
    Ok(())
}
