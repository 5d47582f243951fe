//! AppArmor as this kernel has it, and the profile that containers have by default: the text is ours, apparmor_parser makes
//! the kernel's policy of it. Which container gets which profile is decided by `oci::lsm`.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::oci::{AppArmor, DEFAULT_PROFILE as DEFAULT};

const TEXT: &str = include_str!("rt-default.apparmor");
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// The rules' meaning is that of this feature set, where the file of it is installed; else what the parser takes.
const ABI: &str = "/etc/apparmor.d/abi/3.0";

/// What there is now. `None`: this kernel does without AppArmor. Loads nothing.
pub fn look() -> Option<AppArmor> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
    if !enabled.starts_with('Y') {
        return None;
    }
    Some(match std::fs::read_to_string(PROFILES) {
        Ok(list) => found(names(&list)),
        Err(error) => AppArmor {
            lacking: Some(format!(
                "{PROFILES}: {error}; mount -t securityfs securityfs /sys/kernel/security"
            )),
            ..AppArmor::default()
        },
    })
}

/// What there is now, with the default profile loaded if that can be done.
pub fn look_and_load() -> Option<AppArmor> {
    let there = look()?;
    if there.lacking.is_none() || there.profiles.is_none() {
        return Some(there);
    }
    match load() {
        Ok(()) => {
            tracing::info!("AppArmor profile {DEFAULT} loaded");
            look()
        }
        Err(error) => Some(AppArmor { lacking: Some(error.to_string()), ..there }),
    }
}

fn found(profiles: BTreeSet<String>) -> AppArmor {
    let lacking = (!profiles.contains(DEFAULT)).then(|| format!("{DEFAULT} is not loaded"));
    AppArmor { lacking, profiles: Some(profiles) }
}

/// `NAME (MODE)` a line.
fn names(list: &str) -> BTreeSet<String> {
    let name = |line: &str| line.rsplit_once(" (").map_or(line, |(name, _)| name).to_owned();
    list.lines().map(name).collect()
}

/// The program that compiles policy, if it is installed.
pub fn parser() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|dir| dir.join("apparmor_parser"));
    places.find(|path| path.is_file()).ok_or_else(|| {
        Error::unsupported(format!("load the AppArmor profile {DEFAULT}: there is no apparmor_parser"))
            .cure("install the package apparmor")
    })
}

fn load() -> Result<()> {
    let parser = parser()?;
    let what = || format!("load the AppArmor profile {DEFAULT} by {}", parser.display());
    let mut command = Command::new(&parser);
    command.args(["--replace", "--skip-cache"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().what(what)?;
    if let Some(mut input) = child.stdin.take() {
        // Whoever does not read to the end says why.
        let _ = input.write_all(text(Path::new(ABI).exists()).as_bytes());
    }
    let output = child.wait_with_output().what(what)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::unsupported(format!("{}: {}: {words}", what(), output.status)))
}

fn text(has_abi: bool) -> String {
    format!("{}{TEXT}", if has_abi { "abi <abi/3.0>,\n" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_modes() {
        let names = names("rt-default (enforce)\n/usr/bin/man (complain)\na (b) (enforce)\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["/usr/bin/man", "a (b)", "rt-default"]);
        assert_eq!(
            found(BTreeSet::from(["x".to_owned()])).lacking.as_deref(),
            Some("rt-default is not loaded")
        );
        assert_eq!(found(BTreeSet::from([DEFAULT.to_owned()])).lacking, None);
    }

    #[test]
    fn the_text_is_of_the_profile() {
        assert!(TEXT.contains(&format!("profile {DEFAULT} ")));
        assert!(text(true).starts_with("abi <abi/3.0>,\n# What"));
    }
}
