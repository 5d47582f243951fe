//! For an ordinary user: `rt` becomes root of a user namespace that has just the ids of the container's mapping, and starts anew in there.
//!
//! The kernel lets nobody mount, or join what is a container's, who has no rights over a user namespace. More than the user's own id is
//! mapped by newuidmap(1) and newgidmap(1), which know from /etc/subuid and /etc/subgid what he may have.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::bundle::Bundle;
use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::ops::options::Launch;
use crate::plan::idmap;
use crate::privilege::{MARK, reborn};
use crate::spec::{IdMapping, Spec};
use crate::state::Record;
use crate::sys::clone::{Clone3, Side};
use crate::sys::exec::{Strings, execve};
use crate::sys::process::{capget, exit_now, parent_namespace};

/// `capabilities(7)`
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// For `create` and `run`: comes back only in a process that may make containers.
pub fn ensure(options: &Launch) -> Result<()> {
    let Some(own) = Own::lacking()? else { return Ok(()) };
    let spec = Bundle::load(&options.bundle, options.config.as_deref())?.spec;
    let linux = spec.linux.unwrap_or_default();
    let has_user = linux.namespaces.0.iter().any(|namespace| {
        namespace.kind == "user" && namespace.path.as_deref().unwrap_or_default().is_empty()
    });
    if !has_user || linux.uid_mappings.0.is_empty() || linux.gid_mappings.0.is_empty() {
        let text = format!("user {} may make only containers with a user namespace of their own", own.uid);
        return Err(Error::new(Kind::Denied, text).cure(
            "add \"user\" to linux.namespaces, uidMappings and gidMappings (`rt spec --rootless` writes such a config), or run rt as root",
        ));
    }
    let uids = around(&linux.uid_mappings.0, own.uid);
    let gids = around(&linux.gid_mappings.0, own.gid);
    make(&own, &uids, &gids).what(|| "make a user namespace for rt")?;
    own.begin_anew()
}

/// For what joins a container's namespaces: comes back only in a process that may.
pub fn ensure_beside(container: &Record) -> Result<()> {
    let Some(own) = Own::lacking()? else { return Ok(()) };
    let Some(init) = &container.init else { return Ok(()) };
    let what = || "join the user namespace that the container was made in";
    let theirs = File::open(format!("/proc/{}/ns/user", init.pid)).what(what)?;
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
        let table = read_map(&std::fs::read_to_string(&path).what(|| format!("read {path}"))?);
        *mappings = mappings.iter().flat_map(|mapping| within(mapping, &table)).collect();
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
        if uid.is_root() || capget().what(|| "read capabilities")?.effective & CAP_SYS_ADMIN != 0 {
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
        let text = |text: std::ffi::OsString| CString::new(text.into_vec()).unwrap_or_default();
        let args = crate::sys::start::args().iter().cloned().map(text).collect();
        let mark = CString::new(format!("{MARK}={}", self.uid)).unwrap_or_default();
        let env =
            std::env::vars_os().map(|(name, value)| text([name, value].join(std::ffi::OsStr::new("="))));
        let env = Strings::new(env.chain([mark]).collect());
        let errno = execve(c"/proc/self/exe", &Strings::new(args), &env);
        Err(Error::os(errno as i32, "start again as root of a user namespace"))
    }
}

/// The mapping of a namespace around the container's: the user is 0, what else the container's mapping has comes after.
fn around(mappings: &[IdMapping], own: u32) -> Vec<IdMapping> {
    let mut all = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1;
    for mapping in mappings {
        let (first, end) = (mapping.host_id, mapping.host_id.saturating_add(mapping.size));
        let parts =
            if (first..end).contains(&own) { vec![(first, own), (own + 1, end)] } else { vec![(first, end)] };
        for (from, to) in parts.into_iter().filter(|(from, to)| from < to) {
            all.push(IdMapping { container_id: next, host_id: from, size: to - from });
            next += to - from;
        }
    }
    all
}

/// A mapping of outer ids as one of the ids that they have inside; an id that is not there is left out, and found missing later.
fn within(mapping: &IdMapping, table: &[IdMapping]) -> Vec<IdMapping> {
    let (first, end) = (mapping.host_id, mapping.host_id.saturating_add(mapping.size));
    let parts = table.iter().filter_map(|line| {
        let from = first.max(line.host_id);
        let to = end.min(line.host_id.saturating_add(line.size));
        (from < to).then(|| IdMapping {
            container_id: mapping.container_id + (from - first),
            host_id: line.container_id + (from - line.host_id),
            size: to - from,
        })
    });
    parts.collect()
}

fn read_map(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
        Some(IdMapping { container_id: numbers.next()?, host_id: numbers.next()?, size: numbers.next()? })
    };
    text.lines().filter_map(line).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn all_ids_of_a_container_are_mapped_around_it_and_found_again_within() {
        for mappings in [
            vec![map(0, 1000, 1)],
            vec![map(0, 1000, 1), map(1, 100_000, 65536)],
            vec![map(0, 100_000, 1000), map(1000, 1000, 1), map(1001, 101_000, 64536)],
            vec![map(5, 900, 200)],
        ] {
            let table = around(&mappings, 1000);
            assert_eq!(table[0], map(0, 1000, 1));
            assert_eq!(read_map(&idmap::lines(&table)), table);
            for mapping in &mappings {
                let inner = within(mapping, &table);
                assert_eq!(inner.iter().map(|part| part.size).sum::<u32>(), mapping.size);
                for part in inner {
                    let outer = table.iter().find_map(|line| {
                        let at = part.host_id.checked_sub(line.container_id)?;
                        (at < line.size).then_some(line.host_id + at)
                    });
                    let expected = mapping.host_id + (part.container_id - mapping.container_id);
                    assert_eq!(outer, Some(expected), "{part:?} of {mapping:?} in {table:?}");
                }
            }
        }
        assert_eq!(within(&map(0, 5000, 10), &[map(0, 1000, 1)]), []);
    }
}
