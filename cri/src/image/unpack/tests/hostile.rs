//! What a stranger may declare, and what it costs: each archive here once took memory, disk or time that nobody had paid for.

use super::*;
use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Path records of a PAX header for names that no header has room for.
fn long(tar: Tarball, path: &str) -> Tarball {
    tar.pax(&[("path", path)])
}

#[test]
fn headers_before_one_entry_are_few_and_short_and_so_are_its_attributes() {
    let many = (0..17).fold(Tarball::default(), |tar, _| tar.pax(&[("path", "x")]));
    let error = many.file("f", "").unpack("manyheaders").error();
    assert!(error.contains("more headers before one entry, at most 16"), "{error}");
    let global =
        (0..17).fold(Tarball::default(), |tar, _| tar.entry(EntryType::XGlobalHeader, "g", "", b"8 a=bcd\n"));
    assert!(global.file("f", "").unpack("globals").error().contains("more headers before one entry"));
    let names =
        (0..17).fold(Tarball::default(), |tar, _| tar.entry(EntryType::GNULongName, "l", "", b"long\0"));
    assert!(names.file("f", "").unpack("longnames").error().contains("more headers before one entry"));
    // Each is short enough by itself.
    let value = "v".repeat(60_000);
    let names: Vec<String> = (0..10).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let error = Tarball::default().pax(&records).pax(&records).file("f", "").unpack("longheaders").error();
    assert!(error.contains("extended headers of 1200") && error.contains("at most 1048576"), "{error}");
    let names: Vec<String> = (0..65).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let error = Tarball::default().pax(&records).file("f", "").unpack("manyxattrs").error();
    assert!(error.contains("more extended attributes of one entry, at most 64"), "{error}");
    let error = Tarball::default().pax(&[("SCHILY.xattr.user.a", &"v".repeat(70_000))]).file("f", "");
    assert!(error.unpack("bigxattr").error().contains("of 70000 bytes, at most 65536"));
    // One that is said again takes the place of the first: no entry has sixty-five.
    let again = (0..15).fold(Tarball::default(), |tar, _| tar.pax(&records[..10]));
    again.file("f", "").unpack("xattragain").ok();
}

#[test]
fn directories_without_an_entry_count_as_entries_and_are_bounded() {
    let limits = Limits { layer_entries: 8, ..Limits::default() };
    let made = Tarball::default().file("a/b/c/d/e/f/g/h/i", "").unpack_with("impliedentries", &limits);
    assert!(
        made.error().contains("more entries, with directories that have none of their own, at most 8"),
        "{}",
        made.error()
    );
    Tarball::default().file("a/b/c/d/e/f/g/h", "").unpack_with("impliedfew", &limits).ok();
    // 12 kB of gzip: 600 such paths were 150 000 directories and 1.6 GB.
    let tar = (0..600).fold(Tarball::default(), |tar, number| {
        long(tar, &format!("{number:03}/{}f", "directoryname1/".repeat(249))).file("f", "")
    });
    let made = tar.unpack("implieddeep");
    assert!(made.error().contains("directories without an entry whose paths have 83"), "{}", made.error());
    assert!(
        made.error().contains("at most 8388608") && made.error().contains("writes entries for directories")
    );
}

#[test]
fn a_symlink_does_not_lead_deeper_than_a_path_may_be() {
    let deep = |name: &str| format!("{name}{}", "/d".repeat(200));
    let tar = long(Tarball::default(), &(deep("a") + "/f")).file("f", "");
    let tar = tar.pax(&[("linkpath", &deep("a"))]).symlink("s", "");
    let made = long(tar, &(deep("s") + "/f")).file("f", "").unpack("deeplink");
    assert!(
        made.error().contains("a path that by symlinks is 401 parts deep, at most 256"),
        "{}",
        made.error()
    );
}

/// Forty links of 4 kB each were 65 000 parts and 3 ms for each path through them, and nobody paid for it.
#[test]
fn what_symlinks_lead_through_is_bounded_for_a_path_and_paid_for_by_the_layer() {
    let chain = |turns: usize| {
        (0..40).fold(Tarball::default().file("d/f", "x").dir("d/g"), |tar, number| {
            let last = if number == 39 { "d".to_owned() } else { format!("L{}", number + 1) };
            tar.pax(&[("linkpath", &("d/../".repeat(turns) + &last))]).symlink(&format!("L{number}"), "")
        })
    };
    for (name, tar) in [
        ("linkedfar", chain(800).link("x", "L0/f")),
        ("madefar", chain(800).file("L0/new", "")),
        ("dirfar", chain(800).dir("L0/g")),
        ("impliedfar", chain(800).file("L0/g/new/f", "")),
    ] {
        let error = tar.unpack(name).error();
        assert!(
            error.contains("a path that with its symlinks has 16") && error.contains("at most 512"),
            "{error}"
        );
        assert!(error.contains("shorter symlinks"), "{error}");
    }
    // A few parts each: 40 links with 440 parts. A link more is refused as by the kernel.
    let made =
        chain(5).link("x", "L0/f").file("L0/new", "").file("L0/g/more/f", "").unpack("linkednear").ok();
    assert_eq!(std::fs::read_to_string(made.fs().join("x")).unwrap(), "x");
    assert!(made.fs().join("d/new").exists() && made.fs().join("d/g/more/f").exists());
    // Each such way is 440 kB of what is paid for: a gigabyte is free.
    let few = (0..1000).fold(chain(5), |tar, _| tar.link("x", "L0/f"));
    few.unpack("linkedfew").ok();
    let many = (0..2500).fold(chain(5), |tar, _| tar.link("x", "L0/f"));
    let limits = Limits { expansion: 1, ..Limits::default() };
    let error = many.unpack_with("linkedmany", &limits).error();
    assert!(error.contains("bytes that came are unpacked to 107"), "{error}");
}

#[test]
fn times_of_many_directories_with_long_names_are_kept_outside_of_memory() {
    let name = |number: usize| format!("{number:05}{}", "n".repeat(240));
    let tar =
        (0..6000).fold(Tarball::default(), |tar, number| long(tar, &name(number * 7919 % 6000)).dir("d"));
    let tar = (0..6000).step_by(100).fold(tar, |tar, number| long(tar, &(name(number) + "/f")).file("f", ""));
    let made = tar.unpack("longdirs").ok();
    for number in 0..6000 {
        assert_eq!(std::fs::metadata(made.fs().join(name(number))).unwrap().mtime(), 1_000_000, "{number}");
    }
    assert!(std::fs::metadata(made.dir.join("layer/old/times")).unwrap().len() >= 1 << 20);
}

/// Each of three hundred names of 100 MB was read, for 460 kB on the wire.
#[test]
fn a_file_of_many_names_is_read_back_once_and_that_is_paid_for() {
    let content = "c".repeat(1 << 20);
    let linked = |names: usize| {
        let tar = Tarball::default().file("big", &content).file("twice", "1").file("twice", "2");
        (0..names).fold(tar, |tar, number| tar.link(&format!("l{number}"), "big"))
    };
    let made = linked(300).unpack("manynames").ok();
    let listed = std::fs::read(made.dir.join("layer").join(SEALS)).unwrap();
    assert_eq!(listed.iter().filter(|byte| **byte == 0).count(), 2, "{}", String::from_utf8_lossy(&listed));
    made.verify().expect("as it was unpacked");
    // By whatever name it is changed.
    let one = std::fs::File::options().write(true).open(made.fs().join("l7")).expect("a file");
    one.write_all_at(b"x", 5).expect("damage");
    made.verify().expect_err("damaged");
    // A list may have a line for each name; each of them is compared.
    let line = listed.split(|byte| *byte == 0).find(|line| line[8..].starts_with(b" 1048576 ")).unwrap();
    let text = String::from_utf8_lossy(&line[..16]).into_owned() + " big";
    one.write_all_at(b"c", 5).expect("repaired");
    let list = made.dir.join("layer").join(SEALS);
    std::fs::write(&list, format!("{text}\0{}\0", text.replace("big", "l9"))).unwrap();
    made.verify().expect("as it was unpacked");
    std::fs::write(&list, format!("{text}\0{}\0", text.replace("1048576 big", "1048575 l9"))).unwrap();
    assert!(
        made.verify().expect_err("another size").to_string().contains("1048576 bytes instead of 1048575")
    );
    let cancel = Cancel::default();
    cancel.cancel();
    let root = std::fs::File::open(made.fs()).expect("the tree").into();
    let error = seal::verify(&root, &list, &cancel).expect_err("nobody waits").to_string();
    assert!(error.contains("nobody waits for it any more"), "{error}");
    // An eighth of what is read, beside what was made: archive, and a block for each of four entries.
    let most = (1 << 20) + 10 * 512 + 4 * 4096;
    let limits = |more: u64| Limits { image_bytes: most + more, ..Limits::default() };
    linked(1).unpack_with("readpaid", &limits(1 << 17)).ok();
    let error = linked(1).unpack_with("readunpaid", &limits(1 << 16)).error();
    assert!(error.contains("read \"big\"") || error.contains("read \"l0\""), "{error}");
    assert!(error.contains("bytes of disk, at most"), "{error}");
}

#[test]
fn holes_cost_no_time_and_are_bounded_by_what_a_layer_may_hold() {
    let file = |tar: Tarball, number: u32, size: u64| {
        let (size, map) = (size.to_string(), format!("{},3", 1u64 << 32));
        tar.pax(&[("GNU.sparse.size", &size), ("GNU.sparse.map", &map)]).file(&format!("s{number}"), "abc")
    };
    let began = Instant::now();
    let tar = (0..8).fold(Tarball::default(), |tar, number| file(tar, number, 8 << 30));
    // One that is replaced: then all are read back.
    let made = file(tar, 0, 8 << 30).unpack("holes").ok();
    made.verify().expect("as it was unpacked");
    let one = std::fs::File::options().write(true).open(made.fs().join("s3")).expect("a file");
    one.write_all_at(b"x", 5 << 30).expect("damage");
    made.verify().expect_err("damaged");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let tar = (0..20).fold(Tarball::default(), |tar, number| file(tar, number, 120 << 30));
    let error = tar.unpack("manyholes").error();
    assert!(error.contains("files with holes of 257698037760, at most 137438953472"), "{error}");
    let map = vec!["7,0"; (1 << 16) + 1].join(",");
    let error = Tarball::default().pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", &map)]).file("s", "");
    assert!(error.unpack("manychunks").error().contains("more pieces of content"));
}

#[test]
fn what_an_image_costs_is_counted_in_blocks() {
    let limits = Limits { image_bytes: 1 << 20, ..Limits::default() };
    let tar = (0..300).fold(Tarball::default(), |tar, number| tar.file(&number.to_string(), ""));
    let error = tar.unpack_with("blocks", &limits).error();
    assert!(
        error.contains("of disk, at most 1048576") && error.contains("registry.limits.image_bytes"),
        "{error}"
    );
}

#[test]
fn numbers_that_the_kernel_would_take_for_others_are_refused() {
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_mode(0o4755);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        change(&mut header);
        header.set_cksum();
        Tarball(header.as_bytes().to_vec())
    };
    for (name, tar, why) in [
        ("noowner", with(&|header| header.set_uid(u32::MAX.into())), "an owner of 4294967295"),
        ("hugeowner", with(&|header| header.set_gid(1 << 32)), "an owner of 4294967296"),
        (
            "major",
            with(&|header| {
                header.set_entry_type(EntryType::Char);
                header.set_device_major(4096).unwrap();
                header.set_device_minor(0).unwrap();
            }),
            "a device of the numbers 4096 and 0",
        ),
    ] {
        let error = tar.unpack(name).error();
        assert!(error.contains(why), "{error}");
    }
}

/// Stops when nobody waits, wherever it is: here in one file of zeros that never ends.
#[test]
fn a_layer_that_nobody_waits_for_is_given_up_at_once() {
    struct Endless(Vec<u8>, usize, Cancel);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let left = &self.0[self.1.min(self.0.len())..];
            let count = left.len().min(buffer.len());
            buffer[..count].copy_from_slice(&left[..count]);
            buffer[count..].fill(0);
            self.1 += buffer.len();
            if self.1 > 4 << 20 {
                self.2.cancel();
            }
            Ok(buffer.len())
        }
    }
    let dir = std::env::temp_dir().join(format!("rt-unpack.{}.endless", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(100 << 30);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_cksum();
    let cancel = Cancel::default();
    let input = Endless(header.as_bytes().to_vec(), 0, cancel.clone());
    let account = Account::new(&Arc::new(Budget::new(&Limits::default())), cancel);
    let diff = Digest::of(b"");
    let error =
        unpack(input, &dir, &Expected { blob: None, diff: &diff }, &account).err().unwrap().to_string();
    assert!(error.contains("nobody waits for it any more"), "{error}");
    assert!(std::fs::metadata(dir.join("fs/zeros")).unwrap().len() < 64 << 20);
    std::fs::remove_dir_all(dir).unwrap();
}

/// What was tried, and what came of it.
type Tried = (&'static str, std::io::Result<()>);

/// What tries to break out is the very reader of the stream, on the threads that unpack.
#[test]
fn the_threads_that_unpack_have_one_directory_and_nothing_else() {
    struct Breaker<'a> {
        tar: &'a [u8],
        outside: &'a Path,
        parent: rustix::process::Pid,
        done: Arc<Mutex<Vec<Tried>>>,
    }
    impl Breaker<'_> {
        fn attempts(&self) -> Vec<(&'static str, std::io::Result<()>)> {
            use rustix::process::{Signal, kill_process};
            let secret = self.outside.join("secret");
            let errno = |result: rustix::io::Result<()>| result.map_err(std::io::Error::from);
            vec![
                ("read a file of the host", std::fs::File::open(&secret).map(drop)),
                ("read /etc/passwd", std::fs::read("/etc/passwd").map(drop)),
                ("list the root", std::fs::read_dir("/").map(drop)),
                ("make a file outside", std::fs::File::create(self.outside.join("new")).map(drop)),
                ("make a directory outside", std::fs::create_dir(self.outside.join("directory"))),
                ("remove a file outside", std::fs::remove_file(&secret)),
                ("rename a file outside", std::fs::rename(&secret, self.outside.join("moved"))),
                ("link to a file outside", std::fs::hard_link(&secret, self.outside.join("linked"))),
                ("change an owner outside", std::os::unix::fs::chown(&secret, Some(1), Some(1))),
                ("execute a program", std::process::Command::new("/bin/true").spawn().map(drop)),
                ("connect by TCP", std::net::TcpStream::connect("127.0.0.1:1").map(drop)),
                ("send by UDP", std::net::UdpSocket::bind("127.0.0.1:0").map(drop)),
                ("make a local socket", std::os::unix::net::UnixDatagram::unbound().map(drop)),
                ("signal another process", errno(kill_process(self.parent, Signal::CONT))),
                ("mount", errno(rustix::mount::mount_bind("/", self.outside))),
                (
                    "enter a namespace",
                    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(Into::into),
                ),
            ]
        }
    }
    impl Read for Breaker<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.done.lock().unwrap().extend(self.attempts());
            let here = std::thread::spawn(|| std::fs::read("/etc/passwd").map(drop));
            self.done.lock().unwrap().push(("read by a thread of its own", here.join().expect("a thread")));
            self.tar.read(buffer)
        }
    }
    if !is_root() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("rt-unpack.{}.confined", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    for part in ["layer", "outside"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    std::fs::write(dir.join("outside/secret"), "secret").unwrap();
    let mut tar = Tarball::default().dir("d").file("d/f", "x").link("e/l", "d/f").symlink("s", "d").0;
    tar.extend([0; 1024]);
    let done = Arc::new(Mutex::new(Vec::new()));
    let (outside, diff) = (dir.join("outside"), Digest::of(&tar));
    let parent = rustix::process::getppid().expect("a parent");
    let input = Breaker { tar: &tar, outside: &outside, parent, done: done.clone() };
    let expected = Expected { blob: Some(&diff), diff: &diff };
    unpack(input, &dir.join("layer"), &expected, &account(&Limits::default())).map(drop).expect("unpacked");
    let done = std::mem::take(&mut *done.lock().unwrap());
    let kinds: HashSet<_> = done.iter().map(|(what, _)| *what).collect();
    assert_eq!(kinds.len(), 17);
    for (what, result) in &done {
        let error = result.as_ref().expect_err(what);
        assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)), "{what}: {error}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // Others are as free as they were.
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    std::fs::File::create(outside.join("new")).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
