//! A volume that an image declares: a directory of the container's own, filled with what the image has there. Paths are walked without
//! following links, so that an image can't point outside its layers.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::paths;

/// The host's ids of the container's root: what is copied belongs to the ids that follow.
type Root = (u32, u32);

/// Makes `path` with what `layers` (lowest first) have at `volume`.
pub fn create(path: &Path, volume: &str, layers: &[PathBuf], root: Root) -> Result<()> {
    let parts = parts(volume)?;
    paths::own_dir(path)?;
    let views = views(layers, &parts);
    if let Some((_, top)) = views.first() {
        attributes(path, top, root)?;
    } else {
        std::os::unix::fs::chown(path, Some(root.0), Some(root.1))
            .what(|| format!("change the owner of {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .what(|| format!("set the mode of {}", path.display()))?;
    }
    let dirs: Vec<PathBuf> = views.into_iter().map(|(dir, _)| dir).collect();
    copy(&dirs, path, root, 0)
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
fn views(layers: &[PathBuf], parts: &[OsString]) -> Vec<(PathBuf, Metadata)> {
    let mut views = Vec::new();
    for layer in layers.iter().rev() {
        let mut at = layer.clone();
        let mut hides = false;
        let mut found = fs::symlink_metadata(&at).ok();
        for part in parts {
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
    views
}

/// Copies the merged content of `dirs`, topmost first.
fn copy(dirs: &[PathBuf], to: &Path, root: Root, depth: usize) -> Result<()> {
    if depth > 64 {
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
            if there.is_dir() {
                let name = [entry.file_name()];
                let below: Vec<PathBuf> = dirs[index..].iter().rev().cloned().collect();
                let merged: Vec<PathBuf> = views(&below, &name).into_iter().map(|(dir, _)| dir).collect();
                fs::create_dir(&target).what(|| format!("create directory {}", target.display()))?;
                copy(&merged, &target, root, depth + 1)?;
                attributes(&target, &there, root)?;
            } else {
                one(&entry.path(), &target, &there, root)?;
            }
        }
    }
    Ok(())
}

fn one(from: &Path, to: &Path, there: &Metadata, root: Root) -> Result<()> {
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
        fs::copy(from, to).what(what)?;
        return attributes(to, there, root);
    }
    // A whiteout is a 0/0 device: nothing is there. Other special files are made by the container if it wants them.
    if !kind.is_char_device() || there.rdev() != 0 {
        tracing::debug!("{} is left out of a volume: a special file", from.display());
    }
    Ok(())
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
        create(&to, "/data", &layers, (0, 0)).expect("create");
        for (path, text) in [("a", "high"), ("sub/b", "low"), ("sub/c", "high")] {
            assert_eq!(fs::read_to_string(to.join(path)).expect("read"), text, "{path}");
        }
        create(&dir.join("other"), "/nowhere", &layers, (0, 0)).expect("create");
        assert!(create(&dir.join("bad"), "/../x", &layers, (0, 0)).is_err());
        fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn a_link_in_an_image_is_copied_and_not_followed() {
        let dir = std::env::temp_dir().join(format!("rt-volume-link-{}", std::process::id()));
        fs::create_dir_all(dir.join("1/data")).expect("directory");
        std::os::unix::fs::symlink("/etc", dir.join("1/data/etc")).expect("link");
        std::os::unix::fs::symlink("/etc", dir.join("1/out")).expect("link");
        let layers = [dir.join("1")];
        create(&dir.join("to"), "/data", &layers, (0, 0)).expect("create");
        assert!(fs::symlink_metadata(dir.join("to/etc")).expect("there").is_symlink());
        create(&dir.join("out"), "/out", &layers, (0, 0)).expect("create");
        assert_eq!(fs::read_dir(dir.join("out")).expect("read").count(), 0);
        fs::remove_dir_all(&dir).expect("remove");
    }
}
