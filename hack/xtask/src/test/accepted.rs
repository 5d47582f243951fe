//! Which skips are accepted: `hack/accepted-skips`, a line each, `NAME: REASON`, where `*` stands for anything.
//!
//! Decides nothing about tests that failed.

use std::fs;
use std::path::Path;

use crate::tally::Skip;

/// The skips that no line of the list allows, as failures.
pub fn unaccepted(repository: &Path, skipped: &[Skip]) -> Vec<String> {
    let path = repository.join("hack/accepted-skips");
    let list = match fs::read_to_string(&path) {
        Ok(list) => list,
        Err(error) => return vec![format!("read {}: {error}", path.display())],
    };
    let patterns: Vec<&str> =
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let stray = skipped.iter().filter(|skip| {
        let line = format!("{}: {}", skip.name, skip.reason);
        !patterns.iter().any(|pattern| matches(pattern, &line))
    });
    stray
        .map(|skip| {
            format!("{}: skipped, and hack/accepted-skips does not allow it: {}", skip.name, skip.reason)
        })
        .collect()
}

/// Whether `pattern`, where `*` stands for any text, describes all of `line`.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == line };
    let Some(mut left) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("cpu_*: no * controller", "cpu_quota: no cpu controller"));
        assert!(matches("a: b", "a: b") && matches("*", "a: b"));
        assert!(!matches("a: b", "a: bc") && !matches("cpu_*: x", "mem_a: x") && !matches("a*b", "abc"));
    }
}
