//! The Rust files of the repository, and the rules that look at one file at a time.
//!
//! Which module may use which is in `layers`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rust_text;

/// One Rust file, as written and as code.
pub struct Source {
    /// Relative to the repository, `/` between its parts.
    pub path: String,
    /// As written.
    pub text: String,
    /// Without comments, literals and test modules.
    pub code: String,
}

/// Lines a file may have without its tests.
const LINES: usize = 400;

/// Files that may be longer, up to the number given, with the reason.
const LONGER: [(&str, usize, &str); 0] = [];

/// Where `unsafe` may stand: each place has a crate-level allow and a reason there.
const UNSAFE_ALLOWED: [&str; 4] =
    ["runtime/src/sys/", "shim/pause/", "tests/probe/src/sys.rs", "tests/bench/src/sys"];

/// Words that say nothing about what a thing is (DESIGN: words). Whole words of a snake_case or CamelCase name.
const EMPTY_WORDS: [&str; 10] =
    ["manager", "factory", "helper", "helpers", "util", "utils", "common", "misc", "wrapper", "handle"];

/// Reads every Rust file under the crates.
pub fn read_all(repository: &Path) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for top in ["runtime", "shim", "cri", "tests", "hack"] {
        collect(&repository.join(top), &mut found)?;
    }
    found.sort();
    found.into_iter().map(|path| read(repository, &path)).collect()
}

/// Files longer than a reader's patience.
pub fn sizes(all: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in all.iter().filter(|source| !is_test_file(&source.path)) {
        let lines = source.code.trim_end().lines().count();
        let limit =
            LONGER.iter().find(|(path, ..)| *path == source.path).map_or(LINES, |(_, limit, _)| *limit);
        if lines > limit {
            wrong.push(format!(
                "{}: {lines} lines without tests, at most {limit}: find the seam",
                source.path
            ));
        }
    }
    for (path, _, reason) in LONGER {
        if !all.iter().any(|source| source.path == path) {
            wrong.push(format!("{path}: allowed to be long ({reason}), but there is no such file"));
        }
    }
    wrong
}

/// `unsafe` outside the modules that are there for it.
pub fn unsafe_code(all: &[Source]) -> Vec<String> {
    let outside =
        all.iter().filter(|source| !UNSAFE_ALLOWED.iter().any(|place| source.path.starts_with(place)));
    outside
        .flat_map(|source| {
            let words = names(&source.code).filter(|(_, name)| *name == "unsafe");
            words.map(|(line, _)| {
                format!("{}:{line}: unsafe outside {}", source.path, UNSAFE_ALLOWED.join(", "))
            })
        })
        .collect()
}

/// Files that do not open by saying what they are for.
pub fn opening(all: &[Source]) -> Vec<String> {
    let silent = all.iter().filter(|source| !source.text.starts_with("//!"));
    silent
        .map(|source| format!("{}: does not open with //! and a sentence of purpose", source.path))
        .collect()
}

/// Functions, types and modules named with a word that says nothing.
pub fn words(all: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in all {
        let mut before = "";
        for (line, name) in names(&source.code) {
            let named = matches!(before, "fn" | "struct" | "enum" | "trait" | "mod" | "type");
            let snake = if named { snake(name) } else { String::new() };
            if let Some(word) = snake.split('_').find(|word| EMPTY_WORDS.contains(word)) {
                wrong.push(format!("{}:{line}: `{name}`: the word `{word}` says nothing", source.path));
            }
            before = name;
        }
    }
    wrong
}

/// All identifiers and keywords with their line numbers.
pub fn names(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
        words.map(move |word| (index + 1, word))
    })
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) }; // a crate that is not there yet
    for entry in entries {
        let path = entry.map_err(|error| format!("read {}: {error}", folder.display()))?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(repository: &Path, path: &Path) -> Result<Source, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let code = rust_text::without_tests(&rust_text::code_only(&text));
    let path = path.strip_prefix(repository).unwrap_or(path).to_string_lossy().into_owned();
    Ok(Source { path, text, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        let code = rust_text::without_tests(&rust_text::code_only(text));
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    #[test]
    fn unsafe_is_found_outside_sys_and_in_no_comment() {
        let all = [
            source("runtime/src/sys/clone.rs", "unsafe { a() }"),
            source("runtime/src/init/mod.rs", "// unsafe here is only a word\nlet unsafe_path = \"unsafe\";"),
            source("runtime/src/ops/run.rs", "fn a() {}\nunsafe { a() }"),
        ];
        let wrong = unsafe_code(&all);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("runtime/src/ops/run.rs:2:"), "{wrong:?}");
    }

    #[test]
    fn a_long_file_is_named_and_its_tests_do_not_count() {
        let body = "fn a() {}\n".repeat(LINES);
        let tested = format!("{body}#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert!(sizes(&[source("runtime/src/a.rs", &tested)]).is_empty());
        assert_eq!(sizes(&[source("runtime/src/a.rs", &format!("{body}fn b() {{}}\n"))]).len(), 1);
    }

    #[test]
    fn empty_words_are_found_in_names_only() {
        let all =
            [source("runtime/src/a.rs", "struct MountManager; fn handled() {} fn wait() { let utils = 1; }")];
        let wrong = words(&all);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}
