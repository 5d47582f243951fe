//! One file of a record: written beside and renamed, with a checksum and the boot that it was written in. A torn or foreign file reads
//! as absent. Not synced: after a power loss a record may be missing, never wrong.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Context, Result};

const FORMAT: &str = "rt-record-1";

/// What a file said, and when.
#[derive(Debug)]
pub struct Read<T> {
    /// The content.
    pub content: T,
    /// The boot that it was written in.
    pub boot: String,
}

/// Writes `content` so that a reader sees all of it or what was there before.
pub fn write<T: Serialize>(path: &Path, boot: &str, content: &T) -> Result<()> {
    let text = serde_json::to_string(content).what(|| format!("serialize {}", path.display()))?;
    let whole = format!("{FORMAT} {} {boot}\n{text}", checksum(boot, &text));
    let beside = path.with_extension("new");
    crate::paths::write_own(&beside, whole.as_bytes())?;
    std::fs::rename(&beside, path).what(|| format!("rename {} to {}", beside.display(), path.display()))
}

/// Reads a file; none if it is absent, torn or of another format.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<Read<T>> {
    parse(&std::fs::read_to_string(path).ok()?)
}

fn parse<T: DeserializeOwned>(whole: &str) -> Option<Read<T>> {
    let (head, text) = whole.split_once('\n')?;
    let mut words = head.split(' ');
    let (format, sum, boot) = (words.next()?, words.next()?, words.next()?);
    if format != FORMAT || sum != checksum(boot, text) {
        return None;
    }
    Some(Read { content: serde_json::from_str(text).ok()?, boot: boot.to_owned() })
}

fn checksum(boot: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(boot);
    hash.update(text);
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_changed_file_reads_as_absent() {
        let dir = std::env::temp_dir().join(format!("rt-record-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let path = dir.join("status");
        write(&path, "boot-1", &vec![1, 2, 3]).expect("write");
        let whole = std::fs::read_to_string(&path).expect("read");
        let read = parse::<Vec<u32>>(&whole).expect("parse");
        assert_eq!((read.content, read.boot.as_str()), (vec![1, 2, 3], "boot-1"));
        for end in 0..whole.len() {
            assert!(parse::<Vec<u32>>(&whole[..end]).is_none(), "{end}");
        }
        assert!(parse::<Vec<u32>>(&whole.replace('3', "4")).is_none());
        assert!(parse::<Vec<u32>>(&whole.replace("boot-1", "boot-2")).is_none());
        std::fs::remove_dir_all(&dir).expect("remove");
    }
}
