//! Where a container's user and groups come from, and each mistake in them.

use super::*;

fn tables() -> Users {
    Users::parse(
        b"root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nwww-data:x:33:33::/var/www:/bin/false\nalice:x:1000:1000::/:\n",
        b"root:x:0:\nwww-data:x:33:\nalice:x:1000:alice\nextra:x:50000:bob,alice\nstaff:x:50:root",
    )
}

fn wanted<'a>(uid: Option<i64>, gid: Option<i64>, username: &'a str, image: &'a str) -> Wanted<'a> {
    Wanted { uid, gid, username, groups: &[], policy: api::SupplementalGroupsPolicy::Merge, image }
}

#[test]
fn users_come_from_the_request_then_from_the_image() {
    for (wanted, uid, gid, groups) in [
        (wanted(None, None, "", ""), 0, 0, vec![0, 50]),
        (wanted(None, None, "", "alice"), 1000, 1000, vec![1000, 50000]),
        (wanted(None, None, "", "1002"), 1002, 0, vec![0]),
        (wanted(None, None, "", "1000"), 1000, 1000, vec![1000, 50000]),
        (wanted(None, None, "", "1003:alice"), 1003, 1000, vec![1000]),
        (wanted(None, None, "", "www-data:7"), 33, 7, vec![7]),
        (wanted(None, None, "", ":7"), 0, 7, vec![7, 50]),
        (wanted(Some(0), None, "", "alice"), 0, 0, vec![0, 50]),
        (wanted(Some(1000), Some(9), "", ""), 1000, 9, vec![9, 50000]),
        (wanted(None, Some(9), "www-data", ""), 33, 9, vec![9]),
        (wanted(None, None, "4711", ""), 4711, 0, vec![0]),
    ] {
        let made = resolve(&wanted, &tables()).unwrap();
        assert_eq!((made.uid, made.gid, made.supplemental_groups), (uid, gid, groups), "{wanted:?}");
    }
}

#[test]
fn the_policy_decides_about_the_images_groups() {
    let mut wanted = wanted(Some(1000), None, "", "");
    wanted.groups = &[1234, 50000, 1234];
    assert_eq!(resolve(&wanted, &tables()).unwrap().supplemental_groups, [1000, 50000, 1234]);
    wanted.policy = api::SupplementalGroupsPolicy::Strict;
    assert_eq!(resolve(&wanted, &tables()).unwrap().supplemental_groups, [1000, 1234, 50000]);
}

#[test]
fn mistakes_name_the_field() {
    let mut groups = wanted(Some(1), None, "", "");
    groups.groups = &[-2];
    for (wanted, message) in [
        (
            wanted(None, Some(7), "", "alice"),
            "run_as_group 7 without run_as_user or run_as_username (set the user too)",
        ),
        (wanted(Some(-1), None, "", ""), "run_as_user -1 is not in 0..=4294967294"),
        (wanted(Some(4_294_967_295), None, "", ""), "run_as_user 4294967295 is not in 0..=4294967294"),
        (wanted(Some(1), Some(-1), "", ""), "run_as_group -1 is not in 0..=4294967294"),
        (groups, "supplemental_groups -2 is not in 0..=4294967294"),
        (
            wanted(None, None, "bob", ""),
            "find user \"bob\" of run_as_username in the image's /etc/passwd (set run_as_user to a number)",
        ),
        (
            wanted(None, None, "", "bob"),
            "find user \"bob\" of the image's USER in the image's /etc/passwd (set run_as_user to a number)",
        ),
        (
            wanted(None, None, "", "alice:none"),
            "find group \"none\" of the image's USER \"alice:none\" in its /etc/group (set run_as_user and run_as_group to numbers)",
        ),
    ] {
        assert_eq!(resolve(&wanted, &tables()).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_number_that_the_image_gives_as_a_name_stays_that_number() {
    let tables = Users::parse(
        b"1000:x:0:0::/:\n+1000:x:0:0::/:\n4294967296:x:0:0::/:\n",
        b"1000:x:0:1000\n+5:x:0:\nroot:x:0:1000\n",
    );
    for (wanted, uid, gid) in [
        (wanted(None, None, "1000", ""), 1000, 0),
        (wanted(None, None, "01000", ""), 1000, 0),
        (wanted(None, Some(1000), "1000", ""), 1000, 1000),
        (wanted(Some(1000), Some(1000), "", ""), 1000, 1000),
        (wanted(None, None, "", "1000"), 1000, 0),
        (wanted(None, None, "", "5:1000"), 5, 1000),
        (wanted(None, None, "", "1000:01000"), 1000, 1000),
    ] {
        let made = resolve(&wanted, &tables).unwrap();
        assert_eq!((made.uid, made.gid, made.supplemental_groups), (uid, gid, vec![gid]), "{wanted:?}");
    }
    for text in ["+1000", "-1", "4294967295", "4294967296", " 1000", "1000 ", "1000:0", "１０００"] {
        let error = resolve(&wanted(None, None, text, ""), &tables).unwrap_err().to_string();
        assert!(error.starts_with(&format!("use run_as_username: read {text:?}")), "{error}");
    }
    for text in ["+1000", "4294967296", "5:+5", "5:4294967295", "1000:1000:1000", "5: 5"] {
        let error = resolve(&wanted(None, None, "", text), &tables).unwrap_err().to_string();
        assert!(error.starts_with(&format!("use the image's USER {text:?}: read ")), "{error}");
    }
}

#[test]
fn a_user_is_said_once() {
    let error = resolve(&wanted(Some(1000), None, "root", ""), &tables()).unwrap_err().to_string();
    assert_eq!(error, "run_as_user 1000 and run_as_username \"root\" are both set (set one of them)");
}
