//! Reads the lines that tests print: cargo's test runner, and `PASS name`, `FAIL name: why`, `SKIP name: reason`.
//!
//! A skipped test of cargo's runner is counted by the runner as passed; here it counts once, as skipped.

use crate::tally::{Skip, Tally};

/// Results read so far.
#[derive(Default)]
pub struct Results {
    tally: Tally,
    /// Tests that said SKIP inside cargo's runner, which then counted them as passed.
    skipped_inside: usize,
    /// Tests of the same program whose failure was read with their name.
    failed_inside: usize,
    inside_cargo: bool,
}

impl Results {
    /// Takes one line in; false if nobody needs to see it: a test that held, a crate that was compiled, an empty run.
    pub fn read(&mut self, line: &str) -> bool {
        // With one thread cargo's runner names the test before what it prints: `test a ... SKIP a: reason`.
        let line =
            line.find("SKIP ").filter(|at| line[..*at].ends_with(" ... ")).map_or(line, |at| &line[at..]);
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.counts(rest);
            return !rest.starts_with("ok. 0 passed");
        } else if let Some((name, verdict)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        {
            return self.verdict(name, verdict);
        } else if line.starts_with("running ") && line.contains(" test") {
            self.inside_cargo = true;
            return false;
        } else if let Some((name, reason)) = line.strip_prefix("SKIP ").and_then(|rest| rest.split_once(": "))
        {
            self.tally.skipped.push(Skip { name: name.to_owned(), reason: reason.to_owned() });
            self.skipped_inside += usize::from(self.inside_cargo);
        } else if line.strip_prefix("PASS ").is_some() {
            self.tally.passed += 1;
        } else if let Some(rest) = line.strip_prefix("FAIL ") {
            self.tally.failed.push(rest.to_owned());
        } else {
            return !line.is_empty()
                && !line.starts_with("   Compiling ")
                && !line.starts_with("    Finished ");
        }
        true
    }

    /// The counts of everything read.
    pub fn tally(self) -> Tally {
        self.tally
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; …`: the end of one test program.
    fn counts(&mut self, rest: &str) {
        let mut numbers = rest.split([' ', ';']).filter_map(|word| word.parse::<usize>().ok());
        let (passed, failed) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        self.tally.passed += passed.saturating_sub(self.skipped_inside);
        // A verdict that other output came between has no name on its line.
        for _ in self.failed_inside..failed {
            self.tally.failed.push("a test whose name stands under `failures:` above".to_owned());
        }
        (self.skipped_inside, self.failed_inside, self.inside_cargo) = (0, 0, false);
    }

    fn verdict(&mut self, name: &str, verdict: &str) -> bool {
        match verdict.split_once(", ").unwrap_or((verdict, "ignored")) {
            ("ok", _) => return false,
            ("ignored", reason) => {
                self.tally.skipped.push(Skip { name: name.to_owned(), reason: reason.to_owned() });
            }
            ("FAILED", _) => {
                self.tally.failed.push(name.to_owned());
                self.failed_inside += 1;
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Tally {
        let mut results = Results::default();
        for line in lines.lines() {
            results.read(line);
        }
        results.tally()
    }

    #[test]
    fn counts_add_up_over_test_programs() {
        let tally = read(
            "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, needs a moon\n\
             test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured\n\
             running 1 test\ntest d ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored",
        );
        assert_eq!((tally.passed, tally.failed.as_slice()), (2, ["b".to_owned()].as_slice()));
        assert_eq!(tally.skipped, [Skip { name: "c".into(), reason: "needs a moon".into() }]);
    }

    #[test]
    fn a_skip_inside_cargos_runner_is_not_also_a_pass() {
        let tally = read(
            "running 2 tests\nSKIP a: no kvm\ntest a ... ok\ntest b ... ok\ntest result: ok. 2 passed; 0 failed\n",
        );
        assert_eq!((tally.passed, tally.skipped.len()), (1, 1));
        let tally =
            read("running 1 test\ntest a ... SKIP a: no kvm\nok\ntest result: ok. 1 passed; 0 failed\n");
        assert_eq!((tally.passed, tally.skipped.len()), (0, 1));
    }

    #[test]
    fn a_failure_without_its_name_counts() {
        let tally = read(
            "running 2 tests\ntest a ... SKIP b: no kvm\nFAILED\ntest result: FAILED. 1 passed; 1 failed\n",
        );
        assert_eq!((tally.passed, tally.failed.len(), tally.skipped.len()), (0, 1, 1));
    }

    #[test]
    fn plain_lines_count_too() {
        let tally = read("PASS podman run\nFAIL podman pod: no infra\nSKIP docker: none\n");
        assert_eq!((tally.passed, tally.failed.len(), tally.skipped.len()), (1, 1, 1));
    }
}
