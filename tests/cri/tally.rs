//! `critest-tally REPORT KNOWN [partly]`: reads ginkgo's JSON report and prints a line for each spec, `PASS`, `FAIL` or
//! `SKIP`, as the test run counts them. KNOWN says which specs don't pass and why, a line each: `NAME -- REASON`.
//!
//! It runs nothing. `partly`: specs that the report leaves out are no matter.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What came of one spec.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail(String),
    Skip(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [report, known, rest @ ..] = arguments.as_slice() else {
        eprintln!("critest-tally REPORT KNOWN [partly]");
        return ExitCode::from(2);
    };
    let texts = std::fs::read_to_string(report).and_then(|r| std::fs::read_to_string(known).map(|k| (r, k)));
    let (report, known) = match texts {
        Ok(texts) => texts,
        Err(error) => {
            println!("FAIL critest: read {report} and {known}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = serde_json::from_str(&report).unwrap_or(Value::Null);
    let verdicts = judge(&report, &expectations(&known), !rest.is_empty());
    let mut failed = verdicts.is_empty();
    for (name, verdict) in &verdicts {
        match verdict {
            Verdict::Pass => println!("PASS critest::{name}"),
            Verdict::Skip(reason) => println!("SKIP critest::{name}: {reason}"),
            Verdict::Fail(why) => {
                failed = true;
                println!("FAIL critest::{name}: {why}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The list of specs that don't pass, with the reasons.
fn expectations(known: &str) -> BTreeMap<&str, &str> {
    let lines = known.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(" -- ").unwrap_or((line, "no reason given"))).collect()
}

fn judge(report: &Value, known: &BTreeMap<&str, &str>, partly: bool) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    for spec in specs(report) {
        let name = name(spec);
        let state = spec["State"].as_str().unwrap_or_default();
        let message = message(spec);
        // Left out by the caller's focus, or a benchmark, which critest leaves out itself.
        if state == "skipped" && message.is_empty() && !known.contains_key(name.as_str()) {
            if !partly {
                verdicts.insert(name, Verdict::Fail("not run, and not on the list".to_owned()));
            }
            continue;
        }
        if partly && state == "skipped" && message.is_empty() {
            continue;
        }
        let verdict = match (state, known.get(name.as_str())) {
            ("passed", None) => Verdict::Pass,
            ("passed", Some(_)) => {
                println!("critest: on the list, and passes: {name}");
                Verdict::Pass
            }
            (_, Some(reason)) => Verdict::Skip((*reason).to_owned()),
            (state, None) => Verdict::Fail(format!("{state}: {message}")),
        };
        verdicts.insert(name, verdict);
    }
    for name in known.keys().filter(|_| !partly) {
        verdicts
            .entry((*name).to_owned())
            .or_insert_with(|| Verdict::Fail("on the list, but there is no such spec".to_owned()));
    }
    verdicts
}

/// The specs of all suites; what runs before and after a suite counts where it did not pass.
fn specs(report: &Value) -> impl Iterator<Item = &Value> {
    let suites = report.as_array().into_iter().flatten();
    let all = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    all.filter(|spec| spec["LeafNodeType"] == "It" || spec["State"] != "passed")
}

/// The spec's whole name, as ginkgo's focus sees it.
fn name(spec: &Value) -> String {
    let above = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let leaf = match spec["LeafNodeText"].as_str() {
        Some(text) if !text.is_empty() => text,
        _ => spec["LeafNodeType"].as_str().unwrap_or("spec"),
    };
    let words: Vec<&str> = above.filter_map(Value::as_str).chain([leaf]).collect();
    words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ").replace(": ", " ")
}

/// Why it did not pass, in one line.
fn message(spec: &Value) -> String {
    let text = spec["Failure"]["Message"].as_str().unwrap_or_default();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(name: &str, state: &str, message: &str) -> Value {
        json!({ "LeafNodeType": "It", "ContainerHierarchyTexts": ["[k8s.io]", "Pod"], "LeafNodeText": name,
                "State": state, "Failure": { "Message": message } })
    }

    fn judged(specs: &[Value], known: &str) -> Vec<(String, Verdict)> {
        judge(&json!([{ "SpecReports": specs }]), &expectations(known), false).into_iter().collect()
    }

    #[test]
    fn what_is_not_on_the_list_must_pass() {
        let verdicts = judged(
            &[spec("a", "passed", ""), spec("b", "failed", "not\n  so"), spec("c", "skipped", "")],
            "",
        );
        let fail = |why: &str| Verdict::Fail(why.to_owned());
        assert_eq!(verdicts[0], ("[k8s.io] Pod a".to_owned(), Verdict::Pass));
        assert_eq!(verdicts[1].1, fail("failed: not so"));
        assert_eq!(verdicts[2].1, fail("not run, and not on the list"));
    }

    #[test]
    fn the_list_gives_reasons_and_must_name_specs_that_are_there() {
        let verdicts = judged(
            &[spec("a", "failed", "x"), spec("b", "skipped", "")],
            "# note\n[k8s.io] Pod a -- not yet\n[k8s.io] Pod b -- no moon\n[k8s.io] Pod d -- gone\n",
        );
        assert_eq!(verdicts[0].1, Verdict::Skip("not yet".to_owned()));
        assert_eq!(verdicts[1].1, Verdict::Skip("no moon".to_owned()));
        assert!(matches!(verdicts[2].1, Verdict::Fail(_)));
    }
}
