//! From samples to figures: the table in Markdown, the targets and whether they are met, and the same as JSON.
//!
//! Measures nothing.

use crate::measure::{FILTER, OPERATIONS, Samples};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Minimum, median and 99th percentile, in microseconds.
#[derive(Clone, Copy)]
pub struct Figures {
    pub min: f64,
    pub median: f64,
    pub p99: f64,
    count: usize,
}

impl Figures {
    /// Of samples in any order.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied();
        Some(Self { min: at(0.0)?, median: at(0.5)?, p99: at(0.99)?, count: sorted.len() })
    }
}

/// Everything that ends up in the report.
pub struct Results {
    pub samples: Samples,
    /// What is counted, not timed: (what, side) → number.
    pub counts: BTreeMap<(&'static str, &'static str), u64>,
    /// Medians of the first and the last hundred runs in a row.
    pub row: Option<(usize, f64, f64)>,
    pub machine: String,
    pub versions: Vec<(&'static str, String)>,
}

const SIDES: [&str; 4] = ["rt", "crun", "runc", "floor"];

/// `rt`'s median over another side's must not be above this.
const RATIOS: [(&str, &str, f64); 14] = [
    ("run", "crun", 0.5),
    ("run", "runc", 0.1),
    ("run", "floor", 1.3),
    ("run, bare", "crun", 0.5),
    ("run, bare", "runc", 0.1),
    ("run, bare", "floor", 1.3),
    ("state", "crun", 0.5),
    ("delete", "crun", 0.5),
    ("exec", "crun", 0.5),
    ("exec", "runc", 0.1),
    ("start", "crun", 0.5),
    ("pause", "crun", 0.5),
    ("resume", "crun", 0.5),
    ("delete -f", "crun", 1.0),
];

/// What is counted must not be above this.
const LIMITS: [(&str, u64, &str); 3] = [
    // 300, and what running from a copy of itself takes: 28, to make it and to start again.
    ("system calls of run", 330, ""),
    ("peak RSS of create", 2048, " kB"),
    ("size of the program", 2_500_000, " B"),
];

/// A target, what was seen, and whether that is enough.
struct Verdict {
    target: String,
    seen: String,
    met: bool,
}

impl Results {
    fn figures(&self, operation: &'static str, side: &'static str) -> Option<Figures> {
        Figures::of(self.samples.get(&(operation, side))?)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut all: Vec<Verdict> = RATIOS
            .iter()
            .filter_map(|(operation, side, most)| {
                let (ours, theirs) = (self.figures(operation, "rt")?, self.figures(operation, side)?);
                let ratio = ours.median / theirs.median;
                Some(Verdict {
                    target: format!("`{operation}` at most {most} × {side}"),
                    seen: format!("{ratio:.2} × (of the minima {:.2} ×)", ours.min / theirs.min),
                    met: ratio <= *most,
                })
            })
            .collect();
        all.extend(LIMITS.iter().filter_map(|(what, most, unit)| {
            let seen = *self.counts.get(&(what, "rt"))?;
            Some(Verdict {
                target: format!("{what} at most {most}{unit}"),
                seen: format!("{seen}{unit}"),
                met: seen <= *most,
            })
        }));
        all.extend(self.filter());
        if let Some((count, first, last)) = self.row {
            let seen = format!("{:.2} ms, {:.2} ms", first / 1000.0, last / 1000.0);
            all.push(Verdict {
                target: format!("of {count} runs in a row the last hundred as fast as the first"),
                seen,
                met: last <= first * 1.05,
            });
        }
        all
    }

    /// Making and loading the filter; and what it costs in all, which is more: the kernel also frees it, and runs it at each call.
    fn filter(&self) -> Option<Verdict> {
        let cost = self.figures(FILTER, "rt")?.median / 1000.0;
        let longer = |side| {
            let (with, without) = (self.figures("run", side)?, self.figures("run, no seccomp", side)?);
            Some((with.median - without.median) / 1000.0)
        };
        let (ours, floors) = (longer("rt")?, longer("floor")?);
        Some(Verdict {
            target: format!("`{FILTER}` at most 0.15 ms"),
            seen: format!(
                "{cost:.3} ms; a run with it takes {ours:.2} ms longer (the floor's: {floors:.2} ms)"
            ),
            met: cost <= 0.15,
        })
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.machine);
        let _ = writeln!(
            text,
            "Milliseconds: median (minimum, 99th percentile); sides in turn, in one mount namespace with cgroup2.\n"
        );
        let heads: Vec<String> = SIDES
            .iter()
            .map(|side| {
                let version =
                    self.versions.iter().find(|(name, _)| name == side).map_or("", |(_, v)| v.as_str());
                format!("{side} {version}").trim_end().to_owned()
            })
            .collect();
        let _ = writeln!(text, "| | {} | rt/crun | rt/runc |", heads.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(SIDES.len() + 2));
        for operation in OPERATIONS {
            let cells = SIDES.map(|side| {
                self.figures(operation, side).map_or("–".to_owned(), |f| {
                    format!("{:.2} ({:.2}, {:.2})", f.median / 1000.0, f.min / 1000.0, f.p99 / 1000.0)
                })
            });
            let ratio = |side| match (self.figures(operation, "rt"), self.figures(operation, side)) {
                (Some(ours), Some(theirs)) => format!("{:.2}", ours.median / theirs.median),
                _ => "–".to_owned(),
            };
            let _ = writeln!(
                text,
                "| `{operation}` | {} | {} | {} |",
                cells.join(" | "),
                ratio("crun"),
                ratio("runc")
            );
        }
        for (what, _, unit) in LIMITS {
            let cells = SIDES.map(|side| {
                self.counts.get(&(what, side)).map_or("–".to_owned(), |n| format!("{n}{unit}"))
            });
            let _ = writeln!(text, "| {what} | {} | | |", cells.join(" | "));
        }
        let _ = writeln!(text, "\n| target | seen | |\n|---|---|---|");
        for verdict in self.verdicts() {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                verdict.target,
                verdict.seen,
                if verdict.met { "met" } else { "**missed**" }
            );
        }
        text
    }

    /// The report as JSON; times in microseconds.
    pub fn json(&self) -> Value {
        let times: Vec<Value> = self.samples.iter().filter_map(|((operation, side), samples)| {
            let f = Figures::of(samples)?;
            Some(json!({ "operation": operation, "side": side, "count": f.count, "min": f.min, "median": f.median, "p99": f.p99 }))
        }).collect();
        let counts: Vec<Value> = self
            .counts
            .iter()
            .map(|((what, side), n)| json!({ "what": what, "side": side, "number": n }))
            .collect();
        let targets: Vec<Value> = self
            .verdicts()
            .into_iter()
            .map(|v| json!({ "target": v.target, "seen": v.seen, "met": v.met }))
            .collect();
        json!({ "machine": self.machine, "times_us": times, "counts": counts, "targets": targets,
                "versions": self.versions.iter().map(|(side, v)| json!({ "side": side, "version": v })).collect::<Vec<_>>() })
    }
}
