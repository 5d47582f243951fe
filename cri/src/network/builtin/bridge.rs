//! The bridge that pods are joined to: found, or made with ranges that no route of the host touches; and the host's forwarding.
//! It does not know pods.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use super::super::config::Config;
use super::super::link::{self, Link, Prefixed, Route};
use super::super::socket::Socket;
use super::addresses::{LENGTH6, Ranges};
use super::{guard, settings};
use crate::error::{Context, Error, Kind, Result};

/// IPv4 ranges that are tried in order: none is the default of docker, podman, CRI-O, flannel, k3s or of Kubernetes' services.
const CANDIDATES: [[u8; 4]; 12] = [
    [10, 90, 0, 0],
    [10, 91, 0, 0],
    [10, 92, 0, 0],
    [10, 93, 0, 0],
    [10, 112, 0, 0],
    [10, 113, 0, 0],
    [10, 114, 0, 0],
    [10, 201, 0, 0],
    [10, 202, 0, 0],
    [172, 30, 0, 0],
    [172, 31, 0, 0],
    [100, 127, 0, 0],
];
const CANDIDATE_LENGTH: u8 = 16;

/// Where a packet's largest size is not known.
const DEFAULT_MTU: u32 = 1500;

/// A bridge that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// Its number.
    pub index: u32,
    /// Its largest packet, bytes.
    pub mtu: u32,
    /// Its ranges.
    pub ranges: Ranges,
}

/// Finds or makes the bridge, raised, with its addresses, the host forwarding for it. `kept`: the ranges that pods have already.
pub fn ready(config: &Config, kept: Option<Ranges>) -> Result<Bridge> {
    let mut socket = Socket::route()?;
    let name = config.bridge.as_str();
    let what = || format!("make bridge {name}");
    let found = link::find(&mut socket, name).what(what)?;
    if let Some(other) = found.as_ref().filter(|link| link.kind != "bridge") {
        let what = format!("network link {name} is no bridge but `{}`", other.kind);
        return Err(Error::new(Kind::Exists, what).cure("set cni.bridge to another name"));
    }
    let present = match &found {
        Some(link) => link::addresses(&mut socket, link.index).what(what)?,
        None => Vec::new(),
    };
    let routes = link::routes(&mut socket).what(what)?;
    let ranges = choose(config, kept, &present, &routes)?;
    let link = match found {
        Some(link) => link,
        None => make(&mut socket, config, &ranges, &routes).what(what)?,
    };
    // ORDER: before it is raised: what a pod advertises first would be believed already.
    settings::believe_nobody(name).what(what)?;
    // The address that the host looks for pods from, usable at once: the kernel would see to it for two seconds that nobody has it.
    let own = ranges.v6.map(|_| guard::link_local(mac(ranges.place(1).v4)));
    let own = own.map(|ip| Prefixed { ip: ip.into(), length: LENGTH6 });
    let missing = ranges.gateways().into_iter().chain(own).filter(|address| !present.contains(address));
    let mut requests: Vec<_> = missing.map(|address| link::add_address(link.index, address)).collect();
    requests.push(link::raise(link.index));
    socket.send(requests)?.map_err(|refusal| refusal.during("give it its addresses").during(what()))?;
    let links = link::links(&mut socket)?;
    let uplinks = uplinks(name, &links, &routes);
    settings::forward(name, ranges.v6.map(|_| uplinks.as_slice())).what(what)?;
    Ok(Bridge { index: link.index, mtu: link.mtu, ranges })
}

/// Links that lead to the world: hardware (which has no kind), and what is made of it.
const OUTER: [&str; 4] = ["", "bond", "team", "vlan"];

/// The host's ways out, which it may learn routes from: what is joined to a bridge is none, nor are bridges and links of anybody's containers
/// and machines (veth, tun, macvlan): without us the kernel would believe none of them as soon as it forwards.
fn uplinks<'a>(own: &str, links: &'a [Link], routes: &[Route]) -> Vec<&'a str> {
    let leads_out = |link: &Link| routes.iter().any(|route| route.to.length == 0 && route.link == link.index);
    let is_uplink = |link: &&Link| {
        link.master == 0
            && !matches!(link.name.as_str(), "lo" | "all" | "default")
            && link.name != own
            && (OUTER.contains(&link.kind.as_str()) || leads_out(link))
    };
    links.iter().filter(is_uplink).map(|link| link.name.as_str()).collect()
}

fn make(socket: &mut Socket, config: &Config, ranges: &Ranges, routes: &[Route]) -> Result<Link> {
    let uplink = routes.iter().find(|route| route.to.length == 0 && route.link != 0).map(|route| route.link);
    let all = link::links(socket)?;
    let mtu = all.iter().find(|link| Some(link.index) == uplink).map_or(DEFAULT_MTU, |link| link.mtu);
    let request = link::add_bridge(&config.bridge, mac(ranges.place(1).v4), mtu);
    match socket.send(vec![request])? {
        Err(refusal) if refusal.errno != libc::EEXIST => {
            let error = refusal.during(format!("add network link {}", config.bridge));
            return Err(error.cure("the kernel needs bridge and veth, the server CAP_NET_ADMIN"));
        }
        _ => {}
    }
    let made = link::find(socket, &config.bridge)?;
    made.ok_or_else(|| Error::internal(format!("network link {} was made and is not there", config.bridge)))
}

/// A hardware address that follows from the IPv4 address, so that neighbours that remember an address are never wrong.
pub fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The ranges: those that pods have, those of the bridge that is there, those of the configuration, or the first free.
fn choose(config: &Config, kept: Option<Ranges>, present: &[Prefixed], routes: &[Route]) -> Result<Ranges> {
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let (v4, length) = match (config.subnet.as_str(), own_range(present)) {
        ("auto", Some(range)) => range,
        ("auto", None) => free(routes)?,
        (text, own) => {
            let asked = parse4(text)?;
            if let Some((ip, length)) = own.filter(|own| *own != asked) {
                let what = format!("bridge {} has {ip}/{length}, cni.subnet is {text}", config.bridge);
                return Err(Error::new(Kind::Exists, what)
                    .cure("remove the bridge while no pod is there, or set cni.bridge"));
            }
            asked
        }
    };
    let v6 = match config.subnet6.as_str() {
        "none" => None,
        _ if !ipv6_enabled() => None,
        "auto" => Some(own_range6(present).unwrap_or_else(private6)),
        text => Some(parse6(text)?),
    };
    Ok(Ranges { v4, length, v6 })
}

fn own_range(present: &[Prefixed]) -> Option<(Ipv4Addr, u8)> {
    present.iter().find_map(|address| match address.ip {
        IpAddr::V4(ip) if (8..=29).contains(&address.length) => {
            Some((first(ip, address.length), address.length))
        }
        _ => None,
    })
}

fn own_range6(present: &[Prefixed]) -> Option<Ipv6Addr> {
    present.iter().find_map(|address| match address.ip {
        // fc00::/7: not the link's own address.
        IpAddr::V6(ip) if ip.octets()[0] & 0xfe == 0xfc && address.length == LENGTH6 => Some(first6(ip)),
        _ => None,
    })
}

fn first(ip: Ipv4Addr, length: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - u32::from(length))))
}

fn first6(ip: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(ip) >> 64 << 64)
}

fn free(routes: &[Route]) -> Result<(Ipv4Addr, u8)> {
    let touched = |ranges: &Ranges| {
        routes.iter().any(|route| match route.to.ip {
            IpAddr::V4(ip) => route.to.length != 0 && ranges.touches(ip, route.to.length),
            IpAddr::V6(_) => false,
        })
    };
    let candidates =
        CANDIDATES.map(|octets| Ranges { v4: octets.into(), length: CANDIDATE_LENGTH, v6: None });
    let free = candidates.into_iter().find(|ranges| !touched(ranges));
    free.map(|ranges| (ranges.v4, ranges.length)).ok_or_else(|| {
        let what = "choose an IPv4 range for pods: the host has routes into each that was tried";
        Error::new(Kind::Unavailable, what).cure("set cni.subnet to a range that nothing else uses")
    })
}

fn parse4(text: &str) -> Result<(Ipv4Addr, u8)> {
    let parsed = text.split_once('/').and_then(|(ip, length)| Some((ip.parse().ok()?, length.parse().ok()?)));
    match parsed {
        Some((ip, length @ 8..=29)) => Ok((first(ip, length), length)),
        _ => Err(Error::invalid(format!(
            "cni.subnet `{text}` is neither `auto` nor an IPv4 range with a prefix of 8–29 bits"
        ))),
    }
}

fn parse6(text: &str) -> Result<Ipv6Addr> {
    let parsed = text.strip_suffix("/64").and_then(|ip| ip.parse().ok());
    parsed.map(first6).ok_or_else(|| {
        Error::invalid(format!(
            "cni.subnet6 `{text}` is neither `auto`, `none` nor an IPv6 range with a prefix of 64 bits"
        ))
    })
}

/// RFC 4193's private range of this machine, the same at every start.
fn private6() -> Ipv6Addr {
    let id = fs::read("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::new().chain_update(b"rt-cri pod network\0").chain_update(&id).finalize();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&digest[..7]);
    octets.into()
}

fn ipv6_enabled() -> bool {
    let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    disabled.is_ok_and(|text| text.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        let (ip, length) = text.split_once('/').unwrap();
        Route { to: Prefixed { ip: ip.parse().unwrap(), length: length.parse().unwrap() }, link: 2 }
    }

    #[test]
    fn the_first_range_that_no_route_touches_is_chosen() {
        let default = route("0.0.0.0/0");
        assert_eq!(free(&[default]).unwrap().0.to_string(), "10.90.0.0");
        assert_eq!(
            free(&[default, route("10.90.3.0/24"), route("10.91.0.0/16")]).unwrap().0.to_string(),
            "10.92.0.0"
        );
        assert_eq!(free(&[route("10.0.0.0/8")]).unwrap().0.to_string(), "172.30.0.0");
        let all = [route("10.0.0.0/8"), route("172.16.0.0/12"), route("100.64.0.0/10")];
        assert!(free(&all).unwrap_err().to_string().contains("cni.subnet"));
    }

    #[test]
    fn the_bridge_that_is_there_keeps_its_range_and_another_configured_is_an_error() {
        let present = [Prefixed { ip: "10.77.3.1".parse().unwrap(), length: 20 }];
        let mut config = Config { subnet6: "none".to_owned(), ..Config::default() };
        let chosen = choose(&config, None, &present, &[]).unwrap();
        assert_eq!((chosen.v4.to_string(), chosen.length), ("10.77.0.0".to_owned(), 20));
        config.subnet = "10.78.0.0/16".to_owned();
        let error = choose(&config, None, &present, &[]).unwrap_err().to_string();
        assert!(error.contains("10.77.0.0/20") && error.contains("remove the bridge"), "{error}");
    }

    #[test]
    fn only_what_leads_out_is_an_uplink() {
        let link = |index, name: &str, kind: &str, master| Link {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            master,
            ..Link::default()
        };
        let links = [
            link(1, "lo", "", 0),
            link(2, "eth0", "", 0),
            link(3, "rt0", "bridge", 0),
            link(4, "rt-0123", "veth", 3),
            link(5, "docker0", "bridge", 0),
            link(6, "br0", "bridge", 0),
            link(7, "cali0123", "veth", 0),
            link(8, "tap0", "tun", 0),
            link(9, "bond0", "bond", 0),
            link(10, "uplink", "veth", 0),
        ];
        let default = |link| Route { to: Prefixed { ip: [0; 4].into(), length: 0 }, link };
        let found = uplinks("rt0", &links, &[default(6), default(10)]);
        assert_eq!(found, ["eth0", "br0", "bond0", "uplink"]);
    }

    #[test]
    fn wrong_ranges_are_named() {
        for text in ["", "10.0.0.0", "10.0.0.0/30", "10.0.0.0/0", "x/16"] {
            assert!(parse4(text).unwrap_err().to_string().contains(&format!("`{text}`")));
        }
        assert_eq!(parse4("10.7.9.9/16").unwrap(), ([10, 7, 0, 0].into(), 16));
        assert!(parse6("fd00::/48").is_err());
        assert_eq!(parse6("fd00:1:2:3:4::/64").unwrap().to_string(), "fd00:1:2:3::");
    }

    #[test]
    fn the_private_range_is_private_and_always_the_same() {
        assert_eq!(private6(), private6());
        assert_eq!(private6().octets()[0], 0xfd);
        assert_eq!(&private6().octets()[8..], [0; 8]);
    }
}
