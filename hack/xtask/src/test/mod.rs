//! `cargo x test`: the parts of the test run, one after the other, and one count over all of them.
//!
//! Knows how to start the parts, not what they test; `results` reads what they print.

mod accepted;
pub mod parts;
mod results;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::check;
use crate::console;
use crate::tally::Tally;
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
        tally.add(parts::unit_tests(repository));
    }
    if wanted.asks("native") || !wanted.names.is_empty() {
        tally.add(parts::native(repository, &wanted.names));
    }
    if wanted.asks("vm") {
        tally.add(parts::virtual_machine(repository));
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

/// Runs one part, shows what it prints as it comes (tests that held stay silent), how long it took, and counts.
fn part(name: &str, command: &mut Command) -> Tally {
    counted(name, command, |line| println!("{line}"))
}

/// A part that runs while others do.
struct Beside {
    heading: &'static str,
    running: JoinHandle<(Tally, Vec<String>)>,
}

impl Beside {
    /// Starts it.
    fn begin(heading: &'static str, mut command: Command) -> Self {
        let running = std::thread::spawn(move || {
            let mut said = Vec::new();
            let tally = counted(heading, &mut command, |line| said.push(line.to_owned()));
            (tally, said)
        });
        Self { heading, running }
    }

    /// Waits for its end, and shows what it printed.
    fn end(self) -> Tally {
        console::heading(self.heading);
        let (tally, said) = self.running.join().unwrap_or_else(|_| {
            let failed = vec![format!("{}: the thread that reads it panicked", self.heading)];
            (Tally { failed, ..Tally::default() }, Vec::new())
        });
        said.iter().for_each(|line| println!("{line}"));
        tally
    }
}

/// Runs a part and counts; `show` gets each line that somebody needs to see.
fn counted(name: &str, command: &mut Command, mut show: impl FnMut(&str)) -> Tally {
    let begin = Instant::now();
    let mut results = Results::default();
    let outcome = stream(command, |line| {
        if results.read(line) {
            show(line);
        }
    });
    let mut tally = results.tally();
    show(&format!(
        "{} passed, {} skipped in {:.0} s",
        tally.passed,
        tally.skipped.len(),
        begin.elapsed().as_secs_f64()
    ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_beside_others_is_counted_at_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo PASS a; echo FAIL b: why; exit 1"]);
        let beside = Beside::begin("beside", command);
        let tally = beside.end();
        assert_eq!((tally.passed, tally.failed), (1, vec!["b: why".to_owned()]));
        let tally = Beside::begin("beside", Command::new("/nonexistent")).end();
        assert_eq!(tally.failed.len(), 1, "{:?}", tally.failed);
    }
}
