//! Who the process is: root of its user namespace first, then the user of the config, in its working directory.

use std::ffi::CString;
use std::io::Read;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::Mode;

use super::{capabilities, target};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Task;
use crate::plan::namespaces::Kind as Namespace;
use crate::sys::process;

/// Drops the supplementary groups of the host before a user namespace is joined: whoever has rights over that may have denied setgroups(2)
/// in there for good (user_namespaces(7)).
pub fn leave_groups(task: &Task) -> Result<()> {
    if !task.namespaces.has(Namespace::User) {
        return Ok(());
    }
    let what = || "drop the supplementary groups before a user namespace is joined";
    match process::setgroups(&[]) {
        Err(Errno::EPERM) if rustix::process::getgroups().what(what)?.is_empty() => Ok(()),
        // KERNEL(3.19): an ordinary user who maps no group but his own can't, nor can whoever he lets in.
        Err(Errno::EPERM) if denied()? => Ok(()),
        done => done.what(what).map_err(|error| error.cure("it needs CAP_SETGID")),
    }
}

/// Whether nobody in our user namespace may change groups. Asked while /proc is the host's.
fn denied() -> Result<bool> {
    let path = "/proc/self/setgroups";
    Ok(std::fs::read_to_string(path).what(|| format!("read {path}"))?.trim() == "deny")
}

/// In a user namespace we come as nobody; what follows needs its root.
pub fn become_root(task: &Task) -> Result<()> {
    if !task.namespaces.has(Namespace::User) {
        return Ok(());
    }
    process::setresgid(0).what(|| "become group 0 of the user namespace")?;
    process::setresuid(0)
        .what(|| "become user 0 of the user namespace")
        .map_err(|error| error.cure("linux.uidMappings must map containerID 0"))?;
    match process::setgroups(&[]) {
        // It is denied in there. Of one that was joined, that is why there are none any more: see [`leave_groups`]. In one that was made
        // here it is denied because it is in our own, where nobody can drop any.
        Err(Errno::EPERM) if task.process.groups.is_empty() => Ok(()),
        done => done.what(|| "drop the supplementary groups"),
    }
}

/// Whether the working directory is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cwd {
    /// It is.
    Entered,
    /// Root may not: the user is asked.
    AsUser,
}

/// Enters the working directory while still root, who may enter what the user may not, and makes it where it is missing.
pub fn enter_cwd(task: &Task) -> Result<Cwd> {
    if task.process.cwd.as_bytes() == b"/" {
        return Ok(Cwd::Entered); // There already.
    }
    let what = || cwd_name(task);
    let root = target::root()?;
    let path = cwd(task)?;
    let place = match target::open(&root, path, target::Links::Follow) {
        Err(rustix::io::Errno::NOENT) => target::make_dirs(&root, path).what(what)?,
        // NFS with root squash.
        Err(rustix::io::Errno::ACCESS) => return Ok(Cwd::AsUser),
        place => place.what(what).map_err(through_a_magic_link)?,
    };
    match rustix::process::fchdir(&place) {
        Err(rustix::io::Errno::ACCESS) => Ok(Cwd::AsUser),
        done => done.map(|()| Cwd::Entered).what(what),
    }
}

/// CVE-2024-21626: what we stand in must be inside the container's root. No link of /proc leads there, and there is no descriptor of
/// the host's that one could lead to; so this can't fail but where a directory was moved away under us.
pub fn settle_cwd(task: &Task, so_far: Cwd) -> Result<()> {
    if task.process.cwd.as_bytes() == b"/" {
        return Ok(());
    }
    let what = || cwd_name(task);
    if so_far == Cwd::AsUser {
        let place = target::open(target::root()?, cwd(task)?, target::Links::Follow);
        rustix::process::fchdir(place.what(what).map_err(through_a_magic_link)?).what(what)?;
    }
    let here = rustix::process::getcwd(Vec::new()).what(|| "look where we are")?;
    if here.as_bytes().first() != Some(&b'/') {
        return Err(Error::new(Kind::Denied, format!("{}: it is outside the container's root", what())));
    }
    Ok(())
}

fn cwd(task: &Task) -> Result<&Path> {
    let text = task.process.cwd.to_str().map_err(|_| Error::invalid(cwd_name(task)))?;
    Ok(Path::new(text))
}

fn cwd_name(task: &Task) -> String {
    format!("enter the working directory {}", task.process.cwd.to_string_lossy())
}

/// What openat2 says of a link that leads to what a process has open, and of too many links.
pub fn through_a_magic_link(error: Error) -> Error {
    match error.errno() {
        Some(libc::ELOOP) => error
            .with_kind(Kind::Denied)
            .cure("links of /proc to what a process has open are not followed, nor more than 40 links"),
        _ => error,
    }
}

/// The environment, with HOME from the container's passwd where the config gives none.
pub fn environment(task: &Task) -> Result<Vec<CString>> {
    let mut env = task.process.env.clone();
    if !env.iter().any(|entry| entry.as_bytes().starts_with(b"HOME=") && entry.as_bytes().len() > 5) {
        env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
        let home = home(task.process.uid).unwrap_or_else(|| "/".to_owned());
        env.push(CString::new(format!("HOME={home}")).what_nul()?);
    }
    Ok(env)
}

trait Nul {
    fn what_nul(self) -> Result<CString>;
}

impl Nul for std::result::Result<CString, std::ffi::NulError> {
    fn what_nul(self) -> Result<CString> {
        self.map_err(|_| Error::invalid("the home directory in /etc/passwd contains a NUL"))
    }
}

/// No passwd, or an absurd one, means no home: at most 1 MiB of it is read.
fn home(uid: u32) -> Option<String> {
    let file = target::open_file(target::root().ok()?, Path::new("/etc/passwd")).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).take(1 << 20).read_to_string(&mut text).ok()?;
    home_in(&text, uid)
}

fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (id, home) = (fields.nth(2)?, fields.nth(2)?);
        (id.parse() == Ok(uid) && home.starts_with('/')).then(|| home.to_owned())
    })
}

/// Becomes the user of the config; capabilities are kept as far as they are still needed.
pub fn change(task: &Task) -> Result<()> {
    let user = &task.process;
    rustix::process::umask(Mode::from_raw_mode(user.umask));
    capabilities::bound(task)?;
    if user.uid != 0 {
        process::keep_capabilities().what(|| "keep capabilities over the change of user")?;
    }
    if !(user.groups.is_empty() && task.namespaces.has(Namespace::User)) {
        process::setgroups(&user.groups)
            .what(|| format!("set the supplementary groups {:?}", user.groups))?;
    }
    let unmapped = "the id must be mapped into the user namespace";
    process::setresgid(user.gid)
        .what(|| format!("become group {}", user.gid))
        .map_err(|e| e.cure(unmapped))?;
    process::setresuid(user.uid)
        .what(|| format!("become user {}", user.uid))
        .map_err(|e| e.cure(unmapped))?;
    capabilities::take(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:\nodd:x:7:7::relative:\n";
        assert_eq!(home_in(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(passwd, 33).as_deref(), Some("/var/www"));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in(passwd, 1), None);
    }
}
