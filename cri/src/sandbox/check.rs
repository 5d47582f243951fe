//! What a sandbox config must have before anything is touched. What the spec can't be made of is refused there.

use crate::api;
use crate::error::{Error, Result};
use crate::table::shown;

/// Longer than any name that Kubernetes makes, shorter than what a directory entry may have.
const NAME: usize = 253;

/// Refuses what makes no sense.
pub fn config(config: &api::PodSandboxConfig) -> Result<()> {
    let metadata =
        config.metadata.as_ref().ok_or_else(|| Error::invalid("the sandbox metadata is missing"))?;
    name("sandbox name", &metadata.name)?;
    for (what, text) in [("sandbox namespace", &metadata.namespace), ("sandbox uid", &metadata.uid)] {
        if !text.is_empty() {
            name(what, text)?;
        }
    }
    directory("log_directory", &config.log_directory)?;
    hostname(&config.hostname)
}

/// A part of a name that has to be there and is shown in one line.
pub fn name(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(format!("the {what} is empty")));
    }
    if text.len() > NAME || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "the {what} {} is longer than {NAME} bytes or has control characters",
            shown(text)
        )));
    }
    Ok(())
}

/// An absolute path without `..`, or nothing.
pub fn directory(what: &str, path: &str) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let is_plain = path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..");
    if is_plain {
        Ok(())
    } else {
        Err(Error::invalid(format!("{what} {} is no absolute path without ..", shown(path))))
    }
}

fn hostname(hostname: &str) -> Result<()> {
    // KERNEL: __NEW_UTS_LEN.
    if hostname.len() > 64 || hostname.chars().any(|c| c.is_control() || c == '/' || c == ' ') {
        return Err(Error::invalid(format!("the hostname {} can't be set", shown(hostname)))
            .cure("at most 64 bytes, no blanks, no slash"));
    }
    Ok(())
}
