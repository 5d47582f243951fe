//! Which bundle and which id a command line means. It looks whether a config.json is there, and nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::absolute;
use super::values::parse_id;
use crate::error::{Error, Result};
use crate::id::Id;

const CONFIG: &str = "config.json";

/// What `rt run` was told.
pub struct Said {
    /// By `-b`; empty: nothing.
    pub bundle: PathBuf,
    /// By `--id`.
    pub id: Option<Id>,
    /// The argument.
    pub argument: Option<OsString>,
    /// By `--config`.
    pub config: Option<PathBuf>,
}

/// The bundle and the id. `None` if no id can be found out.
pub fn of_run(said: Said) -> Result<Option<(PathBuf, Id)>> {
    decide(said, |path| path.exists())
}

/// The bundle that was given, or the current directory.
pub fn bundle_or_here(bundle: &Path) -> Result<PathBuf> {
    absolute(if bundle.as_os_str().is_empty() { Path::new(".") } else { bundle })
}

/// An id for people who don't care.
pub fn id_from_bundle(bundle: &Path) -> Result<Id> {
    // What ends in `..` has no name of its own.
    let real = match bundle.file_name() {
        Some(_) => bundle.to_owned(),
        None => std::fs::canonicalize(bundle).unwrap_or_else(|_| bundle.to_owned()),
    };
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    Id::from_name(&name).ok_or_else(|| {
        Error::invalid(format!("make a container id from the bundle's name {}", real.display()))
            .cure("say it with --id")
    })
}

fn decide(said: Said, exists: impl Fn(&Path) -> bool) -> Result<Option<(PathBuf, Id)>> {
    let Said { bundle, id, argument, config } = said;
    let bundle_said = !bundle.as_os_str().is_empty();
    let Some(argument) = argument else {
        return id.map(|id| bundle_or_here(&bundle).map(|bundle| (bundle, id))).transpose();
    };
    let path = Path::new(&argument);
    // No id is written like these.
    let is_path = argument.as_encoded_bytes().contains(&b'/') || [".", ".."].map(Path::new).contains(&path);
    let is_bundle = !bundle_said
        && (exists(&path.join(CONFIG)) || (config.is_some() && is_path))
        && (is_path || !exists(Path::new(CONFIG)));
    if is_bundle {
        let bundle = absolute(path)?;
        let id = id.map_or_else(|| id_from_bundle(&bundle), Ok)?;
        return Ok(Some((bundle, id)));
    }
    if is_path && !bundle_said && !exists(path) {
        let what = format!("open bundle {}: there is no such directory", path.display());
        return Err(Error::invalid(what).cure("a bundle is a directory with a config.json"));
    }
    if is_path && !bundle_said {
        let what = format!("open bundle {}: there is no {CONFIG}", path.display());
        return Err(Error::invalid(what).cure(format!("`rt spec -b {}` writes one", path.display())));
    }
    if let Some(id) = id {
        let what = format!("rt run: two container ids, {id} by --id and {} as an argument", path.display());
        return Err(Error::invalid(what));
    }
    Ok(Some((bundle_or_here(&bundle)?, parse_id(&argument)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `rt run` makes of a command line where the files of `there` exist.
    fn run(bundle: &str, id: Option<&str>, argument: Option<&str>, there: &[&str]) -> String {
        let said = Said {
            bundle: bundle.into(),
            id: id.map(|id| Id::parse(id).unwrap()),
            argument: argument.map(Into::into),
            config: None,
        };
        match decide(said, |path| there.iter().any(|known| Path::new(known) == path)) {
            Ok(Some((bundle, id))) => {
                let here = std::env::current_dir().unwrap();
                format!("{id} in {}", bundle.strip_prefix(&here).unwrap_or(&bundle).display())
            }
            Ok(None) => "nothing".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_argument_is_a_bundle_or_an_id() {
        let (here, web) = ("config.json", "web/config.json");
        assert_eq!(run("", None, Some("web"), &[web]), "web in web");
        assert_eq!(run("", None, Some("web"), &[web, here]), "web in ", "runc's meaning wins");
        assert_eq!(run("", None, Some("./web"), &["./web/config.json", here]), "web in web");
        assert_eq!(run("", None, Some("/b/web"), &["/b/web/config.json"]), "web in /b/web");
        assert_eq!(run("", Some("x"), Some("/b/web"), &["/b/web/config.json"]), "x in /b/web");
        assert_eq!(run("", None, Some("web"), &[]), "web in ");
        assert_eq!(run("/b", None, Some("web"), &[web]), "web in /b", "with -b it is an id");
        assert_eq!(run("", Some("x"), Some("."), &["./config.json", here]), "x in ", "no id is a dot");
        assert_eq!(run("/b", Some("x"), None, &[]), "x in /b");
        assert_eq!(run("", Some("x"), None, &[]), "x in ");
        assert_eq!(run("", None, None, &[here]), "nothing");
        assert_eq!(run("/b", None, None, &[here]), "nothing");
    }

    #[test]
    fn what_can_not_be_meant_is_an_error() {
        assert_eq!(
            run("", None, Some("./web"), &["./web"]),
            "open bundle ./web: there is no config.json (`rt spec -b ./web` writes one)"
        );
        assert_eq!(
            run("", None, Some("./web"), &[]),
            "open bundle ./web: there is no such directory (a bundle is a directory with a config.json)"
        );
        assert_eq!(
            run("/b", Some("x"), Some("y"), &[]),
            "rt run: two container ids, x by --id and y as an argument"
        );
        assert!(run("/b", None, Some("a/b"), &[]).starts_with("invalid container id \"a/b\""));
        assert_eq!(
            run("", None, Some("/"), &["/config.json"]),
            "make a container id from the bundle's name / (say it with --id)"
        );
    }
}
