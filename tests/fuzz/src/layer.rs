//! Layers of images: the entries of an archive, and the whole way of a layer to a directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::image::Digest;
use cri::image::config::Limits;
use cri::image::unpack::{Account, Archive, Budget, Cancel, Expected, unconfined};
use tar::{EntryType, Header};

use crate::surroundings::SCRATCH;
use crate::{Form, Outcome, Target};

/// The entries of a tar stream, PAX and GNU headers and maps of holes included.
pub const TAR: Target =
    Target { name: "tar", run: tar, seeds: archives, form: Form::Tar, memory: (1 << 20, 64) };

/// A layer as a registry sends it, compressed or not, to a directory; and nowhere else.
pub const UNPACK: Target =
    Target { name: "unpack", run: unpacked, seeds: layers, form: Form::Tar, memory: (8 << 20, 64) };

/// What a sparse file may claim without being read to its end here.
const CONTENT: u64 = 1 << 20;

/// What is outside of the directory, in it a file of which nothing may change.
const OUTSIDE: &str = "/mnt/outside";

/// Few, so that they are come upon.
fn limits() -> Limits {
    Limits { layer_bytes: 32 << 20, image_bytes: 64 << 20, layer_entries: 500, ..Limits::default() }
}

fn tar(input: &[u8]) -> Outcome {
    let whole = entries(input);
    assert_eq!(whole, entries(Pieces(input)), "the same archive in pieces has other entries");
    if whole.1.is_none() && !whole.0.is_empty() { Outcome::Taken } else { Outcome::Refused }
}

/// The entries as they were understood, and the error at their end.
fn entries(input: impl Read) -> (Vec<String>, Option<String>) {
    let mut archive = Archive::new(input);
    let mut found = Vec::new();
    loop {
        match archive.next_entry() {
            Ok(Some(entry)) => {
                assert!(entry.mode <= 0o7777, "the mode {:o}", entry.mode);
                let mut content = Vec::new();
                let read = archive
                    .by_ref()
                    .take(CONTENT)
                    .read_to_end(&mut content)
                    .map_err(|error| error.to_string());
                let digest = Digest::of(&content);
                found.push(format!("{digest} {read:?} {entry:?}"));
            }
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error.to_string())),
        }
    }
}

/// Gives a few bytes at a time.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(1 + self.0.len() % 97);
        self.0.read(&mut buffer[..most])
    }
}

fn unpacked(input: &[u8]) -> Outcome {
    let place = Path::new(SCRATCH).join("layer");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).expect("the layer's place");
    prepare_outside();
    let before = outside();
    // Right for what isn't compressed; what is ends in an error, after all of it was unpacked.
    let (diff, limits) = (Digest::of(input), limits());
    let account = Account::new(&Arc::new(Budget::new(&limits)), Cancel::default());
    let result = unconfined(input, &place, &Expected { blob: None, diff: &diff }, &account);
    assert_eq!(before, outside(), "something outside of the layer's directory changed");
    // All else can't be written here: who tries is on his way out.
    if let Err(error) = &result {
        assert_ne!(error.errno(), Some(nix::libc::EROFS), "outside of {SCRATCH}: {error}");
    }
    let mut made = 0;
    count(&place.join("fs"), &mut made);
    count(&place.join("old"), &mut made);
    assert!(made <= limits.layer_entries + 1, "{made} entries, at most {} may be", limits.layer_entries);
    fs::remove_dir_all(&place).expect("remove the layer");
    Outcome::from(&result)
}

/// Everything that an archive may try to reach: a file, a directory, a link.
fn prepare_outside() {
    let outside = Path::new(OUTSIDE);
    if !outside.exists() {
        fs::create_dir_all(outside.join("d")).expect("a directory outside");
        fs::write(outside.join("f"), "secret").expect("a file outside");
        symlink("f", outside.join("l")).expect("a link outside");
    }
}

/// All of the tmpfs but the layer: each path with what can be changed of it.
fn outside() -> BTreeMap<PathBuf, String> {
    fn look(directory: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in
            fs::read_dir(directory).expect("a directory outside").map(|entry| entry.expect("an entry").path())
        {
            let is = fs::symlink_metadata(&entry).expect("what is outside");
            let content = if is.is_file() { fs::read(&entry).expect("a file outside") } else { Vec::new() };
            let owner = (is.uid(), is.gid(), is.mode(), is.ino());
            // A directory's count and time change with the layer's own place.
            let times = if directory == Path::new(SCRATCH) { (0, 0) } else { (is.nlink(), is.mtime_nsec()) };
            found.insert(entry.clone(), format!("{owner:?} {times:?} {content:?}"));
            if is.is_dir() && !entry.ends_with("layer") {
                look(&entry, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    look(Path::new(SCRATCH), &mut found);
    found.remove(&Path::new(SCRATCH).join("layer"));
    found
}

fn count(directory: &Path, made: &mut u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        *made += 1;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            count(&entry.path(), made);
        }
    }
}

/// An archive in the making.
#[derive(Default)]
struct Tarball(Vec<u8>);

impl Tarball {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        let bytes = header.as_ustar_mut().expect("ustar");
        bytes.name[..path.len()].copy_from_slice(path.as_bytes());
        bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(1_000_000);
        header.set_device_major(1).expect("a number");
        header.set_device_minor(3).expect("a number");
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", content)
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..5).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
            text += &format!("{} {key}={value}\n", length.expect("a length"));
        }
        self.entry(EntryType::XHeader, "pax", "", text.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn archives() -> Vec<(&'static str, Vec<u8>)> {
    let new = Tarball::default;
    let kinds = new()
        .entry(EntryType::Directory, "etc/", "", b"")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        .entry(EntryType::Symlink, "etc/link", "../etc/passwd", b"")
        .entry(EntryType::Link, "etc/hard", "etc/passwd", b"")
        .entry(EntryType::Char, "dev/null", "", b"")
        .entry(EntryType::Fifo, "run/pipe", "", b"")
        .file("a/.wh.b", b"")
        .file("c/.wh..wh..opq", b"")
        .end();
    let pax = new()
        .pax(&[
            ("path", "long/name"),
            ("uid", "70000"),
            ("gid", "80000"),
            ("mtime", "-1.25"),
            ("size", "3"),
            ("SCHILY.xattr.user.a", "v=\n"),
            ("SCHILY.xattr.security.capability", "\0\0\0\u{2}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ("linkpath", "x"),
        ])
        .file("short", b"abc")
        .entry(EntryType::XGlobalHeader, "pax", "", b"19 comment=abcdefgh\n")
        .pax(&[("LIBARCHIVE.xattr.user.b", "dg=="), ("linkpath", "long/name")])
        .entry(EntryType::Symlink, "l", "y", b"")
        .end();
    let gnu = new()
        .entry(
            EntryType::GNULongName,
            "././@LongLink",
            "",
            &[b"deep/".repeat(30), b"file\0".to_vec()].concat(),
        )
        .file("cut", b"1")
        .entry(EntryType::GNULongLink, "././@LongLink", "", &[b"to/".repeat(50), b"it\0".to_vec()].concat())
        .entry(EntryType::Symlink, "s", "cut", b"")
        .end();
    let map = b"2\n0\n3\n1048576\n2\n";
    let mut stored = map.to_vec();
    stored.resize(512, 0);
    stored.extend(b"abcde");
    let sparse = new()
        .pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "holes"),
            ("GNU.sparse.realsize", "2097152"),
        ])
        .file("GNUSparseFile.0/holes", &stored)
        .pax(&[("GNU.sparse.size", "4096"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "1024,5")])
        .file("old-map", b"abcde")
        .end();
    vec![("kinds", kinds), ("pax", pax), ("gnu", gnu), ("sparse", sparse)]
}

fn layers() -> Vec<(&'static str, Vec<u8>)> {
    let new = Tarball::default;
    let out = new()
        .entry(EntryType::Symlink, "up", "..", b"")
        .file("up/outside/g", b"x")
        .entry(EntryType::Directory, "mnt/outside/", "", b"")
        .entry(EntryType::Symlink, "abs", OUTSIDE, b"")
        .file("abs/f", b"x")
        .entry(EntryType::Link, "hard", "abs/f", b"")
        .end();
    let again = new()
        .file("d/a", b"1")
        .entry(EntryType::Directory, "e/", "", b"")
        .entry(EntryType::Symlink, "d", "e", b"")
        .file("d/a", b"2")
        .file("e", b"3")
        .entry(EntryType::Link, "f", "e", b"")
        .file("f", b"45")
        .end();
    let mut all = archives();
    // Inside of the layer's own root links lead where they would in a container.
    all.extend([("out", out), ("again", again)]);
    all
}
