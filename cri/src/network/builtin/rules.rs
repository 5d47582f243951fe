//! The built-in network's own nf_tables table: masquerade of what leaves, host ports as entries of maps, and no way for pods
//! to the host's loopback. Nothing outside this table is touched here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::link::octets;
use super::super::nft::{Family, Hook, Is, Map, Part, Point, Rule, Side, Table, Verdict, joined};
use super::super::pod::Port;
use super::super::socket::{Refusal, Socket};
use super::super::wire::Message;
use super::addresses::{LENGTH6, Place, Ranges};
use crate::error::{Error, Kind, Result};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The maps of host ports: those bound to an address come first.
const MAPS: [(Map<'static>, IpAddr); 4] = [
    (
        Map {
            name: "bound",
            key: &[Part::Ip, Part::Protocol, Part::Service],
            value: &[Part::Ip, Part::Service],
        },
        V4,
    ),
    (
        Map {
            name: "bound6",
            key: &[Part::Ip6, Part::Protocol, Part::Service],
            value: &[Part::Ip6, Part::Service],
        },
        V6,
    ),
    (Map { name: "ports", key: &[Part::Protocol, Part::Service], value: &[Part::Ip, Part::Service] }, V4),
    (Map { name: "ports6", key: &[Part::Protocol, Part::Service], value: &[Part::Ip6, Part::Service] }, V6),
];

/// Entries of one message; its list may have 64 KiB.
const ENTRIES: usize = 500;

/// Entries of one transaction, about 5 MB: the kernel copies it as one piece.
const AT_ONCE: usize = 65_536;

/// The table of one bridge.
#[derive(Debug, Clone)]
pub struct Rules {
    name: String,
    bridge: String,
}

/// An entry of a map.
struct Entry {
    map: &'static str,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Rules {
    /// Of a bridge.
    pub fn of(bridge: &str) -> Self {
        Self { name: format!("rt-cri-{bridge}"), bridge: bridge.to_owned() }
    }

    fn table(&self) -> Table<'_> {
        Table { family: Family::Inet, name: &self.name }
    }

    /// Makes the table anew with the host ports of these pods, in one transaction if the kernel takes it so. A port that can't be
    /// opened is no matter to those of others.
    pub fn rebuild<'a>(
        &self,
        ranges: &Ranges,
        pods: impl Iterator<Item = (Place, &'a [Port])>,
    ) -> Result<()> {
        let table = self.table();
        let mut base = vec![table.add(), table.delete(), table.add()];
        base.extend((1..).zip(MAPS).map(|(number, (map, _))| table.add_map(map, number)));
        self.chains(ranges, &mut base);
        self.guard_ports();
        let pods: Vec<Vec<Entry>> = pods.map(|(place, ports)| entries(place, ports)).collect();
        let all: Vec<&Entry> = pods.iter().flatten().collect();
        if all.len() <= AT_ONCE {
            let mut batch = base.clone();
            batch.extend(by_map(&all, |map, entries| table.add_entries(map, entries)));
            if commit(batch)?.is_ok() {
                return Ok(());
            }
        }
        let what = || format!("make nf_tables table {}", self.name);
        commit(base)?.map_err(|refusal| {
            let error = refusal.during(what());
            if error.errno() == Some(libc::EOPNOTSUPP) {
                return error
                    .cure("load the kernel modules nf_tables, nft_nat, nft_masq, nft_fib_inet and nft_ct");
            }
            error
        })?;
        for pod in &pods {
            let adding =
                by_map(&pod.iter().collect::<Vec<_>>(), |map, entries| table.add_entries(map, entries));
            if let Err(refusal) = commit(adding)? {
                let error = refusal.during(format!("open the {} host ports of a pod again", pod.len()));
                tracing::warn!(table = self.name, %error, "they stay closed");
            }
        }
        Ok(())
    }

    /// No pod is a router of its neighbours (CVE-2020-10749). The settings of our own ends say so already; this is for neighbours
    /// that changed theirs. A kernel without bridge rules does without.
    fn guard_ports(&self) {
        const ADVERTISEMENT: u8 = 134;
        const REDIRECT: u8 = 137;
        let table = Table { family: Family::Bridge, name: &self.name };
        let hook = Hook { kind: "filter", point: Point::Prerouting, priority: -300 };
        let mut batch = vec![table.add(), table.delete(), table.add(), table.add_chain("guard", Some(hook))];
        for kind in [ADVERTISEMENT, REDIRECT] {
            let rule = Rule::new().links(super::LINK_PREFIX).icmp6(kind);
            batch.push(table.add_rule("guard", &rule.then(Verdict::Drop)));
        }
        let made = commit(batch).and_then(|made| made.map_err(|refusal| refusal.during("add it")));
        if let Err(error) = made {
            tracing::info!(table = self.name, %error, "bridge rules are left out");
        }
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
        let loopback = IpAddr::from([127, 0, 0, 0]);
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
        let own = std::iter::once((IpAddr::V4(ranges.v4), ranges.length));
        for (network, length) in own.chain(ranges.v6.map(|ip| (IpAddr::V6(ip), LENGTH6))) {
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

    /// Opens a pod's host ports. None: the table is not there.
    pub fn open_ports(&self, place: Place, ports: &[Port]) -> Result<Option<()>> {
        let entries = entries(place, ports);
        let all: Vec<&Entry> = entries.iter().collect();
        match commit(by_map(&all, |map, entries| self.table().add_entries(map, entries)))? {
            Ok(()) => Ok(Some(())),
            Err(refusal) if refusal.errno == libc::ENOENT => Ok(None),
            Err(refusal) if refusal.errno == libc::EBUSY => {
                Err(Error::new(Kind::Exists, "open host ports: one of them leads to another pod already"))
            }
            Err(refusal) => Err(refusal.during("open host ports")),
        }
    }

    /// Closes a pod's host ports; what is not there, or leads to another pod, is fine.
    pub fn close_ports(&self, place: Place, ports: &[Port]) -> Result<()> {
        let entries = entries(place, ports);
        let all: Vec<&Entry> = entries.iter().collect();
        // In one transaction: a second one would wait for the kernel to clear up after the first, which takes 25 ms.
        if commit(self.deletion(&all)).is_ok_and(|done| done.is_ok()) {
            return Ok(());
        }
        for entry in all {
            match commit(self.deletion(&[entry]))? {
                Err(refusal) if refusal.errno == libc::ENOENT && !self.exist()? => return Ok(()),
                Err(refusal) if !matches!(refusal.errno, libc::ENOENT | libc::EBUSY | libc::EEXIST) => {
                    return Err(refusal.during("close host ports"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Each is added first: then one that was never there can be removed with the others, and one of another pod is refused.
    fn deletion(&self, entries: &[&Entry]) -> Vec<Message> {
        let table = self.table();
        let mut batch = by_map(entries, |map, entries| table.add_entries(map, entries));
        batch.extend(by_map(entries, |map, entries| table.delete_entries(map, entries)));
        batch
    }

    /// Whether the table is there.
    pub fn exist(&self) -> Result<bool> {
        let mut socket = Socket::netfilter()?;
        Ok(socket.ask(&self.table().get(), |_, _| {})?.is_ok())
    }
}

fn commit(batch: Vec<Message>) -> Result<Result<(), Refusal>> {
    Socket::netfilter()?.commit(batch)
}

/// Messages about entries: of one map each, and no more than a message can have.
fn by_map(
    entries: &[&Entry],
    message: impl Fn(&'static str, &[(Vec<u8>, Vec<u8>)]) -> Message,
) -> Vec<Message> {
    let mut sorted = entries.to_vec();
    sorted.sort_by(|a, b| (a.map, &a.key).cmp(&(b.map, &b.key)));
    let of_maps = sorted.chunk_by(|a, b| a.map == b.map);
    let chunks = of_maps.flat_map(|of_map| of_map.chunks(ENTRIES));
    let pair = |entry: &&Entry| (entry.key.clone(), entry.value.clone());
    chunks
        .filter_map(|chunk| Some(message(chunk.first()?.map, &chunk.iter().map(pair).collect::<Vec<_>>())))
        .collect()
}

/// The entries of a pod's ports.
fn entries(place: Place, ports: &[Port]) -> Vec<Entry> {
    let mut all = Vec::new();
    for port in ports {
        let (protocol, host) = ([port.protocol.number()], port.host.to_be_bytes());
        for ip in place.ips() {
            let value = joined(&[&octets(ip), &port.container.to_be_bytes()]);
            let (map, key) = match port.host_ip {
                None => (if ip.is_ipv4() { "ports" } else { "ports6" }, joined(&[&protocol, &host])),
                Some(bound) if bound.is_ipv4() != ip.is_ipv4() => continue,
                Some(bound) => {
                    let map = if ip.is_ipv4() { "bound" } else { "bound6" };
                    (map, joined(&[&octets(bound), &protocol, &host]))
                }
            };
            all.push(Entry { map, key, value });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::super::pod::Protocol;
    use super::*;

    #[test]
    fn a_port_is_an_entry_for_each_family_that_its_host_address_allows() {
        let place = Place { v4: [10, 90, 0, 2].into(), v6: Some("fd00::2".parse().unwrap()) };
        let port = |host_ip: Option<&str>| Port {
            protocol: Protocol::Tcp,
            host: 8080,
            container: 80,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        };
        let maps = |port| entries(place, &[port]).iter().map(|entry| entry.map).collect::<Vec<_>>();
        assert_eq!(maps(port(None)), ["ports", "ports6"]);
        assert_eq!(maps(port(Some("127.0.0.1"))), ["bound"]);
        assert_eq!(maps(port(Some("fe80::1"))), ["bound6"]);
        let entry = &entries(place, &[port(Some("127.0.0.1"))])[0];
        assert_eq!(entry.key, [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(entry.value, [10, 90, 0, 2, 0, 80, 0, 0]);
    }
}
