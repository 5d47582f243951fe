//! Doors for fuzzing: what a plugin prints, and what a configuration's file holds. In no build that is shipped.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Output};

use super::{Attachment, Joined, Network, attachment, conflist, plugin};
use crate::error::Result;

/// What a pod has of a network whose only plugin printed `stdout` and ended with `code`.
pub fn result(stdout: &[u8], code: i32) -> Result<Attachment> {
    let output =
        Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.to_vec(), stderr: Vec::new() };
    let joined = Joined {
        network: "n".to_owned(),
        version: "1.1.0".to_owned(),
        no_check: false,
        interface: "eth0".to_owned(),
        arguments: String::new(),
        plugins: Vec::new(),
        result: plugin::answer(&output)?,
    };
    attachment(&[joined])
}

/// The networks of a folder of configurations.
pub fn networks(folder: &Path) -> Result<Vec<Network>> {
    conflist::load(folder, 4)
}
