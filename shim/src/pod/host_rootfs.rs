//! A root filesystem mounted on the host, at the bundle's `rootfs`: for a runtime that is not `rt`, which knows no list of mounts. `rt` gets
//! its own in an annotation and the host never sees them ([`super::bundle`]).

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::RootfsMount;
use crate::error::{Context, Error, Result};

/// What mount(2) takes besides the flags: a page, and the NUL.
const MOST_DATA: usize = 4095;

/// Options that are flags: what they set, what they clear.
const FLAGS: [(&str, MsFlags, MsFlags); 20] = [
    ("async", MsFlags::empty(), MsFlags::MS_SYNCHRONOUS),
    ("atime", MsFlags::empty(), MsFlags::MS_NOATIME),
    ("bind", MsFlags::MS_BIND, MsFlags::empty()),
    ("defaults", MsFlags::empty(), MsFlags::empty()),
    ("dev", MsFlags::empty(), MsFlags::MS_NODEV),
    ("diratime", MsFlags::empty(), MsFlags::MS_NODIRATIME),
    ("dirsync", MsFlags::MS_DIRSYNC, MsFlags::empty()),
    ("exec", MsFlags::empty(), MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME, MsFlags::empty()),
    ("nodev", MsFlags::MS_NODEV, MsFlags::empty()),
    ("nodiratime", MsFlags::MS_NODIRATIME, MsFlags::empty()),
    ("noexec", MsFlags::MS_NOEXEC, MsFlags::empty()),
    ("nosuid", MsFlags::MS_NOSUID, MsFlags::empty()),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), MsFlags::empty()),
    ("relatime", MsFlags::MS_RELATIME, MsFlags::empty()),
    ("ro", MsFlags::MS_RDONLY, MsFlags::empty()),
    ("rw", MsFlags::empty(), MsFlags::MS_RDONLY),
    ("strictatime", MsFlags::MS_STRICTATIME, MsFlags::empty()),
    ("suid", MsFlags::empty(), MsFlags::MS_NOSUID),
    ("sync", MsFlags::MS_SYNCHRONOUS, MsFlags::empty()),
];

/// Where it is.
fn place(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}

/// Mounts all of them, one over the other; none after an error.
pub fn mount_all(bundle: &Path, mounts: &[RootfsMount]) -> Result<()> {
    let place = place(bundle);
    std::fs::create_dir_all(&place).what(|| format!("make {}", place.display()))?;
    for one in mounts {
        let mounted = self::one(one, &place).what(|| format!("mount {} at {}", one.source, place.display()));
        if mounted.is_err() {
            unmount_all(bundle)?;
            return mounted;
        }
    }
    Ok(())
}

fn one(asked: &RootfsMount, place: &Path) -> Result<()> {
    let (flags, data) = parse(&asked.options);
    if data.len() > MOST_DATA {
        let text = format!("its options have {} bytes, of {MOST_DATA} that mount(2) takes", data.len());
        return Err(Error::unsupported(text));
    }
    let kind = Some(asked.kind.as_str()).filter(|kind| !kind.is_empty());
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    mount(Some(asked.source.as_str()), place, kind, flags, data).what(|| asked.kind.clone())?;
    // A bind mount takes its flags only when it is there.
    let own = flags - (MsFlags::MS_BIND | MsFlags::MS_REC);
    if flags.contains(MsFlags::MS_BIND) && !own.is_empty() {
        let again = own | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(None::<&str>, place, None::<&str>, again, None::<&str>).what(|| "set its options")?;
    }
    Ok(())
}

fn parse(options: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options {
        match FLAGS.iter().find(|(name, ..)| name == option) {
            Some((_, set, clear)) => flags = (flags - *clear) | *set,
            None => data.push(option.as_str()),
        }
    }
    (flags, data.join(","))
}

/// Unmounts what [`mount_all`] has mounted; nothing where nothing is mounted.
pub fn unmount_all(bundle: &Path) -> Result<()> {
    let place = place(bundle);
    loop {
        match umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno).what(|| format!("unmount {}", place.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_filesystems() {
        let options = ["rbind", "ro", "lowerdir=a:b", "rw", "nosuid", "index=off"].map(str::to_owned);
        let (flags, data) = parse(&options);
        assert_eq!(flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_NOSUID);
        assert_eq!(data, "lowerdir=a:b,index=off");
    }
}
