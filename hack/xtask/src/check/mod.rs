//! `cargo x check`: every rule of the repository that a machine can hold, one line each, all of them even after a failure.
//!
//! Changes no file.

mod crates;
mod doors;
mod layers;
mod sources;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::console;
use crate::tally::Tally;
use sources::Source;

/// A rule over the sources: what it found wrong, a line each.
type Rule = fn(&[Source]) -> Vec<String>;

const RULES: [(&str, Rule); 7] = [
    ("layers of runtime", layers::order),
    ("plan is pure", layers::plan_is_pure),
    ("unsafe only where it may be", sources::unsafe_code),
    ("files of runtime are written through doors", doors::written_files),
    ("size of files", sources::sizes),
    ("each file says what it is", sources::opening),
    ("words not used in names", sources::words),
];

const COMMANDS: [(&str, &[&str]); 3] = [
    ("fmt", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("docs", &["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]),
];

/// Runs all checks; the exit code says whether they passed.
pub fn run(repository: &Path) -> ExitCode {
    let mut tally = rules(repository);
    tally.add(crate::test::parts::unit_tests(repository));
    tally.summary()
}

/// All checks except the unit tests, which have their own part in `cargo x test`.
pub fn rules(repository: &Path) -> Tally {
    console::heading("checks");
    let mut tally = Tally::default();
    for (name, arguments) in COMMANDS {
        step(&mut tally, name, || cargo(repository, arguments));
    }
    let all = match sources::read_all(repository) {
        Ok(all) => all,
        Err(error) => {
            step(&mut tally, "read the sources", || Err(error));
            return tally;
        }
    };
    for (name, rule) in RULES {
        step(&mut tally, name, || verdict(&rule(&all)));
    }
    step(&mut tally, "order of crates", || verdict(&crates::order(repository)));
    tally
}

fn step(tally: &mut Tally, name: &str, work: impl FnOnce() -> Result<(), String>) {
    console::begin(name);
    let begin = Instant::now();
    match work() {
        Ok(()) => {
            console::done(begin.elapsed());
            tally.passed += 1;
        }
        Err(said) => {
            console::broken(begin.elapsed(), &said);
            tally.failed.push(format!("check: {name}"));
        }
    }
}

fn verdict(wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn cargo(repository: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(repository)
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
