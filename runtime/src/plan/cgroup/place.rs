//! `linux.cgroupsPath`: a path below the cgroup2 mount, or a systemd unit in its slice. It does not know where the mount is.

use serde::Serialize;

use super::{Driver, Request};
use crate::error::{Error, Result};

/// Where the cgroup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// Components below the mount, joined by `/`, without a leading one. Never empty.
    Path {
        /// The path.
        path: String,
    },
    /// Made by systemd.
    Unit {
        /// The slice that it belongs to.
        slice: String,
        /// The unit, a `.scope` or a `.slice`.
        unit: String,
        /// Where systemd puts that below its root.
        path: String,
    },
}

impl Place {
    /// Path below the mount. For a unit, what to expect: systemd has the last word.
    pub fn path(&self) -> &str {
        match self {
            Self::Path { path } | Self::Unit { path, .. } => path,
        }
    }
}

pub fn plan(request: &Request<'_>, warnings: &mut Vec<String>) -> Result<Place> {
    let given = request.cgroups_path.unwrap_or_default();
    match request.driver {
        Driver::Cgroupfs => path(given, request.id, warnings),
        Driver::Systemd => unit(given, request.id),
    }
}

/// An absolute and a relative path mean the same: below the mount. An empty one is the container's id, as for crun: runc takes a
/// sibling of its own cgroup, which depends on who calls.
fn path(given: &str, id: &str, warnings: &mut Vec<String>) -> Result<Place> {
    if given.is_empty() {
        return Ok(Place::Path { path: id.to_owned() });
    }
    if given.contains(['\0', '\n']) {
        return Err(Error::invalid(format!("linux.cgroupsPath {given:?} holds a NUL or a line feed")));
    }
    let mut path = String::with_capacity(given.len());
    for part in given.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(Error::invalid(format!("linux.cgroupsPath {given:?} holds \"..\"")));
        }
        // KERNEL: NAME_MAX
        if part.len() > 255 {
            return Err(Error::invalid(format!("linux.cgroupsPath {given:?} has a name of over 255 bytes")));
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    if path.is_empty() {
        return Err(Error::invalid(format!("linux.cgroupsPath {given:?} is the root of all cgroups"))
            .cure("name one below, or leave it out"));
    }
    if !given.contains('/') && given.split(':').count() == 3 {
        warnings.push(format!(
            "linux.cgroupsPath {given:?} has the form of a systemd unit and is taken as a path (--systemd-cgroup is not given)"
        ));
    }
    Ok(Place::Path { path })
}

/// `slice:prefix:name`, as runc: an empty slice is system.slice, a name that ends in `.slice` is one itself.
fn unit(given: &str, id: &str) -> Result<Place> {
    let wrong = |why: &str| {
        Err(Error::invalid(format!("linux.cgroupsPath {given:?}: {why}"))
            .cure("with --systemd-cgroup it is slice:prefix:name, such as system.slice:app:web"))
    };
    let parts: Vec<&str> = if given.is_empty() { vec!["", "rt", id] } else { given.split(':').collect() };
    let &[slice, prefix, name] = parts.as_slice() else { return wrong("it has not three parts") };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    if name.is_empty() {
        return wrong("the name is empty");
    }
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    // systemd.unit(5)
    let legal = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if let Some(bad) = unit.chars().find(|c| !legal(*c)) {
        return wrong(&format!("{bad:?} can't be in a unit's name"));
    }
    if unit.len() > 255 {
        return wrong("the unit's name has over 255 bytes");
    }
    let mut path = match slice_path(slice) {
        Some(path) => path,
        None => return wrong(&format!("{slice:?} is no slice")),
    };
    if name.ends_with(".slice") {
        match slice_path(name) {
            Some(own) => path = own,
            None => return wrong(&format!("{name:?} is no slice")),
        }
    } else {
        if !path.is_empty() {
            path.push('/');
        }
        path += &unit;
    }
    Ok(Place::Unit { slice: slice.to_owned(), unit, path })
}

/// `a-b.slice` is in `a.slice`; `-.slice` is the root. systemd.slice(5)
fn slice_path(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let mut path = String::new();
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() || !part.chars().all(legal) {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
            path.push('/');
        }
        name += part;
        path += &name;
        path += ".slice";
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(given: &str) -> Result<String> {
        Ok(path(given, "id", &mut Vec::new())?.path().to_owned())
    }

    #[test]
    fn paths_are_below_the_mount() {
        for (given, expected) in [
            ("", "id"),
            ("/a/b", "a/b"),
            ("a/b", "a/b"),
            ("//a/./b//", "a/b"),
            ("/a.slice/b...c", "a.slice/b...c"),
        ] {
            assert_eq!(path_of(given).unwrap(), expected, "{given}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(256);
        for (given, text) in [
            ("/", "linux.cgroupsPath \"/\" is the root of all cgroups (name one below, or leave it out)"),
            ("/a/../b", "linux.cgroupsPath \"/a/../b\" holds \"..\""),
            ("..", "linux.cgroupsPath \"..\" holds \"..\""),
            ("a\nb", "linux.cgroupsPath \"a\\nb\" holds a NUL or a line feed"),
            (&long, &format!("linux.cgroupsPath {long:?} has a name of over 255 bytes")),
        ] {
            assert_eq!(path_of(given).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_unit_taken_as_a_path_is_warned_about() {
        let mut warnings = Vec::new();
        path("system.slice:docker:abc", "id", &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("--systemd-cgroup"), "{warnings:?}");
    }

    #[test]
    fn units_are_in_their_slices() {
        for (given, slice, name, path) in [
            ("", "system.slice", "rt-id.scope", "system.slice/rt-id.scope"),
            ("system.slice:docker:abc", "system.slice", "docker-abc.scope", "system.slice/docker-abc.scope"),
            (":libpod:abc", "system.slice", "libpod-abc.scope", "system.slice/libpod-abc.scope"),
            ("-.slice::abc", "-.slice", "abc.scope", "abc.scope"),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:x",
                "kubepods-burstable-pod1.slice",
                "cri-containerd-x.scope",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-x.scope",
            ),
            ("system.slice:x:a-b.slice", "system.slice", "a-b.slice", "a.slice/a-b.slice"),
        ] {
            let expected = Place::Unit { slice: slice.into(), unit: name.into(), path: path.into() };
            assert_eq!(unit(given, "id").unwrap(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for (given, why) in [
            ("/docker/abc", "it has not three parts"),
            ("a:b", "it has not three parts"),
            ("a.slice:b:", "the name is empty"),
            ("a.slice:b:c/../d", "'/' can't be in a unit's name"),
            ("a:b:c", "\"a\" is no slice"),
            ("a--b.slice:b:c", "\"a--b.slice\" is no slice"),
            ("../x.slice:b:c", "\"../x.slice\" is no slice"),
        ] {
            let text = unit(given, "id").unwrap_err().to_string();
            assert!(text.contains(why), "{given}: {text}");
        }
    }
}
