//! What tests of specs share: rt's judgement, and golden files. It asserts nothing else.

use serde::Serialize;

pub use super::fuzzing::{context, host, node, pod};

/// What rt makes of it: an error is one of ours.
pub fn accepted(spec: &impl Serialize) -> runtime::plan::Plan {
    let text = serde_json::to_string(spec).unwrap();
    let read: runtime::spec::Spec = serde_json::from_str(&text).unwrap();
    let bundle = std::path::Path::new("/bundle");
    let driver = runtime::plan::cgroup::Driver::Cgroupfs;
    let plan = runtime::plan::Plan::new("x", bundle, &read, Some(driver))
        .unwrap_or_else(|error| panic!("rt refuses it: {error}\n{text}"));
    assert_eq!(plan.warnings, Vec::<String>::new());
    plan
}

/// Compares with `golden/NAME.json`, which `RT_BLESS=1` writes anew. Sets are sorted; a filter is shown by its size.
pub fn golden(name: &str, spec: &impl Serialize) {
    let mut shown = serde_json::to_value(spec).unwrap();
    if let Some(sets) = shown.pointer_mut("/process/capabilities").and_then(|sets| sets.as_object_mut()) {
        for set in sets.values_mut() {
            let mut names: Vec<String> = serde_json::from_value(set.take()).unwrap();
            names.sort();
            *set = names.into();
        }
    }
    if let Some(rules) = shown.pointer_mut("/linux/seccomp/syscalls") {
        let sizes: Vec<String> = rules
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| format!("{} names", rule["names"].as_array().unwrap().len()))
            .collect();
        *rules = format!("{} rules, the first of {}", sizes.len(), sizes[0]).into();
    }
    let text = serde_json::to_string_pretty(&shown).unwrap() + "\n";
    let path = format!("{}/src/oci/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RT_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(expected.lines()).find(|(new, old)| new != old);
    assert!(text == expected, "{path} differs, first in {differs:?}:\n{text}");
}
