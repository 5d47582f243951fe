//! `org.systemd.property.NAME: VALUE` annotations: the text form of GLib's variants, as far as unit properties need it.

use super::property::{Property, Value};
use crate::error::{Error, Kind, Result};

/// What an annotation may set: how the container's own unit ends, and what it is called. Engines hand on annotations of images and pods:
/// none may choose another unit to start, to stop or to be in, nor lift a limit.
const ALLOWED: [&str; 12] = [
    "After",
    "Before",
    "CollectMode",
    "Description",
    "Documentation",
    "FinalKillSignal",
    "KillMode",
    "KillSignal",
    "RuntimeMaxUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "TimeoutStopUSec",
];

/// One of those that an annotation may set. `name` is the annotation's whole name less `org.systemd.property.`. As for runc, `…Sec` in seconds becomes `…USec`.
pub fn property(name: &str, text: &str) -> Result<Property> {
    let wrong = |why: &str| {
        Error::invalid(format!("annotation org.systemd.property.{name} {text:?}: {why}"))
            .cure("a value is such as true, 5, uint64 5, 'text' or ['a', 'b']")
    };
    if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(wrong("that is no name of a property"));
    }
    let value = parse(text.trim()).ok_or_else(|| wrong("the value can't be read"))?;
    let property = match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        None => Property { name: name.to_owned(), value },
        Some(stem) => {
            let micros = micros(&value).ok_or_else(|| wrong("seconds must be a number, not below 0"))?;
            Property { name: format!("{stem}USec"), value: Value::Uint64(micros) }
        }
    };
    if ALLOWED.contains(&property.name.as_str()) {
        return Ok(property);
    }
    let what = format!("annotation org.systemd.property.{name}: an annotation may not set this property");
    Err(Error::new(Kind::Denied, what)
        .cure(format!("these it may: {}; limits are in linux.resources", ALLOWED.join(", "))))
}

fn micros(seconds: &Value) -> Option<u64> {
    let whole = match seconds {
        Value::Int32(number) => u64::try_from(*number).ok()?,
        Value::Uint32(number) => u64::from(*number),
        Value::Int64(number) => u64::try_from(*number).ok()?,
        Value::Uint64(number) => *number,
        Value::Double(number) if (0.0..1e12).contains(number) => return Some((number * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

fn parse(text: &str) -> Option<Value> {
    let typed = text.strip_prefix('@').and_then(|rest| rest.split_once(char::is_whitespace));
    if let Some((code, rest)) = typed {
        return of_type(code, rest.trim());
    }
    if let Some((word, rest)) = text.split_once(char::is_whitespace) {
        let code = match word {
            "boolean" => "b",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            _ => "",
        };
        if !code.is_empty() {
            return of_type(code, rest.trim());
        }
    }
    match text.bytes().next()? {
        b'\'' | b'"' => of_type("s", text),
        b'[' => of_type("as", text),
        b't' | b'f' => of_type("b", text),
        _ if text.contains('.') => of_type("d", text),
        _ => of_type("i", text),
    }
}

fn of_type(code: &str, text: &str) -> Option<Value> {
    Some(match code {
        "b" => Value::Bool(text.parse().ok()?),
        "i" => Value::Int32(text.parse().ok()?),
        "u" => Value::Uint32(text.parse().ok()?),
        "x" => Value::Int64(text.parse().ok()?),
        "t" => Value::Uint64(text.parse().ok()?),
        "d" => Value::Double(text.parse().ok().filter(|number: &f64| number.is_finite())?),
        "s" => match quoted(text)? {
            (value, "") => Value::Text(value),
            _ => return None,
        },
        "as" => Value::Texts(texts(text)?),
        _ => return None,
    })
}

fn texts(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (value, after) = quoted(rest)?;
        all.push(value);
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(all)
}

/// A quoted string, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next().filter(|(_, c)| *c == '\'' || *c == '"')?;
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            }),
            '\0' => return None,
            c if c == quote => return Some((value, &text[at + c.len_utf8()..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_types() {
        let list = |all: &[&str]| Value::Texts(all.iter().map(|text| (*text).to_owned()).collect());
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("5", Value::Int32(5)),
            ("-5", Value::Int32(-5)),
            ("uint32 5", Value::Uint32(5)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@t 5", Value::Uint64(5)),
            ("int64 -7", Value::Int64(-7)),
            ("1.5", Value::Double(1.5)),
            ("'inactive-or-failed'", Value::Text("inactive-or-failed".into())),
            ("\"it's \\\"x\\\"\"", Value::Text("it's \"x\"".into())),
            ("['a', 'b.service']", list(&["a", "b.service"])),
            ("@as []", list(&[])),
        ] {
            assert_eq!(property("After", text).unwrap().value, value, "{text}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (name, text, expected, micros) in [
            ("TimeoutStopSec", "5", "TimeoutStopUSec", 5_000_000),
            ("TimeoutStopSec", "uint64 5", "TimeoutStopUSec", 5_000_000),
            ("TimeoutStopSec", "0.5", "TimeoutStopUSec", 500_000),
            ("RuntimeMaxUSec", "uint64 7", "RuntimeMaxUSec", 7),
        ] {
            let expected = Property { name: expected.into(), value: Value::Uint64(micros) };
            assert_eq!(property(name, text).unwrap(), expected);
        }
        assert!(property("TimeoutStopSec", "'5'").is_err());
        assert!(property("TimeoutStopSec", "-1").is_err());
    }

    #[test]
    fn what_can_not_be_read_is_an_error() {
        for text in
            ["", "maybe", "'a", "'a' 'b'", "['a' 'b']", "uint32 -1", "@a{sv} {}", "99999999999", "tru"]
        {
            let error = property("After", text).unwrap_err().to_string();
            assert!(error.contains("the value can't be read"), "{text}: {error}");
        }
        for name in [
            "Slice",
            "Conflicts",
            "PropagatesStopTo",
            "Wants",
            "Delegate",
            "MemoryMax",
            "ExecStopPost",
            "BindsTo",
        ] {
            assert_eq!(property(name, "'x'").unwrap_err().kind(), Kind::Denied, "{name}");
        }
        assert!(property("a.b", "1").unwrap_err().to_string().contains("no name of a property"));
    }
}
