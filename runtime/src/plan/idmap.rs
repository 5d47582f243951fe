//! Mappings of user and group ids: checked for overlaps and size, and written as the kernel reads them.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec::IdMapping;

/// KERNEL: user_namespaces(7), since 4.15.
const MOST_LINES: usize = 340;

/// A pair of mappings, neither of them empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdMap {
    /// Lines of /proc/PID/uid_map.
    pub uids: Vec<IdMapping>,
    /// Lines of /proc/PID/gid_map.
    pub gids: Vec<IdMapping>,
}

impl IdMap {
    /// Checks a pair; `place` is where it stands in the config.
    pub fn plan(place: &str, uids: &[IdMapping], gids: &[IdMapping]) -> Result<Option<Self>> {
        match (uids.is_empty(), gids.is_empty()) {
            (true, true) => return Ok(None),
            (false, false) => {}
            _ => {
                return Err(Error::invalid(format!(
                    "{place}: uidMappings and gidMappings must be given together or not at all"
                )));
            }
        }
        check(&format!("{place}.uidMappings"), uids)?;
        check(&format!("{place}.gidMappings"), gids)?;
        Ok(Some(Self { uids: uids.to_vec(), gids: gids.to_vec() }))
    }

    /// The host's id for one of the container's.
    pub fn host_uid(&self, id: u32) -> Option<u32> {
        to_host(&self.uids, id)
    }

    /// The host's id for one of the container's.
    pub fn host_gid(&self, id: u32) -> Option<u32> {
        to_host(&self.gids, id)
    }
}

/// The id of a user or group. CVE-2024-40635: KERNEL: 4294967295 is -1, which setresuid(2), setresgid(2) and chown(2) take for "as it is".
pub fn id(place: &str, id: u32) -> Result<u32> {
    if id == u32::MAX {
        return Err(Error::invalid(format!("{place} {id} is nobody's")).cure("ids go up to 4294967294"));
    }
    Ok(id)
}

/// The lines of uid_map or gid_map.
pub fn lines(mappings: &[IdMapping]) -> String {
    let mut text = String::new();
    for map in mappings {
        text += &format!("{} {} {}\n", map.container_id, map.host_id, map.size);
    }
    text
}

/// The mapping of a namespace around the container's: the user is 0, what else the container's mapping has comes after.
pub fn around(mappings: &[IdMapping], own: u32) -> Vec<IdMapping> {
    let mut all = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1;
    for mapping in mappings {
        let (first, end) = (mapping.host_id, mapping.host_id.saturating_add(mapping.size));
        let parts =
            if (first..end).contains(&own) { vec![(first, own), (own + 1, end)] } else { vec![(first, end)] };
        for (from, to) in parts.into_iter().filter(|(from, to)| from < to) {
            all.push(IdMapping { container_id: next, host_id: from, size: to - from });
            next += to - from;
        }
    }
    all
}

/// A mapping of outer ids as one of the ids that they have inside; an id that is not there is left out, and found missing later.
pub fn within(mapping: &IdMapping, table: &[IdMapping]) -> Vec<IdMapping> {
    let (first, end) = (mapping.host_id, mapping.host_id.saturating_add(mapping.size));
    let parts = table.iter().filter_map(|line| {
        let from = first.max(line.host_id);
        let to = end.min(line.host_id.saturating_add(line.size));
        (from < to).then(|| IdMapping {
            container_id: mapping.container_id + (from - first),
            host_id: line.container_id + (from - line.host_id),
            size: to - from,
        })
    });
    parts.collect()
}

/// What [`lines`] writes, and the kernel shows.
pub fn read(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
        Some(IdMapping { container_id: numbers.next()?, host_id: numbers.next()?, size: numbers.next()? })
    };
    text.lines().filter_map(line).collect()
}

fn to_host(mappings: &[IdMapping], id: u32) -> Option<u32> {
    let map = mappings.iter().find(|map| id >= map.container_id && id - map.container_id < map.size)?;
    Some(map.host_id + (id - map.container_id))
}

fn check(place: &str, mappings: &[IdMapping]) -> Result<()> {
    if mappings.len() > MOST_LINES {
        return Err(Error::invalid(format!(
            "{place}: {} entries, the kernel takes {MOST_LINES}",
            mappings.len()
        )));
    }
    for (at, map) in mappings.iter().enumerate() {
        if map.size == 0 {
            return Err(Error::invalid(format!("{place}[{at}]: size is 0")));
        }
        if map.container_id.checked_add(map.size).is_none() || map.host_id.checked_add(map.size).is_none() {
            return Err(Error::invalid(format!("{place}[{at}]: the range ends beyond 4294967295")));
        }
        for (before, other) in mappings[..at].iter().enumerate() {
            let meet = |a: u32, b: u32| a < b + other.size && b < a + map.size;
            if meet(map.container_id, other.container_id) {
                return Err(Error::invalid(format!(
                    "{place}[{at}] and [{before}] overlap in their containerIDs"
                )));
            }
            if meet(map.host_id, other.host_id) {
                return Err(Error::invalid(format!("{place}[{at}] and [{before}] overlap in their hostIDs")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn a_good_map_translates_and_prints() {
        let maps = [map(0, 100_000, 10), map(10, 5, 1)];
        let both = IdMap::plan("linux", &maps, &maps).unwrap().unwrap();
        assert_eq!(both.host_uid(3), Some(100_003));
        assert_eq!(both.host_gid(10), Some(5));
        assert_eq!(both.host_uid(11), None);
        assert_eq!(lines(&maps), "0 100000 10\n10 5 1\n");
    }

    #[test]
    fn mistakes_name_the_entries() {
        for (maps, message) in [
            (vec![map(0, 0, 0)], "linux.uidMappings[0]: size is 0"),
            (vec![map(0, u32::MAX, 2)], "linux.uidMappings[0]: the range ends beyond 4294967295"),
            (
                vec![map(0, 100, 10), map(9, 200, 1)],
                "linux.uidMappings[1] and [0] overlap in their containerIDs",
            ),
            (vec![map(0, 100, 10), map(10, 109, 1)], "linux.uidMappings[1] and [0] overlap in their hostIDs"),
        ] {
            assert_eq!(IdMap::plan("linux", &maps, &maps).unwrap_err().to_string(), message);
        }
        assert_eq!(
            IdMap::plan("linux", &[map(0, 0, 1)], &[]).unwrap_err().to_string(),
            "linux: uidMappings and gidMappings must be given together or not at all"
        );
    }

    #[test]
    fn all_ids_of_a_container_are_mapped_around_it_and_found_again_within() {
        for mappings in [
            vec![map(0, 1000, 1)],
            vec![map(0, 1000, 1), map(1, 100_000, 65536)],
            vec![map(0, 100_000, 1000), map(1000, 1000, 1), map(1001, 101_000, 64536)],
            vec![map(5, 900, 200)],
        ] {
            let table = around(&mappings, 1000);
            assert_eq!(table[0], map(0, 1000, 1));
            assert_eq!(read(&lines(&table)), table);
            for mapping in &mappings {
                let inner = within(mapping, &table);
                assert_eq!(inner.iter().map(|part| part.size).sum::<u32>(), mapping.size);
                for part in inner {
                    let outer = table.iter().find_map(|line| {
                        let at = part.host_id.checked_sub(line.container_id)?;
                        (at < line.size).then_some(line.host_id + at)
                    });
                    let expected = mapping.host_id + (part.container_id - mapping.container_id);
                    assert_eq!(outer, Some(expected), "{part:?} of {mapping:?} in {table:?}");
                }
            }
        }
        assert_eq!(within(&map(0, 5000, 10), &[map(0, 1000, 1)]), []);
    }
}
