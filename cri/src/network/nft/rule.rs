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
    /// Goes on in another chain, and not here again.
    Goto(&'static str),
}

/// Something of a frame or packet that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The link that it came in over.
    Link,
    /// The transport protocol, after all headers of IPv6. Nothing is the same as one that can't be found.
    Transport,
    /// 1 if it has IPv6's header of fragments, else 0.
    Fragment,
    /// 16 bits of that header: where the fragment belongs (all but the last three).
    FragmentPlace,
    /// So many bytes from there of its Ethernet header; tags of VLANs are part of it.
    Ethernet(u32, u32),
    /// Of its IP or ARP header.
    Network(u32, u32),
    /// Of its transport header; what is not its first fragment has none.
    Payload(u32, u32),
}

impl Field {
    /// Registers that it takes.
    fn registers(self) -> u32 {
        match self {
            Self::Link => 4,
            Self::Transport | Self::Fragment | Self::FragmentPlace => 1,
            Self::Ethernet(_, length) | Self::Network(_, length) | Self::Payload(_, length) => {
                length.div_ceil(4)
            }
        }
    }
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

    fn field(self, field: Field, register: u32) -> Self {
        // The header of fragments has the number 44 and 8 bytes.
        let extension = |rule: Self, offset, length, flags| {
            rule.with("exthdr", move |nest| {
                nest.be32(1, register).put(2, &[44]).be32(3, offset).be32(4, length).be32(5, flags)
            })
        };
        match field {
            Field::Link => self.meta(6, register),
            Field::Transport => self.meta(16, register),
            Field::Fragment => extension(self, 0, 1, 1),
            Field::FragmentPlace => extension(self, 2, 2, 0),
            Field::Ethernet(offset, length) => self.load(0, offset, length, register),
            Field::Network(offset, length) => self.load(1, offset, length, register),
            Field::Payload(offset, length) => self.load(2, offset, length, register),
        }
    }

    /// What has these bytes there, or has others.
    #[must_use]
    pub fn has(self, field: Field, is: Is, value: &[u8]) -> Self {
        self.field(field, FIRST).compare(is, value.to_vec())
    }

    /// The same of the bits of a mask.
    #[must_use]
    pub fn bits(self, field: Field, mask: &[u8], is: Is, value: &[u8]) -> Self {
        self.field(field, FIRST).mask(mask.to_vec()).compare(is, value.to_vec())
    }

    /// What has a byte within a range there.
    #[must_use]
    pub fn within(self, field: Field, from: u8, to: u8) -> Self {
        self.field(field, FIRST).with("range", move |nest| {
            let nest = nest.be32(1, FIRST).be32(2, Is::Same as u32);
            nest.nest(3, |nest| nest.put(1, &[from])).nest(4, |nest| nest.put(1, &[to]))
        })
    }

    /// What has fields that a set has together, or has not.
    #[must_use]
    pub fn among(self, set: &'static str, is: Is, fields: &[Field]) -> Self {
        let mut rule = self;
        let mut register = FIRST;
        for field in fields {
            rule = rule.field(*field, register);
            register += field.registers();
        }
        rule.with("lookup", move |nest| nest.text(1, set).be32(2, FIRST).be32(5, is as u32))
    }

    fn mask(self, mask: Vec<u8>) -> Self {
        self.with("bitwise", move |nest| {
            nest.be32(1, FIRST)
                .be32(2, FIRST)
                .be32(3, mask.len() as u32)
                .nest(4, |nest| nest.put(1, &mask))
                .nest(5, |nest| nest.put(1, &vec![0; mask.len()]))
        })
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
        let mask = mask(if network.is_ipv4() { 4 } else { 16 }, prefix);
        let value: Vec<u8> = octets(network).iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        self.protocol_of(network).load_address(side, network, FIRST).mask(mask).compare(is, value)
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
            .mask(DESTINATION_TRANSLATED.to_ne_bytes().to_vec())
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
                Part::Link => rule.field(Field::Link, register),
                Part::Mac => rule.field(Field::Ethernet(0, 6), register),
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

    /// Refuses the packet: its sender is told that there is no such host.
    #[must_use]
    pub fn unreachable(self) -> Self {
        const OF_EITHER_FAMILY: u32 = 2;
        const NO_HOST: u8 = 2;
        self.with("reject", |nest| nest.be32(1, OF_EITHER_FAMILY).put(2, &[NO_HOST]))
    }

    /// Ends the rule.
    #[must_use]
    pub fn then(self, verdict: Verdict) -> Self {
        let (code, chain): (i32, _) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
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
