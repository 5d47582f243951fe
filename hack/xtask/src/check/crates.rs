//! The order of crates: runtime ◀ shim ◀ cri ◀ tests/fuzz; all else of `tests` and `hack` compiles against none of them.
//!
//! Reads Cargo's manifests as text: which crates of ours a manifest names, no more.

use std::fs;
use std::path::Path;

const OURS: [&str; 3] = ["runtime", "shim", "cri"];

/// Manifest, and which of ours it may name.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("runtime/Cargo.toml", &[]),
    ("shim/Cargo.toml", &["runtime"]),
    ("cri/Cargo.toml", &["runtime", "shim"]),
    ("tests/Cargo.toml", &[]),
    ("tests/fuzz/Cargo.toml", &["runtime", "shim", "cri"]),
    ("tests/probe/Cargo.toml", &[]),
    ("hack/xtask/Cargo.toml", &[]),
];

/// Dependencies that go against the order.
pub fn order(repository: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (manifest, may) in MAY_USE {
        let Ok(text) = fs::read_to_string(repository.join(manifest)) else { continue }; // a crate not there yet
        for used in
            dependencies(&text).filter(|used| OURS.contains(&used.as_str()) && !may.contains(&used.as_str()))
        {
            wrong.push(format!("{manifest}: may not depend on `{used}`"));
        }
    }
    wrong
}

/// The crates named in a manifest's dependency tables of any kind.
fn dependencies(manifest: &str) -> impl Iterator<Item = String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_matches(['[', ']']);
            inside = table.ends_with("dependencies");
            // [dependencies.NAME]
            let single = table.rsplit_once('.').filter(|(kind, _)| kind.ends_with("dependencies"));
            found.extend(single.map(|(_, name)| name.to_owned()));
        } else if let Some((name, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#'))
        {
            found.push(name.trim().split('.').next().unwrap_or("").trim_matches('"').to_owned());
            // name = { package = "other" }
            let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            found.extend(renamed.map(str::to_owned));
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_dependency_is_seen() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\n[dev-dependencies.c]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\nd = { package = \"e\", version = \"1\" }\n[lints]\nworkspace = true\n";
        let found: Vec<String> = dependencies(manifest).collect();
        assert_eq!(found, ["a", "b", "c", "d", "e"]);
    }
}
