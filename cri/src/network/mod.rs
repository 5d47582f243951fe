//! The pod network: a namespace for each pod, and in it what CNI plugins make, or the built-in bridge where no CNI
//! configuration exists.
//!
//! It does not know sandboxes, containers or their records: pods are named by id, and what each got is on disk here, so that
//! it can be taken back after a crash.

mod builtin;
mod cni;
mod config;
pub mod link;
mod listeners;
pub mod netns;
mod nft;
mod pod;
mod record;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use self::builtin::{Builtin, When};
use self::cni::Plugins;
#[cfg(feature = "fuzzing")]
pub use self::cni::fuzzing;
pub use self::config::Config;
pub use self::pod::{Attachment, Dns, PodNetwork, Port, Protocol};
use self::record::{By, Record, Records};
use crate::error::{Context, Error, Result};

/// The pod network of one server. Clones share it.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    records: Records,
    builtin: Builtin,
    plugins: Plugins,
    /// The node's pod ranges, as a cluster gives them.
    ranges: Mutex<Vec<String>>,
    looked: Mutex<Looked>,
    /// Whether a look is under way.
    looking: AtomicBool,
}

/// What was seen at the last look.
#[derive(Debug, Clone, Default)]
struct Looked {
    networks: Vec<String>,
    result: Option<Result<(), String>>,
}

impl Network {
    /// Reads what earlier processes left in `state` (created if absent). Touches no network. Blocks.
    pub fn open(config: &Config, state: &Path) -> Result<Self> {
        let records = Records::open(&state.join("attached"))?;
        let mut leases = HashMap::new();
        for record in records.all() {
            if let By::Builtin(lease) = &record.by {
                leases.insert(record.pod.id.clone(), lease.clone());
            }
        }
        let inner = Inner {
            records,
            builtin: Builtin::new(config, leases),
            plugins: Plugins::new(config),
            ranges: Mutex::default(),
            looked: Mutex::default(),
            looking: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether pods can get a network now; if not, why, and what to do about it. From memory: each question starts another look,
    /// which runs what plugins have to say and mends the built-in network's rules after somebody flushed them.
    pub fn condition(&self) -> Result<(), String> {
        let networks = self.inner.plugins.networks().map_err(|error| error.to_string())?;
        let names = networks.iter().map(|network| network.name.clone()).collect::<Vec<_>>();
        let known = self.inner.looked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = match known.result {
            Some(result) if known.networks == names => result,
            _ if networks.iter().all(|network| !network.has_status()) => Ok(()),
            _ => Err(format!("CNI network {} was not asked yet whether it can serve pods", names.join(", "))),
        };
        self.look_again(networks);
        answer
    }

    fn look_again(&self, networks: Vec<cni::Network>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.inner.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let network = self.clone();
        runtime.spawn(async move {
            network.renew(networks).await;
            network.inner.looking.store(false, Ordering::Release);
        });
    }

    async fn renew(&self, networks: Vec<cni::Network>) {
        let result = Some(self.look(&networks).await.map_err(|error| error.to_string()));
        let networks = networks.into_iter().map(|network| network.name).collect();
        *self.inner.looked.lock().unwrap_or_else(PoisonError::into_inner) = Looked { networks, result };
    }

    async fn look(&self, networks: &[cni::Network]) -> Result<()> {
        self.ask(networks).await?;
        self.blocking(|inner| inner.builtin.mend()).await
    }

    async fn ask(&self, networks: &[cni::Network]) -> Result<()> {
        for network in networks {
            self.inner.plugins.status(network).await?;
        }
        Ok(())
    }

    /// Looks now and waits for it, so that the first `condition` is what plugins say.
    pub async fn first_look(&self) {
        if let Ok(networks) = self.inner.plugins.networks() {
            self.renew(networks).await;
        }
    }

    /// Asks the plugins of all networks whether they can serve pods, and changes nothing.
    pub async fn status(&self) -> Result<()> {
        self.ask(&self.inner.plugins.networks()?).await
    }

    /// Which network is in force, for people: `CNI network mynet (/etc/cni/net.d/10-my.conflist)`, `built-in bridge rt0, …`.
    pub fn in_force(&self) -> String {
        match self.inner.plugins.networks() {
            Ok(networks) if networks.is_empty() => self.inner.builtin.name(),
            Ok(networks) => {
                let words = networks
                    .iter()
                    .map(|network| format!("CNI network {} ({})", network.name, network.file.display()));
                words.collect::<Vec<_>>().join(", ")
            }
            Err(error) => format!("none: {error}"),
        }
    }

    /// The node's pod ranges (`UpdateRuntimeConfig`), for plugins with the capability ipRanges.
    pub fn set_ranges(&self, ranges: Vec<String>) -> Result<()> {
        if let Some(bad) = ranges.iter().find(|range| !is_range(range)) {
            return Err(Error::invalid(format!(
                "pod_cidr: {} is no range of addresses",
                crate::table::shown(bad)
            ))
            .cure("such as 10.88.0.0/16"));
        }
        *self.inner.ranges.lock().unwrap_or_else(PoisonError::into_inner) = ranges;
        Ok(())
    }

    /// Makes a network namespace with its loopback up, bound at the path returned, `/run/netns/rt-ID`; with `owner`, a user
    /// namespace, it belongs to that. One that is there already is returned as it is.
    pub async fn make_netns(&self, id: &str, owner: Option<OwnedFd>) -> Result<PathBuf> {
        let id = valid(id)?;
        if owner.is_some() {
            return Err(Error::unsupported(format!(
                "make a network namespace of {id} that a user namespace owns"
            )));
        }
        self.blocking(move |_| netns::make(&id)).await
    }

    /// Binds an existing network namespace, such as `/proc/PID/ns/net`, at `/run/netns/rt-ID`, and raises its loopback.
    pub async fn adopt_netns(&self, id: &str, namespace: &Path) -> Result<PathBuf> {
        let (id, namespace) = (valid(id)?, namespace.to_owned());
        self.blocking(move |_| netns::adopt(&id, &namespace)).await
    }

    /// Removes what `make_netns` or `adopt_netns` bound. Nothing there is fine.
    pub async fn remove_netns(&self, id: &str) -> Result<()> {
        let id = valid(id)?;
        self.blocking(move |_| netns::remove(&id)).await
    }

    /// Gives the pod its interfaces, addresses and host ports; what fails is undone. A pod that is attached gets the same answer.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment> {
        valid(&pod.id)?;
        if let Some(record) = self.inner.records.find(&pod.id) {
            if let Some(attachment) = &record.attachment {
                return Ok(attachment.clone());
            }
            self.take_back(record).await.what(|| "take back a network that was half made")?;
        }
        let ports = pod.ports.clone();
        self.blocking(move |_| listeners::free(&ports)).await?;
        let networks = self.inner.plugins.networks()?;
        let attached = if networks.is_empty() {
            self.attach_builtin(pod).await
        } else {
            self.attach_cni(pod, &networks).await
        };
        if let (Err(_), Some(record)) = (&attached, self.inner.records.find(&pod.id))
            && let Err(error) = self.take_back(record).await
        {
            let later = "the network of a failed pod is taken back when the pod is removed";
            tracing::warn!(pod = pod.id, %error, later);
        }
        attached.what(|| format!("connect pod {}/{} to its network", pod.namespace, pod.name))
    }

    async fn attach_builtin(&self, pod: &PodNetwork) -> Result<Attachment> {
        let pod = pod.clone();
        self.blocking(move |inner| {
            let lease = inner.builtin.reserve(&pod)?;
            let mut record = Record { pod, by: By::Builtin(lease.clone()), attachment: None };
            inner
                .records
                .save(record.clone())
                .inspect_err(|_| inner.builtin.forget(&record.pod.id, &lease))?;
            inner.builtin.attach(&record.pod, &lease)?;
            let attachment = lease.attachment();
            record.attachment = Some(attachment.clone());
            inner.records.save(record)?;
            Ok(attachment)
        })
        .await
    }

    async fn attach_cni(&self, pod: &PodNetwork, networks: &[cni::Network]) -> Result<Attachment> {
        let ranges = self.inner.ranges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut joined = self.inner.plugins.plan(networks, pod, &ranges)?;
        let record = |joined: &[cni::Joined], attachment| Record {
            pod: pod.clone(),
            by: By::Cni(joined.to_vec()),
            attachment,
        };
        self.inner.records.save(record(&joined, None))?;
        for place in &mut joined {
            self.inner.plugins.add(pod, place).await?;
        }
        let attachment = cni::attachment(&joined)?;
        self.inner.records.save(record(&joined, Some(attachment.clone())))?;
        Ok(attachment)
    }

    /// Takes back all that `attach` gave, from the records on disk; what was never attached is fine, and so is a namespace that
    /// is gone.
    pub async fn detach(&self, pod: &PodNetwork) -> Result<()> {
        let id = pod.id.as_str();
        match self.inner.records.find(id) {
            Some(record) => {
                self.take_back(record).await.what(|| format!("disconnect pod {id} from its network"))
            }
            None => Ok(()),
        }
    }

    async fn take_back(&self, record: Arc<Record>) -> Result<()> {
        if let By::Cni(joined) = &record.by {
            let mut first = Ok(());
            for place in joined.iter().rev() {
                first = first.and(self.inner.plugins.delete(&record.pod, place).await);
            }
            first?;
        }
        self.blocking(move |inner| {
            if let By::Builtin(lease) = &record.by {
                let when = if record.attachment.is_some() { When::Soon } else { When::Now };
                inner.builtin.release(&record.pod.id, lease, when)?;
            }
            inner.records.remove(&record.pod.id)
        })
        .await
    }

    /// Whether the pod still has what `attach` gave it. Errors: what is missing; NotFound if it was never attached.
    pub async fn check(&self, pod: &PodNetwork) -> Result<()> {
        let id = pod.id.as_str();
        let what = || format!("check the network of pod {id}");
        let record = self.inner.records.find(id);
        let record = record.ok_or_else(|| Error::not_found("it has none")).what(what)?;
        if let By::Cni(joined) = &record.by {
            for place in joined {
                self.inner.plugins.check(&record.pod, place).await.what(what)?;
            }
            return Ok(());
        }
        self.blocking(move |inner| match &record.by {
            By::Builtin(lease) => inner.builtin.check(&record.pod, lease),
            By::Cni(_) => Ok(()),
        })
        .await
        .what(what)
    }

    /// What the pod has, if it is attached; from memory.
    pub fn attachment(&self, id: &str) -> Option<Attachment> {
        self.inner.records.find(id)?.attachment.clone()
    }

    /// The sandboxes that have something of it.
    pub fn pods(&self) -> Vec<String> {
        self.inner.records.all().iter().map(|record| record.pod.id.clone()).collect()
    }

    /// Takes back what pods have that are not among `live`: attachments, namespaces, addresses, ports. All are tried; the first
    /// error is returned.
    pub async fn gc(&self, live: &BTreeSet<String>) -> Result<()> {
        let mut first = Ok(());
        for record in self.inner.records.all() {
            if !live.contains(&record.pod.id) {
                let id = record.pod.id.clone();
                first = first.and(
                    self.take_back(record).await.what(|| format!("disconnect pod {id} from its network")),
                );
                first = first.and(self.remove_netns(&id).await);
            }
        }
        let mut pods = HashMap::<String, Vec<(String, String)>>::new();
        for record in self.inner.records.all() {
            let By::Cni(joined) = &record.by else { continue };
            for (network, interface) in joined.iter().map(cni::Joined::place) {
                pods.entry(network.to_owned())
                    .or_default()
                    .push((record.pod.id.clone(), interface.to_owned()));
            }
        }
        for network in self.inner.plugins.networks()? {
            let valid = pods.remove(&network.name).unwrap_or_default();
            first = first.and(self.inner.plugins.collect(&network, &valid).await);
        }
        first.and(self.blocking(|inner| inner.builtin.mend()).await)
    }

    /// The kernel's answers can take a while: not on a thread that serves others.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(Error::internal(format!("network work ended: {error}"))))
    }
}

/// `ADDRESS/BITS`
fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}

/// An id that is safe as a file's name.
fn valid(id: &str) -> Result<String> {
    let fits = !id.is_empty() && id.len() <= 128 && !id.starts_with('.');
    if fits && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Ok(id.to_owned());
    }
    Err(Error::invalid(format!("`{id}` is no sandbox id")))
}
