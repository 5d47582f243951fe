//! The parent's hold of a process that it sends into a container, init as a rule, from its birth on: who it is, what it says, and how long that may take.
//!
//! Whoever lives in the PID namespace that a process enters can stop it (SIGSTOP), trace it, take its descriptors (pidfd_getfd), or freeze
//! the cgroup that it is in. None of that may hold up a command, nor the lock that the command has: a process that was stopped is told to
//! go on, one that does not come to its program in time is killed, and that it has come there is seen, whoever holds the link open.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{Signal, pidfd_send_signal};

use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::state::{self, ProcessId, Progress};
use crate::step::lacks;
use crate::sys::pidfd;

/// How long a process may take from when others can hold it up until it executes its program.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at, while nothing is heard of it; as soon again, if it had been stopped.
pub const LOOK: Duration = Duration::from_millis(50);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How long a killed process is waited for.
const DEATH: Duration = Duration::from_secs(2);

/// Init, alive and waiting for Go. Dropped: it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    /// As seen from here. Until [`Child::born`] it may be the process in between.
    pub pid: Pid,
    /// Stands for it, whatever happens to the number.
    pub pidfd: OwnedFd,
    /// The parent's end.
    pub link: Link,
    /// What it has sent before it was born where others live.
    pub terminal: Option<OwnedFd>,
    kept: bool,
    in_between: bool,
    /// Children of whoever executed this program, who has left them to us.
    others: Vec<ProcessId>,
    watch: Option<Watch>,
}

/// Of a process that others can hold up.
#[derive(Debug, Default)]
struct Watch {
    /// Whether time counts before the process in between has ended.
    from_the_start: bool,
    patience: Patience,
}

/// With a process that others can hold up on its way to its program.
#[derive(Debug, Default)]
pub struct Patience {
    unhurried: bool,
    paused: Option<PathBuf>,
    waited: Duration,
}

impl Child {
    /// Born just now.
    pub fn new((pid, pidfd): (Pid, OwnedFd), link: Link) -> Self {
        let others = Vec::new();
        Self { pid, pidfd, link, terminal: None, kept: false, in_between: false, others, watch: None }
    }

    /// Who goes on is yet to be cloned by it: none of those who were children of ours before.
    pub fn in_between(mut self, before: Vec<ProcessId>) -> Self {
        (self.in_between, self.others) = (true, before);
        self
    }

    /// Others see it as soon as the process in between has cloned it.
    pub fn seen(mut self) -> Self {
        self.watch = Some(Watch::default());
        self
    }

    /// Others have a hold on it from the start: it is in their cgroup.
    pub fn among_others(mut self, paused: Option<PathBuf>) -> Self {
        self.watch = Some(Watch { from_the_start: true, patience: Patience::new(false, paused) });
        self
    }

    /// From here on it may take as long as it likes: it runs hooks, programs of the container that see it.
    pub fn unhurried(&mut self) {
        self.watch.get_or_insert_default().patience.unhurried = true;
    }

    /// Waits for a message; `None`: the other side is gone. Where others can hold it up, not for ever.
    pub fn receive(&mut self) -> Result<Option<Message>> {
        if self.watch.is_some() {
            let mut look = LOOK;
            loop {
                let since = Instant::now();
                if self.link.has_word(look)? {
                    break;
                }
                // ORDER: what it has said before is there by now.
                if self.is_done() {
                    if self.link.has_word(Duration::ZERO)? {
                        break;
                    }
                    return Ok(None);
                }
                look = if self.urge(since.elapsed())? { LOOK_AGAIN } else { LOOK };
            }
        }
        self.link.receive()
    }

    /// Whether it has come to its program, or to its end: somebody else holds its end of the link, if that is still open.
    fn is_done(&self) -> bool {
        let done = |progress| matches!(progress, Progress::Executed | Progress::Gone);
        !self.in_between && done(state::progress(self.pid.as_raw()))
    }

    /// Lets it go on if it is stopped, which is said. An error if it has had its time.
    fn urge(&mut self, waited: Duration) -> Result<bool> {
        let still_outside = self.in_between && !self.has_ended();
        let Some(watch) = &self.watch else { return Ok(false) };
        if still_outside && !watch.from_the_start {
            return Ok(false);
        }
        let inside = self.inside();
        let Some(watch) = &mut self.watch else { return Ok(false) };
        let seen = inside.iter().map(|(pid, pidfd)| (pid.as_raw(), state::progress(pid.as_raw()), pidfd));
        watch.patience.urge(seen, waited)
    }

    fn has_ended(&self) -> bool {
        pidfd::wait_exit(&self.pidfd, Duration::ZERO).is_ok()
    }

    /// Who entered the container: not always known yet. Only who was cloned for it is another new child of ours in another PID namespace.
    fn inside(&self) -> Vec<(Pid, OwnedFd)> {
        let opened = |pid: i32| Some((Pid::from_raw(pid), pidfd::open_child(pid).ok()?));
        if !self.in_between {
            return opened(self.pid.as_raw()).into_iter().collect();
        }
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace("self");
        let children = state::children().unwrap_or_default().into_iter();
        let new = children.filter(|child| child.pid != self.pid.as_raw() && !self.others.contains(child));
        let others = new.filter_map(|child| opened(child.pid));
        // ORDER: asked after it was opened, and so of this very process.
        others.filter(|(pid, _)| namespace(&pid.to_string()).is_some_and(|its| Some(its) != ours)).collect()
    }

    /// Waits until init is a process of its own, if it was born by one in between: from here on [`Child::pid`] is its own. What goes wrong
    /// before is told here. Whether it was.
    pub fn born(&mut self) -> Result<bool> {
        if !self.in_between {
            return Ok(false);
        }
        self.link.ask_who(true)?;
        let mut said = self.receive()?;
        if let Some(Message::Terminal(terminal)) = said {
            self.terminal = Some(terminal);
            // ORDER: once it is born others can take its end of the link.
            self.link.refuse_descriptors()?;
            self.link.ask_who(false)?;
            self.link.send(&Message::Go)?;
            self.link.ask_who(true)?;
            said = self.receive()?;
        }
        self.link.ask_who(false)?;
        let pid = match said {
            Some(Message::Born(pid)) => Pid::from_raw(pid),
            Some(Message::Failed(_, error)) => return Err(error),
            Some(_) => return Err(Error::new(Kind::Internal, "init said something unexpected")),
            None => return Err(died()),
        };
        self.becomes(pid).map(|()| true)
    }

    /// From here on it is this one, whom the process in between has cloned: another child of ours, whatever was said.
    pub fn becomes(&mut self, pid: Pid) -> Result<()> {
        let pidfd = pidfd::open_child(pid.as_raw()).what(|| "open a pidfd of who was cloned")?;
        if pid == self.pid {
            return Err(Error::new(Kind::Internal, "the process in between has cloned nobody"));
        }
        // It has nothing left to do but to end, and may be kept from that.
        end(self.pid, &self.pidfd);
        (self.pid, self.pidfd, self.in_between) = (pid, pidfd, false);
        Ok(())
    }

    /// It goes on without us.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Patience {
    /// `unhurried`: it runs hooks, which take as long as they like: only time in which somebody holds it counts. `paused`: the
    /// container's cgroup: frozen, it is paused, and nobody holds up anybody.
    pub fn new(unhurried: bool, paused: Option<PathBuf>) -> Self {
        Self { unhurried, paused, waited: Duration::ZERO }
    }

    /// After a while in which nothing was heard: lets them go on who were stopped; whether somebody was. An error once it is over. While
    /// they run hooks, those are looked at, too.
    pub fn urge<'a>(
        &mut self,
        seen: impl Iterator<Item = (i32, Progress, &'a OwnedFd)>,
        waited: Duration,
    ) -> Result<bool> {
        if self.is_paused() {
            return Ok(false);
        }
        let (mut stopped, mut traced) = (false, false);
        let mut look = |progress: Progress, pidfd: &OwnedFd| {
            traced |= progress == Progress::Traced;
            if progress == Progress::Stopped {
                stopped = true;
                let _ = pidfd_send_signal(pidfd, Signal::CONT);
            }
        };
        for (pid, progress, pidfd) in seen {
            look(progress, pidfd);
            let hooks = if self.unhurried { state::held_below(pid) } else { Vec::new() };
            hooks.iter().for_each(|(progress, pidfd)| look(*progress, pidfd));
        }
        if !self.unhurried || stopped || traced {
            self.waited += waited;
        }
        let most = if lacks("patience") { PATIENCE / 15 } else { PATIENCE };
        if self.waited > most { Err(held_up(most)) } else { Ok(stopped) }
    }

    fn is_paused(&self) -> bool {
        let events = self.paused.as_ref().map(|cgroup| cgroup.join("cgroup.events"));
        events.is_some_and(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains("frozen 1")))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        end(self.pid, &self.pidfd);
        // ORDER: after the process in between, which clones nobody any more.
        if self.in_between && self.watch.is_some() {
            for (pid, pidfd) in self.inside() {
                end(pid, &pidfd);
            }
        }
    }
}

/// Kills who has not come to its program in time: so that nobody takes it for a container that runs.
pub fn give_up(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let _ = pidfd::wait_exit(pidfd, DEATH);
}

/// Kills a child and reaps it. KERNEL: a tracer may hold who is dying (PTRACE_O_TRACEEXIT) and who is dead for as long as he likes;
/// process 1 will reap then.
fn end(pid: Pid, pidfd: &OwnedFd) {
    give_up(pidfd);
    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
}

fn held_up(patience: Duration) -> Error {
    let what = format!(
        "the process in the container did not come to its program within {} s: killed",
        patience.as_secs()
    );
    Error::new(Kind::Timeout, what)
        .cure("somebody in the container may stop, trace or freeze it, or the machine is overloaded")
}

/// What is said where nothing was heard of it.
pub fn died() -> Error {
    Error::new(Kind::Internal, "init died before the container was ready")
        .cure("it may have been killed: see the kernel's log")
}
