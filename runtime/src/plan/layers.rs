//! A root filesystem that the runtime mounts itself: the field `run.rt.rootfs`, and `--overlay`, its short form.
//!
//! Mounts are written as containerd's snapshotters write them. It opens nothing and doesn't know where the root comes to lie.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::idmap::IdMap;
use super::mount_options::{self, Options};
use super::mounts::MountIdMap;
use crate::error::{Error, Result};
use crate::spec::{IdMapping, RootfsMount};

/// A field of config.json, a list of mounts.
pub const FIELD: &str = "run.rt.rootfs";

/// KERNEL: OVL_MAX_STACK
const MOST_LAYERS: usize = 500;

/// Nothing of these is on by default everywhere: copies of metadata alone can't be trusted in a directory that others wrote, and
/// an index would refuse a writable layer whose lower ones were replaced by copies of themselves.
const SAFE: [&str; 2] = ["index=off", "metacopy=off"];

/// A mount that becomes the root, or is covered by the next one that does.
#[derive(Debug, Clone, Serialize)]
pub struct RootMount {
    /// What it shows.
    pub content: Content,
    /// Attributes; for the filesystem, what is left of the options.
    #[serde(flatten)]
    pub options: Options,
    /// Map ids: of the mount, or of an overlay's read-only layers.
    pub idmap: Option<MountIdMap>,
}

/// What a root mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A part of the host's tree.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// Layers.
    Overlay {
        /// Read-only layers, topmost first.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        changes: Changes,
    },
    /// A filesystem of its own, of a block device perhaps.
    Filesystem {
        /// As in /proc/filesystems.
        fstype: CString,
        /// What it is made from.
        source: CString,
    },
}

/// Where an overlay keeps what is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Changes {
    /// Nowhere: it is read-only.
    None,
    /// In a tmpfs that dies with the container.
    Tmpfs,
    /// In directories that are there.
    In {
        /// The writable layer.
        upper: PathBuf,
        /// Empty, on the same filesystem.
        work: PathBuf,
    },
    /// In directories that are made where they are missing.
    Made {
        /// The writable layer.
        upper: PathBuf,
        /// Beside it.
        work: PathBuf,
    },
}

/// The mounts of the field; none without it.
pub fn given(mounts: Option<&[RootfsMount]>) -> Result<Vec<RootMount>> {
    let Some(mounts) = mounts else { return Ok(Vec::new()) };
    if mounts.is_empty() {
        return Err(Error::invalid(format!("{FIELD}: the list is empty")));
    }
    let one = |(at, given)| mount(given).map_err(|error: Error| error.during(format!("{FIELD}[{at}]")));
    mounts.iter().enumerate().map(one).collect()
}

/// `--overlay`: layers topmost first, with changes in `upper` or in a tmpfs.
pub fn overlay(lowers: &[PathBuf], upper: Option<&Path>) -> Result<RootMount> {
    let changes = match upper {
        None => Changes::Tmpfs,
        Some(upper) => {
            let mut work = upper.file_name().map(ToOwned::to_owned).ok_or_else(|| {
                Error::invalid(format!("--overlay-upper {}: it has no name", upper.display()))
            })?;
            work.push(".work");
            Changes::Made { upper: upper.to_owned(), work: upper.with_file_name(work) }
        }
    };
    count(lowers)?;
    let options = Options { filesystem: SAFE.map(str::to_owned).to_vec(), ..Options::default() };
    Ok(RootMount { content: Content::Overlay { lowers: lowers.to_vec(), changes }, options, idmap: None })
}

fn mount(entry: &RootfsMount) -> Result<RootMount> {
    let mut options = mount_options::parse(&entry.options)?;
    if !options.propagation.is_empty() {
        return Err(Error::invalid("the propagation of the root is not an option of its mounts")
            .cure("it is linux.rootfsPropagation"));
    }
    if options.copy_up {
        return Err(Error::invalid("tmpcopyup is not for the root: there is nothing to copy"));
    }
    let idmap = take_idmap(&mut options)?;
    let content = match (entry.kind.as_str(), options.bind) {
        (_, Some(recursive)) => bind(&entry.source, recursive, &mut options)?,
        ("bind", None) => bind(&entry.source, false, &mut options)?,
        ("overlay", None) => layers(&mut options.filesystem)?,
        ("", None) => return Err(Error::invalid("no type, and neither bind nor rbind among the options")),
        (kind, None) => Content::Filesystem {
            fstype: super::text::one("type", kind)?,
            source: super::text::one("source", if entry.source.is_empty() { kind } else { &entry.source })?,
        },
    };
    Ok(RootMount { content, options, idmap })
}

fn bind(source: &str, recursive: bool, options: &mut Options) -> Result<Content> {
    options.keep_only_what_binds_take()?;
    Ok(Content::Bind { source: absolute("source", source.to_owned())?, recursive })
}

/// The directories among an overlay's options; the others stay.
fn layers(options: &mut Vec<String>) -> Result<Content> {
    let (mut lowers, mut upper, mut work) = (Vec::new(), None, None);
    let mut others = Vec::new();
    for option in options.drain(..) {
        match option.split_once('=') {
            Some(("lowerdir", list)) => {
                for layer in split(list) {
                    lowers.push(absolute("lowerdir", layer)?);
                }
            }
            Some(("lowerdir+", layer)) => lowers.push(absolute("lowerdir+", layer.to_owned())?),
            Some(("upperdir", path)) => upper = Some(absolute("upperdir", unescaped(path))?),
            Some(("workdir", path)) => work = Some(absolute("workdir", unescaped(path))?),
            Some(("datadir+", _)) => {
                return Err(Error::unsupported("data-only layers (datadir+) are not supported yet"));
            }
            _ => others.push(option),
        }
    }
    *options = others;
    count(&lowers)?;
    let changes = match (upper, work) {
        (None, None) => Changes::None,
        (Some(upper), Some(work)) => Changes::In { upper, work },
        (Some(_), None) => {
            return Err(Error::invalid("upperdir without workdir")
                .cure("give an empty directory on the same filesystem"));
        }
        (None, Some(_)) => return Err(Error::invalid("workdir without upperdir")),
    };
    if changes == Changes::None && lowers.len() < 2 {
        return Err(Error::invalid("one read-only layer is no overlay").cure("bind it, or give an upperdir"));
    }
    Ok(Content::Overlay { lowers, changes })
}

fn count(lowers: &[PathBuf]) -> Result<()> {
    match lowers.len() {
        0 => Err(Error::invalid("an overlay needs a lowerdir")),
        1..=MOST_LAYERS => Ok(()),
        many => Err(Error::invalid(format!("{many} overlay layers, the kernel takes {MOST_LAYERS}"))),
    }
}

fn absolute(what: &str, path: String) -> Result<PathBuf> {
    if path.is_empty() {
        return Err(Error::invalid(format!("{what} is empty")));
    }
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("{what} {path:?} is not an absolute path")));
    }
    Ok(path.into())
}

/// `a\:b:c` → `a:b`, `c`, as the kernel reads lowerdir.
fn split(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (letter, parts.last_mut()) {
            (':', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(letters.next()),
            (other, Some(part)) => part.push(other),
            (_, None) => {}
        }
    }
    parts
}

fn unescaped(path: &str) -> String {
    let mut letters = path.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

/// `idmap`: as the container's. `uidmap=C:H:SIZE[,…]` with `gidmap=`: as containerd's snapshotters ask for.
fn take_idmap(options: &mut Options) -> Result<Option<MountIdMap>> {
    let mut take = |key: &str| -> Result<Vec<IdMapping>> {
        let Some(at) = options.filesystem.iter().position(|option| option.starts_with(key)) else {
            return Ok(Vec::new());
        };
        let option = options.filesystem.remove(at);
        let broken = || Error::invalid(format!("option {option:?}: it is not {key}CONTAINER:HOST:SIZE[,…]"));
        option[key.len()..].split(',').map(|range| mapping(range).ok_or_else(broken)).collect()
    };
    let own = IdMap::plan("options", &take("uidmap=")?, &take("gidmap=")?)?;
    Ok(own.map(MountIdMap::Own).or(options.idmap.map(|_| MountIdMap::Container)))
}

fn mapping(range: &str) -> Option<IdMapping> {
    let mut numbers = range.split(':').map(|number| number.parse().ok());
    let map = IdMapping { container_id: numbers.next()??, host_id: numbers.next()??, size: numbers.next()?? };
    numbers.next().is_none().then_some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<Vec<RootMount>> {
        given(Some(&serde_json::from_str::<Vec<_>>(text).unwrap()))
    }

    #[test]
    fn a_snapshotters_overlay_is_read() {
        let text = r#"[{"type": "overlay", "source": "overlay", "options":
            ["index=off", "workdir=/s/2/work", "upperdir=/s/2/fs", "lowerdir=/s/1/fs:/s/a\\:b\\\\c,d/fs", "ro"]}]"#;
        let mounts = from(text).unwrap();
        assert_eq!(
            mounts[0].content,
            Content::Overlay {
                lowers: vec!["/s/1/fs".into(), "/s/a:b\\c,d/fs".into()],
                changes: Changes::In { upper: "/s/2/fs".into(), work: "/s/2/work".into() },
            }
        );
        assert_eq!(mounts[0].options.filesystem, ["index=off"]);
        assert_eq!(mounts[0].options.attributes.set, mount_options::attr::RDONLY);
    }

    #[test]
    fn binds_and_devices_are_read() {
        let text = r#"[{"type": "bind", "source": "/s/1/fs", "options": ["rbind", "ro"]},
            {"type": "ext4", "source": "/dev/mapper/x", "options": ["discard"]}]"#;
        let mounts = from(text).unwrap();
        assert_eq!(mounts[0].content, Content::Bind { source: "/s/1/fs".into(), recursive: true });
        let device = Content::Filesystem { fstype: c"ext4".into(), source: c"/dev/mapper/x".into() };
        assert_eq!(mounts[1].content, device);
        assert!(given(None).unwrap().is_empty());
    }

    #[test]
    fn ids_are_mapped_as_the_container_does_or_by_ranges() {
        let layers = |option: &str| {
            from(&format!(r#"[{{"type": "overlay", "options": ["lowerdir=/a:/b", {option}]}}]"#)).unwrap()
        };
        assert_eq!(layers("\"idmap\"")[0].idmap, Some(MountIdMap::Container));
        let Some(MountIdMap::Own(own)) = &layers("\"uidmap=0:9:5,5:1:1\", \"gidmap=0:9:5\"")[0].idmap else {
            panic!("no map")
        };
        assert_eq!((own.host_uid(5), own.host_gid(4)), (Some(1), Some(13)));
    }

    #[test]
    fn changes_of_the_short_form_lie_beside_their_work_directory() {
        let mount = overlay(&["/l".into()], Some(Path::new("/x/up"))).unwrap();
        let changes = Changes::Made { upper: "/x/up".into(), work: "/x/up.work".into() };
        assert_eq!(mount.content, Content::Overlay { lowers: vec!["/l".into()], changes });
        assert!(overlay(&["/l".into()], Some(Path::new("/"))).is_err());
    }

    #[test]
    fn mistakes_name_the_mount() {
        let many = vec!["/l"; 501].join(":");
        let many = format!(r#"[{{"type": "overlay", "options": ["lowerdir={many}"]}}]"#);
        for (text, message) in [
            ("[]", "run.rt.rootfs: the list is empty"),
            (
                r#"[{"source": "/x"}]"#,
                "run.rt.rootfs[0]: no type, and neither bind nor rbind among the options",
            ),
            (
                r#"[{"type": "bind", "source": "x"}]"#,
                "run.rt.rootfs[0]: source \"x\" is not an absolute path",
            ),
            (r#"[{"type": "overlay"}]"#, "run.rt.rootfs[0]: an overlay needs a lowerdir"),
            (
                r#"[{"type": "overlay", "options": ["lowerdir=/a"]}]"#,
                "run.rt.rootfs[0]: one read-only layer is no overlay (bind it, or give an upperdir)",
            ),
            (
                r#"[{"type": "overlay", "options": ["lowerdir=/a::/b"]}]"#,
                "run.rt.rootfs[0]: lowerdir is empty",
            ),
            (
                r#"[{"type": "overlay", "options": ["lowerdir=/a", "upperdir=/u"]}]"#,
                "run.rt.rootfs[0]: upperdir without workdir (give an empty directory on the same filesystem)",
            ),
            (
                r#"[{"type": "overlay", "options": ["lowerdir=/a:/b", "uidmap=0:1"]}]"#,
                "run.rt.rootfs[0]: option \"uidmap=0:1\": it is not uidmap=CONTAINER:HOST:SIZE[,…]",
            ),
            (
                r#"[{"type": "overlay", "options": ["lowerdir=/a:/b", "rslave"]}]"#,
                "run.rt.rootfs[0]: the propagation of the root is not an option of its mounts (it is linux.rootfsPropagation)",
            ),
            (&many, "run.rt.rootfs[0]: 501 overlay layers, the kernel takes 500"),
        ] {
            assert_eq!(from(text).unwrap_err().to_string(), message);
        }
    }
}
