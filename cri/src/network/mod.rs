//! The pod network: a namespace for each pod, and in it what CNI plugins make, or the built-in bridge where no CNI
//! configuration exists.
//!
//! It does not know sandboxes, containers or their records: pods are named by id, and what each got is on disk here, so that
//! it can be taken back after a crash.

mod config;
mod pod;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use self::config::Config;
pub use self::pod::{Attachment, Dns, PodNetwork, Port, Protocol};
use crate::error::{Error, Result};

/// The pod network of one server. Clones share it.
#[derive(Debug, Clone)]
pub struct Network {
    config: Config,
    state: PathBuf,
}

impl Network {
    /// Reads what earlier processes left in `state` (created if absent). Touches no network. Blocks.
    pub fn open(config: &Config, state: &Path) -> Result<Self> {
        Ok(Self { config: config.clone(), state: state.to_owned() })
    }

    /// Whether pods can get a network now; if not, why, and what to do about it.
    pub fn condition(&self) -> Result<(), String> {
        Err(format!("no network is built yet (state {})", self.state.display()))
    }

    /// Which network is in force, for people: `CNI network mynet (/etc/cni/net.d/10-my.conflist)`, `built-in bridge rt0, …`.
    pub fn in_force(&self) -> String {
        format!("built-in bridge {}", self.config.bridge)
    }

    /// Makes a network namespace with its loopback up, bound at the path returned, `/run/netns/rt-ID`; with `owner`, a user
    /// namespace, it belongs to that. One that is there already is returned as it is.
    pub async fn make_netns(&self, id: &str, owner: Option<OwnedFd>) -> Result<PathBuf> {
        let _ = owner;
        Err(Error::unsupported(format!("make network namespace of {id}")))
    }

    /// Binds an existing network namespace, such as `/proc/PID/ns/net`, at `/run/netns/rt-ID`, and raises its loopback.
    pub async fn adopt_netns(&self, id: &str, namespace: &Path) -> Result<PathBuf> {
        Err(Error::unsupported(format!("bind network namespace {} of {id}", namespace.display())))
    }

    /// Removes what `make_netns` or `adopt_netns` bound. Nothing there is fine.
    pub async fn remove_netns(&self, id: &str) -> Result<()> {
        Err(Error::unsupported(format!("remove network namespace of {id}")))
    }

    /// Gives the pod its interfaces, addresses and host ports; what fails is undone. A pod that is attached gets the same answer.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment> {
        Err(Error::unsupported(format!("attach pod {}", pod.id)))
    }

    /// Takes back all that `attach` gave, from the records on disk; what was never attached is fine, and so is a namespace that
    /// is gone.
    pub async fn detach(&self, pod: &PodNetwork) -> Result<()> {
        Err(Error::unsupported(format!("detach pod {}", pod.id)))
    }

    /// Whether the pod still has what `attach` gave it.
    pub async fn check(&self, pod: &PodNetwork) -> Result<()> {
        Err(Error::unsupported(format!("check the network of pod {}", pod.id)))
    }

    /// What the pod has, if it is attached; from memory.
    pub fn attachment(&self, id: &str) -> Option<Attachment> {
        let _ = id;
        None
    }

    /// Takes back what pods have that are not among `live`: attachments, namespaces, addresses, ports.
    pub async fn gc(&self, live: &BTreeSet<String>) -> Result<()> {
        Err(Error::unsupported(format!("collect networks of all but {} pods", live.len())))
    }
}
