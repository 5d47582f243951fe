//! The small languages in which values are written: sizes, signals, users, shared namespaces. Pure.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::ops::options::{Overlay, Share, SharedNamespace};

/// An argument as an id.
pub fn parse_id(argument: &OsString) -> Result<Id> {
    match argument.to_str() {
        Some(text) => Id::parse(text),
        None => Err(Error::invalid(format!("invalid container id {argument:?}: it is not UTF-8"))),
    }
}

/// Bytes: `-1` (no limit), or a number with an optional unit of 1024: `64m`, `1.5GiB`, `512 kB`, as docker's go-units.
pub fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.strip_prefix(' ') {
        Some("") => return None,
        Some(unit) => unit.to_ascii_lowercase(),
        None => unit.to_ascii_lowercase(),
    };
    let (scale, rest) = match unit.as_bytes() {
        [] => return number.parse().ok().or_else(|| scaled(number, 0)),
        [b'b'] => (0, ""),
        [first, ..] => (1 + b"kmgtp".iter().position(|letter| letter == first)?, &unit[1..]),
    };
    matches!(rest, "" | "b" | "ib").then(|| scaled(number, scale)).flatten()
}

/// `number` × 1024^`scale`, cut to a whole number of bytes.
fn scaled(number: &str, scale: usize) -> Option<i64> {
    let factor = 1i64 << (10 * scale);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    // 2^63 is the first value that doesn't fit, and a float has it exactly.
    (bytes < 9_223_372_036_854_775_808.0).then_some(bytes as i64)
}

/// A number from 0 to 64, or a name with or without `SIG`, in any case.
pub fn signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            0..=64 => Ok(number),
            _ => Err(Error::invalid(format!("unknown signal {text:?}")).cure("they are numbered 1 to 64")),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    signal_by_name(name).ok_or_else(|| {
        Error::invalid(format!("unknown signal {text:?}"))
            .cure("`kill -l` lists names, and a number will do too")
    })
}

fn signal_by_name(name: &str) -> Option<i32> {
    // Real-time signals as libc counts them: the first two of the kernel's are its own.
    const MIN: i32 = 34;
    const MAX: i32 = 64;
    let in_range = |number: i32| (MIN..=MAX).contains(&number).then_some(number);
    match name {
        "IOT" => Some(libc::SIGIOT),
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGPOLL),
        "RTMIN" => Some(MIN),
        "RTMAX" => Some(MAX),
        _ => {
            if let Some(plus) = name.strip_prefix("RTMIN+") {
                return plus.parse::<u8>().ok().and_then(|plus| in_range(MIN + i32::from(plus)));
            }
            if let Some(minus) = name.strip_prefix("RTMAX-") {
                return minus.parse::<u8>().ok().and_then(|minus| in_range(MAX - i32::from(minus)));
            }
            format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
        }
    }
}

/// `UID[:GID]`. Digits only: a name read as 0 was CVE-2026-30892 elsewhere.
pub fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |what: &str, digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|&number| plain && number != u32::MAX).ok_or_else(|| {
            Error::invalid(format!("option --user: bad {what} {digits:?}"))
                .cure("write it as UID or UID:GID, in numbers: names are the image's")
        })
    };
    Ok((number("uid", uid)?, gid.map(|gid| number("gid", gid)).transpose()?))
}

/// `ID[=net,ipc,uts,pid]`.
pub fn share(text: &str) -> Result<Share> {
    use SharedNamespace::{Ipc, Net, Pid, Uts};
    let Some((id, list)) = text.split_once('=') else {
        return Ok(Share { with: Id::parse(text)?, namespaces: vec![Net, Ipc, Uts] });
    };
    let mut namespaces = list
        .split(',')
        .map(|name| match name {
            "net" | "network" => Ok(Net),
            "ipc" => Ok(Ipc),
            "uts" => Ok(Uts),
            "pid" => Ok(Pid),
            _ => Err(Error::invalid(format!("option --share: {name:?} can't be shared"))
                .cure("net, ipc, uts and pid can")),
        })
        .collect::<Result<Vec<_>>>()?;
    namespaces.sort_unstable();
    namespaces.dedup();
    Ok(Share { with: Id::parse(id)?, namespaces })
}

/// `LOWER[:LOWER…]`, topmost first; a backslash keeps the colon or backslash after it.
pub fn overlay(text: Option<&str>) -> Result<Overlay> {
    let Some(text) = text else { return Ok(Overlay::default()) };
    let mut lowers = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, lowers.last_mut()) {
            (':', _) => lowers.push(String::new()),
            ('\\', Some(lower)) => lower.extend(letters.next()),
            (_, Some(lower)) => lower.push(letter),
            (_, None) => {}
        }
    }
    if lowers.iter().any(String::is_empty) {
        return Err(Error::invalid(format!("option --overlay: an empty layer in {text:?}")));
    }
    let lowers =
        lowers.iter().map(|lower| super::absolute(lower.as_ref())).collect::<Result<Vec<PathBuf>>>()?;
    Ok(Overlay { lowers, upper: None })
}

/// `90s`, `1m30s`, `500ms`, as Go writes durations; only what is positive.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let letters =
            rest[digits..].bytes().take_while(|byte| !byte.is_ascii_digit() && *byte != b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = match &rest[digits..digits + letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[digits + letters..];
    }
    (total > 0.0).then(|| std::time::Duration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_go_units() {
        for (text, bytes) in [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("32", Some(32)),
            ("32b", Some(32)),
            ("32B", Some(32)),
            ("32k", Some(32 << 10)),
            ("32K", Some(32 << 10)),
            ("32kb", Some(32 << 10)),
            ("32Kib", Some(32 << 10)),
            ("32 kB", Some(32 << 10)),
            ("32Mb", Some(32 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("32Tb", Some(32 << 40)),
            ("8Pb", Some(8 << 50)),
            ("32.5kB", Some(33_280)),
            ("0.1K", Some(102)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("8192Pb", None),
            ("", None),
            ("-2", None),
            ("hello", None),
            ("32bb", None),
            ("32m b", None),
            ("1e3", None),
            (".", None),
            ("1.2.3", None),
            (" 32", None),
            ("32 ", None),
        ] {
            assert_eq!(size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("hup", 1),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("rtmax-1", 63),
            ("SIGSTKFLT", 16),
            ("SIGPWR", 30),
            ("SIGIOT", 6),
            ("SIGPOLL", 29),
            ("WINCH", 28),
        ] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        let names = " (`kill -l` lists names, and a number will do too)";
        for (text, cure) in [
            ("65", " (they are numbered 1 to 64)"),
            ("-9", " (they are numbered 1 to 64)"),
            ("FOO", names),
            ("", names),
            ("SIG", names),
            ("RTMIN+31", names),
            ("RTMAX-99", names),
            ("9.0", names),
        ] {
            assert_eq!(signal(text).unwrap_err().to_string(), format!("unknown signal {text:?}{cure}"));
        }
    }

    #[test]
    fn users_are_numbers_and_nothing_else() {
        for (text, user_is) in
            [("0", (0, None)), ("1", (1, None)), ("1000:50", (1000, Some(50))), ("7:0", (7, Some(0)))]
        {
            assert_eq!(user(text).unwrap(), user_is);
        }
        let cure = "(write it as UID or UID:GID, in numbers: names are the image's)";
        for (text, wrong) in [
            ("root", "uid \"root\""),
            ("", "uid \"\""),
            ("1:", "gid \"\""),
            ("+1", "uid \"+1\""),
            ("-1", "uid \"-1\""),
            ("1 ", "uid \"1 \""),
            ("4294967295", "uid \"4294967295\""),
            ("4294967296", "uid \"4294967296\""),
            ("0x0", "uid \"0x0\""),
            ("1:2:3", "gid \"2:3\""),
        ] {
            assert_eq!(user(text).unwrap_err().to_string(), format!("option --user: bad {wrong} {cure}"));
        }
    }

    #[test]
    fn shares_name_a_container_and_namespaces() {
        use SharedNamespace::*;
        for (text, id, namespaces) in [
            ("pod", "pod", vec![Net, Ipc, Uts]),
            ("pod=pid", "pod", vec![Pid]),
            ("pod=pid,net,net", "pod", vec![Net, Pid]),
        ] {
            let share = share(text).unwrap();
            assert_eq!((share.with.as_str(), share.namespaces), (id, namespaces));
        }
        let error = share("pod=user").unwrap_err().to_string();
        assert_eq!(error, "option --share: \"user\" can't be shared (net, ipc, uts and pid can)");
        assert!(share("pod=").is_err() && share("=net").is_err());
    }

    #[test]
    fn overlay_layers_may_hold_colons() {
        assert_eq!(overlay(None).unwrap(), Overlay::default());
        let layers = |text: &str| overlay(Some(text)).unwrap().lowers;
        assert_eq!(layers("/a"), ["/a"].map(PathBuf::from));
        assert_eq!(layers("/a:/b,c"), ["/a", "/b,c"].map(PathBuf::from));
        assert_eq!(layers(r"/a\:b:/c\\d"), ["/a:b", r"/c\d"].map(PathBuf::from));
        for text in ["/a::/b", ":", "/a:"] {
            assert!(overlay(Some(text)).unwrap_err().to_string().contains("an empty layer"), "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("5s", Some(5000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5s", Some(1500)),
            ("1h", Some(3_600_000)),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), millis);
        }
        for text in ["", "5", "s", "-5s", "0s", "5x", "5s5"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
