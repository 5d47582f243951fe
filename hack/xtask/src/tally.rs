//! What was counted: passed, failed, skipped with reasons, and the summary line at the end of a run.
//!
//! Which skips are accepted is read from `hack/accepted-skips` by `test`.

use std::process::ExitCode;

/// A test that could not run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The test's name.
    pub name: String,
    /// Why it could not run.
    pub reason: String,
}

/// The counts of a run or of a part of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Tests that held.
    pub passed: usize,
    /// Names of those that did not.
    pub failed: Vec<String>,
    /// Tests that could not run.
    pub skipped: Vec<Skip>,
}

impl Tally {
    /// Takes over the counts of a part.
    pub fn add(&mut self, part: Tally) {
        self.passed += part.passed;
        self.failed.extend(part.failed);
        self.skipped.extend(part.skipped);
    }

    /// Prints skips, failures and the closing line; the exit code says whether anything failed.
    pub fn summary(&self) -> ExitCode {
        println!();
        for skip in &self.skipped {
            println!("SKIP {}: {}", skip.name, skip.reason);
        }
        for name in &self.failed {
            println!("FAIL {name}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len());
        // Nothing tested is no success.
        if self.failed.is_empty() && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
