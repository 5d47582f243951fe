//! A pod's entries in the maps and sets of both tables, and the messages about them.

use std::collections::HashSet;

use super::super::link::octets;
use super::super::nft::{self, Family, Table, joined};
use super::super::socket::Socket;
use super::super::wire::Message;
use super::{Lease, guard};
use crate::error::Result;

/// The set of the pods' ports, in both tables.
pub const LINKS: &str = "links";

/// The sets of the pods' addresses.
pub const PODS: &str = "pods";
/// See [`PODS`].
pub const PODS6: &str = "pods6";

/// Entries of one message; its list may have 64 KiB.
const ENTRIES: usize = 500;

/// An entry of a map, or of a set (without a value).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The table's family.
    pub table: Family,
    /// The map's name.
    pub map: &'static str,
    /// What it is found by.
    pub key: Vec<u8>,
    /// What is found.
    pub value: Vec<u8>,
}

/// The name of a link as a key.
pub fn link_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

/// A pod's port in both tables: what comes in over it is judged.
pub fn of_link(name: &str) -> Vec<Entry> {
    let entry = |table| Entry { table, map: LINKS, key: link_key(name), value: Vec::new() };
    vec![entry(Family::Inet), entry(Family::Bridge)]
}

/// A pod's port and addresses, all but its host ports.
pub fn of_pod(lease: &Lease) -> Vec<Entry> {
    let mut all = of_link(&lease.link);
    all.extend(of_addresses(lease));
    all.sort();
    all
}

/// A pod's addresses.
pub fn of_addresses(lease: &Lease) -> Vec<Entry> {
    let address = |ip| Entry {
        table: Family::Inet,
        map: if matches!(ip, std::net::IpAddr::V4(_)) { PODS } else { PODS6 },
        key: octets(ip),
        value: Vec::new(),
    };
    let mut all: Vec<Entry> = lease.place.ips().into_iter().map(address).collect();
    all.extend(guard::entries(lease));
    all.sort();
    all
}

/// The entries of a pod's host ports, each once.
pub fn of_ports(lease: &Lease) -> Vec<Entry> {
    let mut all = Vec::new();
    for port in &lease.ports {
        let (protocol, host) = ([port.protocol.number()], port.host.to_be_bytes());
        for ip in lease.place.ips() {
            let value = joined(&[&octets(ip), &port.container.to_be_bytes()]);
            let (map, key) = match port.host_ip {
                None => (if ip.is_ipv4() { "ports" } else { "ports6" }, joined(&[&protocol, &host])),
                Some(bound) if bound.is_ipv4() != ip.is_ipv4() => continue,
                Some(bound) => {
                    let map = if ip.is_ipv4() { "bound" } else { "bound6" };
                    (map, joined(&[&octets(bound), &protocol, &host]))
                }
            };
            all.push(Entry { table: Family::Inet, map, key, value });
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Messages about entries, which are in order: of one map each, and no more than a message can have.
pub fn by_map(
    name: &str,
    entries: &[&Entry],
    message: impl Fn(Table<'_>, &'static str, &[(Vec<u8>, Vec<u8>)]) -> Message,
) -> Vec<Message> {
    let of_maps = entries.chunk_by(|a, b| (a.table, a.map) == (b.table, b.map));
    let chunks = of_maps.flat_map(|of_map| of_map.chunks(ENTRIES));
    let pair = |entry: &&Entry| (entry.key.clone(), entry.value.clone());
    let about = |chunk: &[&Entry]| {
        let first = chunk.first()?;
        let pairs: Vec<_> = chunk.iter().map(pair).collect();
        Some(message(Table { family: first.table, name }, first.map, &pairs))
    };
    chunks.filter_map(about).collect()
}

/// Those of the entries that are there, with the same value.
pub fn present<'a>(socket: &mut Socket, name: &str, entries: &[&'a Entry]) -> Result<Vec<&'a Entry>> {
    let mut all = Vec::new();
    for of_map in entries.chunk_by(|a, b| (a.table, a.map) == (b.table, b.map)) {
        let Some(first) = of_map.first() else { continue };
        let question = Table { family: first.table, name }.get_entries(first.map);
        let mut found = HashSet::new();
        let asked = socket.ask(&question, |_, payload| {
            found.extend(nft::entries(payload).map(|(key, value)| (key.to_vec(), value.to_vec())));
        })?;
        match asked {
            Err(refusal) if refusal.errno == libc::ENOENT => {}
            Err(refusal) => return Err(refusal.during(format!("list the entries of {}", first.map))),
            Ok(()) => all.extend(
                of_map.iter().filter(|entry| found.contains(&(entry.key.clone(), entry.value.clone()))),
            ),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::super::pod::{Port, Protocol};
    use super::super::addresses::{Place, Ranges};
    use super::*;

    #[test]
    fn a_port_is_an_entry_for_each_family_that_its_host_address_allows() {
        let place = Place { v4: [10, 90, 0, 2].into(), v6: Some("fd00::2".parse().unwrap()) };
        let ranges = Ranges { v4: [10, 90, 0, 0].into(), length: 16, v6: Some("fd00::".parse().unwrap()) };
        let of = |host_ip: Option<&str>| {
            let host_ip = host_ip.map(|ip| ip.parse().unwrap());
            let port = Port { protocol: Protocol::Tcp, host: 8080, container: 80, host_ip };
            of_ports(&Lease { ranges, place, link: "rt-a".to_owned(), ports: vec![port] })
        };
        let maps = |host_ip| of(host_ip).iter().map(|entry| entry.map).collect::<Vec<_>>();
        assert_eq!(maps(None), ["ports", "ports6"]);
        assert_eq!(maps(Some("127.0.0.1")), ["bound"]);
        assert_eq!(maps(Some("fe80::1")), ["bound6"]);
        let entry = &of(Some("127.0.0.1"))[0];
        assert_eq!(entry.key, [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(entry.value, [10, 90, 0, 2, 0, 80, 0, 0]);
    }
}
