//! What each key of the configuration means, and the configuration as a file that says it. It reads nothing.

use toml::{Table, Value};

use super::Config;
use crate::error::{Error, Result};

/// Key, and what it means with its unit. `*` is a name that the user chooses.
const KEYS: &[(&str, &str)] = &[
    ("root", "Directory of images, records and writable layers: what survives a reboot."),
    ("state", "Directory of sockets, bundles and mounts, on a tmpfs: what a reboot takes away."),
    ("listen", "The socket that clients connect to, unix://PATH. What systemd passes comes first."),
    ("default_runtime", "The runtime handler of pods that name none: one of [runtimes]."),
    (
        "cgroup.driver",
        "Who makes cgroups: auto (systemd where it is the init), cgroupfs, systemd. A kubelet asks for it.",
    ),
    (
        "cgroup.missing",
        "A limit whose controller the host lacks: error (the container is refused), ignore (left out; its status and the server's say so).",
    ),
    (
        "cni.conf_dir",
        "Directory of CNI configurations, taken in the order of their names. Without any, the built-in bridge is used.",
    ),
    ("cni.bin_dirs", "Directories of CNI plugins, in order."),
    ("cni.networks", "How many of the configurations found are used, each for one more interface of a pod."),
    ("cni.timeout", "Seconds that one plugin may take before it is killed."),
    ("cni.bridge", "Name of the built-in bridge."),
    (
        "cni.subnet",
        "IPv4 range of the built-in bridge, such as 10.90.0.0/16; auto: the first of a list that no route touches.",
    ),
    (
        "cni.subnet6",
        "IPv6 range of the built-in bridge; auto: a private one that follows from the machine's id; none: IPv4 only.",
    ),
    (
        "streaming.address",
        "Where exec, attach and port-forward are served, ADDRESS:PORT; port 0 is any that is free. Keep it on loopback: a kubelet passes the streams on.",
    ),
    (
        "streaming.tls_cert_file",
        "Certificate (PEM, with those that it is signed by) of the streaming address; its URLs are https then. Empty: plain HTTP.",
    ),
    ("streaming.tls_key_file", "The key (PEM) of that certificate."),
    (
        "metrics.listen",
        "Where Prometheus may ask for /metrics, ADDRESS:PORT; empty: nowhere. Nobody is asked who he is there: keep it on loopback.",
    ),
    (
        "tracing.otlp_endpoint",
        "URL of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318/v1/traces; empty: none. Only in builds with the feature otel.",
    ),
    (
        "events.buffer",
        "Container events that a reader may be behind before it loses some (1 to 1048576); it is told so, and how things stand.",
    ),
    (
        "registry.config_path",
        "Directories of HOST/hosts.toml (mirrors, CAs, client certificates), as containerd's; the first that has a host counts.",
    ),
    (
        "registry.docker_config",
        "A config.json with credentials, as docker's; empty: $DOCKER_CONFIG, else ~/.docker.",
    ),
    (
        "registry.policy",
        "A policy.json as podman's and CRI-O's, read at each pull: insecureAcceptAnything, reject, sigstoreSigned with keyPath. Empty: all images are taken.",
    ),
    (
        "registry.concurrent_layers",
        "Layers of one registry that are downloaded and unpacked at a time, over all pulls: one that is slow holds up no other.",
    ),
    ("registry.concurrent_layers_in_all", "The same of all registries together."),
    ("registry.attempts", "Attempts of one request before the next host is tried."),
    (
        "registry.stall_seconds",
        "Seconds in which a registry must send something (see least_bytes_per_second), or a download is taken up again, from the next host where there is one.",
    ),
    (
        "registry.least_bytes_per_second",
        "The least that a registry must send on average of stall_seconds, manifests and tokens too; what they wait for others does not count.",
    ),
    ("registry.keep_blobs", "Whether compressed layers are kept too; `rt-cri images save` needs them."),
    ("registry.pinned", "References of images that are never garbage."),
    ("registry.limits.layer_bytes", "Bytes that one layer may have, unpacked."),
    (
        "registry.limits.image_bytes",
        "Bytes of disk that all layers of an image may take, blocks of small files and names included.",
    ),
    (
        "registry.limits.expansion",
        "How many bytes of disk an image may take for each byte that came, after the first gigabyte: what bounds decompression bombs.",
    ),
    (
        "registry.limits.free_bytes",
        "Bytes that pulls leave free on the filesystem of `root`, or a twentieth of it where that is less.",
    ),
    ("registry.limits.layer_entries", "Files, directories, links and devices that one layer may have."),
    ("registry.limits.path_bytes", "Bytes that the path of an entry may have."),
    ("registry.limits.document_bytes", "Bytes that a manifest, an index or a config may have."),
    ("registry.limits.layers", "Layers that an image may have."),
    (
        "runtimes.*.path",
        "The OCI runtime of this handler: a path, or a name looked for beside rt-cri and in PATH.",
    ),
    ("shim.path", "The shim: a path, or a name looked for beside rt-cri and in PATH."),
    ("shim.log_level", "What shims log: error, warn, info, debug, trace."),
];

/// The longest line of a comment.
const WIDTH: usize = 100;

/// The configuration as a file: each key after what it means, and its default where it is another.
pub fn text(config: &Config) -> Result<String> {
    write(config, "")
}

/// The default configuration as a file that changes nothing: each value is commented out.
pub fn default_text() -> Result<String> {
    write(&Config::default(), "#")
}

fn write(config: &Config, before: &str) -> Result<String> {
    let table = |config: &Config| Table::try_from(config).map_err(|error| Error::internal(error.to_string()));
    let mut text = String::new();
    below(("", before), &table(config)?, &table(&Config::default())?, &mut text);
    Ok(text.trim_start().to_owned())
}

fn below((prefix, before): (&str, &str), table: &Table, default: &Table, text: &mut String) {
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        let path = format!("{prefix}{key}");
        comment(meaning(&path).unwrap_or("Not described."), text);
        match default.get(key) {
            Some(other) if other != value => comment(&format!("Default: {other}"), text),
            _ => {}
        }
        text.push_str(&format!("{before}{key} = {value}\n\n"));
    }
    for (key, value) in table {
        let Value::Table(inner) = value else { continue };
        let path = format!("{prefix}{key}.");
        // A handler that the user has named has the defaults of any.
        let default = match (default.get(key), prefix) {
            (Some(Value::Table(default)), _) => default.clone(),
            (_, "runtimes.") => Table::try_from(super::Runtime::default()).unwrap_or_default(),
            _ => Table::new(),
        };
        if inner.values().any(|value| !value.is_table()) {
            text.push_str(&format!("[{prefix}{}]\n\n", name(key)));
        }
        below((&path, before), inner, &default, text);
    }
}

/// A key as TOML wants it.
fn name(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { key.to_owned() } else { Value::from(key).to_string() }
}

fn meaning(path: &str) -> Option<&'static str> {
    let fits = |known: &str| match known.split_once('*') {
        Some((head, tail)) => path.starts_with(head) && path.ends_with(tail),
        None => known == path,
    };
    KEYS.iter().find(|(known, _)| fits(known)).map(|(_, meaning)| *meaning)
}

fn comment(words: &str, text: &mut String) {
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_key_is_described_and_no_other() {
        let text = text(&Config::default()).expect("text");
        assert!(!text.contains("Not described"), "{text}");
        for (key, _) in KEYS {
            let last = key.rsplit('.').next().expect("a name");
            assert!(text.contains(&format!("\n{last} = ")), "{key} is no key");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let runtimes =
            ["rt", "odd name"].map(|name| (name.to_owned(), crate::config::Runtime { path: "/x".into() }));
        let config = Config {
            default_runtime: "odd name".into(),
            runtimes: BTreeMap::from(runtimes),
            ..Config::default()
        };
        let written = text(&config).expect("text");
        assert_eq!(Config::parse(&written).expect("own text"), config, "{written}");
        assert!(written.contains("# Default: \"rt\"\npath = \"/x\""), "{written}");
        assert_eq!(
            Config::parse(&text(&Config::default()).expect("text")).expect("own text"),
            Config::default()
        );
    }

    #[test]
    fn the_default_file_changes_nothing_and_works_when_it_is_uncommented() {
        let text = default_text().expect("text");
        assert_eq!(Config::parse(&text).expect("own text"), Config::default());
        let live: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("# "))
            .map(|line| line.trim_start_matches('#'))
            .collect();
        assert_eq!(Config::parse(&live.join("\n")).expect("uncommented"), Config::default());
    }
}
