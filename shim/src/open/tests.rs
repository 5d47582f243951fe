//! The door against what a pod may put in the way.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use nix::sys::stat::Mode as Bits;
use nix::unistd::{Gid, Uid, chown, mkfifo};

use super::*;

/// A directory for one test, and a file in it that nobody may write to by way of a log.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("shim-open-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(place.join("host")).unwrap();
        fs::write(place.join("host/file"), "untouched").unwrap();
        Self(place.canonicalize().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn append(&self, file: &str, own: Option<&str>) -> Result<File> {
        let file = self.at(file);
        let (dir, name) = Directory::of(&file, own.map(|own| self.at(own)).as_deref())?;
        dir.append(name)
    }

    #[track_caller]
    fn refused(&self, file: &str, own: Option<&str>, why: &str) {
        let error = self.append(file, own).expect_err(file).to_string();
        assert!(error.contains(why), "{file}: {error}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let text = fs::read_to_string(self.at("host/file"));
        fs::remove_dir_all(&self.0).unwrap();
        if !std::thread::panicking() {
            assert_eq!(text.unwrap(), "untouched");
        }
    }
}

fn is_root_here() -> bool {
    Uid::effective().is_root()
}

#[test]
fn a_log_is_made_and_appended_to() {
    let place = Place::new("log");
    for _ in 0..2 {
        place.append("pods/p/c/0.log", Some("pods/p")).unwrap().write_all(b"line\n").unwrap();
    }
    assert_eq!(fs::read_to_string(place.at("pods/p/c/0.log")).unwrap(), "line\nline\n");
    assert_eq!(fs::metadata(place.at("pods/p/c/0.log")).unwrap().mode() & 0o777, 0o640);
    // Without a directory that is the pod's, nothing is made on the way.
    place.refused("other/0.log", None, "ENOENT");
}

#[test]
fn what_is_no_file_of_roots_alone_is_not_opened() {
    let place = Place::new("kinds");
    fs::create_dir(place.at("p")).unwrap();
    symlink("../host/file", place.at("p/link")).unwrap();
    symlink("../host/new", place.at("p/dangling")).unwrap();
    symlink("/proc/self/fd/1", place.at("p/magic")).unwrap();
    mkfifo(&place.at("p/fifo"), Bits::S_IRWXU).unwrap();
    fs::create_dir(place.at("p/dir")).unwrap();
    fs::hard_link(place.at("host/file"), place.at("p/hard")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.at("p/socket")).unwrap();
    // With somebody at its other end, opening it would succeed.
    let _reader = fifo(&place.at("p/fifo"), OFlags::RDONLY).unwrap();
    for (name, why) in [
        ("link", "a symbolic link"),
        ("dangling", "a symbolic link"),
        ("magic", "a symbolic link"),
        ("fifo", "a named pipe"),
        ("dir", "a directory"),
        ("hard", "2 names"),
        ("socket", "a socket"),
    ] {
        place.refused(&format!("p/{name}"), Some("p"), why);
        place.refused(&format!("p/{name}"), None, why);
    }
    assert!(!place.at("host/new").exists());
    if is_root_here() {
        fs::write(place.at("p/theirs"), "").unwrap();
        chown(&place.at("p/theirs"), Some(Uid::from_raw(1234)), None).unwrap();
        place.refused("p/theirs", Some("p"), "belongs to user 1234");
        let device = nix::sys::stat::makedev(1, 3);
        nix::sys::stat::mknod(&place.at("p/null"), nix::sys::stat::SFlag::S_IFCHR, Bits::S_IRWXU, device)
            .unwrap();
        place.refused("p/null", Some("p"), "a character device");
    }
}

#[test]
fn no_link_is_followed_from_the_pods_directory_on() {
    let place = Place::new("below");
    fs::create_dir_all(place.at("pods/p")).unwrap();
    fs::create_dir_all(place.at("host/c")).unwrap();
    symlink(place.at("host"), place.at("pods/p/c")).unwrap();
    symlink("../host", place.at("pods/q")).unwrap();
    fs::write(place.at("pods/p/file"), "").unwrap();
    let why = "a symbolic link in a directory of pods";
    place.refused("pods/p/c/file", Some("pods/p"), why);
    place.refused("pods/p/c/file", Some("pods"), why);
    place.refused("pods/p/c/new", None, why);
    place.refused("pods/q/file", Some("pods/q"), why);
    place.refused("pods/q/c/0.log", Some("pods/q"), why);
    place.refused("pods/q/new", None, why);
    place.refused("pods/p/file/0.log", Some("pods/p"), "a regular file");
    assert_eq!(fs::read_dir(place.at("host")).unwrap().count(), 2);
}

#[test]
fn a_link_of_an_administrators_above_it_is_followed() {
    let place = Place::new("above");
    fs::create_dir_all(place.at("disk/logs")).unwrap();
    fs::create_dir_all(place.at("var/log")).unwrap();
    symlink(place.at("disk/logs"), place.at("var/log/pods")).unwrap();
    symlink("./log/../log", place.at("var/relative")).unwrap();
    symlink("../../var", place.at("var/log/up")).unwrap();
    place.append("var/log/pods/p/c/0.log", Some("var/log/pods/p")).unwrap().write_all(b"1").unwrap();
    let through = "var/relative/up/log/pods/p";
    place.append(&format!("{through}/c/0.log"), Some(through)).unwrap().write_all(b"2").unwrap();
    assert_eq!(fs::read_to_string(place.at("disk/logs/p/c/0.log")).unwrap(), "12");
    symlink("loop", place.at("var/loop")).unwrap();
    place.refused("var/loop/p/0.log", Some("var/loop/p"), "ELOOP");
}

#[test]
fn a_link_that_another_may_have_made_is_not_followed_anywhere() {
    if !is_root_here() {
        return;
    }
    let place = Place::new("others");
    let user = Some(Uid::from_raw(1234));
    let why = "a symbolic link that others than root may have made";
    // Their link in a directory of root's; root's link in theirs; one in a directory that all write to, which may be theirs by now.
    fs::create_dir_all(place.at("a")).unwrap();
    symlink("../host", place.at("a/link")).unwrap();
    std::os::unix::fs::lchown(place.at("a/link"), Some(1234), None).unwrap();
    place.refused("a/link/p/0.log", Some("a/link/p"), why);
    fs::create_dir_all(place.at("b/deep")).unwrap();
    symlink(place.at("host"), place.at("b/deep/link")).unwrap();
    chown(&place.at("b"), user, Some(Gid::from_raw(1234))).unwrap();
    place.refused("b/deep/link/p/0.log", Some("b/deep/link/p"), why);
    fs::create_dir_all(place.at("c")).unwrap();
    symlink("../host", place.at("c/link")).unwrap();
    let mode = |bits| {
        fs::set_permissions(place.at("c"), std::os::unix::fs::PermissionsExt::from_mode(bits)).unwrap();
    };
    mode(0o777);
    place.refused("c/link/p/0.log", Some("c/link/p"), why);
    assert_eq!(fs::read_dir(place.at("host")).unwrap().count(), 1);
    mode(0o1777);
    place.append("c/link/p/0.log", Some("c/link/p")).unwrap();
}

#[test]
fn paths_that_climb_or_lie_elsewhere_are_refused() {
    let place = Place::new("climb");
    fs::create_dir_all(place.at("p")).unwrap();
    place.refused("p/../host/file", Some("p"), "..");
    place.refused("p/../host/file", None, "..");
    place.refused("host/file", Some("p"), "is not below");
    assert!(Directory::of(Path::new("relative/0.log"), None).is_err());
    assert!(Directory::of(Path::new("/"), None).is_err());
}

#[test]
fn a_fresh_file_takes_the_place_of_whatever_has_its_name() {
    let place = Place::new("fresh");
    fs::create_dir_all(place.at("p")).unwrap();
    symlink("../host/file", place.at("p/0.log.new")).unwrap();
    let log = place.at("p/0.log");
    let (dir, name) = Directory::of(&log, None).unwrap();
    dir.fresh(OsStr::new("0.log.new")).unwrap().write_all(b"new").unwrap();
    dir.rename(OsStr::new("0.log.new"), name).unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), "new");
    fs::create_dir(place.at("p/0.log.new")).unwrap();
    assert!(dir.fresh(OsStr::new("0.log.new")).is_err());
}

#[test]
fn a_named_pipe_is_opened_at_once_and_nothing_else_is() {
    let place = Place::new("fifo");
    mkfifo(&place.at("fifo"), Bits::S_IRWXU).unwrap();
    let both = fifo(&place.at("fifo"), OFlags::RDWR).unwrap();
    let mut read = File::from(fifo(&place.at("fifo"), OFlags::RDONLY).unwrap());
    File::from(fifo(&place.at("fifo"), OFlags::WRONLY).unwrap()).write_all(b"x").unwrap();
    let mut seen = [0];
    read.read_exact(&mut seen).unwrap();
    drop(both);
    symlink("fifo", place.at("link")).unwrap();
    for (name, why) in [("link", "a symbolic link"), ("host/file", "a regular file"), ("host", "a directory")]
    {
        let error = fifo(&place.at(name), OFlags::RDWR).expect_err(name).to_string();
        assert!(error.contains(why), "{error}");
    }
}
