//! From samples to figures: one table with the targets and whether they are met, and the same as JSON.
//!
//! Measures nothing.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    Ours,
    Theirs,
}

/// What a row must show.
#[derive(Clone, Copy)]
pub enum Target {
    /// Our median over theirs, at most.
    Ratio(f64),
    /// Our median over theirs, at least.
    Gain(f64),
    /// Our median, at most.
    Most(f64),
    /// Nothing: it is there to be known.
    Known,
}

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub target: Target,
}

const fn ms(name: &'static str, target: Target) -> Row {
    Row { name, unit: "ms", target }
}

/// The rows, by the names that samples are noted under.
pub const ROWS: [Row; 31] = [
    ms("RunPodSandbox, host network", Target::Ratio(0.25)),
    ms("Create + Start", Target::Ratio(0.25)),
    ms("ExecSync true", Target::Ratio(0.125)),
    ms("Stop + Remove pod, host network", Target::Ratio(0.2)),
    ms("Stop + Remove pod with a container", Target::Ratio(0.2)),
    ms("the CNI plugins alone", Target::Known),
    ms("RunPodSandbox, same CNI plugins", Target::Known),
    ms("what of it is above the plugins", Target::Ratio(0.25)),
    ms("Stop + Remove pod, same CNI plugins", Target::Known),
    ms("RunPodSandbox, built-in network; bridge plugin", Target::Ratio(0.2)),
    ms("Stop + Remove pod, built-in network; bridge plugin", Target::Known),
    ms("4 at once: RunPodSandbox", Target::Ratio(0.25)),
    ms("4 at once: Create + Start", Target::Ratio(0.25)),
    ms("4 at once: ExecSync true", Target::Ratio(0.125)),
    ms("4 at once: Stop + Remove pod", Target::Ratio(0.2)),
    ms("32 at once: RunPodSandbox", Target::Ratio(0.25)),
    ms("32 at once: Create + Start", Target::Ratio(0.25)),
    ms("32 at once: ExecSync true", Target::Ratio(0.125)),
    ms("32 at once: Stop + Remove pod", Target::Ratio(0.2)),
    ms("crictl exec, first byte", Target::Ratio(0.5)),
    Row { name: "exec, standard output", unit: "MB/s", target: Target::Gain(2.0) },
    Row { name: "port-forward", unit: "MB/s", target: Target::Gain(2.0) },
    Row { name: "memory of the server at 100 pods", unit: "MB", target: Target::Most(20.0) },
    Row { name: "memory of the server at 1000 containers", unit: "MB", target: Target::Known },
    Row { name: "idle at 100 pods, the server", unit: "% of a core", target: Target::Known },
    Row { name: "idle at 100 pods, with its shims", unit: "% of a core", target: Target::Most(0.5) },
    Row { name: "memory of a pod's shim (private)", unit: "MB", target: Target::Known },
    ms("ListContainers of 1000", Target::Most(2.0)),
    ms("ListPodSandbox of 100", Target::Known),
    ms("ListContainerStats of 1000", Target::Most(20.0)),
    ms("Stop + Remove pod of ten containers, 4 at once", Target::Known),
];

/// Median and 99th percentile.
#[derive(Clone, Copy)]
pub struct Figures {
    pub median: f64,
    pub p99: f64,
    pub count: usize,
}

impl Figures {
    /// Of samples in any order.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied();
        Some(Self { median: at(0.5)?, p99: at(0.99)?, count: sorted.len() })
    }
}

/// All that was measured.
#[derive(Default)]
pub struct Report {
    /// Where, when, against whom, and what has to be known of it.
    pub head: Vec<String>,
    samples: BTreeMap<(&'static str, Side), Vec<f64>>,
}

impl Report {
    /// Notes a sample of a row.
    pub fn note(&mut self, row: &'static str, side: Side, sample: f64) {
        debug_assert!(ROWS.iter().any(|known| known.name == row), "{row}");
        self.samples.entry((row, side)).or_default().push(sample);
    }

    /// The samples of a row.
    pub fn samples(&self, row: &'static str, side: Side) -> &[f64] {
        self.samples.get(&(row, side)).map_or(&[], Vec::as_slice)
    }

    fn figures(&self, row: &'static str, side: Side) -> Option<Figures> {
        Figures::of(self.samples(row, side))
    }

    /// Ours over theirs, of the medians.
    fn ratio(&self, row: &'static str) -> Option<f64> {
        Some(self.figures(row, Side::Ours)?.median / self.figures(row, Side::Theirs)?.median)
    }

    /// Whether the target is met; none where there is none, or nothing was measured.
    fn verdict(&self, row: &Row) -> Option<bool> {
        match row.target {
            Target::Ratio(most) => Some(self.ratio(row.name)? <= most),
            Target::Gain(least) => Some(self.ratio(row.name)? >= least),
            Target::Most(most) => Some(self.figures(row.name, Side::Ours)?.median <= most),
            Target::Known => None,
        }
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for line in &self.head {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "\nMedian / 99th percentile (number of samples).\n\n\
             | | rt-cri | containerd | ratio | target | |\n|---|---|---|---|---|---|"
        );
        for row in &ROWS {
            let cells = [Side::Ours, Side::Theirs].map(|side| self.cell(row, side));
            if cells.iter().all(|cell| cell == "–") {
                continue;
            }
            let ratio = self.ratio(row.name).map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
            let target = match row.target {
                Target::Ratio(most) => format!("≤ {most}"),
                Target::Gain(least) => format!("≥ {least}"),
                Target::Most(most) => format!("ours ≤ {most} {}", row.unit),
                Target::Known => String::new(),
            };
            let verdict = match self.verdict(row) {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "",
            };
            let _ = writeln!(
                text,
                "| {} [{}] | {} | {} | {ratio} | {target} | {verdict} |",
                row.name, row.unit, cells[0], cells[1]
            );
        }
        text
    }

    fn cell(&self, row: &Row, side: Side) -> String {
        match self.figures(row.name, side) {
            None => "–".to_owned(),
            Some(one) if one.count == 1 => format!("{:.2}", one.median),
            Some(all) => format!("{:.2} / {:.2} ({})", all.median, all.p99, all.count),
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let side = |row: &Row, side| {
            self.figures(row.name, side).map(
                |figures| json!({ "median": figures.median, "p99": figures.p99, "samples": figures.count }),
            )
        };
        let rows: Vec<Value> = ROWS
            .iter()
            .map(|row| {
                json!({
                    "row": row.name, "unit": row.unit, "ours": side(row, Side::Ours),
                    "theirs": side(row, Side::Theirs), "ratio": self.ratio(row.name), "met": self.verdict(row),
                })
            })
            .collect();
        json!({ "head": self.head, "rows": rows })
    }
}
