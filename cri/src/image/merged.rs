//! Files of an image as a container would see them, found in its layers without mounting anything. It changes nothing.
//!
//! As overlayfs has it: a directory is those of that name in its parent's layers, down to one that is opaque or something else; no link
//! in a layer is followed but to where it leads in the whole image.

use crate::error::{Context, Error, Result};
use crate::image::unpack::{Cancel, is_whiteout};
use crate::image::users::Users;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The most bytes of passwd or group: a hundred thousand users and more. They are read through for each container, in some milliseconds.
const TABLE: u64 = 16 << 20;
/// The most parts of a path that are looked for, those of symlinks' targets among them, and the deepest directory.
const STEPS: usize = 256;
const DEPTH: usize = 64;
/// The most names that are looked for in layers' directories on the way to one file: five hundred layers with forty parts. A twentieth
/// of a second.
const LOOKS: usize = 20_000;
/// Symlinks followed, as the kernel has it.
const LINKS: usize = 40;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The layers' root directories, topmost first.
pub struct Merged<'a> {
    layers: Vec<OwnedFd>,
    cancel: &'a Cancel,
}

/// What a name is in a directory of the image.
enum Found {
    Nothing,
    /// Those that make it up, topmost first.
    Directory(Vec<OwnedFd>),
    /// Something else, and the layer's directory that it is in.
    Other(OwnedFd, FileType),
}

impl<'a> Merged<'a> {
    /// Of directories, lowest first; looked through for as long as somebody waits.
    pub fn open(layers: &[PathBuf], cancel: &'a Cancel) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            rustix::fs::open(path, flags, Mode::empty()).what(|| format!("open layer {}", path.display()))
        };
        Ok(Self { layers: layers.iter().rev().map(open).collect::<Result<_>>()?, cancel })
    }

    /// The image's users and groups that concern what is asked for; a missing file has none.
    pub fn users(&self, asked: &[&str]) -> Result<Users> {
        let open = |path: &str| -> Result<Box<dyn BufRead>> {
            let what = || format!("read {path} of image");
            let Some(file) = self.file(path.as_bytes()).what(what)? else {
                return Ok(Box::new(std::io::empty()));
            };
            let size = file.metadata().what(what)?.len();
            if size > TABLE {
                let error =
                    Error::invalid(format!("{}: it has {size} bytes, at most {TABLE} are taken", what()));
                return Err(error.cure("make it shorter, or run as a number with an image that has none"));
            }
            Ok(Box::new(BufReader::with_capacity(64 << 10, file)))
        };
        Users::read(open("etc/passwd")?, open("etc/group")?, asked).what(|| "read users of image")
    }

    /// The regular file at a path, symlinks followed; None where there is none.
    pub fn file(&self, path: &[u8]) -> Result<Option<File>> {
        let mut rest = VecDeque::new();
        // Names of directories from the root on, and what makes up the last one; empty: it is the root.
        let (mut here, mut directory): (Vec<Vec<u8>>, Vec<OwnedFd>) = (Vec::new(), Vec::new());
        let (mut looks, mut steps, mut links) = (0, 0, 0);
        put_first(&mut rest, path)?;
        while let Some(part) = rest.pop_front() {
            steps += 1;
            if steps > STEPS || here.len() >= DEPTH {
                return Err(too_far());
            }
            if part == b".." {
                here.pop();
                directory.clear();
                for name in &here {
                    let Found::Directory(next) = self.look(&directory, name, &mut looks)? else {
                        return Ok(None);
                    };
                    directory = next;
                }
                continue;
            }
            match self.look(&directory, &part, &mut looks)? {
                Found::Directory(next) => {
                    here.push(part);
                    directory = next;
                }
                Found::Other(parent, FileType::Symlink) if links < LINKS => {
                    links += 1;
                    let target = rustix::fs::readlinkat(&parent, part.as_slice(), Vec::new())
                        .what(|| "read symlink of layer")?;
                    if target.as_bytes().starts_with(b"/") {
                        here.clear();
                        directory.clear();
                    }
                    put_first(&mut rest, target.as_bytes())?;
                }
                Found::Other(parent, FileType::RegularFile) if rest.is_empty() => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(&parent, part.as_slice(), flags, Mode::empty());
                    return Ok(Some(File::from(file.what(|| "open file of layer")?)));
                }
                Found::Other(..) | Found::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What `name` is in a directory that is made up of these, or in the root.
    fn look(&self, directory: &[OwnedFd], name: &[u8], looks: &mut usize) -> Result<Found> {
        let what = || "look for file of layer";
        let mut merged = Vec::new();
        for layer in if directory.is_empty() { &self.layers } else { directory } {
            self.cancel.check().what(what)?;
            *looks += 1;
            if *looks > LOOKS {
                return Err(too_far());
            }
            let kind = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno).what(what),
            };
            if kind != FileType::Directory {
                // It hides what is further below, and is hidden itself by a directory above it.
                if merged.is_empty() && !is_whiteout(layer, name) {
                    return Ok(Found::Other(layer.try_clone().what(what)?, kind));
                }
                break;
            }
            let below = rustix::fs::openat(layer, name, DIRECTORY, Mode::empty());
            let below = below.what(|| "open directory of layer")?;
            let last = is_opaque(below.as_fd());
            merged.push(below);
            if last {
                break;
            }
        }
        Ok(if merged.is_empty() { Found::Nothing } else { Found::Directory(merged) })
    }
}

fn too_far() -> Error {
    let why = format!(
        "its symlinks lead through more than {STEPS} parts, or {DEPTH} directories deep, or {LOOKS} directories of layers"
    );
    Error::invalid(why).cure("build the image with shorter symlinks, or with fewer layers")
}

/// Whether the directory hides what lower layers have in it.
fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 4];
    rustix::fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value[..])
        .is_ok_and(|n| &value[..n] == b"y")
}

/// A path's parts before what is still to go.
fn put_first(rest: &mut VecDeque<Vec<u8>>, path: &[u8]) -> Result<()> {
    let parts = || path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    if rest.len() + parts().count() > STEPS {
        return Err(too_far());
    }
    for part in parts().rev() {
        rest.push_front(part.to_vec());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_found_as_a_container_would_see_it() {
        let dir = std::env::temp_dir().join(format!("rt-merged.{}", std::process::id()));
        let layers: Vec<_> = (0..3).map(|number| dir.join(number.to_string())).collect();
        for layer in &layers {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(layers[0].join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        std::fs::create_dir(layers[1].join("real")).unwrap();
        std::fs::write(layers[1].join("real/group"), "g:x:7:\n").unwrap();
        symlink("/real/../real/group", layers[2].join("etc/group")).unwrap();
        symlink("loop", layers[2].join("loop")).unwrap();
        std::fs::write(layers[0].join("hidden"), "x").unwrap();
        let cancel = Cancel::default();
        let merged = Merged::open(&layers, &cancel).unwrap();
        let users = merged.users(&["7:7"]).unwrap();
        assert_eq!((users.passwd[0].name.as_str(), users.group[0].gid), ("root", 7));
        assert!(merged.file(b"loop").unwrap().is_none());
        assert!(merged.file(b"etc").unwrap().is_none());
        assert!(merged.file(b"../../hidden").unwrap().is_some());
        if nix::unistd::geteuid().is_root() {
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, layers[2].join("hidden"), kind, Mode::empty(), 0).unwrap();
            assert!(merged.file(b"hidden").unwrap().is_none());
            let opaque = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(layers[1].join("etc"), "trusted.overlay.opaque", b"y", opaque).unwrap();
            assert!(merged.file(b"etc/passwd").unwrap().is_none());
            assert!(merged.file(b"etc/group").unwrap().is_some());
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// A directory's worth of layers below the temporary directory, lowest first.
    fn layers(name: &str, count: usize) -> (PathBuf, Vec<PathBuf>) {
        let dir = std::env::temp_dir().join(format!("rt-merged.{}.{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let layers: Vec<_> = (0..count).map(|number| dir.join(number.to_string())).collect();
        for layer in &layers {
            std::fs::create_dir_all(layer).unwrap();
        }
        (dir, layers)
    }

    fn read(merged: &Merged<'_>, path: &str) -> Option<String> {
        merged.file(path.as_bytes()).unwrap().map(|file| std::io::read_to_string(file).unwrap())
    }

    /// As overlayfs has it, which never looks through a layer's link for what else is in that layer.
    #[test]
    fn a_link_of_a_layer_leads_to_what_the_image_has_there_and_not_to_what_the_layer_has() {
        let (dir, layers) = layers("links", 3);
        for (layer, path, text) in [
            (0, "real/passwd", "low"),
            (1, "other/passwd", "middle"),
            (1, "real/more", "middle"),
            (2, "etc/x", ""),
        ] {
            std::fs::create_dir_all(layers[layer].join(path).parent().unwrap()).unwrap();
            std::fs::write(layers[layer].join(path), text).unwrap();
        }
        symlink("other", layers[1].join("etc")).unwrap();
        symlink("/other/../real/./passwd", layers[2].join("user")).unwrap();
        let cancel = Cancel::default();
        let all = Merged::open(&layers, &cancel).unwrap();
        // The topmost has a directory: the link below it is nothing.
        assert_eq!(read(&all, "etc/passwd"), None);
        assert_eq!(read(&all, "user").unwrap(), "low");
        assert_eq!(read(&all, "real/more").unwrap(), "middle");
        let below = Merged::open(&layers[..2], &cancel).unwrap();
        assert_eq!(read(&below, "etc/passwd").unwrap(), "middle");
        assert_eq!(read(&below, "etc/../real/passwd").unwrap(), "low");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_looked_at_for_one_file_is_bounded_and_ends_when_nobody_waits() {
        let (dir, layers) = layers("bounded", 250);
        for (number, layer) in layers.iter().enumerate() {
            std::fs::create_dir_all(layer.join("d/e")).unwrap();
            symlink("d/../".repeat(100) + "d/f", layer.join("long")).unwrap();
            symlink("d/../".repeat(200) + "d/f", layer.join("longer")).unwrap();
            symlink("d/e/../f", layer.join("short")).unwrap();
            std::fs::write(layer.join("d/f"), number.to_string()).unwrap();
        }
        let cancel = Cancel::default();
        let merged = Merged::open(&layers, &cancel).unwrap();
        assert_eq!(read(&merged, "short").unwrap(), "249");
        for path in ["long", "longer"] {
            let error = merged.file(path.as_bytes()).err().unwrap().to_string();
            assert!(error.contains("more than 256 parts") && error.contains("20000 directories"), "{error}");
        }
        assert_eq!(read(&Merged::open(&layers[..50], &cancel).unwrap(), "long").unwrap(), "49");
        cancel.cancel();
        let error = merged.file(b"short").err().unwrap().to_string();
        assert!(error.contains("nobody waits for it any more"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
