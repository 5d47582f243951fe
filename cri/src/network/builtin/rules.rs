//! The built-in network's own nf_tables table: masquerade of what leaves, host ports as entries of maps, and no way for pods
//! to the host's loopback. Nothing outside this table is touched here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::nft::{Family, Field, Hook, Is, Map, Part, Point, Rule, Side, Table, Verdict};
use super::super::socket::{Refusal, Socket};
use super::super::wire::Message;
use super::addresses::{LENGTH6, Ranges};
use super::entries::{Entry, LINKS, PODS, PODS6, by_map};
use super::{Lease, entries, guard};
use crate::error::{Context, Error, Kind, Result};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The maps of host ports: those bound to an address come first.
const MAPS: [(Map, IpAddr); 4] = [
    (
        Map {
            name: "bound",
            key: &[Part::Ip, Part::Protocol, Part::Service],
            value: &[Part::Ip, Part::Service],
            above: None,
        },
        V4,
    ),
    (
        Map {
            name: "bound6",
            key: &[Part::Ip6, Part::Protocol, Part::Service],
            value: &[Part::Ip6, Part::Service],
            above: None,
        },
        V6,
    ),
    (
        Map {
            name: "ports",
            key: &[Part::Protocol, Part::Service],
            value: &[Part::Ip, Part::Service],
            above: None,
        },
        V4,
    ),
    (
        Map {
            name: "ports6",
            key: &[Part::Protocol, Part::Service],
            value: &[Part::Ip6, Part::Service],
            above: None,
        },
        V6,
    ),
];

/// The sets of the pods' ports and addresses.
const SETS: [Map; 3] =
    [Map::set(LINKS, &[Part::Link]), Map::set(PODS, &[Part::Ip]), Map::set(PODS6, &[Part::Ip6])];

/// What a kernel that refuses the tables may lack.
const MODULES: &str = "load the kernel modules nf_tables, nft_nat, nft_masq, nft_fib_inet, nft_ct, nft_limit and \
    nft_reject_inet, with nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE); or configure CNI";

/// Entries of one transaction, about 5 MB: the kernel copies it as one piece.
const AT_ONCE: usize = 65_536;

/// The tables of one bridge.
#[derive(Debug, Clone)]
pub struct Rules {
    name: String,
    bridge: String,
    /// KERNEL: to close a netfilter socket waits until the kernel has cleared up after the last transaction, 25 ms: it stays open.
    socket: Arc<Mutex<Option<Socket>>>,
}

impl Rules {
    /// Of a bridge.
    pub fn of(bridge: &str) -> Self {
        Self { name: format!("rt-cri-{bridge}"), bridge: bridge.to_owned(), socket: Arc::default() }
    }

    fn table(&self) -> Table<'_> {
        Table { family: Family::Inet, name: &self.name }
    }

    /// Makes both tables anew with all that these pods have, in one transaction if the kernel takes it so. A port that can't be
    /// opened is no matter to those of others.
    pub fn rebuild<'a>(&self, ranges: &Ranges, pods: impl Iterator<Item = &'a Lease>) -> Result<()> {
        let table = self.table();
        let mut base = vec![table.add(), table.delete(), table.add()];
        let maps = MAPS.map(|(map, _)| map).into_iter().chain(SETS);
        base.extend((1..).zip(maps).map(|(number, map)| table.add_map(map, number)));
        self.chains(ranges, &mut base);
        base.extend(guard::rebuild(&self.name, 100));
        let pods: Vec<(Vec<Entry>, Vec<Entry>)> =
            pods.map(|lease| (entries::of_pod(lease), entries::of_ports(lease))).collect();
        let mut own: Vec<&Entry> = pods.iter().flat_map(|(own, _)| own).collect();
        let mut all: Vec<&Entry> =
            own.iter().copied().chain(pods.iter().flat_map(|(_, ports)| ports)).collect();
        own.sort();
        all.sort();
        if all.len() <= AT_ONCE {
            let mut batch = base.clone();
            batch.extend(self.addition(&all));
            if self.commit(batch)?.is_ok() {
                return Ok(());
            }
        }
        // Never without what guards the pods' ports.
        base.extend(self.addition(&own));
        let what = || format!("make nf_tables tables {}", self.name);
        self.commit(base)?.map_err(|refusal| {
            let error = refusal.during(what());
            if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::ENOENT)) {
                return error.cure(MODULES);
            }
            error
        })?;
        for (_, ports) in &pods {
            if let Err(refusal) = self.commit(self.addition(&ports.iter().collect::<Vec<_>>()))? {
                let error = refusal.during(format!("open the {} host ports of a pod again", ports.len()));
                tracing::warn!(table = self.name, %error, "they stay closed");
            }
        }
        Ok(())
    }

    fn chains(&self, ranges: &Ranges, batch: &mut Vec<Message>) {
        let (table, bridge) = (self.table(), self.bridge.as_str());
        let hook = |kind, point, priority| Some(Hook { kind, point, priority });
        // Before connection tracking and translation, when answers to the host's own 127.0.0.1 still have the bridge's address.
        batch.push(table.add_chain("guard", hook("filter", Point::Prerouting, -300)));
        batch.push(table.add_chain("hostports", None));
        batch.push(table.add_chain("prerouting", hook("nat", Point::Prerouting, -100)));
        batch.push(table.add_chain("output", hook("nat", Point::Output, -100)));
        batch.push(table.add_chain("postrouting", hook("nat", Point::Postrouting, 100)));
        batch.push(table.add_chain("forward", hook("filter", Point::Forward, 0)));
        let loopback = IpAddr::from([127, 0, 0, 0]);
        // What a port takes itself, and not its bridge, is nobody's: not even when the bridge is gone.
        let on_port = Rule::new().links(super::LINK_PREFIX).among(LINKS, Is::Same, &[Field::Link]);
        batch.push(table.add_rule("guard", &on_port.then(Verdict::Drop)));
        // CVE-2020-8558: route_localnet opens 127.0.0.0/8 to whoever is on the bridge.
        let from_bridge = || Rule::new().link(Side::Source, Is::Same, bridge);
        let guard = from_bridge().network(Side::Destination, Is::Same, loopback, 8);
        batch.push(table.add_rule("guard", &guard.then(Verdict::Drop)));
        // Nor may it send as 127.0.0.0/8, as the host, or as anybody else who is not behind the bridge.
        batch.push(table.add_rule("guard", &from_bridge().elsewhere().then(Verdict::Drop)));
        for chain in ["prerouting", "output"] {
            batch.push(table.add_rule(chain, &Rule::new().for_this_host().then(Verdict::Jump("hostports"))));
        }
        for (map, family) in &MAPS {
            batch.push(table.add_rule("hostports", &Rule::new().redirect(map.name, map.key, *family)));
        }
        // KERNEL: a packet to a link's own addresses is forwarded if its sender has another kind.
        let of_a_link =
            from_bridge().network(Side::Destination, Is::Same, [0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 10);
        batch.push(table.add_rule("forward", &of_a_link.then(Verdict::Drop)));
        let own = std::iter::once((IpAddr::V4(ranges.v4), ranges.length));
        for (network, length) in own.chain(ranges.v6.map(|ip| (IpAddr::V6(ip), LENGTH6))) {
            // An address that no pod has: nobody makes the host look for it as for a neighbour.
            let (pods, place) = if network.is_ipv4() { (PODS, (16, 4)) } else { (PODS6, (24, 16)) };
            let nobody = Rule::new().network(Side::Destination, Is::Same, network, length);
            let nobody = nobody.among(pods, Is::Other, &[Field::Network(place.0, place.1)]);
            batch.push(table.add_rule("forward", &nobody.unreachable()));
            let from_pod = || Rule::new().network(Side::Source, Is::Same, network, length);
            // What leaves the pods' network leaves as the host; multicast stays what it is.
            let (multicast, bits) = if network.is_ipv4() {
                ([224, 0, 0, 0].into(), 4)
            } else {
                (IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8)
            };
            let leaving = from_pod().network(Side::Destination, Is::Other, network, length);
            let leaving = leaving.network(Side::Destination, Is::Other, multicast, bits);
            batch.push(table.add_rule("postrouting", &leaving.masquerade()));
            // A pod that meets itself or a neighbour by a host port: the answer has to come back through here.
            let meeting = from_pod().network(Side::Destination, Is::Same, network, length).translated();
            batch.push(table.add_rule("postrouting", &meeting.masquerade()));
        }
        // The host to its own port by 127.0.0.1.
        let local = Rule::new().network(Side::Source, Is::Same, loopback, 8).link(
            Side::Destination,
            Is::Same,
            bridge,
        );
        batch.push(table.add_rule("postrouting", &local.masquerade()));
    }

    /// Makes a pod's rules, and opens its host ports. None: a table is not there.
    pub fn open(&self, lease: &Lease) -> Result<Option<()>> {
        let (own, ports) = (entries::of_pod(lease), entries::of_ports(lease));
        let all: Vec<&Entry> = own.iter().chain(&ports).collect();
        match self.commit(self.addition(&all))? {
            Ok(()) => Ok(Some(())),
            Err(refusal) if refusal.errno == libc::ENOENT => Ok(None),
            Err(refusal) if refusal.errno == libc::EBUSY => {
                Err(Error::new(Kind::Exists, "open host ports: one of them leads to another pod already"))
            }
            Err(refusal) => Err(refusal.during("make a pod's rules")),
        }
    }

    /// Closes a pod's host ports, and lets it send nothing more; what is not there, or leads to another pod, is fine.
    pub fn close(&self, lease: &Lease) -> Result<()> {
        let mut all = entries::of_addresses(lease);
        all.extend(entries::of_ports(lease));
        self.remove(&all).what(|| "remove a pod's rules")
    }

    /// Forgets a pod's port, which is gone.
    pub fn forget(&self, link: &str) -> Result<()> {
        self.remove(&entries::of_link(link)).what(|| format!("remove the rules of port {link}"))
    }

    /// Removes entries in as few transactions as can be: the kernel takes 25 ms to clear up after one that it refuses.
    fn remove(&self, entries: &[Entry]) -> Result<()> {
        const TRIES: usize = 8;
        let mut left: Vec<&Entry> = entries.iter().collect();
        let mut refused = None;
        for _ in 0..TRIES {
            // Each is added first: then one that was never there can be removed with the others.
            let mut batch = self.addition(&left);
            batch.extend(by_map(&self.name, &left, |table, map, entries| table.delete_entries(map, entries)));
            match self.commit(batch)? {
                Ok(()) => return Ok(()),
                Err(refusal) => refused = Some(refusal),
            }
            // One that leads to another pod is not ours to remove; or the table is gone.
            left = self.with(|socket| entries::present(socket, &self.name, &left))?;
        }
        refused.map_or(Ok(()), |refusal| Err(refusal.during("remove entries of nf_tables")))
    }

    fn addition(&self, entries: &[&Entry]) -> Vec<Message> {
        by_map(&self.name, entries, |table, map, entries| table.add_entries(map, entries))
    }

    /// Whether both tables are there.
    pub fn exist(&self) -> Result<bool> {
        self.with(|socket| {
            for table in [self.table(), Table { family: Family::Bridge, ..self.table() }] {
                if socket.ask(&table.get(), |_, _| {})?.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn commit(&self, batch: Vec<Message>) -> Result<Result<(), Refusal>> {
        self.with(|socket| socket.commit(batch))
    }

    /// Does something with the netfilter socket, which is opened where there is none that works.
    pub fn with<T>(&self, work: impl FnOnce(&mut Socket) -> Result<T>) -> Result<T> {
        let mut held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match held.as_mut() {
            Some(socket) => socket,
            None => held.insert(Socket::netfilter()?),
        };
        let done = work(socket);
        if done.is_err() {
            *held = None;
        }
        done
    }
}
