//! The one door to what a path names below a root, whatever the symlinks on its way say, and what that may cost.
//!
//! The kernel is never asked to follow a link: it would follow forty of 4 kB each, which is milliseconds for one path, and gives EAGAIN
//! for each `..` while anything on the machine is renamed. A path without links is one call; else it is walked part by part.

use super::field::beyond;
use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most parts that are walked for one path, those of its symlinks among them: each is two system calls.
const PARTS: usize = 512;
/// Symlinks followed. KERNEL: MAXSYMLINKS
const LINKS: usize = 40;
/// How often a call is made again that was disturbed.
const TRIES: usize = 8;
const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Who pays for the parts that are walked one by one, and says when nobody waits any more.
pub type Fare<'a> = &'a dyn Fn(u64) -> Result<()>;

/// What the kernel says of a path, or else why it is not walked on.
pub type Found = Result<rustix::io::Result<OwnedFd>>;

/// Opens a path below `root` with its symlinks followed inside of it: an absolute one leads to `root`, and `..` not above it.
pub fn open_in_root(root: &OwnedFd, path: &[u8], flags: OFlags, fare: Fare<'_>) -> Found {
    if !path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        match open_plain(root, path, flags) {
            Err(Errno::LOOP) => {}
            other => return Ok(other),
        }
    }
    let what = || format!("follow {:?}", String::from_utf8_lossy(&path[..path.len().min(200)]));
    walk(root.as_fd(), path, flags, fare).what(what)
}

/// Opens a path below `directory` that has no symlink on its way (ELOOP) and no `..`.
pub fn open_plain(directory: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open =
        || rustix::fs::openat2(directory.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    let disturbed = |tried: &rustix::io::Result<OwnedFd>| matches!(tried, Err(Errno::AGAIN | Errno::INTR));
    let mut tried = open();
    for _ in 1..TRIES {
        if !disturbed(&tried) {
            break;
        }
        tried = open();
    }
    tried
}

fn walk(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, fare: Fare<'_>) -> Found {
    // The directories that were passed, so that `..` is whence one came; and what is still to go, the next part last.
    let (mut passed, mut rest): (Vec<OwnedFd>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    let (mut walked, mut links) = (0, 0);
    push(&mut rest, path, walked)?;
    loop {
        let part = rest.pop().unwrap_or_else(|| b".".to_vec());
        walked += 1;
        fare(1)?;
        let is_last = rest.is_empty();
        match part.as_slice() {
            b".." => _ = passed.pop(),
            b"." if !is_last => {}
            _ => {
                let here = passed.last().map_or(root, AsFd::as_fd);
                match open_plain(here, &part, if is_last { flags } else { STEP }) {
                    Err(Errno::LOOP) if !(is_last && flags.contains(OFlags::NOFOLLOW)) => {
                        links += 1;
                        if links > LINKS {
                            return Ok(Err(Errno::LOOP));
                        }
                        let target = match rustix::fs::readlinkat(here, &part, Vec::new()) {
                            Ok(target) => target.into_bytes(),
                            Err(errno) => return Ok(Err(errno)),
                        };
                        if target.starts_with(b"/") {
                            passed.clear();
                        }
                        push(&mut rest, &target, walked)?;
                    }
                    Ok(step) if !is_last => passed.push(step),
                    ended => return Ok(ended),
                }
            }
        }
    }
}

/// What comes next: a path's parts before the others, unless it were too many with those that were walked. What ends with a slash is a
/// directory.
fn push(rest: &mut Vec<Vec<u8>>, path: &[u8], walked: usize) -> Result<()> {
    let parts = || path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let all = walked + rest.len() + parts().count();
    if all > PARTS {
        let cure = "build the image with shorter symlinks";
        return Err(beyond(format!("a path that with its symlinks has {all} parts"), PARTS, cure));
    }
    if path.ends_with(b"/") {
        rest.push(b".".to_vec());
    }
    rest.extend(parts().rev().map(<[u8]>::to_vec));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use rustix::fs::FileType;
    use std::cell::Cell;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

    struct Place(PathBuf, OwnedFd);

    impl Place {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("rt-resolve.{}.{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("root/a/b/c")).expect("directories");
            std::fs::write(dir.join("secret"), "outside").expect("a file");
            std::fs::write(dir.join("root/a/f"), "inside").expect("a file");
            let root = std::fs::File::open(dir.join("root")).expect("the root").into();
            Self(dir, root)
        }

        fn link(&self, path: &str, target: &str) {
            symlink(target, self.0.join("root").join(path)).expect("a symlink");
        }

        /// What is there, and how many parts were walked for it.
        fn open(&self, path: &str, flags: OFlags) -> (Found, u64) {
            let walked = Cell::new(0);
            let count = |parts| {
                walked.set(walked.get() + parts);
                Ok(())
            };
            let found = open_in_root(&self.1, path.as_bytes(), flags, &count);
            (found, walked.get())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn inode(file: &OwnedFd) -> u64 {
        rustix::fs::fstat(file).expect("a file").st_ino
    }

    /// As the kernel would with RESOLVE_IN_ROOT, to which each answer is compared.
    #[test]
    fn links_lead_where_the_kernel_would_follow_them_and_never_out() {
        let place = Place::new("leads");
        for (path, target) in [
            ("plain", "a/b"),
            ("absolute", "/a/b"),
            ("up", "../../../a"),
            ("a/b/up", "../../.."),
            ("a/b/file", "../f"),
            ("slash", "a/f/"),
            ("dot", "a/."),
            ("filedot", "a/f/."),
            ("out", "../secret"),
            ("far", "/../../secret"),
            ("proc", "/proc/self/root"),
            ("itself", "itself"),
            ("one", "two"),
            ("two", "one/x"),
            ("dangling", "none"),
            ("chain", "absolute/up/plain/../../a/b/file"),
        ] {
            place.link(path, target);
        }
        let links =
            "plain absolute up a/b/up a/b/file slash dot filedot out far proc itself two dangling chain";
        let more = "plain/c plain/.. plain/../b plain/../.. .. ../.. . / /a a/../a/f a/f/.. absolute/up/a up/ \
            a/b/file/ slash/x none/.. dangling/.. a//b plain//c/. up/b/up/up a/none a/f/x";
        for path in links.split(' ').chain(more.split_whitespace()) {
            for flags in [
                OFlags::PATH,
                OFlags::PATH | OFlags::NOFOLLOW,
                OFlags::RDONLY,
                OFlags::RDONLY | OFlags::NOFOLLOW,
                DIRECTORY,
                DIRECTORY | OFlags::NOFOLLOW,
            ] {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                let kernel = loop {
                    match rustix::fs::openat2(&place.1, path, flags, Mode::empty(), resolve) {
                        Err(Errno::AGAIN) => {}
                        other => break other.map(|file| inode(&file)),
                    }
                };
                let ours = place.open(path, flags).0.expect("few parts").map(|file| inode(&file));
                assert_eq!(ours, kernel, "{path} {flags:?}");
            }
        }
    }

    #[test]
    fn a_path_without_links_is_one_call_and_one_with_them_has_few_parts() {
        let place = Place::new("parts");
        assert_eq!(place.open("a/b/c", DIRECTORY).1, 0);
        place.link("usr", "a/b");
        let (found, walked) = place.open("usr/c", DIRECTORY);
        assert!(found.expect("few").is_ok() && walked == 4, "{walked}");
        // Forty links of 4 kB each.
        for number in 0..40 {
            let next = if number == 39 { "a".to_owned() } else { format!("L{}", number + 1) };
            place.link(&format!("L{number}"), &("a/../".repeat(815) + &next));
            place.link(&format!("S{number}"), &next.replace('L', "S"));
        }
        let (found, walked) = place.open("L0/f", OFlags::RDONLY);
        let error = found.expect_err("too many").to_string();
        assert!(error.contains("\"L0/f\"") && error.contains("1633 parts, at most 512"), "{error}");
        assert_eq!(walked, 1, "none is walked that leads nowhere");
        let (found, walked) = place.open("S0/f", OFlags::RDONLY);
        assert!(found.expect("few").is_ok() && walked == 42, "{walked}");
        place.link("S", "S0");
        let (found, _) = place.open("S/f", OFlags::RDONLY);
        assert_eq!(found.expect("few").expect_err("one link more"), Errno::LOOP);
    }

    #[test]
    fn who_does_not_pay_goes_no_further() {
        let place = Place::new("pays");
        place.link("usr", "a/b");
        let left = Cell::new(2);
        let fare = |_| match left.replace(left.get() - 1) {
            0 => Err(Error::invalid("nothing left")),
            _ => Ok(()),
        };
        let error = open_in_root(&place.1, b"usr/c", DIRECTORY, &fare).expect_err("unpaid").to_string();
        assert!(error.contains("follow \"usr/c\"") && error.contains("nothing left"), "{error}");
        let found = open_in_root(&place.1, b"usr/c", DIRECTORY, &|_| Ok(())).expect("paid").expect("there");
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).expect("a directory").st_mode);
        assert_eq!(kind, FileType::Directory);
    }
}
