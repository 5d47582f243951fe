//! `spec-differences THEIRS OURS KNOWN`: compares OCI specs that two CRI servers made of the same requests. THEIRS and OURS
//! are folders with the answers of `crictl inspect`, a file per request. KNOWN says which differences are meant, and why.
//!
//! It asks no server. Limits are left out, where the machine has no controllers for them. A line of KNOWN is `REQUEST FIELD: THEIRS -> OURS -- REASON`, where `*` stands for anything.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

/// A spec as one line per fact: what it is about, and its value.
type Facts = BTreeMap<String, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, config] = arguments.as_slice()
        && word == "--drop-limits"
    {
        drop_limits(Path::new(config)).expect("an OCI spec is written anew");
        return ExitCode::SUCCESS;
    }
    let [theirs, ours, known] = arguments.as_slice() else {
        eprintln!("spec-differences THEIRS OURS KNOWN | spec-differences --drop-limits CONFIG.JSON");
        return ExitCode::from(2);
    };
    match compare(Path::new(theirs), Path::new(ours), Path::new(known)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            println!("FAIL specs: {message}");
            ExitCode::FAILURE
        }
    }
}

/// So that runc starts a pod where cgroup v2 has no controllers and CAP_SYS_RESOURCE can't be had: containerd asks for CPU weights, CRI-O
/// for a pause process that is killed last, and for all capabilities that there are, come what may.
fn drop_limits(config: &Path) -> std::io::Result<()> {
    let mut spec: Value = serde_json::from_slice(&std::fs::read(config)?)?;
    if let Some(resources) = spec["linux"]["resources"].as_object_mut() {
        resources.retain(|name, _| name == "devices");
    }
    if let Some(process) = spec["process"].as_object_mut() {
        process.remove("oomScoreAdj");
        let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
        for names in sets.into_iter().flatten().filter_map(|(_, set)| set.as_array_mut()) {
            names.retain(|name| name != "CAP_SYS_RESOURCE");
        }
    }
    std::fs::write(config, spec.to_string())
}

fn compare(theirs: &Path, ours: &Path, known: &Path) -> Result<bool, String> {
    let known = read(known)?;
    let known = expectations(&known);
    let peer = theirs.file_name().unwrap_or_default().to_string_lossy();
    let mut used = BTreeSet::new();
    let mut good = true;
    let mut files: Vec<_> = std::fs::read_dir(theirs)
        .map_err(|error| format!("read {}: {error}", theirs.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .collect();
    files.sort();
    for file in &files {
        let request = file.to_string_lossy().trim_end_matches(".json").to_owned();
        let differences = differences(&request, &facts(&theirs.join(file))?, &facts(&ours.join(file))?);
        let unknown: Vec<&String> = differences
            .iter()
            .filter(|line| {
                let fitting: Vec<&str> = known
                    .keys()
                    .filter(|pattern| is_like(line.as_bytes(), pattern.as_bytes()))
                    .copied()
                    .collect();
                used.extend(fitting.iter().copied());
                fitting.is_empty()
            })
            .collect();
        for line in &unknown {
            println!("FAIL specs::{request}: differs, and the list does not say why: {line}");
        }
        if unknown.is_empty() {
            println!("specs: {request}: {} differences, all on the list", differences.len());
            println!("PASS specs::{request}_is_as_{peer}s");
        }
        good &= unknown.is_empty();
    }
    for (pattern, reason) in known.iter().filter(|(pattern, _)| !used.contains(**pattern)) {
        println!("FAIL specs::list: nothing differs like this any more: {pattern} -- {reason}");
        good = false;
    }
    Ok(good && !files.is_empty())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
}

/// The differences that are meant, with the reasons.
fn expectations(known: &str) -> BTreeMap<&str, &str> {
    let lines = known.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(" -- ").unwrap_or((line, "no reason given"))).collect()
}

/// Whether `text` is like `pattern`, in which `*` stands for any bytes.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    match (text, pattern) {
        (_, [b'*', rest @ ..]) => (0..=text.len()).any(|at| is_like(&text[at..], rest)),
        ([a, text @ ..], [b, pattern @ ..]) if a == b => is_like(text, pattern),
        ([], []) => true,
        _ => false,
    }
}

fn differences(request: &str, theirs: &Facts, ours: &Facts) -> Vec<String> {
    let fields: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let said = |facts: &Facts, field| facts.get(field).cloned().unwrap_or_else(|| "nothing".to_owned());
    fields
        .into_iter()
        .filter(|field| theirs.get(*field) != ours.get(*field))
        .map(|field| format!("{request} {field}: {} -> {}", said(theirs, field), said(ours, field)))
        .collect()
}

fn facts(file: &Path) -> Result<Facts, String> {
    let text = read(file)?;
    let answer: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let spec = &answer["info"]["runtimeSpec"];
    if spec["process"].is_null() {
        return Err(format!("{}: no info.runtimeSpec", file.display()));
    }
    let mut names = Names::default();
    names.learn(&answer["status"]["id"], "CONTAINER");
    names.learn(&answer["info"]["sandboxID"], "SANDBOX");
    names.learn(&answer["status"]["imageRef"], "IMAGE");
    let mut facts = Facts::new();
    add(&mut facts, &names, "", spec);
    Ok(facts)
}

/// What is another word in each run: ids.
#[derive(Default)]
struct Names(Vec<(String, &'static str)>);

impl Names {
    fn learn(&mut self, value: &Value, name: &'static str) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.0.push((text.to_owned(), name));
        }
    }

    /// Process ids in paths of /proc are another number each time, too.
    fn replace(&self, text: &str) -> String {
        let text = self.0.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name));
        match text.strip_prefix("/proc/").and_then(|rest| rest.split_once('/')) {
            Some((pid, rest)) if pid.bytes().all(|byte| byte.is_ascii_digit()) => format!("/proc/PID/{rest}"),
            _ => text,
        }
    }
}

/// Adds what `value`, which is at `place`, says. Lists in which order means nothing become sets; lists of things with a
/// name are told by that name.
fn add(facts: &mut Facts, names: &Names, place: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                add(facts, names, &format!("{place}/{name}"), value);
            }
        }
        Value::Array(items) if place == "/process/env" => {
            for item in items.iter().filter_map(Value::as_str) {
                let (name, value) = item.split_once('=').unwrap_or((item, ""));
                put(facts, format!("{place}/{name}"), names.replace(value));
            }
        }
        Value::Array(items) if place == "/linux/seccomp/syscalls" => {
            for item in items {
                add_rule(facts, place, item);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                let key = match place {
                    "/mounts" => item["destination"].as_str(),
                    "/linux/devices" => item["path"].as_str(),
                    "/linux/namespaces" | "/process/rlimits" => item["type"].as_str(),
                    _ => None,
                };
                add(facts, names, &key.map_or(format!("{place}/{at}"), |key| format!("{place}/{key}")), item);
            }
        }
        Value::Array(items) => {
            let mut items: Vec<String> = items.iter().map(|item| names.replace(&text_of(item))).collect();
            if place != "/process/args" {
                items.sort();
            }
            put(facts, place.to_owned(), items.join(" "));
        }
        // As Go leaves it out, and as one that is not there is meant.
        Value::Null | Value::Bool(false) => (),
        other => put(facts, place.to_owned(), names.replace(&text_of(other))),
    }
}

/// A rule of a seccomp filter, told by system call: one call may stand in several rules.
fn add_rule(facts: &mut Facts, place: &str, rule: &Value) {
    let conditions = rule["args"].as_array().map_or_else(String::new, |arguments| {
        let each = arguments.iter().map(|a| {
            let two = a["valueTwo"].as_u64().unwrap_or(0);
            format!(" if {} {} {} {two}", a["index"], text_of(&a["op"]), a["value"])
        });
        each.collect()
    });
    let errno = if rule["errnoRet"].is_null() { String::new() } else { format!(" {}", rule["errnoRet"]) };
    for name in rule["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        put(facts, format!("{place}/{name}{conditions}"), format!("{}{errno}", text_of(&rule["action"])));
    }
}

/// Two facts of one name are kept both.
fn put(facts: &mut Facts, place: String, value: String) {
    facts.entry(place).and_modify(|old| *old = format!("{old} and {value}")).or_insert(value);
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts_of(spec: &Value) -> Facts {
        let mut names = Names::default();
        names.learn(&json!("abc"), "CONTAINER");
        let mut facts = Facts::new();
        add(&mut facts, &names, "", spec);
        facts
    }

    #[test]
    fn order_ids_and_what_is_false_are_no_difference() {
        let theirs = json!({"process": {"env": ["A=1", "B=2"], "terminal": false, "capabilities": {"bounding": ["X", "Y"]}},
            "linux": {"namespaces": [{"type": "ipc", "path": "/proc/7/ns/ipc"}, {"type": "pid"}]}, "root": {"path": "/run/abc"}});
        let ours = json!({"process": {"env": ["B=2", "A=1"], "capabilities": {"bounding": ["Y", "X"]}},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc", "path": "/proc/88/ns/ipc"}]}, "root": {"path": "/run/CONTAINER"}});
        assert_eq!(differences("x", &facts_of(&theirs), &facts_of(&ours)), Vec::<String>::new());
    }

    #[test]
    fn a_difference_has_both_sides() {
        let theirs = json!({"process": {"args": ["a", "b"]}, "linux": {"seccomp": {"syscalls": [{"names": ["read"], "action": "ALLOW"}]}}});
        let ours = json!({"process": {"args": ["b", "a"]}});
        let found = differences("x", &facts_of(&theirs), &facts_of(&ours));
        assert_eq!(
            found,
            ["x /linux/seccomp/syscalls/read: ALLOW -> nothing", "x /process/args: a b -> b a"]
        );
        assert!(is_like(found[0].as_bytes(), b"* /linux/seccomp/*: * -> nothing"));
        assert!(!is_like(found[0].as_bytes(), b"y /linux*"));
    }
}
