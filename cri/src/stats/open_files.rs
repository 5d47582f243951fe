//! How many descriptors processes have, without looking at each of more than so many.

use std::path::PathBuf;

/// So many processes and descriptors of a container are looked at for each answer: both are as many as the container likes.
pub const LOOKS: usize = 8192;

/// How many descriptors there are, and how many of them are sockets; None where that takes more than so many looks.
pub fn count(tables: impl Iterator<Item = PathBuf>, most: usize) -> (Option<u64>, Option<u64>) {
    let (mut all, mut sockets, mut looks) = (Some(0), Some(0), 0);
    for table in tables {
        looks += 1;
        if looks > most {
            return (None, None);
        }
        // KERNEL(6.2): a process's directory of descriptors has their number as its size; before, 0.
        let size = std::fs::metadata(&table).map_or(0, |table| table.len());
        let known = usize::try_from(size).unwrap_or(usize::MAX);
        if size > 0 && (sockets.is_none() || looks.saturating_add(known) > most) {
            (all, sockets) = (all.map(|all| all + size), None);
            continue;
        }
        for entry in std::fs::read_dir(&table).into_iter().flatten().flatten() {
            looks += 1;
            if looks > most {
                return (None, None);
            }
            all = all.map(|all| all + 1);
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let is_socket = target.as_os_str().as_encoded_bytes().starts_with(b"socket:");
            sockets = sockets.map(|sockets| sockets + u64::from(is_socket));
        }
    }
    (all, sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted_and_no_more_are_looked_at_than_may_be() {
        let (_first, _second) = std::os::unix::net::UnixStream::pair().unwrap();
        let table = || PathBuf::from("/proc/self/fd");
        let (all, sockets) = count([table()].into_iter(), LOOKS);
        assert!(all.unwrap() >= 5 && sockets.unwrap() >= 2, "{all:?} {sockets:?}");
        // As of processes that share one table: each of them counts, none is read.
        let (more, none) = count(std::iter::repeat_with(table).take(1000), 1001);
        assert!(more.is_none_or(|more| more >= 5000) && none.is_none(), "{more:?} {none:?}");
        assert_eq!(count(std::iter::repeat_with(table).take(1000), 999), (None, None));
    }
}
