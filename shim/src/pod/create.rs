//! Making a container: streams, `rt create`, its pid and what `rt` recorded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::owner::Owner;
use super::{Create, Stdio, Target};
use super::{bundle, host_rootfs};
use crate::error::{Context, Error, Kind, Result};
use crate::io::{self, console::Console};
use crate::process::{Answer, Container, Process};
use crate::request;
use crate::rt::{Call, Ends};
use crate::state::{Event, State};

/// Hooks may take their time.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long the file system may take to open a container's log. What it hangs in is the container's own: nobody else waits for it.
pub(super) const OPENING: Duration = Duration::from_secs(30);

/// How often what a failed create left is removed, if `rt` is killed at that too.
const CLEANINGS: u32 = 5;

/// What a birth leaves in the shim's directory; removed when this is dropped.
#[derive(Debug)]
pub struct Cradle {
    pub(super) pid_file: Option<PathBuf>,
    pub(super) input: Option<PathBuf>,
    pub(super) console: Option<Console>,
}

impl Cradle {
    /// What `rt` has written there.
    pub fn pid(&self) -> Result<u32> {
        let nothing = || Error::new(Kind::Internal, "rt said no pid");
        let path = self.pid_file.as_ref().ok_or_else(nothing)?;
        let what = || format!("read the pid in {}", path.display());
        let text = std::fs::read_to_string(path).what(what)?;
        text.trim().parse().map_err(|_| Error::new(Kind::Internal, format!("{}: {text:?}", what())))
    }
}

impl Drop for Cradle {
    fn drop(&mut self) {
        // Not there if nothing was born.
        for path in self.pid_file.iter().chain(&self.input) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What a create needs before anything is made.
struct Prepared {
    config: bundle::Config,
    ends: Ends,
    streams: io::Held,
}

fn prepared(request: &Create) -> Result<Prepared> {
    runtime::id::Id::parse(&request.id)?;
    let config = bundle::Config::read(&request.bundle)?;
    let owner = request.runtime.stream_owner.unwrap_or(config.user());
    let (ends, streams) = io::open(&request.stdio, Some(owner))?;
    Ok(Prepared { config, ends, streams })
}

impl Owner {
    /// See [`super::Pod::create`].
    pub fn create(&mut self, request: Create, answer: Answer<u32>) {
        if let Some(known) = self.containers.get_mut(&request.id) {
            match known.process.state {
                State::Creating if known.request == request => known.creators.push(answer),
                State::Created if known.request == request => drop(answer.send(Ok(known.process.pid))),
                _ => {
                    let what = format!("container \"{}\" exists already", request.id);
                    drop(answer.send(Err(Error::new(Kind::Exists, what))));
                }
            }
            return;
        }
        let what = format!("create container \"{}\"", request.id);
        match prepared(&request) {
            Err(error) => drop(answer.send(Err(error.during(what)))),
            Ok(prepared) => self.begin_create(request, prepared, answer),
        }
    }

    /// Its log first: `rt` makes nothing for one that can't have its streams.
    fn begin_create(&mut self, request: Create, prepared: Prepared, answer: Answer<u32>) {
        let Prepared { config, ends, mut streams } = prepared;
        let target = Target::container(&request.id);
        let opened = streams.opened();
        let mut process = Process::new(request.stdio.clone());
        process.streams = Some(streams);
        process.state = State::Absent;
        let container = Container {
            request,
            config,
            process,
            cgroup: None,
            own_pid_namespace: true,
            creators: vec![answer],
            ladder: None,
            oom: None,
            memory: None,
            oom_kills: 0,
            execs: std::collections::BTreeMap::new(),
        };
        self.containers.insert(target.container.clone(), container);
        self.happened(&target, Event::Create);
        let Some(opened) = opened else { return self.launch(&target, ends) };
        let (line, asked) = (self.line.clone(), request::current());
        tokio::spawn(request::within(asked, async move {
            let opened = io::opened(opened, OPENING).await;
            line.send(move |owner| match opened {
                Ok(()) => owner.launch(&target, ends),
                Err(error) => owner.not_made(&target, &error.during(format!("create {target}"))),
            });
        }));
    }

    fn launch(&mut self, target: &Target, ends: Ends) {
        match self.call_create(target, ends) {
            Err(error) => self.not_made(target, &error.during(format!("create {target}"))),
            Ok((running, cradle)) => {
                let (line, target) = (self.line.clone(), target.clone());
                tokio::spawn(async move {
                    let done = running.done().await;
                    line.send(move |owner| owner.born(&target, done, cradle));
                });
            }
        }
    }

    fn call_create(&mut self, target: &Target, ends: Ends) -> Result<(crate::rt::Running, Cradle)> {
        let joins = self.joined(target)?;
        let request = self.container(&target.container)?.request.clone();
        let mut cradle = self.cradle(request.stdio.has_terminal())?;
        if !request.rootfs_mounts.is_empty() {
            self.root_filesystem(&request, &mut cradle)?;
        }
        let choice = &request.runtime;
        let mut args = words(["create", "--bundle"]);
        args.push(request.bundle.clone().into());
        add(&mut args, "--config", cradle.input.as_deref());
        args.extend(choice.no_pivot_root.then(|| "--no-pivot".into()));
        args.extend(choice.no_new_keyring.then(|| "--no-new-keyring".into()));
        cradle.add_to(&mut args);
        args.push(request.id.clone().into());
        let call = Call { choice, args, ends, patience: PATIENCE };
        let running = self.rt.call(&mut self.children, call)?;
        self.children.birth_begins(&joins);
        Ok((running, cradle))
    }

    /// Those whose namespaces it joins by their numbers. In a pod's manager's config they are containers of this pod that run: its
    /// word is as old as its config, and a number goes to whoever comes next, the host's processes too. containerd's clients may name
    /// others.
    fn joined(&mut self, target: &Target) -> Result<BTreeSet<u32>> {
        let container = self.container(&target.container)?;
        let (joins, managed) = (container.config.joins(), matches!(container.request.stdio, Stdio::Log(_)));
        let runs = |pid: &u32| {
            self.containers.values().any(|known| known.process.alive && known.process.pid == *pid)
        };
        match joins.iter().find(|pid| managed && !runs(pid)) {
            None => Ok(joins),
            Some(pid) => {
                let what =
                    format!("join the namespaces of process {pid}: no container of this pod runs with it");
                Err(Error::new(Kind::WrongStatus, what).cure("its container has ended: make this one anew"))
            }
        }
    }

    /// In an annotation for `rt`; for any other program there are mounts on the host, until the removal.
    fn root_filesystem(&mut self, request: &Create, cradle: &mut Cradle) -> Result<()> {
        if self.rt.is_other(&request.runtime) {
            return host_rootfs::mount_all(&request.bundle, &request.rootfs_mounts);
        }
        let path = self.rt.scratch("config");
        bundle::with_rootfs(&request.bundle, &request.rootfs_mounts, &path)?;
        cradle.input = Some(path);
        Ok(())
    }

    /// Undoes the mounts of the above that are not the runtime's to undo.
    pub(super) fn no_root_filesystem(&self, request: &Create) {
        let mounted = !request.rootfs_mounts.is_empty() && self.rt.is_other(&request.runtime);
        if mounted && let Err(error) = host_rootfs::unmount_all(&request.bundle) {
            tracing::error!("{error}"); // containerd unmounts what is left as well
        }
    }

    /// Files for one birth.
    pub(super) fn cradle(&mut self, terminal: bool) -> Result<Cradle> {
        let console = if terminal { Some(Console::open(self.rt.scratch("tty"))?) } else { None };
        Ok(Cradle { pid_file: Some(self.rt.scratch("pid")), input: None, console })
    }

    fn born(&mut self, target: &Target, done: Result<()>, cradle: Cradle) {
        let born = done.and_then(|()| cradle.pid());
        let joins = self.container(&target.container).map(|container| container.config.joins());
        let child = born.as_ref().ok().map(|pid| (*pid, target.clone()));
        self.children.birth_over(child, &joins.unwrap_or_default());
        let settled = born.and_then(|pid| self.settle(target, pid, &cradle).map(|()| pid));
        drop(cradle);
        match settled {
            Ok(pid) => {
                self.happened(target, Event::Made);
                for creator in self.creators(target) {
                    let _ = creator.send(Ok(pid));
                }
            }
            Err(error) => self.not_born(target, error),
        }
        self.reap();
    }

    /// What is known from now on.
    fn settle(&mut self, target: &Target, pid: u32, cradle: &Cradle) -> Result<()> {
        let container = self.containers.get(&target.container);
        let root = container.map(|container| self.rt.root(&container.request.runtime).to_owned());
        let recorded = root.and_then(|root| recorded(&root, &target.container));
        let (line, id) = (self.line.clone(), target.container.clone());
        let container = self.container(&target.container)?;
        if let Some((cgroup, own_pid_namespace)) = recorded {
            container.memory = cgroup.as_deref().and_then(crate::oom::Counts::open);
            container.oom = cgroup.as_deref().and_then(|cgroup| {
                crate::oom::watch(cgroup, move || {
                    let id = id.clone();
                    line.send(move |owner| owner.killed_for_memory(&id));
                })
            });
            container.cgroup = cgroup;
            container.own_pid_namespace = own_pid_namespace;
        }
        let process = &mut container.process;
        (process.pid, process.alive, process.created_at) = (pid, true, SystemTime::now());
        if let (Some(console), Some(streams)) = (&cradle.console, &mut process.streams) {
            streams.terminal(console.receive()?)?;
        }
        Ok(())
    }

    /// `rt` removes what it has made if it fails; not if it was killed, and not if what failed came later.
    fn not_born(&mut self, target: &Target, error: Error) {
        let error = error.during(format!("create {target}"));
        let alive = self.process(target).is_ok_and(|process| process.alive);
        let leftovers = alive || matches!(error.kind(), Kind::Timeout | Kind::Unavailable);
        let (id, target) = (target.container.clone(), target.clone());
        let tell = move |owner: &mut Self| owner.not_made(&target, &error);
        if leftovers { self.clean_up(id, CLEANINGS, tell) } else { tell(self) }
    }

    /// Nothing is left of it.
    fn not_made(&mut self, target: &Target, error: &Error) {
        let creators = self.creators(target);
        if let Some(container) = self.containers.get(&target.container) {
            self.no_root_filesystem(&container.request);
        }
        self.happened(target, Event::NotMade);
        for creator in creators {
            let _ = creator.send(Err(error.clone()));
        }
    }

    /// Who killed the `rt` that created may kill the one that removes as well.
    fn clean_up(&mut self, id: String, attempts: u32, then: impl FnOnce(&mut Self) + Send + 'static) {
        let Some(cleaning) = self.delete_by_force(&id) else { return then(self) };
        let line = self.line.clone();
        tokio::spawn(async move {
            match cleaning.done().await {
                Ok(()) => line.send(then),
                Err(error) if error.kind() == Kind::Unavailable && attempts > 1 => {
                    line.send(move |owner| owner.clean_up(id, attempts - 1, then));
                }
                Err(error) => {
                    tracing::error!("clean up after a failed create: {error}");
                    line.send(then);
                }
            }
        });
    }

    fn delete_by_force(&mut self, id: &str) -> Option<crate::rt::Running> {
        let choice = self.containers.get(id)?.request.runtime.clone();
        let mut args = words(["delete", "--force"]);
        args.push(id.into());
        let call = Call { choice: &choice, args, ends: [None, None, None], patience: PATIENCE };
        self.rt.call(&mut self.children, call).inspect_err(|error| tracing::error!("{error}")).ok()
    }

    fn creators(&mut self, target: &Target) -> Vec<Answer<u32>> {
        self.container(&target.container)
            .map(|container| std::mem::take(&mut container.creators))
            .unwrap_or_default()
    }
}

impl Cradle {
    /// Its options for `rt`.
    pub fn add_to(&self, args: &mut Vec<OsString>) {
        add(args, "--pid-file", self.pid_file.as_deref());
        add(args, "--console-socket", self.console.as_ref().map(Console::path));
    }
}

/// Arguments.
pub fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

/// An option with its path, if there is one.
pub fn add(args: &mut Vec<OsString>, option: &str, path: Option<&Path>) {
    args.extend(path.into_iter().flat_map(|path| [option.into(), path.into()]));
}

/// The cgroup, and whether it has a PID namespace of its own. None if another runtime keeps other records.
fn recorded(root: &Path, id: &str) -> Option<(Option<PathBuf>, bool)> {
    let id = runtime::id::Id::parse(id).ok()?;
    let container = runtime::state::StateDir::new(root).open(&id).ok()?;
    let record = container.record();
    Some((record.cgroup.as_ref().map(|cgroup| cgroup.path.clone()), record.has_own_pid_namespace()))
}
