//! For an ordinary user: `rt` becomes root of a user namespace that has just the ids of the container's mapping, and starts anew in there.
//!
//! The kernel lets nobody mount, or join what is a container's, who has no rights over a user namespace. More than the user's own id is
//! mapped by newuidmap(1) and newgidmap(1), which know from /etc/subuid and /etc/subgid what he may have.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::again;
use super::options::Launch;
use crate::bundle::Bundle;
use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::plan::capabilities::SYS_ADMIN;
use crate::plan::idmap;
use crate::privilege::{MARK, reborn};
use crate::spec::{IdMapping, Spec};
use crate::state::{Depth, Origin, Record};
use crate::sys::clone::{Clone3, Side};
use crate::sys::exec::{Strings, execve};
use crate::sys::process::{capget, exit_now, parent_namespace};

/// For `create` and `run`: comes back only in a process that may make containers.
pub fn ensure(options: &Launch) -> Result<()> {
    let Some(own) = Own::lacking()? else { return Ok(()) };
    let spec = Bundle::load(&options.bundle, options.config.as_deref())?.spec;
    let linux = spec.linux.unwrap_or_default();
    let has_user = linux.namespaces.0.iter().any(|namespace| namespace.kind == "user" && namespace.is_new());
    if !has_user || linux.uid_mappings.0.is_empty() || linux.gid_mappings.0.is_empty() {
        let text = format!("user {} may make only containers with a user namespace of their own", own.uid);
        return Err(Error::new(Kind::Denied, text).cure(
            "add \"user\" to linux.namespaces, uidMappings and gidMappings (`rt spec --rootless` writes such a config), or run rt as root",
        ));
    }
    let uids = idmap::around(&linux.uid_mappings.0, own.uid);
    let gids = idmap::around(&linux.gid_mappings.0, own.gid);
    make(&own, &uids, &gids).what(|| "make a user namespace for rt")?;
    own.begin_anew()
}

/// For what joins a container's namespaces: comes back only in a process that may.
pub fn ensure_beside(container: &Record) -> Result<()> {
    let Some(own) = Own::lacking()? else { return Ok(()) };
    let Some(init) = &container.init else { return Ok(()) };
    let what = || "join the user namespace that the container was made in";
    // Whoever asks for its status is told that it has ended.
    if !init.is_alive()? {
        return Ok(());
    }
    // R8: this program is executed in there. The container's processes have rights over theirs and what is below, not over the one above.
    let theirs =
        Origin::of(container, *init, Depth::Grandchild).and_then(|origin| origin.user()).what(what)?;
    let above = parent_namespace(theirs.as_fd()).what(what)?;
    setns(above, CloneFlags::CLONE_NEWUSER).what(what)?;
    own.begin_anew()
}

/// In the second life the config's host ids are those of the namespace that was made for them.
pub fn translate(spec: &mut Spec) -> Result<()> {
    if reborn().is_none() {
        return Ok(());
    }
    let Some(linux) = &mut spec.linux else { return Ok(()) };
    for (mappings, file) in [(&mut linux.uid_mappings.0, "uid_map"), (&mut linux.gid_mappings.0, "gid_map")] {
        let path = format!("/proc/self/{file}");
        let table = idmap::read(&std::fs::read_to_string(&path).what(|| format!("read {path}"))?);
        *mappings = mappings.iter().flat_map(|mapping| idmap::within(mapping, &table)).collect();
    }
    Ok(())
}

/// An ordinary user's ids.
struct Own {
    uid: u32,
    gid: u32,
}

impl Own {
    /// None for a process that has the rights over its user namespace, or can't be given them.
    fn lacking() -> Result<Option<Self>> {
        let uid = rustix::process::geteuid();
        if uid.is_root() || capget().what(|| "read capabilities")?.effective & SYS_ADMIN != 0 {
            return Ok(None);
        }
        if reborn().is_some() {
            return Err(Error::new(Kind::Denied, "become root of a user namespace: it gave no rights")
                .cure("a security module may restrict user namespaces: kernel.apparmor_restrict_unprivileged_userns"));
        }
        Ok(Some(Self { uid: uid.as_raw(), gid: rustix::process::getegid().as_raw() }))
    }

    /// Executes this program again with the same arguments: root of a user namespace has all rights over it after that.
    fn begin_anew(&self) -> Result<()> {
        let (args, env) = again::arguments_and_environment(Some((MARK, &self.uid.to_string())));
        let errno = execve(c"/proc/self/exe", &args, &env);
        Err(Error::os(errno as i32, "start again as root of a user namespace"))
    }
}

/// This process goes into a new user namespace and a mount namespace of it.
fn make(own: &Own, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let enter = || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).what(|| "unshare").map_err(|error| {
            error.cure(
                "see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, and `rt` as root",
            )
        })
    };
    if uids.len() == 1 && gids.len() == 1 {
        enter()?;
        // KERNEL(3.19): a user who maps his own group may not drop groups that deny him something.
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", idmap::lines(uids)),
            ("gid_map", idmap::lines(gids)),
        ] {
            std::fs::write(format!("/proc/self/{file}"), text).what(|| format!("write {file}"))?;
        }
        return Ok(());
    }
    let programs = [Mapper::begin("newuidmap", uids)?, Mapper::begin("newgidmap", gids)?];
    enter()?;
    programs.into_iter().try_for_each(|program| {
        program.finish().map_err(|error| {
            error.cure(format!(
                "install newuidmap and newgidmap (package uidmap), and give user {} the ranges in /etc/subuid and /etc/subgid",
                own.uid
            ))
        })
    })
}

/// A process outside that waits to map ids for this one.
struct Mapper {
    line: String,
    pid: Pid,
    /// Go: it begins.
    link: Link,
}

impl Mapper {
    fn begin(name: &str, mappings: &[IdMapping]) -> Result<Self> {
        let whom = std::process::id().to_string();
        let numbers = mappings.iter().flat_map(|map| [map.container_id, map.host_id, map.size]);
        let words: Vec<String> =
            [name.to_owned(), whom].into_iter().chain(numbers.map(|number| number.to_string())).collect();
        let line = words.join(" ");
        let (ours, theirs) = Link::pair()?;
        match (Clone3::default()).call().what(|| "clone")? {
            Side::Child => {
                drop(ours);
                if !matches!(theirs.receive(), Ok(Some(Message::Go))) {
                    exit_now(1); // nobody wants it any more
                }
                let args = words.into_iter().map(|word| CString::new(word).unwrap_or_default());
                execute(name, &Strings::new(args.collect()));
                exit_now(127)
            }
            Side::Parent(pid, _) => Ok(Self { line, pid, link: ours }),
        }
    }

    fn finish(self) -> Result<()> {
        self.link.send(&Message::Go)?;
        let what = || self.line.clone();
        match waitpid(self.pid, None).what(what)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, 127) => {
                Err(Error::new(Kind::NotFound, format!("{}: there is no such program", what())))
            }
            _ => Err(Error::new(Kind::Denied, format!("{}: it refused", what()))),
        }
    }
}

/// Comes back where it is nowhere in PATH.
fn execute(name: &str, args: &Strings) {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let nothing = Strings::new(Vec::new());
    for dir in std::env::split_paths(&path) {
        if let Ok(program) = CString::new(dir.join(name).as_os_str().as_bytes()) {
            execve(&program, args, &nothing);
        }
    }
}
