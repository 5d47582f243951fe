//! Annotations of our specs: containerd's names, since tools look for them. Those of pods and containers are not handed on: some
//! are orders to the runtime (`org.systemd.property.`), which are not for pods to give.

use std::collections::HashMap;

use crate::api;

/// What a spec is of.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A pause process.
    Sandbox,
    /// A container.
    Container {
        /// Its name.
        name: &'a str,
        /// Its image's name.
        image: &'a str,
    },
}

/// The annotations of a sandbox or of a container in it.
pub fn of(sandbox_id: &str, config: &api::PodSandboxConfig, subject: Subject<'_>) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let mut put = |name: &str, value: &str| {
        all.insert(format!("io.kubernetes.cri.{name}"), value.to_owned());
    };
    put("sandbox-id", sandbox_id);
    if let Some(metadata) = &config.metadata {
        put("sandbox-name", &metadata.name);
        put("sandbox-namespace", &metadata.namespace);
        put("sandbox-uid", &metadata.uid);
    }
    match subject {
        Subject::Sandbox => {
            put("container-type", "sandbox");
            put("sandbox-log-directory", &config.log_directory);
        }
        Subject::Container { name, image } => {
            put("container-type", "container");
            put("container-name", name);
            put("image-name", image);
        }
    }
    all
}
