//! A registry on loopback that holds the tests' images, and the hosts.toml files that send all names there.
//!
//! The images are made by `hack/peers/get images`.

use crate::call::Started;
use crate::case::Case;
use crate::programs::target;
use crate::wait::until;
use std::net::TcpStream;
use std::path::PathBuf;

const ADDRESS: &str = "127.0.0.1:5000";
const NAMES: [&str; 3] = ["registry.k8s.io", "k8s.gcr.io", "gcr.io"];

/// docker-registry, reading from the cache, in this test's network.
pub struct Registry {
    program: Option<Started>,
    hosts: PathBuf,
}

impl Registry {
    /// Starts it; it answers when this returns.
    pub fn start(case: &Case) -> Self {
        let peers = target().join("peers");
        let storage = peers.join("registry");
        assert!(storage.exists(), "no {}: run hack/peers/get images", storage.display());
        let hosts = case.dir().join("certs.d");
        for name in NAMES {
            let text = format!(
                "server = \"https://{name}\"\n[host.\"http://{ADDRESS}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
            );
            std::fs::create_dir_all(hosts.join(name)).expect("make a directory of hosts");
            std::fs::write(hosts.join(name).join("hosts.toml"), text).expect("write hosts.toml");
        }
        let config = case.dir().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  maintenance: {{readonly: \
             {{enabled: true}}}}\nhttp: {{addr: \"{ADDRESS}\"}}\n",
            storage.display()
        );
        std::fs::write(&config, text).expect("write the registry's configuration");
        let mut program = case.program(&peers.join("bin/docker-registry")).arg("serve").arg(config).spawn();
        until("the registry listens", || {
            assert!(!program.ended(), "the registry ended: {}", program.stderr());
            TcpStream::connect(ADDRESS).ok()
        });
        Self { program: Some(program), hosts }
    }

    /// The directory of `HOST/hosts.toml` that redirects to it.
    pub fn hosts(&self) -> PathBuf {
        self.hosts.clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            program.end(nix::sys::signal::Signal::SIGKILL);
        }
    }
}
