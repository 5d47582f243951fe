//! What a container config must have before anything is touched. What the spec can't be made of is refused there.

use prost::Message;

use crate::api;
use crate::error::{Error, Result};
use crate::sandbox::check::{has_entries, name, notes, resources, size};
use crate::table::shown;

/// An image's name, as the client has it and as its user wrote it, with annotations that nobody reads.
const IMAGE: usize = 4096;

/// Refuses what makes no sense.
pub fn config(config: &api::ContainerConfig) -> Result<()> {
    let metadata =
        config.metadata.as_ref().ok_or_else(|| Error::invalid("the container metadata is missing"))?;
    name("container name", &metadata.name)?;
    if config.image.as_ref().is_none_or(|image| image.image.is_empty()) {
        return Err(Error::invalid("the image of the container is missing"));
    }
    log_name(&config.log_path)?;
    notes("container", &config.labels, &config.annotations)?;
    sizes(config)?;
    if api::Signal::try_from(config.stop_signal).is_err() {
        return Err(Error::invalid(format!("stop_signal {} is no signal", config.stop_signal)));
    }
    config.mounts.iter().enumerate().try_for_each(|(at, mount)| source(at, mount))?;
    for (at, device) in config.devices.iter().enumerate() {
        absolute(&format!("devices[{at}]: host_path"), &device.host_path)?;
    }
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(context) = context else { return Ok(()) };
    for (what, paths) in
        [("masked_paths", &context.masked_paths), ("readonly_paths", &context.readonly_paths)]
    {
        paths.iter().try_for_each(|path| absolute(what, path))?;
    }
    Ok(())
}

/// What a stranger's words would cost in each status and list.
fn sizes(config: &api::ContainerConfig) -> Result<()> {
    let image = config.image.as_ref().map_or(0, Message::encoded_len);
    if image > IMAGE {
        return Err(Error::invalid(format!(
            "the image of the container has {image} bytes, more than {IMAGE}"
        )));
    }
    let linux = config.linux.as_ref();
    if let Some(limits) = linux.and_then(|linux| linux.resources.as_ref()) {
        resources("container", limits)?;
    }
    let groups = linux.and_then(|linux| linux.security_context.as_ref());
    let groups = groups.map_or(0, |context| context.supplemental_groups.len() * 10);
    let mounts: usize = config.mounts.iter().map(Message::encoded_len).sum();
    size("container", config, groups + mounts)
}

/// Below the log directory, and a file there.
fn log_name(path: &str) -> Result<()> {
    if path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!("log_path {} leaves the log directory", shown(path))));
    }
    if !path.is_empty() && (path.ends_with('/') || path.rsplit('/').next() == Some(".") || !has_entries(path))
    {
        return Err(Error::invalid(format!("log_path {} can't be the name of a file", shown(path))));
    }
    Ok(())
}

fn absolute(what: &str, path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') && has_entries(path) {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} {} is no absolute path", shown(path))))
}

/// What is mounted: a path of the host, or an image.
fn source(at: usize, mount: &api::Mount) -> Result<()> {
    if mount.image.is_some() {
        return Ok(());
    }
    absolute(&format!("mounts[{at}]: host_path"), &mount.host_path)
}

/// Where the log goes: below the sandbox's directory; empty where either is not given.
pub fn log_path(sandbox: &api::PodSandboxConfig, container: &api::ContainerConfig) -> String {
    match (sandbox.log_directory.trim_end_matches('/'), container.log_path.trim_start_matches('/')) {
        ("", _) | (_, "") => String::new(),
        (directory, path) => format!("{directory}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_lies_below_the_directory_of_its_sandbox() {
        let path = |directory: &str, path: &str| {
            let sandbox = api::PodSandboxConfig { log_directory: directory.to_owned(), ..Default::default() };
            log_path(&sandbox, &api::ContainerConfig { log_path: path.to_owned(), ..Default::default() })
        };
        assert_eq!(path("/var/log/pods/x", "c/0.log"), "/var/log/pods/x/c/0.log");
        assert_eq!(path("/var/log/", "/0.log"), "/var/log/0.log");
        assert_eq!(path("", "0.log"), "");
        assert_eq!(path("/x", ""), "");
    }

    #[test]
    fn a_log_path_can_not_climb() {
        let mut asked = api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: "a".to_owned(), attempt: 0 }),
            image: Some(api::ImageSpec { image: "b".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        config(&asked).expect("valid");
        asked.log_path = "../../etc/cron.d/x".to_owned();
        assert!(config(&asked).is_err());
    }
}
