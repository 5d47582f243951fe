//! Which addresses are taken: numbers within the IPv4 range, from which both addresses of a pod are made. Memory only; what
//! survives is in the pods' records.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::super::link::Prefixed;
use crate::error::{Error, Kind, Result};

/// The ranges of the bridge. The bridge's own address is the first of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// The first address of the IPv4 range.
    pub v4: Ipv4Addr,
    /// The length of its prefix, 8–29.
    pub length: u8,
    /// The first address of the IPv6 range, whose prefix has 64 bits.
    pub v6: Option<Ipv6Addr>,
}

/// Bits of the IPv6 range's prefix.
pub const LENGTH6: u8 = 64;

/// One pod's place in the ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Place {
    /// All of them, IPv4 first.
    pub fn ips(&self) -> Vec<IpAddr> {
        std::iter::once(self.v4.into()).chain(self.v6.map(IpAddr::from)).collect()
    }
}

impl Ranges {
    /// How many numbers there are, with those of network and broadcast.
    pub fn size(&self) -> u32 {
        1 << (32 - u32::from(self.length))
    }

    /// The addresses of a number.
    pub fn place(&self, number: u32) -> Place {
        Place {
            v4: Ipv4Addr::from(u32::from(self.v4) + number),
            v6: self.v6.map(|first| Ipv6Addr::from(u128::from(first) + u128::from(number))),
        }
    }

    /// The number of an IPv4 address, if it is within the range.
    pub fn number(&self, ip: Ipv4Addr) -> Option<u32> {
        u32::from(ip).checked_sub(u32::from(self.v4)).filter(|number| *number < self.size())
    }

    /// The addresses of the bridge, IPv4 first.
    pub fn gateways(&self) -> Vec<Prefixed> {
        self.place(1).ips().into_iter().map(|ip| self.prefixed(ip)).collect()
    }

    /// An address with the prefix of its range.
    pub fn prefixed(&self, ip: IpAddr) -> Prefixed {
        Prefixed { ip, length: if ip.is_ipv4() { self.length } else { LENGTH6 } }
    }

    /// Whether the IPv4 range and another share addresses.
    pub fn touches(&self, other: Ipv4Addr, length: u8) -> bool {
        let bits = u32::from(length.min(self.length));
        let network = |ip: Ipv4Addr| u64::from(u32::from(ip)) >> (32 - bits);
        network(self.v4) == network(other)
    }
}

/// What is taken.
#[derive(Debug, Default)]
pub struct Pool {
    taken: HashSet<u32>,
    last: u32,
}

impl Pool {
    /// Marks an address as taken, one that a record names.
    pub fn mark(&mut self, ranges: &Ranges, place: Place) {
        if let Some(number) = ranges.number(place.v4) {
            self.taken.insert(number);
            self.last = self.last.max(number);
        }
    }

    /// Takes the next free place. A place given back is used again only after all others, so that peers forget it first.
    pub fn take(&mut self, ranges: &Ranges) -> Result<Place> {
        let usable = 2..ranges.size() - 1;
        let start = self.last.max(1) + 1;
        let number =
            (start..usable.end).chain(2..start.min(usable.end)).find(|number| !self.taken.contains(number));
        let number = number.ok_or_else(|| {
            let what = format!("all {} addresses of {}/{} are taken", usable.len(), ranges.v4, ranges.length);
            Error::new(Kind::Unavailable, what)
                .cure("set cni.subnet to a larger range, and remove the bridge")
        })?;
        self.taken.insert(number);
        self.last = number;
        Ok(ranges.place(number))
    }

    /// Gives a place back.
    pub fn give_back(&mut self, ranges: &Ranges, place: Place) {
        if let Some(number) = ranges.number(place.v4) {
            self.taken.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(length: u8) -> Ranges {
        Ranges { v4: [10, 90, 0, 0].into(), length, v6: Some("fd00:1::".parse().unwrap()) }
    }

    #[test]
    fn places_go_round_and_the_full_range_is_an_error() {
        let ranges = ranges(29);
        let mut pool = Pool::default();
        let all: Vec<Place> = (0..5).map(|_| pool.take(&ranges).unwrap()).collect();
        assert_eq!(all[0].ips(), ["10.90.0.2".parse::<IpAddr>().unwrap(), "fd00:1::2".parse().unwrap()]);
        assert_eq!(all[4].v4.to_string(), "10.90.0.6");
        assert!(pool.take(&ranges).unwrap_err().to_string().contains("all 5 addresses of 10.90.0.0/29"));
        pool.give_back(&ranges, all[1]);
        assert_eq!(pool.take(&ranges).unwrap(), all[1]);
    }

    #[test]
    fn a_place_given_back_is_not_the_next() {
        let ranges = ranges(16);
        let mut pool = Pool::default();
        let first = pool.take(&ranges).unwrap();
        pool.give_back(&ranges, first);
        assert_ne!(pool.take(&ranges).unwrap(), first);
        pool.mark(&ranges, ranges.place(65534));
        assert_eq!(pool.take(&ranges).unwrap(), first, "after the last comes the first");
    }

    #[test]
    fn ranges_touch_when_one_holds_the_other() {
        let ranges = ranges(16);
        assert!(ranges.touches([10, 90, 7, 0].into(), 24));
        assert!(ranges.touches([10, 0, 0, 0].into(), 8));
        assert!(!ranges.touches([10, 91, 0, 0].into(), 16));
    }
}
