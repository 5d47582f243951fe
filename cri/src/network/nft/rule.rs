//! One rule of nf_tables: expressions that load, compare and act.

use std::net::IpAddr;

use super::super::link::octets;
use super::super::wire::Message;
use super::Part;

/// A rule: expressions in order; the first that does not hold ends it.
#[derive(Default)]
pub struct Rule {
    pub(super) expressions: Vec<Expression>,
    pub(super) comment: Option<String>,
}

pub(super) struct Expression {
    pub(super) name: &'static str,
    pub(super) fill: Box<dyn Fn(Message) -> Message>,
}

/// What a rule does with a packet in the end.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// Lets it pass this chain.
    Accept,
    /// Drops it.
    Drop,
    /// Goes on in another chain, then here.
    Jump(&'static str),
}

/// What is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Is {
    /// The same.
    Same = 0,
    /// Anything else.
    Other = 1,
}

/// The side of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it is from.
    Source,
    /// Where it goes.
    Destination,
}

/// Registers: 16 of four bytes; an IPv4 address takes one, an IPv6 address four.
const FIRST: u32 = 8;
/// Where values out of maps go: after the longest key.
const VALUES: u32 = 16;

impl Rule {
    /// An empty rule.
    pub fn new() -> Self {
        Self::default()
    }

    /// A note that `nft list` shows, and by which the rule is found again.
    #[must_use]
    pub fn comment(mut self, comment: String) -> Self {
        self.comment = Some(comment);
        self
    }

    fn with(mut self, name: &'static str, fill: impl Fn(Message) -> Message + 'static) -> Self {
        self.expressions.push(Expression { name, fill: Box::new(fill) });
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.with("meta", move |nest| nest.be32(2, key).be32(1, register))
    }

    fn compare(self, is: Is, value: Vec<u8>) -> Self {
        self.with("cmp", move |nest| {
            nest.be32(1, FIRST).be32(2, is as u32).nest(3, |nest| nest.put(1, &value))
        })
    }

    fn load(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        self.with("payload", move |nest| nest.be32(1, register).be32(2, base).be32(3, offset).be32(4, length))
    }

    /// Packets that came in (source) or go out (destination) over a link.
    #[must_use]
    pub fn link(self, side: Side, is: Is, name: &str) -> Self {
        let key = if side == Side::Source { 6 } else { 7 };
        // The whole name with its NUL: a prefix would match other links.
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        self.meta(key, FIRST).compare(is, value)
    }

    /// Frames that came in over a link whose name begins so.
    #[must_use]
    pub fn links(self, prefix: &str) -> Self {
        self.meta(6, FIRST).compare(Is::Same, prefix.as_bytes().to_vec())
    }

    /// Messages of ICMPv6 of a type, in frames of any family.
    #[must_use]
    pub fn icmp6(self, kind: u8) -> Self {
        const ETHER: [u8; 2] = [0x86, 0xdd];
        const ICMP6: u8 = 58;
        let rule = self.meta(1, FIRST).compare(Is::Same, ETHER.to_vec());
        rule.meta(16, FIRST).compare(Is::Same, vec![ICMP6]).load(2, 0, 1, FIRST).compare(Is::Same, vec![kind])
    }

    /// Packets of IPv4, or IPv6.
    #[must_use]
    pub fn protocol_of(self, ip: IpAddr) -> Self {
        let number = if ip.is_ipv4() { 2 } else { 10 };
        self.meta(15, FIRST).compare(Is::Same, vec![number])
    }

    /// Packets from or to a network.
    #[must_use]
    pub fn network(self, side: Side, is: Is, network: IpAddr, prefix: u8) -> Self {
        let length = if network.is_ipv4() { 4 } else { 16 };
        let mask = mask(length as usize, prefix);
        let value: Vec<u8> = octets(network).iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        let rule = self.protocol_of(network).load_address(side, network, FIRST);
        let rule = rule.with("bitwise", move |nest| {
            nest.be32(1, FIRST)
                .be32(2, FIRST)
                .be32(3, length)
                .nest(4, |nest| nest.put(1, &mask))
                .nest(5, |nest| nest.put(1, &vec![0; length as usize]))
        });
        rule.compare(is, value)
    }

    fn load_address(self, side: Side, of: IpAddr, register: u32) -> Self {
        let (offset, length) = match (of.is_ipv4(), side) {
            (true, Side::Source) => (12, 4),
            (true, Side::Destination) => (16, 4),
            (false, Side::Source) => (8, 16),
            (false, Side::Destination) => (24, 16),
        };
        self.load(1, offset, length, register)
    }

    /// Packets to an address of this host.
    #[must_use]
    pub fn for_this_host(self) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        self.with("fib", |nest| nest.be32(1, FIRST).be32(2, ADDRESS_TYPE).be32(3, OF_DESTINATION))
            .compare(Is::Same, LOCAL.to_ne_bytes().to_vec())
    }

    /// Packets whose source is not reached by the link that they came in over.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        const LINK: u32 = 1;
        const OF_SOURCE_BY_SAME_LINK: u32 = 1 | 8;
        self.with("fib", |nest| nest.be32(1, FIRST).be32(2, LINK).be32(3, OF_SOURCE_BY_SAME_LINK))
            .compare(Is::Same, vec![0; 4])
    }

    /// Packets of connections whose destination was translated.
    #[must_use]
    pub fn translated(self) -> Self {
        const STATUS: u32 = 2;
        const DESTINATION_TRANSLATED: u32 = 0x20;
        self.with("ct", |nest| nest.be32(2, STATUS).be32(1, FIRST))
            .with("bitwise", |nest| {
                nest.be32(1, FIRST)
                    .be32(2, FIRST)
                    .be32(3, 4)
                    .nest(4, |nest| nest.put(1, &DESTINATION_TRANSLATED.to_ne_bytes()))
                    .nest(5, |nest| nest.put(1, &[0; 4]))
            })
            .compare(Is::Other, vec![0; 4])
    }

    /// Sends the packet where a map says for its (destination address,) protocol and destination port.
    #[must_use]
    pub fn redirect(self, map: &'static str, key: &[Part], family: IpAddr) -> Self {
        let mut rule = self.protocol_of(family);
        let mut register = FIRST;
        for part in key {
            rule = match part {
                Part::Ip | Part::Ip6 => rule.load_address(Side::Destination, family, register),
                Part::Protocol => rule.meta(16, register),
                Part::Service => rule.load(2, 2, 2, register),
            };
            register += part.length() / 4;
        }
        let (number, words) = if family.is_ipv4() { (2, 1) } else { (10, 4) };
        rule.with("lookup", move |nest| nest.text(1, map).be32(2, FIRST).be32(3, VALUES)).with(
            "nat",
            move |nest| {
                const TO_DESTINATION: u32 = 1;
                nest.be32(1, TO_DESTINATION).be32(2, number).be32(3, VALUES).be32(5, VALUES + words)
            },
        )
    }

    /// Gives the packet the address of the link that it leaves by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.with("masq", |nest| nest)
    }

    /// Counts packets, as iptables does in each of its rules.
    #[must_use]
    pub fn count(self) -> Self {
        self.with("counter", |nest| nest)
    }

    /// Ends the rule.
    #[must_use]
    pub fn then(self, verdict: Verdict) -> Self {
        let (code, chain): (i32, _) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
        };
        self.with("immediate", move |nest| {
            nest.be32(1, 0).nest(2, |nest| {
                nest.nest(2, |nest| {
                    let nest = nest.be32(1, code as u32);
                    match chain {
                        Some(chain) => nest.text(2, chain),
                        None => nest,
                    }
                })
            })
        })
    }
}

fn mask(length: usize, prefix: u8) -> Vec<u8> {
    (0..length)
        .map(|index| match usize::from(prefix).saturating_sub(index * 8) {
            0 => 0,
            bits @ 1..8 => 0xff << (8 - bits),
            _ => 0xff,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_end_within_a_byte() {
        assert_eq!(mask(4, 16), [255, 255, 0, 0]);
        assert_eq!(mask(4, 20), [255, 255, 240, 0]);
        assert_eq!(mask(4, 0), [0; 4]);
        assert_eq!(mask(4, 32), [255; 4]);
    }
}
