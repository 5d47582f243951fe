//! nf_tables over netlink: tables, chains, sets, rules and their expressions as messages. It has no policy.
//!
//! By netlink and not by the program `nft`: no program has to be installed, and a change costs microseconds.

mod rule;

pub use self::rule::{Field, Is, Rule, Side, Verdict};
use super::wire::{APPEND, CREATE, DUMP, Message, attribute, attributes};

/// The families that rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Both kinds of IP.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// What bridges pass on.
    Bridge,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

/// Where a chain is hooked in.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Which hook of the packet's way.
    pub point: Point,
    /// Before those of a higher number.
    pub priority: i32,
}

/// The hooks of a packet's way.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Point {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A map's types, as `nft list` needs them, and its sizes.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// Its name.
    pub name: &'static str,
    /// The parts of its keys.
    pub key: &'static [Part],
    /// The parts of its values; none: it is a set.
    pub value: &'static [Part],
    /// A set's: only what comes more often than so many times a second matches, each entry for itself.
    pub above: Option<u32>,
}

impl Map {
    /// A set.
    pub const fn set(name: &'static str, key: &'static [Part]) -> Self {
        Self { name, key, value: &[], above: None }
    }
}

/// One part of a key or a value, each in four bytes or a multiple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An IPv4 address.
    Ip,
    /// An IPv6 address.
    Ip6,
    /// The number of a transport protocol.
    Protocol,
    /// A port.
    Service,
    /// The name of a link.
    Link,
    /// A hardware address.
    Mac,
}

impl Part {
    /// nft's number of the type.
    fn number(self) -> u32 {
        match self {
            Self::Ip => 7,
            Self::Ip6 => 8,
            Self::Mac => 9,
            Self::Protocol => 12,
            Self::Service => 13,
            Self::Link => 41,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Ip6 | Self::Link => 16,
            Self::Mac => 8,
            Self::Ip | Self::Protocol | Self::Service => 4,
        }
    }
}

const SUBSYSTEM: u16 = 10 << 8;
/// A message's types.
pub const NEW_CHAIN: u16 = SUBSYSTEM | 3;
/// See [`NEW_CHAIN`].
pub const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

fn request(table: Table<'_>, kind: u16, flags: u16) -> Message {
    let family = match table.family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Ip6 => 10,
        Family::Bridge => 7,
    };
    // Every object's first attribute is the name of its table.
    Message::new(kind, flags, &[family, 0, 0, 0]).text(1, table.name)
}

impl Table<'_> {
    /// Makes the table, if it is not there.
    pub fn add(self) -> Message {
        request(self, NEW_TABLE, CREATE)
    }

    /// Removes it with all that is in it.
    pub fn delete(self) -> Message {
        request(self, DELETE_TABLE, 0)
    }

    /// Asks whether it is there.
    pub fn get(self) -> Message {
        request(self, GET_TABLE, 0)
    }

    /// Makes a chain; without a hook one to jump to.
    pub fn add_chain(self, name: &str, hook: Option<Hook>) -> Message {
        let message = request(self, NEW_CHAIN, CREATE).text(3, name);
        let Some(hook) = hook else { return message };
        message
            .nest(4, |nest| nest.be32(1, hook.point as u32).be32(2, hook.priority as u32))
            .text(7, hook.kind)
    }

    /// Asks for a chain.
    pub fn get_chain(self, name: &str) -> Message {
        request(self, GET_CHAIN, 0).text(3, name)
    }

    /// Asks for the rules of a chain.
    pub fn get_rules(self, chain: &str) -> Message {
        request(self, GET_RULE, DUMP).text(2, chain)
    }

    /// Appends a rule to a chain.
    pub fn add_rule(self, chain: &str, rule: &Rule) -> Message {
        let message = request(self, NEW_RULE, CREATE | APPEND).text(2, chain).nest(4, |list| {
            rule.expressions.iter().fold(list, |list, expression| {
                list.nest(1, |nest| {
                    let nest = nest.text(1, expression.name);
                    nest.nest(2, |detail| (expression.fill)(detail))
                })
            })
        });
        match &rule.comment {
            // A list of type, length and value; 0 is a comment.
            Some(comment) => {
                let mut note = vec![0, comment.len() as u8 + 1];
                note.extend_from_slice(comment.as_bytes());
                note.push(0);
                message.put(7, &note)
            }
            None => message,
        }
    }

    /// Makes a map or a set; `number` is its own within the transaction.
    pub fn add_map(self, map: Map, number: u32) -> Message {
        const EVALUATED: u32 = 0x20;
        const MAP: u32 = 8;
        let joined = |parts: &[Part]| parts.iter().fold(0, |all, part| all << 6 | part.number());
        let length = |parts: &[Part]| parts.iter().map(|part| part.length()).sum();
        let kind = if map.value.is_empty() { 0 } else { MAP };
        let message = request(self, NEW_SET, CREATE)
            .text(2, map.name)
            .be32(3, kind | if map.above.is_some() { EVALUATED } else { 0 })
            .be32(4, joined(map.key))
            .be32(5, length(map.key))
            .be32(10, number);
        let message = match map.value {
            [] => message,
            value => message.be32(6, joined(value)).be32(7, length(value)),
        };
        let Some(rate) = map.above else { return message };
        // KERNEL 5.7: each entry of a set has a limit of its own.
        message.nest(17, |limit| {
            limit.text(1, "limit").nest(2, |detail| {
                const ABOVE: u32 = 1;
                detail.be64(1, rate.into()).be64(2, 1).be32(3, 2 * rate).be32(4, 0).be32(5, ABOVE)
            })
        })
    }

    /// Adds entries to a map; one that is there with another value is refused.
    pub fn add_entries(self, map: &str, entries: &[(Vec<u8>, Vec<u8>)]) -> Message {
        request(self, NEW_ELEMENT, CREATE).text(2, map).nest(3, |list| {
            entries.iter().fold(list, |list, (key, value)| {
                list.nest(1, |entry| {
                    let entry = entry.nest(1, |nest| nest.put(1, key));
                    if value.is_empty() { entry } else { entry.nest(2, |nest| nest.put(1, value)) }
                })
            })
        })
    }

    /// Asks for the entries of a map.
    pub fn get_entries(self, map: &str) -> Message {
        request(self, GET_ELEMENT, DUMP).text(2, map)
    }

    /// Removes entries of a map; one that is not there is refused.
    pub fn delete_entries(self, map: &str, entries: &[(Vec<u8>, Vec<u8>)]) -> Message {
        request(self, DELETE_ELEMENT, 0).text(2, map).nest(3, |list| {
            entries
                .iter()
                .fold(list, |list, (key, _)| list.nest(1, |entry| entry.nest(1, |nest| nest.put(1, key))))
        })
    }
}

/// The entries of an answer to [`Table::get_entries`].
pub fn entries(payload: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let list = payload.get(4..).and_then(|rest| attribute(rest, 3)).unwrap_or_default();
    attributes(list).filter_map(|(_, entry)| {
        let key = attribute(attribute(entry, 1)?, 1)?;
        Some((key, attribute(entry, 2).and_then(|value| attribute(value, 1)).unwrap_or_default()))
    })
}

/// A key or value of a map: each part on a multiple of four bytes.
pub fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_keys_stand_on_multiples_of_four() {
        assert_eq!(joined(&[&[10, 0, 0, 1], &[6], &[0, 80]]), [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
    }
}
