//! CNI network configurations: which files count, and what they say. Nothing is run here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::document;
use crate::error::{Context, Error, Kind, Result};

/// The versions of the specification that are spoken, newest first.
const VERSIONS: [&str; 7] = ["1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0"];

/// One network: plugins that are run one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The file that it is from.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
    /// The version that is spoken with its plugins.
    pub version: String,
    /// The plugins' configurations, in order.
    pub plugins: Vec<Map<String, Value>>,
    /// Its author says that CHECK does not work.
    pub no_check: bool,
    /// Its author says that GC does not work.
    pub no_gc: bool,
}

/// The networks of a folder, at most `count`, in the order of their files' names. A folder that is not there has none.
/// Files that can't be used are passed over with a warning, unless none is left: then the first error is returned.
pub fn load(folder: &Path, count: usize) -> Result<Vec<Network>> {
    let mut files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries
            .what(|| format!("list {}", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .collect(),
    };
    Vec::retain(&mut files, |path| {
        path.extension()
            .is_some_and(|extension| ["conflist", "conf", "json"].iter().any(|known| extension == *known))
    });
    files.sort();
    let mut networks = Vec::new();
    let mut wrong = None;
    for file in files {
        match read(&file) {
            Ok(network) => networks.push(network),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a CNI configuration can't be used");
                wrong.get_or_insert(error);
            }
        }
        if networks.len() == count.max(1) {
            break;
        }
    }
    match wrong {
        Some(error) if networks.is_empty() => Err(error),
        _ => Ok(networks),
    }
}

fn read(file: &Path) -> Result<Network> {
    let what = || format!("read CNI configuration {}", file.display());
    let bytes = document::read(file, document::MOST).what(what)?;
    let mut top: Map<String, Value> = serde_json::from_slice(&bytes).what(what)?;
    let list =
        top.contains_key("plugins") || file.extension().is_some_and(|extension| extension == "conflist");
    if !list {
        // A single plugin's configuration is a list of one.
        let mut single = Map::new();
        for key in ["name", "cniVersion"] {
            if let Some(value) = top.get(key) {
                single.insert(key.to_owned(), value.clone());
            }
        }
        single.insert("plugins".to_owned(), Value::Array(vec![Value::Object(top)]));
        top = single;
    }
    parse(file, &top).what(what)
}

fn parse(file: &Path, top: &Map<String, Value>) -> Result<Network> {
    let name = top.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !valid_name(&name) {
        return Err(Error::invalid(format!("`{name}` is no name of a network"))
            .cure("give it a `name` of letters, digits, `_`, `.` and `-`"));
    }
    let mut plugins = match top.get("plugins") {
        Some(Value::Array(plugins)) => plugins.iter().map(plugin).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
        Some(_) => return Err(Error::invalid("`plugins` is no list")),
    };
    if !flag(top, "loadOnlyInlinedPlugins") {
        plugins.extend(beside(file, &name)?);
    }
    if plugins.is_empty() {
        return Err(Error::invalid(format!("network {name} has no plugins")));
    }
    Ok(Network {
        file: file.to_owned(),
        version: version(top)?,
        plugins,
        no_check: flag(top, "disableCheck"),
        no_gc: flag(top, "disableGC"),
        name,
    })
}

/// Since 1.1 plugins may also stand in files of their own, in a folder with the network's name.
fn beside(file: &Path, name: &str) -> Result<Vec<Map<String, Value>>> {
    let folder = file.with_file_name(name);
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    let read = |path: &PathBuf| {
        let what = || format!("read CNI configuration {}", path.display());
        let value =
            serde_json::from_slice::<Value>(&document::read(path, document::MOST).what(what)?).what(what)?;
        plugin(&value).what(what)
    };
    files.iter().map(read).collect()
}

fn plugin(value: &Value) -> Result<Map<String, Value>> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    match value {
        // The type is a program's name: a path could leave the folders of plugins.
        Value::Object(fields) if !kind.is_empty() && !kind.contains('/') && kind != ".." => {
            Ok(fields.clone())
        }
        _ => Err(Error::invalid(format!("a plugin has the type `{kind}`, which is no program's name"))),
    }
}

/// The newest version that network and server have in common.
fn version(top: &Map<String, Value>) -> Result<String> {
    let several = top.get("cniVersions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = top.get("cniVersion").filter(|value| value.as_str() != Some(""));
    let asked: Vec<&str> = several.iter().chain(named).filter_map(Value::as_str).collect();
    if asked.is_empty() {
        return Ok("0.1.0".to_owned());
    }
    let known = VERSIONS.iter().find(|version| asked.contains(version));
    known.map(|version| (*version).to_owned()).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("CNI version {} is not known", asked.join(", ")))
            .cure("use a cniVersion of 0.1.0 to 1.1.0")
    })
}

fn flag(top: &Map<String, Value>, key: &str) -> bool {
    match top.get(key) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// SPEC: CNI, network configuration, `name`.
fn valid_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner)
}

impl Network {
    /// Whether its plugins can be asked for their status.
    pub fn has_status(&self) -> bool {
        self.at_least("1.1.0")
    }

    /// Whether its version is at least `minor` of 0.x, or any 1.x.
    pub fn at_least(&self, version: &str) -> bool {
        let place = |wanted: &str| VERSIONS.iter().position(|known| *known == wanted);
        place(&self.version) <= place(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_texts(texts: &[(&str, &str)], count: usize) -> Result<Vec<Network>> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("rt-cri-conflist-{}-{number}", std::process::id()));
        for (name, text) in texts {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let loaded = load(&folder, count);
        fs::remove_dir_all(folder).unwrap();
        loaded
    }

    const LIST: &str = r#"{"cniVersion":"1.0.0","name":"a","disableCheck":true,"plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;

    #[test]
    fn the_first_file_by_name_counts_and_others_only_if_asked_for() {
        let texts =
            [("20-b.conf", r#"{"name":"b","type":"ptp"}"#), ("10-a.conflist", LIST), ("05-c.txt", "x")];
        let one = load_texts(&texts, 1).unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].name.as_str(), one[0].plugins.len(), one[0].no_check), ("a", 2, true));
        let two = load_texts(&texts, 2).unwrap();
        assert_eq!((two[1].name.as_str(), two[1].version.as_str()), ("b", "0.1.0"));
    }

    #[test]
    fn a_broken_file_is_passed_over_and_the_error_if_nothing_is_left() {
        let loaded = load_texts(&[("00-x.conflist", "{"), ("10-a.conflist", LIST)], 1).unwrap();
        assert_eq!(loaded[0].name, "a");
        let error = load_texts(&[("00-x.conflist", "{")], 1).unwrap_err().to_string();
        assert!(error.contains("00-x.conflist"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            (r#"{"name":"../x","plugins":[{"type":"bridge"}]}"#, "`../x`"),
            (r#"{"name":"x","plugins":[{"type":"../sh"}]}"#, "`../sh`"),
            (r#"{"name":"x","plugins":[]}"#, "no plugins"),
            (r#"{"name":"x","cniVersion":"9.9.9","plugins":[{"type":"a"}]}"#, "9.9.9"),
            (r#"{"name":"x","plugins":{}}"#, "no list"),
        ] {
            let error = load_texts(&[("1.conflist", text)], 1).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn plugins_of_the_folder_beside_are_appended_unless_forbidden() {
        let list = |more: &str| {
            format!(
                r#"{{"name":"x","cniVersions":["0.4.0","1.1.0","2.0.0"],{more}"plugins":[{{"type":"a"}}]}}"#
            )
        };
        let beside = ("x/10.conf", r#"{"type":"b"}"#);
        let loaded = load_texts(&[("1.conflist", &list("")), beside], 1).unwrap();
        assert_eq!((loaded[0].plugins.len(), loaded[0].version.as_str()), (2, "1.1.0"));
        let only = list(r#""loadOnlyInlinedPlugins":true,"#);
        assert_eq!(load_texts(&[("1.conflist", &only), beside], 1).unwrap()[0].plugins.len(), 1);
    }

    #[test]
    fn versions_are_compared_by_age() {
        let network = |version: &str| Network {
            version: version.to_owned(),
            ..load_texts(&[("a.conflist", LIST)], 1).unwrap().remove(0)
        };
        assert!(network("1.1.0").at_least("0.4.0"));
        assert!(network("0.4.0").at_least("0.4.0"));
        assert!(!network("1.0.0").at_least("1.1.0"));
    }
}
