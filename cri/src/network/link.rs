//! Routing netlink: the requests that make links, addresses and routes, and the lists of them. No policy.

use std::net::IpAddr;

use super::socket::Socket;
use super::wire::{CREATE, DUMP, EXCL, Message, REPLACE, attribute, text, u32_at};
use crate::error::Result;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

/// `IFLA_*`
const MAC: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const LINK_KIND: u16 = 18;
const ALIAS: u16 = 20;
const STATS64: u16 = 23;
const NETNS_FD: u16 = 28;
/// Inside `IFLA_LINKINFO`.
const KIND: u16 = 1;
const KIND_DETAIL: u16 = 2;
const PORT_KIND: u16 = 4;
const PORT_DETAIL: u16 = 5;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;

/// `IFA_*`, `RTA_*`
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const ADDRESS_FLAGS: u16 = 8;
const DESTINATION: u16 = 1;
const OUT_LINK: u16 = 4;
const GATEWAY: u16 = 5;

/// An address that is used at once, without looking for duplicates.
const NODAD: u32 = 2;

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixed {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub length: u8,
}

/// A link of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias; ours names the pod.
    pub alias: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// The bridge it is in, or 0.
    pub master: u32,
    /// Whether it is raised.
    pub up: bool,
    /// Its kind: `veth`, `bridge`; empty for hardware.
    pub kind: String,
    /// What it has carried.
    pub counters: Counters,
}

/// What an interface has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// A route of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; length 0: everywhere.
    pub to: Prefixed,
    /// The link that it goes over, or 0.
    pub link: u32,
}

/// A pair of links: one here, one in the pod.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The name here.
    pub name: &'a str,
    /// The alias here.
    pub alias: &'a str,
    /// The bridge that the end here is put into.
    pub bridge: u32,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// The name in the pod.
    pub pod_name: &'a str,
    /// The hardware address in the pod.
    pub pod_mac: [u8; 6],
    /// An open descriptor of the pod's network namespace.
    pub pod_netns: u32,
}

/// Makes a bridge, down, with a hardware address of its own, which stays whatever joins it.
pub fn add_bridge(name: &str, mac: [u8; 6], mtu: u32) -> Message {
    Message::new(NEW_LINK, CREATE | EXCL, &link_header(0, Raise::No))
        .text(NAME, name)
        .u32(MTU, mtu)
        .put(MAC, &mac)
        .nest(LINK_KIND, |kind| kind.put(KIND, b"bridge"))
}

/// Makes a pair of links in one request: the end here raised, in its bridge and without ARP of its own, the other in the pod.
pub fn add_pair(pair: &Pair<'_>) -> Message {
    Message::new(NEW_LINK, CREATE | EXCL, &link_header(0, Raise::WithoutArp))
        .text(NAME, pair.name)
        .u32(MTU, pair.mtu)
        .u32(MASTER, pair.bridge)
        .nest(LINK_KIND, |kind| {
            kind.put(KIND, b"veth").nest(KIND_DETAIL, |detail| {
                detail.nest(VETH_PEER, |peer| {
                    peer.raw(&link_header(0, Raise::No))
                        .text(NAME, pair.pod_name)
                        .u32(MTU, pair.mtu)
                        .put(MAC, &pair.pod_mac)
                        .u32(NETNS_FD, pair.pod_netns)
                })
            })
        })
}

/// Gives a port of a bridge its alias, and lets what comes from it go back to it, where br_netfilter does address translation.
pub fn set_port(name: &str, alias: &str) -> Message {
    Message::new(NEW_LINK, 0, &link_header(0, Raise::No))
        .text(NAME, name)
        .put(ALIAS, alias.as_bytes())
        .nest(LINK_KIND, |kind| {
            kind.put(PORT_KIND, b"bridge").nest(PORT_DETAIL, |detail| detail.put(PORT_HAIRPIN, &[1]))
        })
}

/// Raises a link.
pub fn raise(index: u32) -> Message {
    Message::new(NEW_LINK, 0, &link_header(index, Raise::Yes))
}

/// Removes a link and, of a pair, the other end.
pub fn remove(name: &str) -> Message {
    Message::new(DELETE_LINK, 0, &link_header(0, Raise::No)).text(NAME, name)
}

/// Gives a link an address, usable at once.
pub fn add_address(link: u32, address: Prefixed) -> Message {
    let mut header = [family(address.ip), address.length, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&link.to_ne_bytes());
    let message = Message::new(NEW_ADDRESS, CREATE | REPLACE, &header).put(LOCAL, &octets(address.ip));
    message.put(ADDRESS, &octets(address.ip)).u32(ADDRESS_FLAGS, NODAD)
}

/// The default route of the gateway's family.
pub fn add_default_route(link: u32, gateway: IpAddr) -> Message {
    route(gateway, 0, UNIVERSE).u32(OUT_LINK, link).put(GATEWAY, &octets(gateway))
}

/// A route to one neighbour.
pub fn add_neighbour_route(link: u32, neighbour: IpAddr) -> Message {
    let bits = if neighbour.is_ipv4() { 32 } else { 128 };
    route(neighbour, bits, LINK_ONLY).u32(OUT_LINK, link).put(DESTINATION, &octets(neighbour))
}

/// `RT_SCOPE_*`
const UNIVERSE: u8 = 0;
const LINK_ONLY: u8 = 253;

fn route(of: IpAddr, bits: u8, scope: u8) -> Message {
    // Table main, protocol static, unicast.
    let header = [family(of), bits, 0, 0, 254, 4, scope, 1, 0, 0, 0, 0];
    Message::new(NEW_ROUTE, CREATE | REPLACE, &header)
}

/// The link of a name.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let question = Message::new(GET_LINK, 0, &link_header(0, Raise::No)).text(NAME, name);
    let mut found = None;
    match socket.ask(&question, |kind, payload| found = parse_link(kind, payload).or(found.take()))? {
        Ok(()) => Ok(found),
        Err(refusal) if refusal.errno == libc::ENODEV => Ok(None),
        Err(refusal) => Err(refusal.during(format!("look for network link {name}"))),
    }
}

/// All links.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>> {
    let mut all: Vec<Link> = Vec::new();
    let question = Message::new(GET_LINK, DUMP, &link_header(0, Raise::No));
    socket
        .ask(&question, |kind, payload| all.extend(parse_link(kind, payload)))?
        .map_err(|refusal| refusal.during("list network links"))?;
    all.dedup_by_key(|link| link.index);
    Ok(all)
}

/// The addresses of a link.
pub fn addresses(socket: &mut Socket, link: u32) -> Result<Vec<Prefixed>> {
    let mut all = Vec::new();
    let question = Message::new(GET_ADDRESS, DUMP, &[0; 8]);
    socket
        .ask(&question, |_, payload| {
            let rest = payload.get(8..).unwrap_or_default();
            let bytes = attribute(rest, LOCAL).or_else(|| attribute(rest, ADDRESS));
            let Some(ip) = bytes.and_then(ip_of) else { return };
            if u32_at(payload, 4) == Some(link) {
                all.push(Prefixed { ip, length: payload[1] });
            }
        })?
        .map_err(|refusal| refusal.during("list network addresses"))?;
    Ok(all)
}

/// All routes of both families, of all tables, but broadcasts and multicasts.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut header = [0; 12];
        header[0] = family;
        socket
            .ask(&Message::new(GET_ROUTE, DUMP, &header), |_, payload| all.extend(parse_route(payload)))?
            .map_err(|refusal| refusal.during("list routes"))?;
    }
    Ok(all)
}

fn parse_route(payload: &[u8]) -> Option<Route> {
    const UNICAST: u8 = 1;
    let (family, length, kind) = (*payload.first()?, *payload.get(1)?, *payload.get(7)?);
    let rest = payload.get(12..)?;
    let any = if i32::from(family) == libc::AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0u8; 16]) };
    let ip = attribute(rest, DESTINATION).and_then(ip_of).unwrap_or(any);
    let link = attribute(rest, OUT_LINK).and_then(|value| u32_at(value, 0)).unwrap_or(0);
    (kind <= UNICAST).then_some(Route { to: Prefixed { ip, length }, link })
}

fn parse_link(kind: u16, payload: &[u8]) -> Option<Link> {
    if kind != NEW_LINK {
        return None;
    }
    let rest = payload.get(16..)?;
    let number = |kind| attribute(rest, kind).and_then(|value| u32_at(value, 0)).unwrap_or(0);
    let words = |kind| attribute(rest, kind).map(text).unwrap_or_default();
    Some(Link {
        index: u32_at(payload, 4)?,
        name: words(NAME),
        alias: words(ALIAS),
        mtu: number(MTU),
        master: number(MASTER),
        up: u32_at(payload, 8)? & libc::IFF_UP as u32 != 0,
        kind: attribute(rest, LINK_KIND).and_then(|nest| attribute(nest, KIND)).map(text).unwrap_or_default(),
        counters: attribute(rest, STATS64).map(counters).unwrap_or_default(),
    })
}

fn counters(value: &[u8]) -> Counters {
    let mut numbers =
        value.chunks_exact(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()));
    let mut next = || numbers.next().unwrap_or(0);
    Counters {
        rx_packets: next(),
        tx_packets: next(),
        rx_bytes: next(),
        tx_bytes: next(),
        rx_errors: next(),
        tx_errors: next(),
        rx_dropped: next(),
        tx_dropped: next(),
    }
}

#[derive(Clone, Copy)]
enum Raise {
    Yes,
    WithoutArp,
    No,
}

/// `struct ifinfomsg`
fn link_header(index: u32, raise: Raise) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let flags = match raise {
        Raise::Yes => libc::IFF_UP,
        Raise::WithoutArp => libc::IFF_UP | libc::IFF_NOARP,
        Raise::No => 0,
    };
    // Which are set, and which are to be.
    header[8..12].copy_from_slice(&(flags as u32).to_ne_bytes());
    header[12..16].copy_from_slice(&(flags as u32).to_ne_bytes());
    header
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

/// The bytes of an address.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}
