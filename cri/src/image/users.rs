//! `/etc/passwd` and `/etc/group` of an image: bounded, and indifferent to absurd lines. It resolves no user.

use super::userspec::Name;
use serde::{Deserialize, Serialize};

/// Lines longer than this are passed over.
const LINE: usize = 64 << 10;
/// Entries of each file that are kept.
const ENTRIES: usize = 100_000;

/// The users and groups of an image, in the files' order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// `/etc/passwd`
    pub passwd: Vec<User>,
    /// `/etc/group`
    pub group: Vec<Group>,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory, empty where the line has none.
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Login names of its members.
    pub members: Vec<String>,
}

impl Users {
    /// The first user of this name.
    pub fn user(&self, name: &Name) -> Option<&User> {
        self.passwd.iter().find(|user| user.name == name.as_str())
    }

    /// The first user with this id.
    pub fn user_of(&self, uid: u32) -> Option<&User> {
        self.passwd.iter().find(|user| user.uid == uid)
    }

    /// The first group of this name.
    pub fn group(&self, name: &Name) -> Option<&Group> {
        self.group.iter().find(|group| group.name == name.as_str())
    }

    /// The groups that name `user` as a member.
    pub fn groups_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a Group> {
        self.group.iter().filter(move |group| group.members.iter().any(|member| member == user))
    }

    /// Reads both files' bytes. Lines that make no sense (too few fields, ids that are no numbers of 32 bits) are passed over.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            passwd: lines(passwd).filter_map(user).take(ENTRIES).collect(),
            group: lines(group).filter_map(a_group).take(ENTRIES).collect(),
        }
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| line.len() <= LINE);
    lines
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let mut fields = fields.skip(1);
    let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
    let home = fields.nth(1).unwrap_or_default();
    Some(User { name: name.to_owned(), uid, gid, home: home.to_owned() })
}

fn a_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let mut fields = fields.skip(1);
    let gid = id(fields.next()?)?;
    let members = fields.next().unwrap_or_default().split(',').map(str::trim);
    let members = members.filter(|member| !member.is_empty()).map(str::to_owned).collect();
    Some(Group { name: name.to_owned(), gid, members })
}

/// Digits only ("+1" is none), within the kernel's range: (uid_t)-1 means "nobody is meant".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_lines_are_passed_over_and_sound_ones_are_kept() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n#x:x:1:1\n\n:x:2:2::/:\nshort:x:3\nbig:x:4294967296:0::/:\n\
            none:x:4294967295:0::/:\nminus:x:-1:0::/:\nplus:x:+1:0::/:\n\xff\xfe:x:5:5::/:\nfew:x:6:7\nlast:x:8:9:g:/h";
        let users = Users::parse(passwd, b"root:x:0:\nw:x:10:a, b,,c\nbad:x:z:a\n+:::\n");
        let names: Vec<_> =
            users.passwd.iter().map(|user| (user.name.as_str(), user.uid, user.gid)).collect();
        assert_eq!(names, [("root", 0, 0), ("few", 6, 7), ("last", 8, 9)]);
        assert_eq!((users.passwd[1].home.as_str(), users.passwd[2].home.as_str()), ("", "/h"));
        assert_eq!(users.group[1].members, ["a", "b", "c"]);
        assert_eq!(users.group.len(), 2);
        assert_eq!(users.groups_of("b").map(|group| group.gid).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn a_line_of_a_gigabyte_or_a_million_lines_cost_little() {
        let mut passwd = vec![b'a'; 1 << 20];
        passwd.extend(b"\nroot:x:0:0::/:\n");
        assert_eq!(Users::parse(&passwd, b"").passwd.len(), 1);
        let many = b"u:x:1:1::/:\n".repeat(ENTRIES + 10);
        assert_eq!(Users::parse(&many, b"").passwd.len(), ENTRIES);
    }
}
