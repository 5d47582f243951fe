//! The name of a user, for people. It asks /etc/passwd only: a static program has no NSS.

/// The user's name, `#UID` if there is none.
pub fn name(uid: u32) -> String {
    match uid {
        // By far the most frequent, and the same everywhere: not worth a file.
        0 => "root".to_owned(),
        _ => std::fs::read_to_string("/etc/passwd")
            .ok()
            .and_then(|passwd| find(&passwd, uid).map(str::to_owned))
            .unwrap_or_else(|| format!("#{uid}")),
    }
}

fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn users_are_found_by_the_third_field() {
        let passwd = "root:x:0:0::/root:/bin/sh\n\nbroken\n:x:7:7::\nann:1000:1001:1000::/:\nbob:x:1000:1::/:/bin/sh\n";
        assert_eq!(super::find(passwd, 1000), Some("bob"));
        assert_eq!(super::find(passwd, 1001), Some("ann"));
        assert_eq!(super::find(passwd, 7), None);
        assert_eq!(super::name(4_000_000_000), "#4000000000");
    }
}
