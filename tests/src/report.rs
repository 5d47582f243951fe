//! What the probe saw, with the questions that tests ask of it.
//!
//! Everything else is reached by `report["field"]`.

use serde_json::Value;

/// A parsed `probe report`.
#[derive(Debug, Clone)]
pub struct Report(Value);

/// One line of the container's mount table.
#[derive(Debug, Clone)]
pub struct Mount(Value);

impl Report {
    /// From the probe's output.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|e| panic!("not a report ({e}): {text}")))
    }

    /// The uppermost mount at a path.
    #[track_caller]
    pub fn mount(&self, point: &str) -> Mount {
        self.find_mount(point)
            .unwrap_or_else(|| panic!("nothing is mounted at {point}: {}", self.0["mounts"]))
    }

    /// The uppermost mount at a path, if there is one.
    pub fn find_mount(&self, point: &str) -> Option<Mount> {
        let mounts = self.0["mounts"].as_array()?;
        mounts.iter().rev().find(|m| m["point"] == point).cloned().map(Mount)
    }

    /// A file below /dev.
    #[track_caller]
    pub fn device(&self, path: &str) -> &Value {
        let nodes = self.0["dev"].as_array().expect("a list of devices");
        nodes.iter().find(|d| d["path"] == path).unwrap_or_else(|| panic!("no {path} in {nodes:?}"))
    }

    /// Names of a capability set.
    pub fn capabilities(&self, set: &str) -> Vec<String> {
        let names = self.0["capabilities"][set].as_array().expect("a capability set");
        names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect()
    }

    /// A namespace's identity, `kind:[inode]`.
    pub fn namespace(&self, kind: &str) -> &str {
        self.0["namespaces"][kind].as_str().unwrap_or_default()
    }

    /// Numbers of the open descriptors.
    pub fn fds(&self) -> Vec<i64> {
        self.0["fds"]
            .as_array()
            .expect("a list of descriptors")
            .iter()
            .filter_map(|f| f["fd"].as_i64())
            .collect()
    }

    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        let list = self.0["env"].as_array().expect("an environment");
        list.iter()
            .filter_map(Value::as_str)
            .find_map(|v| v.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }
}

impl std::ops::Index<&str> for Report {
    type Output = Value;
    fn index(&self, field: &str) -> &Value {
        &self.0[field]
    }
}

impl Mount {
    /// Whether the mount has the per-mount option (`ro`, `nosuid`…).
    pub fn has(&self, option: &str) -> bool {
        self.0["options"].as_array().is_some_and(|list| list.iter().any(|o| o == option))
    }

    /// Whether the file system itself has the option (`mode=755`, `size=…`).
    pub fn has_super(&self, option: &str) -> bool {
        self.0["super"].as_array().is_some_and(|list| list.iter().any(|o| o == option))
    }

    /// Makes sure of options that must be there and of others (with a leading `!`) that must not.
    #[track_caller]
    pub fn expect(&self, options: &[&str]) -> &Self {
        for option in options {
            match option.strip_prefix('!') {
                Some(absent) => assert!(!self.has(absent), "{absent} is set on {}", self.0),
                None => assert!(self.has(option), "{option} is missing on {}", self.0),
            }
        }
        self
    }

    /// The kind of file system.
    pub fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap_or_default()
    }

    /// `shared`, `master` or `unbindable` tags; none for a private mount.
    pub fn propagation(&self) -> String {
        let tags = self.0["propagation"].as_array().map_or(&[][..], Vec::as_slice);
        let names = tags.iter().filter_map(|t| t.as_str()?.split(':').next());
        names.collect::<Vec<_>>().join(" ")
    }
}

impl std::ops::Index<&str> for Mount {
    type Output = Value;
    fn index(&self, field: &str) -> &Value {
        &self.0[field]
    }
}
