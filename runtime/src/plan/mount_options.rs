//! Mount options as engines write them → attributes, propagation, and what is left for the filesystem itself.
//!
//! SPEC: config.md#linux-mount-options. It does not know which filesystem takes which of the options that are left.

use serde::Serialize;

use crate::error::{Error, Result};

/// What the options of one mount say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Options {
    /// Attributes of the mount.
    pub attributes: Attributes,
    /// Attributes of the mount and of all below it.
    pub recursive_attributes: Attributes,
    /// Propagation changes, in order.
    pub propagation: Vec<Propagation>,
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    /// `idmap` (false) or `ridmap` (true).
    pub idmap: Option<bool>,
    /// Start a tmpfs with what it covers.
    pub copy_up: bool,
    /// Options of the superblock without a value (`sync`, `dirsync`, `lazytime`, `mand` …).
    pub superblock: Vec<&'static str>,
    /// For the filesystem: `key=value`, or a word.
    pub filesystem: Vec<String>,
}

/// `MOUNT_ATTR_*` bits to raise and to lower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Raise.
    pub set: u64,
    /// Lower first.
    pub clear: u64,
}

/// A change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub kind: u64,
    /// Of the whole tree.
    pub recursive: bool,
}

/// The `MOUNT_ATTR_*` values of the kernel. KERNEL(5.12)
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes can't be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs can't be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field that says how access times are kept; 0 in it is relatime.
    pub const ATIME: u64 = 0x70;
    /// Never.
    pub const NOATIME: u64 = 0x10;
    /// Always.
    pub const STRICTATIME: u64 = 0x20;
    /// Not for directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Map ids.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed. KERNEL(5.14)
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

impl Attributes {
    fn raise(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn lower(&mut self, bits: u64) {
        self.set &= !bits;
        self.clear |= bits;
    }

    /// The access-time field is one value, not bits: whoever changes it must clear it whole.
    fn access_time(&mut self, value: u64) {
        self.set = self.set & !attr::ATIME | value;
        self.clear |= attr::ATIME;
    }

    /// Whether anything changes.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// Words with a meaning of their own; `defaults`, `silent` and the like change nothing here.
const WORDS: [&str; 24] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "bind",
    "rbind",
    "atime",
    "noatime",
    "relatime",
    "strictatime",
    "shared",
    "slave",
    "private",
    "rshared",
    "rslave",
    "rprivate",
    "tmpcopyup",
    "idmap",
    "ridmap",
];

/// Reads the options in order; later ones win.
pub fn parse(list: &[String]) -> Result<Options> {
    let mut options = Options::default();
    for word in list {
        if word.contains('\0') {
            return Err(Error::invalid(format!("mount option {word:?} contains a NUL")));
        }
        options.read(word);
    }
    Ok(options)
}

impl Options {
    fn read(&mut self, word: &str) {
        let recursive = word.strip_prefix('r').filter(|rest| self.attribute_of(rest, Tree::Whole));
        if recursive.is_some() || self.attribute_of(word, Tree::Top) || self.propagation_of(word) {
            return;
        }
        match word {
            "" | "defaults" | "silent" | "loud" | "norelatime" | "nostrictatime" | "async" | "nomand"
            | "noiversion" | "nolazytime" => {}
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "sync" => self.superblock.push("sync"),
            "dirsync" => self.superblock.push("dirsync"),
            "mand" => self.superblock.push("mand"),
            "lazytime" => self.superblock.push("lazytime"),
            "iversion" => self.superblock.push("iversion"),
            other => self.filesystem.push(other.to_owned()),
        }
    }

    fn attribute_of(&mut self, word: &str, tree: Tree) -> bool {
        let attributes = match tree {
            Tree::Top => &mut self.attributes,
            Tree::Whole => &mut self.recursive_attributes,
        };
        match word {
            "ro" => attributes.raise(attr::RDONLY),
            "rw" => attributes.lower(attr::RDONLY),
            "nosuid" => attributes.raise(attr::NOSUID),
            "suid" => attributes.lower(attr::NOSUID),
            "nodev" => attributes.raise(attr::NODEV),
            "dev" => attributes.lower(attr::NODEV),
            "noexec" => attributes.raise(attr::NOEXEC),
            "exec" => attributes.lower(attr::NOEXEC),
            "nodiratime" => attributes.raise(attr::NODIRATIME),
            "diratime" => attributes.lower(attr::NODIRATIME),
            "nosymfollow" => attributes.raise(attr::NOSYMFOLLOW),
            "symfollow" => attributes.lower(attr::NOSYMFOLLOW),
            "noatime" => attributes.access_time(attr::NOATIME),
            "strictatime" => attributes.access_time(attr::STRICTATIME),
            "relatime" | "atime" => attributes.access_time(0),
            "norelatime" | "nostrictatime" if matches!(tree, Tree::Whole) => attributes.access_time(0),
            _ => return false,
        }
        true
    }

    fn propagation_of(&mut self, word: &str) -> bool {
        let Some(change) = propagation(word) else { return false };
        self.propagation.push(change);
        true
    }

    /// A bind mount has no superblock to configure: a word that nothing understands is a mistake, a `key=value` is left over
    /// from what the engine mounted before and means nothing here, as in every other runtime.
    pub fn keep_only_what_binds_take(&mut self) -> Result<()> {
        if let Some(word) = self.filesystem.iter().find(|word| !word.contains('=') && *word != "remount") {
            let near = WORDS.into_iter().find(|known| near(known, word));
            let error = Error::invalid(format!("unknown mount option {word:?}"));
            return Err(match near {
                Some(near) => error.cure(format!("did you mean {near:?}?")),
                None => error,
            });
        }
        self.filesystem.clear();
        self.superblock.clear();
        Ok(())
    }
}

/// `rslave` → recursive slave, and so on.
pub fn propagation(word: &str) -> Option<Propagation> {
    let (kind, recursive) = match word {
        "shared" => (libc::MS_SHARED, false),
        "slave" => (libc::MS_SLAVE, false),
        "private" => (libc::MS_PRIVATE, false),
        "unbindable" => (libc::MS_UNBINDABLE, false),
        "rshared" => (libc::MS_SHARED, true),
        "rslave" => (libc::MS_SLAVE, true),
        "rprivate" => (libc::MS_PRIVATE, true),
        "runbindable" => (libc::MS_UNBINDABLE, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

#[derive(Clone, Copy)]
enum Tree {
    Top,
    Whole,
}

/// One letter too many, too few, or wrong.
fn near(a: &str, b: &str) -> bool {
    let (long, short) =
        if a.len() >= b.len() { (a.as_bytes(), b.as_bytes()) } else { (b.as_bytes(), a.as_bytes()) };
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    match long.len() - short.len() {
        0 => same < short.len() && long[same + 1..] == short[same + 1..],
        1 => long[same + 1..] == short[same..],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        parse(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn later_words_win() {
        let both = options(&["ro", "rw", "nosuid"]);
        assert_eq!(both.attributes, Attributes { set: attr::NOSUID, clear: attr::RDONLY });
        let times = options(&["noatime", "strictatime"]);
        assert_eq!(times.attributes, Attributes { set: attr::STRICTATIME, clear: attr::ATIME });
    }

    #[test]
    fn recursive_words_are_not_taken_for_plain_ones() {
        let tree = options(&["rro", "rnosuid", "relatime", "rbind", "rrelatime", "rw"]);
        assert_eq!(tree.recursive_attributes.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(tree.recursive_attributes.clear, attr::ATIME);
        assert_eq!(tree.attributes.clear, attr::ATIME | attr::RDONLY);
        assert_eq!(tree.bind, Some(true));
    }

    #[test]
    fn what_nobody_knows_is_the_filesystems() {
        let tmpfs = options(&["size=64k", "mode=1777", "lazytime", "tmpcopyup", "rprivate"]);
        assert_eq!(tmpfs.filesystem, ["size=64k", "mode=1777"]);
        assert_eq!(tmpfs.superblock, ["lazytime"]);
        assert!(tmpfs.copy_up);
        assert_eq!(tmpfs.propagation, [Propagation { kind: libc::MS_PRIVATE, recursive: true }]);
    }
}
