//! The order of modules inside `runtime`: each uses only what stands before it, and `plan` touches no system.
//!
//! The order of crates is in `crates`.

use super::sources::{Source, names};

/// Lowest first; the modules of one line do not use each other.
const LAYERS: [&[&str]; 16] = [
    &["error"],
    &["clock", "id", "outfile", "step"],
    &["log"],
    &["sys"],
    &["spec"],
    &["plan"],
    &["bundle", "privilege"],
    &["state"],
    &["hooks", "link"],
    &["child"],
    &["parent"],
    &["init"],
    &["spawn"],
    &["ops"],
    &["cli"],
    &["main", "lib"],
];

const MODULES: &str = "runtime/src/";

/// What would make the plan depend on the machine that it is made on.
const IMPURE: [&str; 10] = [
    "std::fs",
    "std::process",
    "std::net",
    "std::env",
    "std::thread",
    "std::os::unix::net",
    "crate::sys",
    "nix::",
    "rustix::",
    "libc::",
];

/// Modules that use what stands above or beside them.
pub fn order(all: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in all.iter().filter(|source| source.path.starts_with(MODULES)) {
        let module = module_of(&source.path);
        let Some(own) = layer(module) else {
            wrong.push(format!(
                "{}: module `{module}` has no place in hack/xtask/src/check/layers.rs",
                source.path
            ));
            continue;
        };
        for (line, used) in uses(&source.code) {
            let Some(other) = layer(used) else { continue }; // an item of lib.rs
            if used != module && other >= own {
                wrong.push(format!(
                    "{}:{line}: `{module}` uses `{used}`, which stands above or beside it",
                    source.path
                ));
            }
        }
    }
    wrong
}

/// Places where `plan` could reach the system.
pub fn plan_is_pure(all: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in
        all.iter().filter(|source| module_of(&source.path) == "plan" && source.path.starts_with(MODULES))
    {
        for (index, line) in source.code.lines().enumerate() {
            let found = IMPURE.iter().filter(|path| mentions(line, path));
            wrong.extend(
                found.map(|path| format!("{}:{}: the plan is pure: no {path}", source.path, index + 1)),
            );
        }
    }
    wrong
}

fn mentions(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let continues = |c: char| c.is_alphanumeric() || c == '_';
        let after = line[at + path.len()..].chars().next();
        !line[..at].chars().next_back().is_some_and(|c| continues(c) || c == ':')
            && (path.ends_with(':') || !after.is_some_and(continues))
            // Constants of libc are numbers, not calls.
            && (path != "libc::" || !after.is_some_and(char::is_uppercase))
    })
}

fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix(MODULES).unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top-level modules named after `crate::` (or, in main.rs, after the crate's own name), with line numbers.
fn uses(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for root in ["crate::", "runtime::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(heads(group).into_iter().map(|name| (line, name))),
                None => found
                    .extend(names(rest.lines().next().unwrap_or("")).next().map(|(_, name)| (line, name))),
            }
        }
    }
    found
}

/// The first name of each path in a `{a, b::c, d::{e, f}}` group whose opening brace is already passed.
fn heads(group: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (1_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            found.extend(names(&group[start..at]).next().map(|(_, name)| name));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, code: &str) -> Source {
        Source { path: path.to_owned(), text: code.to_owned(), code: code.to_owned() }
    }

    #[test]
    fn using_what_stands_below_is_fine() {
        assert!(
            order(&[source("runtime/src/ops/run.rs", "use crate::{error::Error, plan::{Plan, mounts}};")])
                .is_empty()
        );
    }

    #[test]
    fn using_what_stands_above_or_beside_is_named_with_its_line() {
        let all = [
            source(
                "runtime/src/plan/mod.rs",
                "use crate::error::Error;\nuse crate::{spec::{a, b}, ops::run};",
            ),
            source("runtime/src/link.rs", "fn a() { crate::hooks::run() }"),
        ];
        let wrong = order(&all);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(
            wrong[0].starts_with("runtime/src/plan/mod.rs:2:") && wrong[0].contains("`ops`"),
            "{wrong:?}"
        );
        assert!(wrong[1].contains("`hooks`"), "{wrong:?}");
    }

    #[test]
    fn a_module_without_a_place_is_named() {
        assert_eq!(order(&[source("runtime/src/stray.rs", "")]).len(), 1);
    }

    #[test]
    fn the_plan_may_not_reach_the_system() {
        let all = [source(
            "runtime/src/plan/a.rs",
            "use std::fs;\nlet a = mylibc::X;\nlibc::open();\nuse crate::system;",
        )];
        let wrong = plan_is_pure(&all);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
