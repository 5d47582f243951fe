//! What may come out of a pod: rules in the bridge's family, before the bridge does anything with a frame. A pod sends from its own
//! hardware address and IP addresses and from no others, in ARP and neighbour discovery too; what is neither IPv4, IPv6 nor ARP, such
//! as any tag of a VLAN, is dropped.
//!
//! The rules are the same for any number of pods: what is a pod's own is looked up in sets by the name of its port.

use std::net::{IpAddr, Ipv6Addr};

use super::super::link::octets;
use super::super::nft::{Family, Field, Hook, Is, Map, Part, Point, Rule, Table, Verdict, joined};
use super::super::wire::Message;
use super::entries::{Entry, LINKS, link_key};
use super::{Lease, bridge};

/// Frames of a port to all or to a group, a second.
const TO_ALL: u32 = 500;

const OWN: &str = "own";
const OWN6: &str = "own6";
const FLOODS: &str = "floods";

const SETS: [Map; 4] = [
    Map::set(LINKS, &[Part::Link]),
    Map::set(OWN, &[Part::Link, Part::Mac, Part::Ip]),
    Map::set(OWN6, &[Part::Link, Part::Mac, Part::Ip6]),
    Map { above: Some(TO_ALL), ..Map::set(FLOODS, &[Part::Link]) },
];

/// Ethernet's header.
const TO: Field = Field::Ethernet(0, 6);
const FROM: Field = Field::Ethernet(6, 6);
const KIND: Field = Field::Ethernet(12, 2);
/// The bit of addresses that are groups, and all.
const GROUP: [u8; 6] = [1, 0, 0, 0, 0, 0];

/// ARP's header: hardware, protocol and their lengths; the sender.
const ARP_KIND: Field = Field::Network(0, 6);
const ARP_MAC: Field = Field::Network(8, 6);
const ARP_IP: Field = Field::Network(14, 4);

const SOURCE: Field = Field::Network(12, 4);
const SOURCE6: Field = Field::Network(8, 16);

const IGMP: u8 = 2;

/// ICMPv6: its type, and whom neighbour discovery is about.
const ICMP6: u8 = 58;
const TYPE: Field = Field::Payload(0, 1);
const TARGET: Field = Field::Payload(8, 16);

/// What pods have to send of ICMPv6, besides neighbour discovery: errors, echo, their membership of groups. No router's words, no
/// questions of a group's querier.
const MESSAGES: [(u8, u8); 4] = [(1, 4), (128, 129), (131, 132), (143, 143)];
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Makes the table anew; `number` is that of its first set within the transaction.
pub fn rebuild(name: &str, number: u32) -> Vec<Message> {
    let table = Table { family: Family::Bridge, name };
    let mut batch = vec![table.add(), table.delete(), table.add()];
    batch.extend((number..).zip(SETS).map(|(number, set)| table.add_map(set, number)));
    let hook = |point| Some(Hook { kind: "filter", point, priority: -300 });
    for (chain, hook) in [
        ("guard", hook(Point::Prerouting)),
        ("reserved", hook(Point::Input)),
        ("pod", None),
        ("ip4", None),
        ("arp", None),
        ("ip6", None),
        ("icmp6", None),
    ] {
        batch.push(table.add_chain(chain, hook));
    }
    let mut rule = |chain, rule: Rule, verdict| batch.push(table.add_rule(chain, &rule.then(verdict)));
    let from_pod = || Rule::new().among(LINKS, Is::Same, &[Field::Link]);
    rule("guard", from_pod(), Verdict::Jump("pod"));
    // KERNEL: frames to 01:80:c2:00:00:00 to 0f don't go to the bridge but to its port, past `guard`, and would be taken there.
    let (reserved, mask) = ([0x01, 0x80, 0xc2, 0, 0, 0], [0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]);
    let on_port = Rule::new().bits(TO, &mask, Is::Same, &reserved).among(LINKS, Is::Same, &[Field::Link]);
    rule("reserved", on_port, Verdict::Drop);

    let flood = |rule: Rule| rule.among(FLOODS, Is::Same, &[Field::Link]);
    rule("pod", flood(Rule::new().bits(TO, &GROUP, Is::Other, &[0; 6])), Verdict::Drop);
    let kind = |number: u16| Rule::new().has(KIND, Is::Same, &number.to_be_bytes());
    rule("pod", kind(0x0800).among(OWN, Is::Same, &[Field::Link, FROM, SOURCE]), Verdict::Goto("ip4"));
    rule("pod", kind(0x86dd).among(OWN6, Is::Same, &[Field::Link, FROM, SOURCE6]), Verdict::Goto("ip6"));
    rule("pod", kind(0x0806), Verdict::Goto("arp"));
    rule("pod", Rule::new(), Verdict::Drop);

    // A querier's questions. No pod's address is in 224.0.0.0/4, nor does the bridge ask: what they say of groups is for nobody.
    rule("ip4", Rule::new().has(Field::Transport, Is::Same, &[IGMP]), Verdict::Drop);
    rule("ip4", Rule::new(), Verdict::Accept);

    rule("arp", flood(Rule::new().bits(TO, &GROUP, Is::Same, &[0; 6])), Verdict::Drop);
    let ethernet_and_ip = Rule::new().has(ARP_KIND, Is::Same, &[0, 1, 8, 0, 6, 4]);
    let sender = ethernet_and_ip.among(OWN, Is::Same, &[Field::Link, ARP_MAC, ARP_IP]);
    rule("arp", sender.among(OWN, Is::Same, &[Field::Link, FROM, ARP_IP]), Verdict::Accept);
    rule("arp", Rule::new(), Verdict::Drop);

    rule("ip6", Rule::new().has(Field::Transport, Is::Other, &[ICMP6]), Verdict::Accept);
    rule("ip6", Rule::new().has(Field::Transport, Is::Same, &[ICMP6]), Verdict::Goto("icmp6"));
    // Headers that hide in a later fragment what they lead to.
    rule("ip6", Rule::new(), Verdict::Drop);

    // What follows a first fragment, which passed or did not.
    let (place, later) = ([0xff, 0xf8], [0, 0]);
    rule("icmp6", Rule::new().bits(Field::FragmentPlace, &place, Is::Other, &later), Verdict::Accept);
    for (first, last) in MESSAGES {
        rule("icmp6", Rule::new().within(TYPE, first, last), Verdict::Accept);
    }
    // RFC 6980: neighbour discovery has no fragments.
    rule("icmp6", Rule::new().has(Field::Fragment, Is::Same, &[1]), Verdict::Drop);
    rule("icmp6", Rule::new().has(TYPE, Is::Same, &[SOLICITATION]), Verdict::Accept);
    let about_itself = Rule::new().has(TYPE, Is::Same, &[ADVERTISEMENT]);
    rule("icmp6", about_itself.among(OWN6, Is::Same, &[Field::Link, FROM, TARGET]), Verdict::Accept);
    rule("icmp6", Rule::new(), Verdict::Drop);
    batch
}

/// What is a pod's own.
pub fn entries(lease: &Lease) -> impl Iterator<Item = Entry> {
    let mac = bridge::mac(lease.place.v4);
    let link = link_key(&lease.link);
    let own = |ip: IpAddr| Entry {
        table: Family::Bridge,
        map: if ip.is_ipv4() { OWN } else { OWN6 },
        key: joined(&[&link, &mac, &octets(ip)]),
        value: Vec::new(),
    };
    let mut all: Vec<Entry> = lease.place.ips().into_iter().map(own).collect();
    if lease.place.v6.is_some() {
        all.push(own(link_local(mac).into()));
    }
    all.push(Entry { table: Family::Bridge, map: FLOODS, key: link, value: Vec::new() });
    all.into_iter()
}

/// The address within its link that follows from a hardware address (RFC 4291, EUI-64).
pub fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_follows_from_the_hardware_address() {
        assert_eq!(link_local([0x0a, 0x58, 10, 90, 0, 2]).to_string(), "fe80::858:aff:fe5a:2");
    }
}
