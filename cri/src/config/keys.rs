//! Finds keys that don't exist, and the one that was meant. It knows the keys by the default configuration alone.

use toml::{Table, Value};

use crate::error::{Error, Result};

/// Refuses keys of `table` that `known` has not.
pub fn check(table: &Table, known: &Table) -> Result<()> {
    below("", table, known)
}

fn below(prefix: &str, table: &Table, known: &Table) -> Result<()> {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        let Some(there) = known.get(key) else {
            let error = Error::invalid(format!("unknown key `{path}`"));
            return Err(match nearest(key, known.keys()) {
                Some(near) => error.cure(format!("did you mean `{prefix}{near}`?")),
                None => {
                    error.cure(format!("known: {}", known.keys().cloned().collect::<Vec<_>>().join(", ")))
                }
            });
        };
        match (value, there) {
            // Its keys are names that the user chooses; all its values are of one kind.
            (Value::Table(named), Value::Table(kinds)) if path == "runtimes" => {
                for (name, value) in named {
                    if let (Value::Table(value), Some(Value::Table(kind))) = (value, kinds.values().next()) {
                        below(&format!("{path}.{name}."), value, kind)?;
                    }
                }
            }
            (Value::Table(table), Value::Table(known)) => below(&format!("{path}."), table, known)?,
            _ => {}
        }
    }
    Ok(())
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let by_distance = known.map(|name| (distance(key, name), name));
    by_distance.min().filter(|(distance, _)| *distance <= key.len().div_ceil(2)).map(|(_, name)| name)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
