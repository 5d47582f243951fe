//! Files of an image as a container would see them, found in its layers without mounting anything. It changes nothing.

use crate::error::{Context, Error, Result};
use crate::image::unpack::{is_whiteout, open_in_root};
use crate::image::users::Users;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The most bytes of passwd or group: a hundred thousand users and more. They are read through for each container, in some milliseconds.
const TABLE: u64 = 16 << 20;
/// The most parts of a path that are looked for, those of symlinks' targets among them, and the deepest directory: each may be
/// looked for in each of five hundred layers.
const STEPS: usize = 256;
const DEPTH: usize = 64;
/// Symlinks followed, as the kernel has it.
const LINKS: usize = 40;

/// The layers' root directories, topmost first.
pub struct Merged {
    layers: Vec<OwnedFd>,
}

impl Merged {
    /// Of directories, lowest first.
    pub fn open(layers: &[PathBuf]) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            rustix::fs::open(path, flags, Mode::empty()).what(|| format!("open layer {}", path.display()))
        };
        Ok(Self { layers: layers.iter().rev().map(open).collect::<Result<_>>()? })
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
        let mut rest: VecDeque<Vec<u8>> = parts(path);
        let mut here: Vec<u8> = Vec::new();
        let mut links = 0;
        let mut steps = 0;
        while let Some(part) = rest.pop_front() {
            steps += 1;
            if steps > STEPS || here.iter().filter(|byte| **byte == b'/').count() >= DEPTH {
                let why =
                    format!("its symlinks lead through more than {STEPS} parts, or {DEPTH} directories deep");
                return Err(Error::invalid(why));
            }
            if part == b".." {
                here.truncate(here.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let there = join(&here, &part);
            let Some((layer, kind)) = self.look(&there)? else { return Ok(None) };
            match kind {
                FileType::Symlink if links < LINKS => {
                    links += 1;
                    let target = self.target(layer, &there)?;
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    for part in parts(&target).into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                FileType::Directory => here = there,
                FileType::RegularFile if rest.is_empty() => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                    let file =
                        open_in_root(&self.layers[layer], &there, flags).what(|| "open file of layer")?;
                    return Ok(Some(File::from(file)));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// In which layer a path without symlinks on its way is, and what it is there: the topmost that has it, unless a higher one hides it.
    fn look(&self, path: &[u8]) -> Result<Option<(usize, FileType)>> {
        for (index, layer) in self.layers.iter().enumerate() {
            let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&b""[..], path),
            };
            let directory = match open_in_root(layer, parent, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                Err(Errno::NOENT) if !self.hides(layer, parent) => continue,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(errno).what(|| "open directory of layer"),
            };
            if is_whiteout(&directory, name) {
                return Ok(None);
            }
            match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => return Ok(Some((index, FileType::from_raw_mode(stat.st_mode)))),
                Err(Errno::NOENT) if self.hides(layer, parent) => return Ok(None),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).what(|| "look for file of layer"),
            }
        }
        Ok(None)
    }

    /// Whether the layer hides what lower ones have at `path`: it or a directory above it is opaque.
    fn hides(&self, layer: &OwnedFd, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| {
            let opened = open_in_root(layer, &path[..end], OFlags::RDONLY | OFlags::DIRECTORY);
            let mut value = [0u8; 4];
            opened.is_ok_and(|directory| {
                rustix::fs::fgetxattr(&directory, "trusted.overlay.opaque", &mut value[..])
                    .is_ok_and(|n| &value[..n] == b"y")
            })
        })
    }

    fn target(&self, layer: usize, path: &[u8]) -> Result<Vec<u8>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let link = open_in_root(&self.layers[layer], path, flags).what(|| "open symlink of layer")?;
        Ok(rustix::fs::readlinkat(&link, "", Vec::new()).what(|| "read symlink of layer")?.into_bytes())
    }
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
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
        let merged = Merged::open(&layers).unwrap();
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
}
