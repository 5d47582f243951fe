//! `/etc/passwd` and `/etc/group` of an image: read when somebody asks for a user, bounded, and indifferent to absurd lines. It resolves
//! no user.

use super::userspec::Name;
use crate::error::{Context, Error, Result};
use std::io::{BufRead, Read};

/// Lines longer than this are passed over.
const LINE: u64 = 64 << 10;
/// The most groups that name one user. KERNEL: NGROUPS_MAX
const GROUPS: usize = 1 << 16;

/// Users and groups of an image, in the files' order: those that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// `/etc/passwd`
    pub passwd: Vec<User>,
    /// `/etc/group`
    pub group: Vec<Group>,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
        named(&self.passwd, name.as_str())
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

    /// Of both files what concerns `asked`: words of what a container should run as, names or ids. The first user and the first
    /// group of each are kept, and the groups that name such a user, of their members only those.
    ///
    /// Lines that make no sense (too few fields, ids that are no numbers of 32 bits) are passed over.
    pub fn read(passwd: impl BufRead, group: impl BufRead, asked: &[&str]) -> Result<Self> {
        let words: Vec<&str> =
            asked.iter().flat_map(|text| text.split(':')).filter(|word| !word.is_empty()).collect();
        // Who names nobody is root.
        let ids: Vec<u32> =
            words.iter().filter_map(|word| word.trim_start_matches('+').parse().ok()).chain([0]).collect();
        let mut users = Self::default();
        each_line(passwd, |line| {
            let Some(user) = user(line) else { return Ok(()) };
            let new_name = words.contains(&user.name.as_str()) && named(&users.passwd, &user.name).is_none();
            if new_name || ids.contains(&user.uid) && users.user_of(user.uid).is_none() {
                users.passwd.push(user);
            }
            Ok(())
        })?;
        let Self { passwd, group: groups } = &mut users;
        let is_asked = |name: &str| words.contains(&name) || passwd.iter().any(|user| user.name == name);
        let (mut names, mut numbers) = (words.clone(), ids);
        each_line(group, |line| {
            let Some(mut group) = a_group(line, is_asked) else { return Ok(()) };
            let (name, number) = (position(&names, &group.name.as_str()), position(&numbers, &group.gid));
            if group.members.is_empty() && name.is_none() && number.is_none() {
                return Ok(());
            }
            name.map(|at| names.swap_remove(at));
            number.map(|at| numbers.swap_remove(at));
            if groups.len() == GROUPS {
                let error = Error::invalid(format!("more than {GROUPS} groups name one user"));
                return Err(error.cure("the kernel takes no more: remove some in the image"));
            }
            group.members.shrink_to_fit();
            groups.push(group);
            Ok(())
        })?;
        Ok(users)
    }

    /// All of two short files.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let mut all = Self::default();
        let _ = each_line(passwd, |line| {
            all.passwd.extend(user(line));
            Ok(())
        });
        let _ = each_line(group, |line| {
            all.group.extend(a_group(line, |_| true));
            Ok(())
        });
        all
    }
}

fn named<'a>(users: &'a [User], name: &str) -> Option<&'a User> {
    users.iter().find(|user| user.name == name)
}

fn position<T: PartialEq>(of: &[T], value: &T) -> Option<usize> {
    of.iter().position(|other| other == value)
}

/// Lines of UTF-8 that are no comments, and not too long.
fn each_line(mut input: impl BufRead, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let what = || "read a line";
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE).read_until(b'\n', &mut line).what(what)? == 0 {
            return Ok(());
        }
        if line.len() as u64 == LINE && !line.ends_with(b"\n") {
            input.skip_until(b'\n').what(what)?;
            continue;
        }
        match std::str::from_utf8(&line).map(str::trim) {
            Ok(line) if !line.starts_with('#') => each(line)?,
            _ => {}
        }
    }
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let mut fields = fields.skip(1);
    let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
    let home = fields.nth(1).unwrap_or_default();
    Some(User { name: name.to_owned(), uid, gid, home: home.to_owned() })
}

/// With the members that are asked for.
fn a_group(line: &str, is_asked: impl Fn(&str) -> bool) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let mut fields = fields.skip(1);
    let gid = id(fields.next()?)?;
    let members = fields.next().unwrap_or_default().split(',').map(str::trim);
    let members =
        members.filter(|member| !member.is_empty() && is_asked(member)).map(str::to_owned).collect();
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
    fn a_line_of_a_megabyte_is_passed_over() {
        let mut passwd = vec![b'a'; 1 << 20];
        passwd.extend(b"\nroot:x:0:0::/:\n");
        assert_eq!(Users::parse(&passwd, b"").passwd.len(), 1);
        let exact =
            ["u:x:1:1:".to_owned() + &"g".repeat(LINE as usize - 11) + ":/\n", "v:x:2:2::/:\n".into()]
                .concat();
        assert_eq!(Users::parse(exact.as_bytes(), b"").passwd.len(), 2);
    }

    /// Whatever is asked for, those that are read answer as all would.
    #[test]
    fn so_much_of_a_million_lines_is_kept_as_was_asked_for() {
        let many: String = (1..200_000).map(|id| format!("u{id}:x:{id}:{}::/:\n", id + 1)).collect();
        let passwd = "root:x:0:0::/:\n".to_owned() + &many + "u7:x:0:0::/evil:\nlast:x:70:71::/:\n";
        let groups: String = (1..100_000).map(|id| format!("g{id}:x:{id}:u{id},u5,other{id}\n")).collect();
        let all = Users::parse(passwd.as_bytes(), groups.as_bytes());
        for asked in [&["u7"][..], &["7:g9"], &["", "last"], &["70"], &["nobody:none"], &["u5:5"], &[]] {
            let read = Users::read(passwd.as_bytes(), groups.as_bytes(), asked);
            if asked == ["u5:5"] {
                let error = read.expect_err("too many groups").to_string();
                assert!(error.contains("more than 65536 groups name one user"), "{error}");
                continue;
            }
            let read = read.expect("read");
            assert!(read.passwd.len() < 4 && read.group.len() < 4, "{read:?}");
            for word in asked.iter().flat_map(|text| text.split(':')).chain(["0"]) {
                assert_eq!(named(&read.passwd, word), named(&all.passwd, word), "{word}");
                let gid = |users: &Users| {
                    users.group.iter().find(|group| group.name == word).map(|group| group.gid)
                };
                assert_eq!(gid(&read), gid(&all), "{word}");
                if let Ok(id) = word.parse() {
                    assert_eq!(read.user_of(id), all.user_of(id), "{word}");
                }
                let user = named(&all.passwd, word)
                    .or_else(|| all.user_of(word.parse().ok()?))
                    .map_or("", |user| &user.name);
                let gids = |users: &Users| users.groups_of(user).map(|group| group.gid).collect::<Vec<_>>();
                assert_eq!(gids(&read), gids(&all), "{word}");
            }
        }
    }
}
