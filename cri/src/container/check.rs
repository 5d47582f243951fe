//! What a container config must have before anything is touched. What the spec can't be made of is refused there.

use crate::api;
use crate::error::{Error, Result};
use crate::sandbox::check::name;
use crate::table::shown;

/// Refuses what makes no sense.
pub fn config(config: &api::ContainerConfig) -> Result<()> {
    let metadata =
        config.metadata.as_ref().ok_or_else(|| Error::invalid("the container metadata is missing"))?;
    name("container name", &metadata.name)?;
    if config.image.as_ref().is_none_or(|image| image.image.is_empty()) {
        return Err(Error::invalid("the image of the container is missing"));
    }
    if config.log_path.contains('\0') || config.log_path.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!("log_path {} leaves the log directory", shown(&config.log_path))));
    }
    Ok(())
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
