//! What a sandbox config must have before anything is touched. What the spec can't be made of is refused there.

use std::collections::HashMap;
use std::path::PathBuf;

use prost::Message;

use crate::api;
use crate::error::{Error, Result};
use crate::network::PodNetwork;
use crate::table::shown;

/// Longer than any name that Kubernetes makes, shorter than what a directory entry may have.
const NAME: usize = 253;

/// Labels and annotations of one object, together. Kubernetes allows 256 KiB of annotations; the rest is for labels and for what a
/// kubelet adds. Answers are bounded besides (`bounds`): 110 such pods are more than one has.
const NOTES: usize = 320 << 10;

/// The rest of what statuses and events repeat of one object: image, mounts, limits. A pod has 1.5 MiB in Kubernetes' store, with all.
const REPEATED: usize = 512 << 10;

/// A whole config that is kept: more than a process can be given in arguments and environment (6 MiB), or a pod's sysctls have.
const CONFIG: usize = 8 << 20;

/// Port mappings of one pod: each is up to two entries of the kernel's maps. A range of media ports has some hundreds.
const PORTS: usize = 4096;

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
    hostname(&config.hostname)?;
    notes("sandbox", &config.labels, &config.annotations)?;
    size("sandbox", config, 0)?;
    dns(config.dns_config.as_ref())?;
    let sysctls = config.linux.as_ref().map(|linux| &linux.sysctls);
    if let Some((name, _)) = sysctls.into_iter().flatten().find(|(_, value)| value.contains(['\0', '\n'])) {
        return Err(Error::invalid(format!(
            "sysctls: the value of {} has a NUL or a line feed",
            shown(name)
        )));
    }
    if config.port_mappings.len() > PORTS {
        let count = config.port_mappings.len();
        return Err(Error::invalid(format!("port_mappings: {count} of them, more than {PORTS}")));
    }
    crate::oci::namespaces::modes(config)?;
    // The same that sets the network up, and has to be able to take it back.
    PodNetwork::new("", config, PathBuf::new())?.check_ports()
}

/// A path each of whose parts can be a directory entry's name.
pub fn has_entries(path: &str) -> bool {
    // KERNEL: NAME_MAX, PATH_MAX.
    path.len() < 4096 && path.split('/').all(|part| part.len() <= 255)
}

/// Labels and annotations that lists can carry.
pub fn notes(
    what: &str,
    labels: &HashMap<String, String>,
    annotations: &HashMap<String, String>,
) -> Result<()> {
    let bytes: usize = labels.iter().chain(annotations).map(|(key, value)| key.len() + value.len()).sum();
    if bytes > NOTES {
        return Err(Error::invalid(format!(
            "labels and annotations of the {what} have {bytes} bytes, more than {NOTES}"
        )));
    }
    Ok(())
}

/// What is kept of a config, and what statuses repeat of it.
pub fn size(what: &str, config: &impl Message, repeated: usize) -> Result<()> {
    for (part, bytes, most) in
        [("the config", config.encoded_len(), CONFIG), ("what statuses repeat", repeated, REPEATED)]
    {
        if bytes > most {
            return Err(Error::invalid(format!("{part} of the {what} has {bytes} bytes, more than {most}")));
        }
    }
    Ok(())
}

/// Limits are kept and told in statuses.
pub fn resources(what: &str, resources: &api::LinuxContainerResources) -> Result<()> {
    const MOST: usize = 64 << 10;
    let bytes = resources.encoded_len();
    if bytes > MOST {
        return Err(Error::invalid(format!(
            "the resources of the {what} have {bytes} bytes, more than {MOST}"
        )));
    }
    Ok(())
}

/// Words of resolv.conf: a line feed in one would be a line of its own.
fn dns(dns: Option<&api::DnsConfig>) -> Result<()> {
    let Some(dns) = dns else { return Ok(()) };
    for (what, words) in [("servers", &dns.servers), ("searches", &dns.searches), ("options", &dns.options)] {
        let is_word = |word: &String| {
            !word.is_empty()
                && word.len() <= 255
                && !word.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if let Some(bad) = words.iter().find(|word| !is_word(word)) {
            return Err(Error::invalid(format!(
                "dns_config.{what}: {} is no word of resolv.conf",
                shown(bad)
            )));
        }
    }
    Ok(())
}

/// A part of a name that has to be there and is shown in one line.
pub fn name(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(format!("the {what} is empty")));
    }
    if text.len() > NAME || text.chars().any(|c| c.is_control() || c == '/') {
        return Err(Error::invalid(format!(
            "the {what} {} is longer than {NAME} bytes, or has a slash or control characters",
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
    let is_plain = has_entries(path)
        && path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != "..");
    if is_plain {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "{what} {} is no absolute path without .. and with parts of at most 255 bytes",
            shown(path)
        )))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_port_for_two_ports_of_one_pod_is_refused() {
        let port = |container_port| api::PortMapping { host_port: 80, container_port, ..Default::default() };
        let metadata = api::PodSandboxMetadata { name: "a".to_owned(), ..Default::default() };
        let asked = api::PodSandboxConfig {
            metadata: Some(metadata),
            port_mappings: vec![port(8080), port(8081)],
            ..Default::default()
        };
        let error = config(&asked).unwrap_err().to_string();
        assert!(error.contains("host port 80/tcp is asked for twice"), "{error}");
    }

    #[test]
    fn more_ports_than_a_pod_may_have_are_refused() {
        let metadata = api::PodSandboxMetadata { name: "a".to_owned(), ..Default::default() };
        let port = |host_port| api::PortMapping { host_port, container_port: 80, ..Default::default() };
        let mut asked = api::PodSandboxConfig {
            metadata: Some(metadata),
            port_mappings: (1..=4096).map(port).collect(),
            ..Default::default()
        };
        assert!(config(&asked).is_ok());
        asked.port_mappings.push(port(5000));
        let error = config(&asked).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Invalid);
        assert!(error.to_string().contains("4097 of them, more than 4096"), "{error}");
    }
}
