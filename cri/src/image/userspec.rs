//! Who is meant by a `USER` of an image or by a name in a request: a number, or a name of the image's tables. It reads no file.
//!
//! Everything that takes a user or group as text takes it through here: digits are a number or a mistake, never a name that an image
//! could give to anybody (a passwd line `1000:x:0:0::/:` would make root of 1000).

use super::users::{User, Users};
use crate::error::{Context, Error, Result};

/// The largest id. KERNEL: -1 is "no change" for setuid(2) and its kin.
pub const LAST_ID: u32 = u32::MAX - 1;

/// A user or a group as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// An id, whatever the tables say.
    Id(u32),
    /// To be found in the tables.
    Name(Name),
}

/// What may be looked up in a table: something with a letter. Only [`Principal::parse`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Principal {
    /// Decimal digits are an id; what has no letter besides (signs, blanks, digits of other scripts) is neither an id nor a name.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid(format!("read {text:?}: {why}"))
                .cure(format!("write an id of 0 to {LAST_ID} in decimal digits, or a name"))
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let id = text.parse().ok().filter(|id| *id <= LAST_ID);
            return id.map(Self::Id).ok_or_else(|| wrong("the id does not fit into 32 bits"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
            return Err(wrong("a blank, a control character or a second colon is in it"));
        }
        match text.contains(|c: char| c.is_alphabetic() && !c.is_numeric()) {
            true => Ok(Self::Name(Name(text.to_owned()))),
            false => Err(wrong("it is neither an id nor a name")),
        }
    }
}

/// `USER[:GROUP]`, each a number or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    text: String,
    /// None: root.
    pub user: Option<Principal>,
    /// None: the user's own.
    pub group: Option<Principal>,
}

/// A user that the tables were asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// The line of that user; None where the tables don't know the id.
    pub entry: Option<&'a User>,
}

impl UserSpec {
    /// As the config of an image has it.
    pub fn parse(text: &str) -> Result<Self> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let part = |part: &str| Some(part).filter(|part| !part.is_empty()).map(Principal::parse).transpose();
        let what = || format!("use the image's USER {text:?}");
        Ok(Self { text: text.to_owned(), user: part(user).what(what)?, group: part(group).what(what)? })
    }

    /// By the image's tables: an id gets the primary group of its line, or group 0 where it has none.
    pub fn resolve<'a>(&self, tables: &'a Users) -> Result<Resolved<'a>> {
        let user = match &self.user {
            None => by_id(0, tables),
            Some(user) => find(user, tables).map_err(|name| no_user("the image's USER", name))?,
        };
        let gid = match &self.group {
            None => user.gid,
            Some(Principal::Id(gid)) => *gid,
            Some(Principal::Name(name)) => {
                let found = tables.group(name).map(|group| group.gid);
                found.ok_or_else(|| {
                    let (group, text) = (name.as_str(), &self.text);
                    Error::invalid(format!(
                        "find group {group:?} of the image's USER {text:?} in its /etc/group"
                    ))
                    .cure("set run_as_user and run_as_group to numbers")
                })?
            }
        };
        Ok(Resolved { gid, ..user })
    }
}

/// A user by the image's tables, or the name that they don't know.
fn find<'a, 'n>(user: &'n Principal, tables: &'a Users) -> Result<Resolved<'a>, &'n Name> {
    match user {
        Principal::Id(uid) => Ok(by_id(*uid, tables)),
        Principal::Name(name) => {
            let user = tables.user(name).ok_or(name)?;
            Ok(Resolved { uid: user.uid, gid: user.gid, entry: Some(user) })
        }
    }
}

fn no_user(field: &str, name: &Name) -> Error {
    Error::invalid(format!("find user {:?} of {field} in the image's /etc/passwd", name.as_str()))
        .cure("set run_as_user to a number")
}

/// A user that the field `of` names by name or number, without a group.
pub fn alone<'a>(of: &str, text: &str, tables: &'a Users) -> Result<Resolved<'a>> {
    let user = Principal::parse(text).what(|| format!("use {of}"))?;
    find(&user, tables).map_err(|name| no_user(of, name))
}

/// A user that the tables don't know has group 0 and no line.
pub fn by_id(uid: u32, tables: &Users) -> Resolved<'_> {
    let entry = tables.user_of(uid);
    Resolved { uid, gid: entry.map_or(0, |user| user.gid), entry }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image that gives away root to everybody who is taken for a name.
    fn traps() -> Users {
        let names = [
            "1000",
            "01000",
            "+1000",
            "-1",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "１０００",
            "٣",
            "1000\u{200b}",
        ];
        let passwd: String = names.iter().map(|name| format!("{name}:x:0:0::/:\n")).collect();
        let group: String = names.iter().map(|name| format!("{name}:x:0:\n")).collect();
        Users::parse(format!("{passwd}u1:x:7:8::/:\n").as_bytes(), format!("{group}g1:x:9:\n").as_bytes())
    }

    #[test]
    fn digits_are_an_id_or_a_mistake_and_never_a_name() {
        let tables = traps();
        for (text, uid, gid) in [
            ("1000", 1000, 0),
            ("01000", 1000, 0),
            ("0000000000001000", 1000, 0),
            ("5:1000", 5, 1000),
            ("5:01000", 5, 1000),
            ("u1:1000", 7, 1000),
            ("u1", 7, 8),
            ("7", 7, 8),
            ("u1:g1", 7, 9),
            ("1000:", 1000, 0),
            (":1000", 0, 1000),
            ("4294967294:4294967294", LAST_ID, LAST_ID),
        ] {
            let found = UserSpec::parse(text).expect(text).resolve(&tables).expect(text);
            assert_eq!((found.uid, found.gid), (uid, gid), "{text}");
        }
        let wrong = [
            "+1000",
            "-1",
            "-0",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "１０００",
            "٣",
            "1000\u{200b}",
            " 1000",
            "1000 ",
            "1000\n",
            "\t",
            " ",
            "0x",
            "1_000",
            "1.0",
            "³",
            "Ⅷ",
            "u1 ",
            "u\0",
            "u1:g1:x",
        ];
        for text in wrong.iter().filter(|text| **text != "0x") {
            for text in [(*text).to_owned(), format!("5:{text}")] {
                let made =
                    UserSpec::parse(&text).and_then(|spec| spec.resolve(&tables).map(|found| found.uid));
                assert!(made.is_err(), "{text:?}: {made:?}");
            }
        }
        // A name that begins with digits is one, and is not taken for the digits.
        for text in ["0x", "1000x", "0x3e8"] {
            assert!(UserSpec::parse(text).expect(text).resolve(&tables).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_line_of_a_name_or_id_counts() {
        let tables = Users::parse(b"a:x:1:2::/:\nb:x:1:3::/:\na:x:4:5::/:\n", b"g:x:6:\ng:x:7:\n");
        let found = |text: &str| {
            let found = UserSpec::parse(text).expect("a user").resolve(&tables).expect("a user");
            (found.uid, found.gid)
        };
        assert_eq!((found("a"), found("1"), found("b:g")), ((1, 2), (1, 2), (1, 6)));
    }
}
