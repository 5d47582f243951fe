//! What containerd's options of a runtime say about how `rt` is run: runc's own message, and the open form with TOML in it.
//!
//! Every option is either followed or refused; none is ignored.

use std::path::PathBuf;

use prost::Message;
use prost_types::Any;

use crate::api::containerd::runc::v1 as runc;
use crate::api::runtimeoptions::v1 as open;
use crate::error::{Error, Result};
use crate::pod::RuntimeChoice;

/// The options of a runtime, whatever form they came in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuntimeOptions(runc::Options);

impl RuntimeOptions {
    /// Reads the options of a create request, or of containerd's bootstrap; none is all defaults.
    ///
    /// # Errors
    /// Invalid for what can't be read or is not known.
    pub fn read(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty() || !any.value.is_empty()) else {
            return Ok(Self::default());
        };
        let invalid = |error: prost::DecodeError| Error::invalid(format!("read {}: {error}", any.type_url));
        match any.type_url.rsplit('/').next().unwrap_or_default() {
            "containerd.runc.v1.Options" => {
                runc::Options::decode(any.value.as_slice()).map(Self).map_err(invalid)
            }
            "runtimeoptions.v1.Options" => {
                Self::from_open(&open::Options::decode(any.value.as_slice()).map_err(invalid)?)
            }
            other => Err(Error::invalid(format!("read the runtime's options: type {other:?} is not known"))),
        }
    }

    fn from_open(options: &open::Options) -> Result<Self> {
        let mut text = String::from_utf8_lossy(&options.config_body).into_owned();
        if text.is_empty() && !options.config_path.is_empty() {
            text = std::fs::read_to_string(&options.config_path)
                .map_err(|error| Error::invalid(format!("read {}: {error}", options.config_path)))?;
        }
        from_toml(&text).map(Self)
    }

    /// The cgroup that the shim itself is to be in; empty: its caller's.
    pub fn shim_cgroup(&self) -> &str {
        &self.0.shim_cgroup
    }

    /// The runtime's program, if another than the shim's own is asked for.
    pub fn program(&self) -> Option<PathBuf> {
        (!self.0.binary_name.is_empty()).then(|| PathBuf::from(&self.0.binary_name))
    }

    /// The runtime's `--root` for containers of a namespace, if another than the shim's own is asked for.
    pub fn root(&self, namespace: &str) -> Option<PathBuf> {
        (!self.0.root.is_empty()).then(|| PathBuf::from(&self.0.root).join(namespace))
    }

    /// How `rt` is run for a container.
    ///
    /// # Errors
    /// Unsupported for what belongs to checkpoints.
    pub fn choice(&self, namespace: &str) -> Result<RuntimeChoice> {
        if !self.0.criu_image_path.is_empty() || !self.0.criu_work_path.is_empty() {
            return Err(Error::unsupported("restore a container: checkpoints are not supported"));
        }
        Ok(RuntimeChoice {
            program: self.program(),
            root: self.root(namespace),
            systemd_cgroup: self.0.systemd_cgroup.then_some(true),
            no_pivot_root: self.0.no_pivot_root,
            no_new_keyring: self.0.no_new_keyring,
            stream_owner: (self.0.io_uid != 0 || self.0.io_gid != 0)
                .then_some((self.0.io_uid, self.0.io_gid)),
        })
    }
}

/// The flat TOML that containerd writes of a runtime's options: `Key = "text"`, `Key = true`, `Key = 0`, comments.
fn from_toml(text: &str) -> Result<runc::Options> {
    let mut options = runc::Options::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let wrong = || Error::invalid(format!("read the runtime's options: {line:?}"));
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let quoted = || {
            let inner = value.strip_prefix(['"', '\'']).and_then(|rest| rest.strip_suffix(['"', '\'']));
            inner.filter(|inner| !inner.contains(['\\', '"'])).map(str::to_owned).ok_or_else(wrong)
        };
        match key.trim().trim_matches('"') {
            "BinaryName" => options.binary_name = quoted()?,
            "Root" => options.root = quoted()?,
            "ShimCgroup" => options.shim_cgroup = quoted()?,
            "CriuImagePath" => options.criu_image_path = quoted()?,
            "CriuWorkPath" => options.criu_work_path = quoted()?,
            "SystemdCgroup" => options.systemd_cgroup = value.parse().map_err(|_| wrong())?,
            "NoPivotRoot" => options.no_pivot_root = value.parse().map_err(|_| wrong())?,
            "NoNewKeyring" => options.no_new_keyring = value.parse().map_err(|_| wrong())?,
            "IoUid" => options.io_uid = value.parse().map_err(|_| wrong())?,
            "IoGid" => options.io_gid = value.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.to_owned(), value }
    }

    #[test]
    fn both_forms_say_the_same() {
        let direct = runc::Options {
            binary_name: "/opt/rt".into(),
            root: "/run/x".into(),
            systemd_cgroup: true,
            ..runc::Options::default()
        };
        let toml = "# ours\nBinaryName = \"/opt/rt\"\nRoot = '/run/x'\n\nSystemdCgroup = true\n";
        let open = open::Options { config_body: toml.as_bytes().to_vec(), ..open::Options::default() };
        let direct = RuntimeOptions::read(Some(&any("containerd.runc.v1.Options", direct.encode_to_vec())));
        let open = RuntimeOptions::read(Some(&any("runtimeoptions.v1.Options", open.encode_to_vec())));
        assert_eq!(direct.as_ref().ok(), open.as_ref().ok());
        let choice = direct.and_then(|options| options.choice("ns")).expect("a choice");
        assert_eq!(choice.root, Some(PathBuf::from("/run/x/ns")));
        assert_eq!((choice.program, choice.systemd_cgroup), (Some("/opt/rt".into()), Some(true)));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(RuntimeOptions::read(Some(&any("io.kata.Options", vec![1]))).is_err());
        for toml in ["Speed = 9", "BinaryName = rt", "SystemdCgroup = 1", "[table]", "IoUid = \"x\""] {
            assert!(from_toml(toml).is_err(), "{toml}");
        }
        assert_eq!(RuntimeOptions::read(None).ok(), Some(RuntimeOptions::default()));
    }
}
