//! The built-in network, for hosts without a CNI configuration: a bridge, a pair of links for each pod, addresses of both
//! families, masquerade and host ports. It needs no set-up and no program.
//!
//! Everything here blocks for as long as the kernel takes: callers are on a thread for that. What pods have is on disk
//! elsewhere (`record`); this holds it in memory.

mod addresses;
mod bridge;
mod entries;
mod guard;
mod peace;
mod rules;
mod settings;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::addresses::{Place, Pool, Ranges};
use self::bridge::Bridge;
use self::rules::Rules;
use super::config::Config;
use super::link::{self, Pair, Prefixed};
use super::netns;
use super::pod::{Attachment, PodNetwork, Port};
use super::socket::Socket;
use crate::error::{Context, Error, Kind, Result};

/// The pod's interface.
const INTERFACE: &str = "eth0";

/// What the names of the host's ends begin with.
const LINK_PREFIX: &str = "rt-";

/// How often other firewalls are looked at.
const PEACE: Duration = Duration::from_secs(2);

/// What a pod has of this network; written down before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The bridge's ranges.
    ranges: Ranges,
    place: Place,
    /// The host's end of the pair.
    link: String,
    ports: Vec<Port>,
}

impl Lease {
    /// What is told of it.
    pub fn attachment(&self) -> Attachment {
        Attachment { networks: vec!["built-in".to_owned()], ips: self.place.ips(), ..Attachment::default() }
    }
}

/// When the pod's link has to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the answer: the pod may be attached again under the same name.
    Now,
    /// The pod's namespace is removed next.
    Soon,
}

/// The built-in network of one server.
#[derive(Debug)]
pub struct Builtin {
    config: Config,
    rules: Rules,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bridge: Option<Bridge>,
    pool: Pool,
    leases: HashMap<String, Lease>,
    peace: Option<Instant>,
}

impl Builtin {
    /// With the leases that earlier processes wrote down. Touches no network.
    pub fn new(config: &Config, leases: HashMap<String, Lease>) -> Self {
        let mut pool = Pool::default();
        for lease in leases.values() {
            pool.mark(&lease.ranges, lease.place);
        }
        let inner = Inner { pool, leases, ..Inner::default() };
        Self { config: config.clone(), rules: Rules::of(&config.bridge), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For people.
    pub fn name(&self) -> String {
        let ranges = self.lock().bridge.map(|bridge| bridge.ranges);
        let words = ranges.map(|ranges| {
            let v6 = ranges.v6.map(|ip| format!(", {ip}/64")).unwrap_or_default();
            format!(", {}/{}{v6}", ranges.v4, ranges.length)
        });
        format!("built-in bridge {}{}", self.config.bridge, words.unwrap_or_default())
    }

    /// Reserves addresses and ports for a pod, making the bridge first if need be. Nothing of the pod's is made yet.
    pub fn reserve(&self, pod: &PodNetwork) -> Result<Lease> {
        limits(pod)?;
        let mut inner = self.lock();
        let bridge = self.bridge(&mut inner)?;
        free_ports(&inner.leases, pod)?;
        let place = inner.pool.take(&bridge.ranges)?;
        let lease =
            Lease { ranges: bridge.ranges, place, link: link_name(&pod.id), ports: pod.ports.clone() };
        inner.leases.insert(pod.id.clone(), lease.clone());
        Ok(lease)
    }

    /// Makes what was reserved. What fails half-way is taken back by [`Self::release`].
    pub fn attach(&self, pod: &PodNetwork, lease: &Lease) -> Result<()> {
        let namespace = netns::open(&pod.netns)?;
        // ORDER: before the pod can send anything.
        if self.rules.open(lease)?.is_none() {
            self.rebuild(&self.lock())?;
        }
        let bridge =
            self.lock().bridge.ok_or_else(|| Error::internal("attach a pod before the bridge is made"))?;
        match join(pod, lease, &bridge, &namespace) {
            // Somebody removed the bridge: it is made again, once.
            Err(error) if matches!(error.errno(), Some(libc::ENODEV)) => {
                let mut inner = self.lock();
                inner.bridge = None;
                let bridge = self.bridge(&mut inner)?;
                drop(inner);
                join(pod, lease, &bridge, &namespace)?;
            }
            joined => joined?,
        }
        settings::port(&lease.link).what(|| format!("set up network link {}", lease.link))?;
        address(lease, namespace)
    }

    /// Takes back what a lease names. What is gone already is fine.
    pub fn release(&self, id: &str, lease: &Lease, when: When) -> Result<()> {
        self.rules.close(lease)?;
        match when {
            When::Now => remove_port(&self.rules, &lease.link)?,
            // The kernel takes 50 ms to forget a link; the address is not given out again so soon, and the link goes with the
            // pod's namespace even if this thread never runs.
            When::Soon => {
                let (rules, link) = (self.rules.clone(), lease.link.clone());
                std::thread::spawn(move || {
                    if let Err(error) = remove_port(&rules, &link) {
                        tracing::warn!(link, %error, "a pod's network link stays until its namespace goes");
                    }
                });
            }
        }
        self.forget(id, lease);
        Ok(())
    }

    /// Gives a reserved place back of which nothing was made.
    pub fn forget(&self, id: &str, lease: &Lease) {
        let mut inner = self.lock();
        if inner.leases.remove(id).is_some() {
            inner.pool.give_back(&lease.ranges, lease.place);
        }
    }

    /// Whether a pod still has its link and addresses.
    pub fn check(&self, pod: &PodNetwork, lease: &Lease) -> Result<()> {
        let missing = |what: String| Error::new(Kind::NotFound, what).cure("stop the pod and run it again");
        if link::find(&mut Socket::route()?, &lease.link)?.is_none() {
            return Err(missing(format!("network link {} is gone", lease.link)));
        }
        let mut socket = netns::route_socket(netns::open(&pod.netns)?)?;
        let link = link::find(&mut socket, INTERFACE)?;
        let link = link.ok_or_else(|| missing(format!("{INTERFACE} of pod {} is gone", pod.id)))?;
        let present = link::addresses(&mut socket, link.index)?;
        match lease.place.ips().iter().find(|ip| !present.iter().any(|address| address.ip == **ip)) {
            Some(ip) => Err(missing(format!("address {ip} of pod {} is gone", pod.id))),
            None => Ok(()),
        }
    }

    /// Sees to it that bridge and rules are there: after somebody flushed all rules, or at a start with pods running.
    pub fn mend(&self) -> Result<()> {
        let mut inner = self.lock();
        if inner.leases.is_empty() {
            return Ok(());
        }
        let known = inner.bridge.is_some();
        self.bridge(&mut inner)?;
        if known && !self.rules.exist()? {
            self.rebuild(&inner)?;
        }
        Ok(())
    }

    /// The bridge, made if need be, with its rules.
    fn bridge(&self, inner: &mut Inner) -> Result<Bridge> {
        let bridge = match inner.bridge {
            Some(bridge) => bridge,
            None => {
                let kept = inner.leases.values().next().map(|lease| lease.ranges);
                let bridge = bridge::ready(&self.config, kept)?;
                inner.bridge = Some(bridge);
                // Those of an earlier server, or of another version.
                for lease in inner.leases.values() {
                    settings::port(&lease.link)?;
                }
                let built = self.rebuild(inner);
                if built.is_err() {
                    inner.bridge = None;
                }
                built?;
                bridge
            }
        };
        if inner.peace.is_none_or(|last| last.elapsed() > PEACE) {
            self.rules.with(|socket| peace::keep(socket, &self.config.bridge))?;
            inner.peace = Some(Instant::now());
        }
        Ok(bridge)
    }

    fn rebuild(&self, inner: &Inner) -> Result<()> {
        let Some(bridge) = inner.bridge else { return Ok(()) };
        self.rules.rebuild(&bridge.ranges, inner.leases.values())
    }
}

/// Bandwidth limits, as annotations ask for them, are not made here.
fn limits(pod: &PodNetwork) -> Result<()> {
    let asked = pod.annotations.keys().find(|key| {
        matches!(key.as_str(), "kubernetes.io/ingress-bandwidth" | "kubernetes.io/egress-bandwidth")
    });
    match asked {
        Some(key) => Err(Error::unsupported(format!("limit the pod's bandwidth as annotation {key} asks"))
            .cure("the built-in network has no limits: configure CNI with the plugin bandwidth")),
        None => Ok(()),
    }
}

/// No port may lead to two pods.
fn free_ports(leases: &HashMap<String, Lease>, pod: &PodNetwork) -> Result<()> {
    let asked: HashSet<_> = pod.ports.iter().map(Port::key).collect();
    if asked.is_empty() {
        return Ok(());
    }
    for (id, lease) in leases {
        if let Some(port) = lease.ports.iter().find(|port| asked.contains(&port.key())) {
            let what = format!("host port {} leads to pod {id} already", port.shown());
            return Err(Error::new(Kind::Exists, what).cure("stop that pod first, or use another port"));
        }
    }
    Ok(())
}

/// Removes a pod's port, then what is known of it: until it is gone, nothing comes through.
fn remove_port(rules: &Rules, name: &str) -> Result<()> {
    match Socket::route()?.send(vec![link::remove(name)])? {
        Err(refusal) if refusal.errno != libc::ENODEV => {
            return Err(refusal.during(format!("remove network link {name}")));
        }
        _ => {}
    }
    rules.forget(name)
}

/// A name of 15 letters that says whose it is.
fn link_name(id: &str) -> String {
    format!("{LINK_PREFIX}{}", id.get(..12).unwrap_or(id))
}

/// The pair of links: one end in the bridge, the other in the pod.
fn join(pod: &PodNetwork, lease: &Lease, bridge: &Bridge, namespace: &OwnedFd) -> Result<()> {
    let pair = Pair {
        name: &lease.link,
        alias: &pod.id,
        bridge: bridge.index,
        mtu: bridge.mtu,
        pod_name: INTERFACE,
        pod_mac: bridge::mac(lease.place.v4),
        pod_netns: namespace.as_raw_fd() as u32,
    };
    let requests = vec![link::add_pair(&pair), link::set_port(pair.name, pair.alias)];
    let what = || format!("make the pod's network link {}", lease.link);
    Socket::route()?.send(requests)?.map_err(|refusal| refusal.during(what()))
}

/// Addresses and routes inside the pod. The only neighbour that it knows is the bridge: whatever it sends to, it fills no table of
/// neighbours, which the kernel has once for all namespaces.
fn address(lease: &Lease, namespace: OwnedFd) -> Result<()> {
    // ORDER: before it is raised, as with the bridge.
    let mut socket = netns::inside(namespace, || {
        settings::pod(INTERFACE)?;
        Socket::route()
    })?;
    let link = link::find(&mut socket, INTERFACE)?;
    let link = link.ok_or_else(|| Error::internal(format!("{INTERFACE} is not in the pod")))?.index;
    let mut ips = lease.place.ips();
    if lease.place.v6.is_some() {
        ips.push(guard::link_local(bridge::mac(lease.place.v4)).into());
    }
    let alone = |ip: IpAddr| Prefixed { ip, length: if ip.is_ipv4() { 32 } else { 128 } };
    let mut requests: Vec<_> = ips.into_iter().map(|ip| link::add_address(link, alone(ip))).collect();
    requests.push(link::raise(link));
    for gateway in lease.ranges.gateways() {
        requests.push(link::add_neighbour_route(link, gateway.ip));
        requests.push(link::add_default_route(link, gateway.ip));
    }
    let sent = socket.send(requests)?;
    sent.map_err(|refusal| refusal.during("give the pod its addresses and routes"))
        .what(|| format!("set up {INTERFACE}"))
}
