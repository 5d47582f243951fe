//! `cargo x test`: the parts of the test run, one after the other, and one count over all of them.
//!
//! Knows how to start the parts, not what they test; `results` reads what they print.

mod accepted;
mod results;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::tally::Tally;
use crate::{check, console};
use results::Results;

/// What the arguments ask for: all tiers if they name neither a tier nor a test.
struct Wanted<'a> {
    tiers: Vec<&'a str>,
    names: Vec<&'a str>,
}

const TIERS: [&str; 3] = ["quick", "native", "vm"];

/// Runs what the arguments name; the exit code says whether all of it held.
pub fn run(repository: &Path, what: &[String]) -> ExitCode {
    let wanted = Wanted::from(what);
    let mut tally = Tally::default();
    if wanted.asks("quick") {
        tally.add(check::rules(repository));
        console::heading("unit tests");
        tally.add(unit_tests(repository));
    }
    if wanted.asks("native") || !wanted.names.is_empty() {
        tally.add(black_box(repository, &wanted.names));
    }
    tally.failed.extend(accepted::unaccepted(repository, &tally.skipped));
    tally.summary()
}

impl<'a> Wanted<'a> {
    fn from(what: &'a [String]) -> Wanted<'a> {
        let (mut tiers, names): (Vec<_>, Vec<_>) =
            what.iter().map(String::as_str).partition(|word| TIERS.contains(word));
        if what.is_empty() {
            tiers = TIERS.to_vec();
        }
        Wanted { tiers, names }
    }

    fn asks(&self, tier: &str) -> bool {
        self.tiers.contains(&tier)
    }
}

/// The tests that run `target/bin/rt` and look at what it did; with names, those that contain one.
fn black_box(repository: &Path, names: &[&str]) -> Tally {
    if !repository.join("tests/Cargo.toml").exists() {
        return Tally::default(); // the crate appears with its first test
    }
    console::heading("tests of the program");
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--package", "tests", "--no-fail-fast", "--"]).args(names);
    part("tests of the program", command.current_dir(repository))
}

/// The unit tests of all crates; the black-box tests in `tests` are a part of their own.
pub fn unit_tests(repository: &Path) -> Tally {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--lib", "--bins", "--no-fail-fast"]);
    for (package, manifest) in [
        ("tests", "tests/Cargo.toml"),
        ("probe", "tests/probe/Cargo.toml"),
        ("bench", "tests/bench/Cargo.toml"),
    ] {
        if repository.join(manifest).exists() {
            command.args(["--exclude", package]);
        }
    }
    part("unit tests", command.current_dir(repository))
}

/// Runs one part, shows what it prints as it comes (tests that held stay silent) and counts.
fn part(name: &str, command: &mut Command) -> Tally {
    let mut results = Results::default();
    let outcome = stream(command, |line| {
        if results.read(line) {
            println!("{line}");
        }
    });
    let mut tally = results.tally();
    match outcome {
        Ok(true) => {}
        // It counted its failures itself.
        Ok(false) if !tally.failed.is_empty() => {}
        Ok(false) => tally.failed.push(format!("{name}: ended with an error")),
        Err(error) => tally.failed.push(format!("{name}: {error}")),
    }
    tally
}

/// Starts `command`, gives each line of its output and says whether it ended well.
fn stream(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| format!("make a pipe: {error}"))?;
    let stderr = writer.try_clone().map_err(|error| format!("duplicate a pipe: {error}"))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr)
        .spawn()
        .map_err(|error| format!("run {program}: {error}"))?;
    // Else the command holds the pipe's writing end open in this process and the reader below never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for read in BufReader::new(reader).split(b'\n') {
        let read = read.map_err(|error| format!("read the output of {program}: {error}"))?;
        line(&String::from_utf8_lossy(&read));
    }
    let status = child.wait().map_err(|error| format!("wait for {program}: {error}"))?;
    Ok(status.success())
}
