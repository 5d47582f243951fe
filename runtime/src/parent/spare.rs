//! What is set in a namespace must not be set in the host's: a path can name that, too.
//!
//! One rule for names and kernel parameters of all kinds of namespaces, and for whatever way they come to be joined: the descriptor
//! that will be joined is compared with the runtime's own namespace, and with that of process 1.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::plan::namespaces::Kind;
use crate::plan::{Surroundings, sysctl};

/// Refuses to set anything in a namespace that is the host's.
pub fn host(around: &Surroundings, joined: &[(Kind, OwnedFd)]) -> Result<()> {
    let words = [("hostname", &around.hostname), ("domainname", &around.domainname)];
    for (field, _) in words.iter().filter(|(_, word)| word.is_some()) {
        check(Kind::Uts, joined).what(|| (*field).to_owned())?;
    }
    for (path, _) in &around.sysctl {
        if let Some(kind) = sysctl::owner(path) {
            check(kind, joined).what(|| format!("linux.sysctl {:?}", path.replace('/', ".")))?;
        }
    }
    Ok(())
}

fn check(kind: Kind, joined: &[(Kind, OwnedFd)]) -> Result<()> {
    let Some((_, namespace)) = joined.iter().find(|(joined, _)| *joined == kind) else { return Ok(()) };
    let whose = if is(namespace, Path::new("/proc/self/ns"), kind)? {
        "the runtime's own"
    } else if is(namespace, Path::new("/proc/1/ns"), kind).unwrap_or(false) {
        "that of process 1" // which not everybody may look at
    } else {
        return Ok(());
    };
    let name = kind.name();
    Err(Error::new(ErrorKind::Denied, format!("the {name} namespace to join is {whose}"))
        .cure(format!("remove it from the config, or make a new {name} namespace")))
}

fn is(namespace: impl AsFd, dir: &Path, kind: Kind) -> Result<bool> {
    let what = || format!("look at the {} namespace to join", kind.name());
    let ours = rustix::fs::stat(dir.join(kind.proc_name())).what(what)?;
    let theirs = rustix::fs::fstat(namespace).what(what)?;
    Ok((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
}
