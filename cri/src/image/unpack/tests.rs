//! Hostile and odd archives, each unpacked for real below a temporary directory.

mod hostile;

use super::*;
use crate::image::config::Limits;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use tar::{EntryType, Header};

struct Made {
    dir: PathBuf,
    result: Result<Unpacked>,
}

impl Made {
    fn fs(&self) -> PathBuf {
        self.dir.join("layer/fs")
    }

    /// Reads all files back.
    fn verify(&self) -> Result<()> {
        let root = std::fs::File::open(self.fs()).expect("the tree").into();
        seal::verify(&root, &self.dir.join("layer").join(SEALS), &Cancel::default())
    }

    #[track_caller]
    fn error(&self) -> String {
        let Err(error) = &self.result else { panic!("it is unpacked, which it should not be") };
        error.to_string()
    }

    #[track_caller]
    fn ok(self) -> Self {
        if let Err(error) = &self.result {
            panic!("{error}");
        }
        self
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[derive(Default)]
struct Tarball(Vec<u8>);

impl Tarball {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let bytes = header.as_gnu_mut().expect("gnu");
        bytes.name[..path.len()].copy_from_slice(path.as_bytes());
        bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", content.as_bytes())
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, b"")
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..9).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
            text += &format!("{} {key}={value}\n", length.expect("a length"));
        }
        self.entry(EntryType::XHeader, "pax", "", text.as_bytes())
    }

    #[track_caller]
    fn unpack(self, name: &str) -> Made {
        self.unpack_with(name, &Limits::default())
    }

    fn unpack_with(mut self, name: &str, limits: &Limits) -> Made {
        self.0.extend([0; 1024]);
        let dir = std::env::temp_dir().join(format!("rt-unpack.{}.{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("layer")).expect("temporary directory");
        std::fs::create_dir_all(dir.join("outside")).expect("temporary directory");
        std::fs::write(dir.join("outside/secret"), "secret").expect("a file outside");
        let diff = Digest::of(&self.0);
        let expected = Expected { blob: Some(&diff), diff: &diff };
        let result = unpack(self.0.as_slice(), &dir.join("layer"), &expected, &account(limits));
        let made = Made { dir, result };
        assert_eq!(std::fs::read_to_string(made.dir.join("outside/secret")).expect("still there"), "secret");
        assert_eq!(std::fs::read_dir(made.dir.join("outside")).expect("outside").count(), 1, "escaped");
        assert!(!made.dir.join("layer/escaped").exists() && !made.dir.join("escaped").exists());
        made
    }
}

fn opaque(path: &std::path::Path) -> bool {
    let mut value = [0u8; 8];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|n| &value[..n] == b"y")
}

fn account(limits: &Limits) -> Account {
    Account::new(&std::sync::Arc::new(Budget::new(limits)), Cancel::default())
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Made by two threads, in whatever order: what comes of them is what the archive's order says.
#[test]
fn many_small_files_are_all_there_and_what_concerns_one_of_them_finds_it() {
    let mut tarball = Tarball::default().dir("d").file("d/twice", "first").symlink("s", "d");
    for number in 0..2000 {
        tarball = tarball.file(&format!("d/n{}/f{number}", number % 40), &number.to_string());
    }
    // Of files that may be unmade: replaced, linked to, hidden, in the way of a directory, reached by another path.
    tarball = tarball.file("d/twice", "second").file("again", "1").file("again", "2").file("to", "linked");
    tarball = tarball.link("link", "to").file("d/x", "real").file("s/x", "other way");
    tarball = tarball.file("gone/.wh.a", "").file("kept", "").file(".wh.kept", "").dir("becomes");
    tarball = tarball.file("becomes/inner", "").file("becomes", "a file");
    let made = tarball.unpack("many").ok();
    let read = |path: &str| std::fs::read_to_string(made.fs().join(path)).expect(path);
    for number in 0..2000 {
        assert_eq!(read(&format!("d/n{}/f{number}", number % 40)), number.to_string());
    }
    for (path, content) in [
        ("d/twice", "second"),
        ("again", "2"),
        ("link", "linked"),
        ("d/x", "other way"),
        ("kept", ""),
        ("becomes", "a file"),
    ] {
        assert_eq!(read(path), content, "{path}");
    }
    let file = std::fs::metadata(made.fs().join("to")).expect("a file");
    assert_eq!((file.nlink(), file.mode() & 0o7777, file.mtime()), (2, 0o644, 1_000_000));
    made.verify().expect("all as listed");
    let error = Tarball::default().file("a", "").file("a/b", "").unpack("below").error();
    assert!(error.contains("\"a\" as a directory"), "{error}");
}

#[test]
fn dots_in_a_path_are_refused() {
    for path in ["../escaped", "a/../../escaped", "/../escaped", "a/.."] {
        let made = Tarball::default().dir("a").file(path, "x").unpack("dots");
        assert!(made.error().contains("`..`"), "{path}: {}", made.error());
    }
}

#[test]
fn an_absolute_path_means_the_layers_root() {
    let made = Tarball::default().file("/etc/escaped", "x").unpack("absolute").ok();
    assert_eq!(std::fs::read_to_string(made.fs().join("etc/escaped")).unwrap(), "x");
}

#[test]
fn a_symlink_to_outside_is_followed_inside_the_layer_only() {
    for target in ["../../outside", "/outside", "../../../../../../outside"] {
        let made = Tarball::default()
            .dir("outside")
            .symlink("door", target)
            .file("door/escaped", "x")
            .unpack("door");
        let made = made.ok();
        assert_eq!(std::fs::read_to_string(made.fs().join("outside/escaped")).unwrap(), "x", "{target}");
    }
}

#[test]
fn a_file_over_a_symlink_replaces_the_symlink() {
    let made =
        Tarball::default().symlink("door", "../../outside/secret").file("door", "new").unpack("over").ok();
    assert_eq!(std::fs::read_to_string(made.fs().join("door")).unwrap(), "new");
    assert!(std::fs::symlink_metadata(made.fs().join("door")).unwrap().is_file());
}

#[test]
fn a_directory_swapped_for_a_symlink_between_two_entries_leads_nowhere() {
    let tar = Tarball::default().dir("d").file("d/a", "1").symlink("d", "../../outside").dir("outside");
    let made = tar.file("d/escaped", "x").unpack("swap").ok();
    assert!(made.fs().join("outside/escaped").exists());
}

#[test]
fn a_hard_link_to_outside_finds_nothing() {
    for target in ["../../outside/secret", "/outside/secret", "door/secret"] {
        let made = Tarball::default().symlink("door", "../../outside").link("x", target).unpack("hard");
        assert!(
            made.error().contains("link to") || made.error().contains("`..`"),
            "{target}: {}",
            made.error()
        );
    }
}

#[test]
fn a_hard_link_to_a_symlink_is_one_more_name_of_the_symlink() {
    let made = Tarball::default().symlink("s", "/etc/shadow").link("l", "s").unpack("hardsym").ok();
    assert_eq!(std::fs::read_link(made.fs().join("l")).unwrap(), PathBuf::from("/etc/shadow"));
}

#[test]
fn names_of_one_file_share_it() {
    let made = Tarball::default().file("a", "text").link("b/c", "./a").unpack("links").ok();
    let (a, c) = (made.fs().join("a"), made.fs().join("b/c"));
    assert_eq!(std::fs::metadata(a).unwrap().ino(), std::fs::metadata(c).unwrap().ino());
}

#[test]
fn a_whiteout_hides_lower_files_and_never_those_of_its_own_layer() {
    if !is_root() {
        return;
    }
    let tar = Tarball::default().file("d/.wh.gone", "").file("own", "x").file(".wh.own", "");
    let tar = tar.dir("kept").file("kept/a", "1").file(".wh.kept", "").file(".wh.again", "").dir("again");
    let made = tar.file(".wh.deep", "").file("deep/er", "2").unpack("whiteouts").ok();
    let gone = std::fs::symlink_metadata(made.fs().join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(std::fs::read_to_string(made.fs().join("own")).unwrap(), "x");
    assert!(made.fs().join("kept/a").exists());
    for directory in ["kept", "again", "deep"] {
        assert!(opaque(&made.fs().join(directory)), "{directory}");
    }
    assert!(!made.fs().join(".wh.own").exists());
}

#[test]
fn an_opaque_directory_has_the_attribute_and_aufs_files_are_left_out() {
    if !is_root() {
        return;
    }
    let made =
        Tarball::default().dir("d").file("d/.wh..wh..opq", "").file(".wh..wh.plnk", "").unpack("opaque").ok();
    assert!(opaque(&made.fs().join("d")) && !opaque(&made.fs()));
    assert_eq!(std::fs::read_dir(made.fs()).unwrap().count(), 1);
    let made = Tarball::default().file(".wh.", "").unpack("whnothing");
    assert!(made.error().contains("whiteout of nothing"));
    let made = Tarball::default().file(".wh...", "").unpack("whdots");
    assert!(made.error().contains("whiteout of nothing"));
    let made = Tarball::default().file(".wh..wh..opq", "").unpack("opaqueroot").ok();
    assert!(made.result.as_ref().unwrap().grown.opaque_root);
}

#[test]
fn setuid_survives_the_change_of_owner_and_devices_are_made() {
    if !is_root() {
        return;
    }
    let dir_mode = |mode| {
        let mut header = Header::new_gnu();
        header.set_path("suid").unwrap();
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let mut device = Header::new_gnu();
    device.set_path("null").unwrap();
    device.set_entry_type(EntryType::Char);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    device.set_mode(0o666);
    device.set_size(0);
    device.set_cksum();
    let tar = Tarball([dir_mode(0o6755), device.as_bytes().to_vec()].concat());
    let made = tar.entry(EntryType::Fifo, "pipe", "", b"").unpack("suid").ok();
    let file = std::fs::metadata(made.fs().join("suid")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o6755, 1000, 1001));
    let null = std::fs::metadata(made.fs().join("null")).unwrap();
    assert_eq!((null.rdev(), null.mode() & 0o777), (nix::sys::stat::makedev(1, 3), 0o666));
    assert!(std::fs::metadata(made.fs().join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn times_of_directories_are_those_of_the_archive_after_all_is_in_them() {
    let made = Tarball::default().dir("./").dir("d").file("d/f", "x").unpack("times").ok();
    for path in ["", "d", "d/f"] {
        assert_eq!(std::fs::metadata(made.fs().join(path)).unwrap().mtime(), 1_000_000, "{path}");
    }
}

#[test]
fn attributes_that_overlayfs_would_obey_are_dropped_and_others_kept() {
    if !is_root() {
        return;
    }
    let xattr = |name: &str| format!("SCHILY.xattr.{name}");
    let names = ["trusted.overlay.redirect", "trusted.mine", "security.selinux"].map(xattr);
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), "/etc")).collect();
    let made = Tarball::default().pax(&records).dir("d").unpack("xattrs").ok();
    let mut value = [0u8; 16];
    let mut has = |name: &str| rustix::fs::lgetxattr(made.fs().join("d"), name, &mut value[..]).is_ok();
    assert!(has("trusted.mine") && !has("trusted.overlay.redirect"));
}

#[test]
fn directories_without_an_entry_are_made_and_reported() {
    let made = Tarball::default().file("a/b/f", "x").dir("a").unpack("implied").ok();
    assert_eq!(made.result.as_ref().unwrap().grown.implied, BTreeSet::from([b"a/b".to_vec()]));
    assert_eq!(std::fs::read(made.dir.join("layer").join(IMPLIED)).unwrap(), b"a/b\0");
    assert_eq!(std::fs::metadata(made.fs().join("a/b")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_file_used_as_a_directory_is_an_error() {
    let made = Tarball::default().file("f", "x").file("f/g", "y").unpack("notdir");
    assert!(made.error().contains("as a directory"), "{}", made.error());
}

#[test]
fn bounds_hold() {
    let limits = Limits { layer_entries: 2, ..Limits::default() };
    let made = Tarball::default().dir("a").dir("b").dir("c").unpack_with("entries", &limits);
    assert!(
        made.error().contains("more entries") && made.error().contains("at most 2 are"),
        "{}",
        made.error()
    );
    let limits = Limits { layer_bytes: 4096, ..Limits::default() };
    let made = Tarball::default().file("a", &"x".repeat(5000)).unpack_with("bytes", &limits);
    assert!(made.error().contains("larger than the 4096 bytes"), "{}", made.error());
    let limits = Limits { path_bytes: 8, ..Limits::default() };
    let made = Tarball::default().file("123456789", "").unpack_with("path", &limits);
    assert!(made.error().contains("a path of 9 bytes"));
    let sparse =
        Tarball::default().pax(&[("GNU.sparse.size", "99999999999999999"), ("GNU.sparse.map", "0,1")]);
    let made = sparse.file("s", "x").unpack("hugesparse");
    assert!(made.error().contains("a file of 99999999999999999 bytes"), "{}", made.error());
}

#[test]
fn a_file_with_holes_keeps_them() {
    let records = [("GNU.sparse.size", "1048576"), ("GNU.sparse.map", "524288,3")];
    let made = Tarball::default().pax(&records).file("s", "abc").unpack("sparse").ok();
    let stat = std::fs::metadata(made.fs().join("s")).unwrap();
    assert!(stat.len() == 1 << 20 && stat.blocks() < 64, "{} blocks", stat.blocks());
    assert_eq!(&std::fs::read(made.fs().join("s")).unwrap()[524288..524292], b"abc\0");
}

#[test]
fn content_of_another_digest_is_refused() {
    let dir = std::env::temp_dir().join(format!("rt-unpack.{}.digest", std::process::id()));
    let (right, wrong) = (Digest::of(&[0; 1024]), Digest::of(b"else"));
    for (blob, diff, what) in [(&wrong, &right, "verify layer"), (&right, &wrong, "verify unpacked layer")] {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let expected = Expected { blob: Some(blob), diff };
        let error =
            unpack(&[0; 1024][..], &dir, &expected, &account(&Limits::default())).err().unwrap().to_string();
        assert!(error.contains(what) && error.contains(right.as_str()), "{error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
