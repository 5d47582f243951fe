//! Files that a configuration names, whatever lies there: tests.

use super::{Registries, hosts::Tls};
use crate::image::config::RegistryConfig;
use crate::image::reference::Reference;
use std::path::Path;
use std::time::Duration;

async fn asked(config: &RegistryConfig) -> String {
    let of = Reference::parse("r.test/app:1").expect("a reference");
    let registries = Registries::new(config.clone());
    let found = tokio::time::timeout(Duration::from_secs(20), registries.repository(&of, None)).await;
    found.expect("it reads nothing without end").err().map(|error| error.to_string()).unwrap_or_default()
}

/// What would be taken if all of it were read, and what nobody ever writes to.
fn laid(at: &Path, is_long: bool, text: &str) {
    let _ = std::fs::remove_file(at);
    match is_long {
        true => std::fs::write(at, format!("{}\n{text}", " ".repeat(5 << 20))).expect("write"),
        false => nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO"),
    }
}

#[tokio::test]
async fn files_that_a_configuration_names_are_regular_and_of_some_size() {
    let dir = std::env::temp_dir().join(format!("rt-registry-files-{}", std::process::id()));
    let host = dir.join("r.test");
    std::fs::create_dir_all(&host).expect("a directory");
    let docker = dir.join("config.json");
    std::fs::write(&docker, "{}").expect("write");
    let config = RegistryConfig {
        config_path: vec![dir.clone()],
        docker_config: docker.clone(),
        ..Default::default()
    };
    assert_eq!(asked(&config).await, "");
    let (toml, ca) = (host.join("hosts.toml"), host.join("ca.pem"));
    for (is_long, why) in [(true, "more than 4194304 bytes"), (false, "it is no regular file")] {
        let refused = |at: &Path, said: String| {
            assert!(said.contains(&format!("read {}: ", at.display())) && said.contains(why), "{said}");
        };
        laid(&toml, is_long, "");
        refused(&toml, asked(&config).await);
        std::fs::remove_file(&toml).expect("remove");
        std::fs::write(&toml, "server = 'https://r.test'\nca = 'ca.pem'\n").expect("write");
        laid(&ca, is_long, "");
        refused(&ca, asked(&config).await);
        std::fs::remove_file(&toml).expect("remove");
        laid(&docker, is_long, "{}");
        refused(&docker, asked(&config).await);
        std::fs::remove_file(&docker).expect("remove");
        std::fs::write(&docker, "{}").expect("write");
    }
    // One that is missing is a mistake of who wrote the configuration, and not an image that nobody has.
    std::fs::write(&toml, "server = 'https://r.test'\nca = 'none.pem'\n").expect("write");
    let clients = super::Clients::default();
    let missing = Tls { ca: vec![host.join("none.pem")], ..Tls::default() };
    let Err(error) = clients.of(&missing, Duration::from_secs(1)) else { panic!("there is none") };
    assert_eq!(error.kind(), crate::error::Kind::Invalid, "{error}");
    std::fs::remove_dir_all(&dir).expect("remove");
}
