//! A volume that an image declares: a directory of the container's own, filled with what the image has there. Paths are walked without
//! following links, so that an image can't point outside its layers.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::image::unpack::{Cancel, Pieces, keeps_room};
use crate::paths;

/// The most files and directories that a container's volumes are filled with, and bytes, holes apart: an image is bounded, but may be made
/// a container again and again.
const ENTRIES: u64 = 200_000;
const BYTES: u64 = 64 << 30;
/// The most names that are looked for in directories of layers: each part of a volume's path, and each directory in it, may be in each of
/// five hundred layers. Some seconds of a core.
const LOOKS: u64 = 1_000_000;
/// Files of several names that are known again; of more, each name gets a copy.
const LINKED: usize = 4096;
/// Bytes copied before it is asked again whether anybody waits, and whether the disk keeps room.
const PIECE: u64 = 8 << 20;
/// Deepest volume, and deepest directory below one.
const DEPTH: usize = 64;

/// The host's ids of the container's root: what is copied belongs to the ids that follow.
type Root = (u32, u32);

/// The copying of all volumes of one container.
pub struct Copying<'a> {
    root: Root,
    free_bytes: u64,
    cancel: &'a Cancel,
    entries: u64,
    bytes: u64,
    looks: u64,
    /// The copies of files with several names, by where they came from.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Copying<'a> {
    /// For a container whose root has these ids; so much of the disk is left free.
    pub fn new(root: Root, free_bytes: u64, cancel: &'a Cancel) -> Self {
        Self { root, free_bytes, cancel, entries: 0, bytes: 0, looks: 0, linked: HashMap::new() }
    }

    fn entry(&mut self, at: &Path) -> Result<()> {
        self.cancel.check().what(|| format!("copy to {}", at.display()))?;
        self.entries += 1;
        self.bounded(self.entries, (ENTRIES, "files"), at)
    }

    /// Before a name is looked for in a directory of a layer.
    fn look(&mut self, at: &Path) -> Result<()> {
        self.cancel.check().what(|| format!("copy to {}", at.display()))?;
        self.looks += 1;
        self.bounded(self.looks, (LOOKS, "directories of layers"), at)
    }

    /// Before so many bytes are written to a file.
    fn write(&mut self, bytes: u64, to: (&File, &Path)) -> Result<()> {
        let what = || format!("copy to {}", to.1.display());
        self.cancel.check().what(what)?;
        self.bytes += bytes;
        self.bounded(self.bytes, (BYTES, "bytes"), to.1)?;
        keeps_room(to.0, self.free_bytes).what(what)
    }

    fn bounded(&self, count: u64, (most, of): (u64, &str), at: &Path) -> Result<()> {
        if count <= most {
            return Ok(());
        }
        let text =
            format!("fill volume {}: the image has more than {most} {of} in its volumes", at.display());
        Err(Error::invalid(text).cure("mount something there instead"))
    }
}

/// Makes `path` with what `layers` (lowest first) have at `volume`.
pub fn create(path: &Path, volume: &str, layers: &[PathBuf], copying: &mut Copying<'_>) -> Result<()> {
    let root = copying.root;
    let parts = parts(volume)?;
    if parts.len() > DEPTH {
        let text = format!(
            "fill volume {}: it is {} directories deep in the image, at most {DEPTH} are taken",
            path.display(),
            parts.len()
        );
        return Err(Error::invalid(text).cure("mount something there instead"));
    }
    paths::own_dir(path)?;
    let views = views(layers, &parts, (path, copying))?;
    if let Some((_, top)) = views.first() {
        attributes(path, top, root)?;
    } else {
        std::os::unix::fs::chown(path, Some(root.0), Some(root.1))
            .what(|| format!("change the owner of {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .what(|| format!("set the mode of {}", path.display()))?;
    }
    let dirs: Vec<PathBuf> = views.into_iter().map(|(dir, _)| dir).collect();
    copy(&dirs, path, copying, 0)
}

fn parts(volume: &str) -> Result<Vec<OsString>> {
    Path::new(volume)
        .components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => Ok(name.to_owned()),
            _ => Err(Error::invalid(format!("the image's volume {volume} is no plain path"))),
        })
        .collect()
}

/// The directories that make up `parts`, topmost first: those below a whiteout, an opaque directory or a file don't count.
fn views(
    layers: &[PathBuf],
    parts: &[OsString],
    (to, copying): (&Path, &mut Copying<'_>),
) -> Result<Vec<(PathBuf, Metadata)>> {
    let mut views = Vec::new();
    for layer in layers.iter().rev() {
        let mut at = layer.clone();
        let mut hides = false;
        let mut found = fs::symlink_metadata(&at).ok();
        for part in parts {
            copying.look(to)?;
            at.push(part);
            found = fs::symlink_metadata(&at).ok();
            match &found {
                Some(there) if there.is_dir() => hides |= is_opaque(&at),
                Some(_) => {
                    hides = true;
                    found = None;
                    break;
                }
                None => break,
            }
        }
        views.extend(found.map(|there| (at, there)));
        if hides {
            break;
        }
    }
    Ok(views)
}

/// Copies the merged content of `dirs`, topmost first.
fn copy(dirs: &[PathBuf], to: &Path, copying: &mut Copying<'_>, depth: usize) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::invalid(format!("directories below {} are nested too deep", to.display())));
    }
    let mut seen = BTreeSet::new();
    for (index, dir) in dirs.iter().enumerate() {
        for entry in fs::read_dir(dir).what(|| format!("read {}", dir.display()))?.flatten() {
            if !seen.insert(entry.file_name()) {
                continue;
            }
            let there = entry.metadata().what(|| format!("look at {}", entry.path().display()))?;
            let target = to.join(entry.file_name());
            copying.entry(&target)?;
            if there.is_dir() {
                let name = [entry.file_name()];
                let below: Vec<PathBuf> = dirs[index..].iter().rev().cloned().collect();
                let merged = views(&below, &name, (&target, copying))?;
                let merged: Vec<PathBuf> = merged.into_iter().map(|(dir, _)| dir).collect();
                fs::create_dir(&target).what(|| format!("create directory {}", target.display()))?;
                copy(&merged, &target, copying, depth + 1)?;
                attributes(&target, &there, copying.root)?;
            } else {
                one(&entry.path(), &target, &there, copying)?;
            }
        }
    }
    Ok(())
}

fn one(from: &Path, to: &Path, there: &Metadata, copying: &mut Copying<'_>) -> Result<()> {
    let root = copying.root;
    let kind = there.file_type();
    let what = || format!("copy {} to {}", from.display(), to.display());
    if kind.is_symlink() {
        let target = fs::read_link(from).what(what)?;
        std::os::unix::fs::symlink(target, to).what(what)?;
        return std::os::unix::fs::lchown(
            to,
            Some(root.0.saturating_add(there.uid())),
            Some(root.1.saturating_add(there.gid())),
        )
        .what(what);
    }
    if kind.is_file() {
        let inode = (there.dev(), there.ino());
        if let Some(known) = copying.linked.get(&inode) {
            return fs::hard_link(known, to).what(what);
        }
        content(from, to, copying).what(what)?;
        if there.nlink() > 1 && copying.linked.len() < LINKED {
            copying.linked.insert(inode, to.to_owned());
        }
        return attributes(to, there, root);
    }
    // A whiteout is a 0/0 device: nothing is there. Other special files are made by the container if it wants them.
    if !kind.is_char_device() || there.rdev() != 0 {
        tracing::debug!("{} is left out of a volume: a special file", from.display());
    }
    Ok(())
}

/// Copies what is in a file; where it has holes the copy has them too.
fn content(from: &Path, to: &Path, copying: &mut Copying<'_>) -> Result<()> {
    let what = || "copy content";
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut input = OpenOptions::new().read(true).custom_flags(flags).open(from).what(what)?;
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).what(what)?;
    let all = input.try_clone().what(what)?;
    for piece in Pieces::of(&all).what(what)? {
        let (mut at, end) = piece.what(what)?;
        while at < end {
            let count = PIECE.min(end - at);
            copying.write(count, (&output, to))?;
            // Two handles of one file share its position: the search for holes has moved it.
            input.seek(SeekFrom::Start(at)).what(what)?;
            output.seek(SeekFrom::Start(at)).what(what)?;
            let copied = std::io::copy(&mut input.by_ref().take(count), &mut output).what(what)?;
            if copied < count {
                return Err(Error::internal(format!("it became shorter than {end} bytes meanwhile")));
            }
            at += count;
        }
    }
    output.set_len(all.metadata().what(what)?.len()).what(what)
}

fn attributes(path: &Path, like: &Metadata, root: Root) -> Result<()> {
    std::os::unix::fs::chown(
        path,
        Some(root.0.saturating_add(like.uid())),
        Some(root.1.saturating_add(like.gid())),
    )
    .what(|| format!("change the owner of {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(like.mode() & 0o7777))
        .what(|| format!("set the mode of {}", path.display()))
}

fn is_opaque(dir: &Path) -> bool {
    let mut value = [0u8; 2];
    rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut value[..])
        .is_ok_and(|length| value[..length] == *b"y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_the_merged_content_of_the_layers() {
        let dir = std::env::temp_dir().join(format!("rt-volume-{}", std::process::id()));
        let file = |layer: &str, path: &str, text: &str| {
            let path = dir.join(layer).join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        };
        file("1", "data/a", "low");
        file("1", "data/sub/b", "low");
        file("2", "data/a", "high");
        file("2", "data/sub/c", "high");
        let layers = [dir.join("1"), dir.join("2")];
        let to = dir.join("to");
        let cancel = Cancel::default();
        let create = |path: &Path, volume: &str, layers: &[PathBuf]| {
            create(path, volume, layers, &mut Copying::new((0, 0), 0, &cancel))
        };
        create(&to, "/data", &layers).expect("create");
        for (path, text) in [("a", "high"), ("sub/b", "low"), ("sub/c", "high")] {
            assert_eq!(fs::read_to_string(to.join(path)).expect("read"), text, "{path}");
        }
        create(&dir.join("other"), "/nowhere", &layers).expect("create");
        assert!(create(&dir.join("bad"), "/../x", &layers).is_err());
        fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn a_link_in_an_image_is_copied_and_not_followed() {
        let dir = std::env::temp_dir().join(format!("rt-volume-link-{}", std::process::id()));
        fs::create_dir_all(dir.join("1/data")).expect("directory");
        std::os::unix::fs::symlink("/etc", dir.join("1/data/etc")).expect("link");
        std::os::unix::fs::symlink("/etc", dir.join("1/out")).expect("link");
        let layers = [dir.join("1")];
        let cancel = Cancel::default();
        let mut copying = Copying::new((0, 0), 0, &cancel);
        create(&dir.join("to"), "/data", &layers, &mut copying).expect("create");
        assert!(fs::symlink_metadata(dir.join("to/etc")).expect("there").is_symlink());
        create(&dir.join("out"), "/out", &layers, &mut copying).expect("create");
        assert_eq!(fs::read_dir(dir.join("out")).expect("read").count(), 0);
        fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn holes_stay_holes_names_of_one_file_share_it_and_special_files_are_left_out() {
        let dir = std::env::temp_dir().join(format!("rt-volume-holes-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let data = dir.join("1/data");
        fs::create_dir_all(&data).expect("directory");
        let holes = File::create(data.join("holes")).expect("file");
        holes.set_len(6 << 30).expect("a hole");
        std::os::unix::fs::FileExt::write_all_at(&holes, b"middle", 3 << 30).expect("content");
        fs::hard_link(data.join("holes"), data.join("twin")).expect("link");
        nix::unistd::mkfifo(&data.join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
        let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).expect("a socket");
        let cancel = Cancel::default();
        let mut copying = Copying::new((0, 0), 0, &cancel);
        create(&dir.join("to"), "/data", &[dir.join("1")], &mut copying).expect("create");
        let copy = fs::metadata(dir.join("to/holes")).expect("a copy");
        assert_eq!((copy.len(), copy.nlink()), (6 << 30, 2));
        assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
        let mut middle = [0; 8];
        let file = File::open(dir.join("to/twin")).expect("a copy");
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut middle, (3 << 30) - 1).expect("content");
        assert_eq!(&middle, b"\0middle\0");
        assert_eq!(fs::read_dir(dir.join("to")).expect("read").count(), 2);
        // Nobody waits, and too much.
        let mut full = Copying { bytes: BYTES, ..Copying::new((0, 0), 0, &cancel) };
        let error =
            create(&dir.join("full"), "/data", &[dir.join("1")], &mut full).expect_err("full").to_string();
        assert!(
            error.contains("more than 68719476736 bytes") && error.contains("mount something"),
            "{error}"
        );
        let mut many = Copying { entries: ENTRIES, ..Copying::new((0, 0), 0, &cancel) };
        let error =
            create(&dir.join("many"), "/data", &[dir.join("1")], &mut many).expect_err("many").to_string();
        assert!(error.contains("more than 200000 files"), "{error}");
        let mut looked = Copying::new((0, 0), 0, &cancel);
        fs::create_dir_all(data.join("sub/below")).expect("directories");
        // The volume and two directories in it, each in three layers.
        create(&dir.join("looked"), "/data", &vec![dir.join("1"); 3], &mut looked).expect("create");
        assert_eq!(looked.looks, 9);
        let mut far = Copying { looks: LOOKS - 8, ..Copying::new((0, 0), 0, &cancel) };
        let error = create(&dir.join("far"), "/data", &vec![dir.join("1"); 3], &mut far).expect_err("far");
        assert!(error.to_string().contains("more than 1000000 directories of layers"), "{error}");
        let error = create(&dir.join("deep"), &"/d".repeat(65), &[], &mut looked).expect_err("deep");
        assert!(error.to_string().contains("65 directories deep"), "{error}");
        cancel.cancel();
        let error =
            create(&dir.join("gone"), "/data", &[dir.join("1")], &mut copying).expect_err("cancelled");
        assert!(error.to_string().contains("nobody waits"), "{error}");
        fs::remove_dir_all(&dir).expect("remove");
    }
}
