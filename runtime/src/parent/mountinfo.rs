//! The table of mounts as /proc/PID/mountinfo has it, read into its fields. SPEC: proc_pid_mountinfo(5)
//!
//! Knows nothing of what the fields are wanted for.

use crate::error::{Context, Result};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What of its filesystem is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// How it passes mounts on: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`.
    pub tags: Vec<&'a str>,
    /// The type of its filesystem.
    pub kind: &'a str,
}

/// Of this process. A name that is no UTF-8 is no reason to know none.
pub fn own() -> Result<String> {
    let table = std::fs::read("/proc/self/mountinfo").what(|| "read /proc/self/mountinfo")?;
    Ok(String::from_utf8_lossy(&table).into_owned())
}

/// All lines that are understood.
pub fn entries(table: &str) -> impl Iterator<Item = Entry<'_>> {
    table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        Some(Entry { root, point, tags: fields.skip(1).collect(), kind: after.split(' ').next()? })
    })
}

/// `\040` is a space, and so on.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        // By bytes: what follows may be half of a character.
        let byte = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let rest = match byte {
            Some(byte) => {
                plain.push(byte);
                &part[3..]
            }
            None => {
                plain.push(b'\\');
                part
            }
        };
        plain.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_fields() {
        let table = "41 25 0:28 /a\\040b /mnt/my\\040\\134groups rw,nosuid shared:5 master:1 - cgroup2 none rw\n\
                     half a line\n\
                     42 1 0:29 / /plain rw - tmpfs x rw\n";
        let seen: Vec<Entry<'_>> = entries(table).collect();
        let first = Entry {
            root: "/a b".into(),
            point: "/mnt/my \\groups".into(),
            tags: vec!["shared:5", "master:1"],
            kind: "cgroup2",
        };
        assert_eq!(
            seen,
            [first, Entry { root: "/".into(), point: "/plain".into(), tags: vec![], kind: "tmpfs" }]
        );
    }
}
