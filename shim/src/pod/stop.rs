//! Ending: signals, and the ladder of a stop: signal, grace, SIGKILL, cgroup.kill, and if all that does not take, the truth.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::owner::{Line, Owner};
use super::{Ended, Kill, Reach, Stop, Target};
use crate::cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::process::{Answer, Ladder, Process};
use crate::state::{Event, State};

/// After SIGKILL, and again after cgroup.kill. The kernel needs more than a moment only where it hangs in a device or in NFS.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

impl Owner {
    /// See [`super::Pod::kill`].
    pub fn kill(&mut self, request: &Kill) -> Result<()> {
        if !(0..=64).contains(&request.signal) {
            return Err(Error::invalid(format!("there is no signal {}", request.signal)));
        }
        self.step(&request.target, Event::Signal)?;
        self.signal(&request.target, request.signal, request.reach)
    }

    /// Sends it. A SIGKILL of a container that shares its PID namespace ends all of it, as nobody else would kill the others.
    pub(super) fn signal(&mut self, target: &Target, signal: i32, reach: Reach) -> Result<()> {
        let container = self.container(&target.container)?;
        let all = reach == Reach::All || (signal == libc::SIGKILL && !container.own_pid_namespace);
        let cgroup = container.cgroup.clone().filter(|_| all && target.exec.is_none());
        let process = self.process(target)?;
        if !process.alive {
            return Err(Error::new(
                Kind::WrongStatus,
                format!("{target} has ended: process already finished"),
            ));
        }
        process.felled |= signal == libc::SIGKILL;
        match cgroup {
            Some(cgroup) if signal == libc::SIGKILL => cgroup::kill(&cgroup),
            Some(cgroup) => cgroup::signal_all(&cgroup, signal),
            None => send(process, signal),
        }
    }

    /// SIGKILL to an exec and to what it has started, as far as that can be told: to itself last, since its death orphans the others.
    pub(super) fn kill_family(&mut self, target: &Target) -> Result<()> {
        let process = self.process(target)?;
        let leader = process.pid;
        let cgroup = self.container(&target.container)?.cgroup.clone();
        let (Some(cgroup), true) = (cgroup, self.process(target)?.alive) else {
            return self.signal(target, libc::SIGKILL, Reach::One); // which says why not
        };
        let (line, target) = (self.line.clone(), target.clone());
        // The container decides how many there are to be looked at, and the pod has one thread.
        std::thread::Builder::new()
            .name("kill-exec".into())
            .spawn(move || {
                if let Err(error) = cgroup::kill_family(&cgroup, leader) {
                    tracing::error!("end what {target} has started: {error}");
                }
                line.send(move |owner| owner.kill_leader(&target, leader));
            })
            .map(drop)
            .what(|| "start a thread that ends the exec")
    }

    /// Another exec may have its id by now, and it may have ended.
    fn kill_leader(&mut self, target: &Target, leader: u32) {
        let lives = self.process(target).is_ok_and(|process| process.alive && process.pid == leader);
        if lives && let Err(error) = self.signal(target, libc::SIGKILL, Reach::One) {
            tracing::error!("end {target}: {error}");
        }
    }

    /// See [`super::Pod::stop`].
    pub fn stop(&mut self, request: &Stop, answer: Answer<Ended>) {
        if let Err((answer, error)) = self.begin_stop(request, answer) {
            let _ = answer.send(Err(error.during(format!("stop container \"{}\"", request.id))));
        }
    }

    fn begin_stop(&mut self, request: &Stop, answer: Answer<Ended>) -> Result<(), (Answer<Ended>, Error)> {
        let target = Target::container(&request.id);
        let ended = match self.end_of(&target) {
            Ok(ended) => ended,
            Err(error) => return Err((answer, error)),
        };
        let now = Instant::now();
        let Ok(container) = self.container(&request.id) else { return Ok(()) };
        let kill_at = match container.process.state {
            State::Creating => {
                let error = Error::new(Kind::WrongStatus, "it is still being created");
                return Err((answer, error));
            }
            // Its process waits in `rt`'s code and minds no signal.
            State::Created => now,
            _ => now + request.grace,
        };
        if let Some(ladder) = &mut container.ladder {
            ladder.kill_at.send_if_modified(|at| std::mem::replace(at, kill_at.min(*at)) > kill_at);
            ladder.waiters.push(answer);
            return Ok(());
        }
        if container.process.ended.is_some() {
            tokio::spawn(pass_on(ended, answer));
            return Ok(());
        }
        let (sender, receiver) = watch::channel(kill_at);
        container.ladder = Some(Ladder { kill_at: sender, waiters: vec![answer] });
        if kill_at > now {
            // One that has just ended needs no signal.
            let _ = self.signal(&target, request.signal, Reach::One);
        }
        tokio::spawn(climb(self.line.clone(), target, receiver, ended));
        Ok(())
    }

    fn kill_cgroup(&mut self, target: &Target) {
        let cgroup = self.container(&target.container).ok().and_then(|container| container.cgroup.clone());
        if let Some(Err(error)) = cgroup.as_deref().map(cgroup::kill) {
            tracing::error!("{error}");
        }
    }

    /// The ladder is at its end.
    fn not_ended(&mut self, target: &Target) {
        let Ok(container) = self.container(&target.container) else { return };
        let pids = match &container.cgroup {
            Some(cgroup) => cgroup::pids(cgroup).unwrap_or_default(),
            None => vec![container.process.pid],
        };
        let stuck: Vec<String> = pids.into_iter().filter_map(describe).collect();
        let stuck = if stuck.is_empty() { "nobody knows what it waits for".into() } else { stuck.join("; ") };
        container.process.stuck.clone_from(&stuck);
        let waiters = container.ladder.take().map(|ladder| ladder.waiters).unwrap_or_default();
        for waiter in waiters {
            let what = format!("{target} survives SIGKILL and cgroup.kill: {stuck}");
            let _ = waiter.send(Err(Error::new(Kind::Timeout, what)));
        }
        self.changed();
    }
}

async fn pass_on(ended: oneshot::Receiver<Ended>, answer: Answer<Ended>) {
    let ended = ended.await.map_err(|_| Error::not_found("it was removed"));
    let _ = answer.send(ended);
}

/// The ladder. Whoever waits is answered by the end of the process, or by its last rung.
async fn climb(
    line: Line,
    target: Target,
    mut kill_at: watch::Receiver<Instant>,
    mut ended: oneshot::Receiver<Ended>,
) {
    loop {
        let at = *kill_at.borrow_and_update();
        tokio::select! {
            _ = &mut ended => return,
            () = sleep_until(at) => break,
            Ok(()) = kill_at.changed() => {}
        }
    }
    let victim = target.clone();
    // One that has just ended needs no signal.
    line.send(move |owner| drop(owner.signal(&victim, libc::SIGKILL, Reach::One)));
    if timeout(KILL_PATIENCE, &mut ended).await.is_ok() {
        return;
    }
    let victim = target.clone();
    line.send(move |owner| owner.kill_cgroup(&victim));
    if timeout(KILL_PATIENCE, &mut ended).await.is_err() {
        line.send(move |owner| owner.not_ended(&target));
    }
}

/// The caller makes sure that it is still that process: not reaped, or just seen in the container's cgroup.
/// To a child of ours that is not reaped, so that its number is still its own.
fn send(process: &Process, signal: i32) -> Result<()> {
    let what = || format!("send signal {signal} to process {}", process.pid);
    let pid = i32::try_from(process.pid).map_err(|_| Error::invalid(what()))?;
    match runtime::sys::pidfd::open_child(pid)
        .and_then(|pidfd| runtime::sys::pidfd::send_signal(pidfd.as_fd(), signal))
    {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).what(what),
    }
}

/// `nfsd (pid 7, state D, waits in nfs_wait_bit)`; none if it is gone.
fn describe(pid: u32) -> Option<String> {
    let read = |name: &str| {
        let text = std::fs::read(Path::new("/proc").join(pid.to_string()).join(name)).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let stat = read("stat")?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    let place = read("wchan").filter(|place| place != "0" && !place.is_empty());
    let place = place.map(|place| format!(", waits in {place}")).unwrap_or_default();
    Some(format!("{} (pid {pid}, state {state}{place})", read("comm").unwrap_or_default().trim()))
}
