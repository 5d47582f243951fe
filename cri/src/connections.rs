//! The connections of one listener: so many at once and no more. When there is no room, the one that has asked for nothing for the
//! longest leaves for who comes; those that are being served stay. It reads and writes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections of a listener.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    all: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    peer: Option<IpAddr>,
    /// What is being done for it.
    works: usize,
    /// When it was last idle: rises.
    since: u64,
    leave: Arc<Notify>,
}

/// A connection. Dropped: it is gone.
#[derive(Debug)]
pub struct Guest {
    number: u64,
    leave: Arc<Notify>,
    of: Arc<Connections>,
}

/// Something is being done for a connection, as long as this is there: it is not asked to leave.
#[derive(Debug)]
pub struct Stay(Arc<Guest>);

impl Connections {
    /// None yet.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::default() })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one. Peers of one address have half of the room: what is beyond makes room itself. None: all are being served.
    pub fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Guest> {
        let mut inside = self.inside();
        let is_local = peer.is_none_or(|peer| peer.is_loopback());
        let of_peer = inside.all.values().filter(|entry| entry.peer == peer).count();
        if inside.all.len() >= self.most {
            inside.dismiss(None)?;
        } else if !is_local && of_peer >= self.most.div_ceil(2) {
            inside.dismiss(peer)?;
        }
        let leave = Arc::new(Notify::new());
        let number = inside.number();
        inside.all.insert(number, Entry { peer, works: 0, since: number, leave: Arc::clone(&leave) });
        Some(Guest { number, leave, of: Arc::clone(self) })
    }
}

impl Inside {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends the one away that has been idle for the longest, of one peer if that is said.
    fn dismiss(&mut self, peer: Option<IpAddr>) -> Option<()> {
        let idle = self.all.iter().filter(|(_, entry)| entry.works == 0);
        let fits = idle.filter(|(_, entry)| peer.is_none() || entry.peer == peer);
        let number = fits.min_by_key(|(_, entry)| entry.since).map(|(number, _)| *number)?;
        self.all.remove(&number)?.leave.notify_one();
        Some(())
    }
}

impl Guest {
    /// Something is being done for it.
    pub fn stay(self: &Arc<Self>) -> Stay {
        // One that was dismissed a moment ago is gone.
        if let Some(entry) = self.of.inside().all.get_mut(&self.number) {
            entry.works += 1;
        }
        Stay(Arc::clone(self))
    }

    /// Waits until somebody else needs its place.
    pub async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.of.inside().all.remove(&self.number);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut inside = self.0.of.inside();
        let now = inside.number();
        if let Some(entry) = inside.all.get_mut(&self.0.number) {
            entry.works = entry.works.saturating_sub(1);
            entry.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn leaves(guest: &Guest) -> bool {
        guest.told_to_leave().now_or_never().is_some()
    }

    #[test]
    fn who_has_asked_for_nothing_for_the_longest_makes_room() {
        let connections = Connections::new(3);
        let [first, second, third] = [(); 3].map(|()| Arc::new(connections.enter(None).expect("room")));
        let works = first.stay();
        let _fourth = connections.enter(None).expect("the second makes room");
        assert_eq!([&first, &second, &third].map(|guest| leaves(guest)), [false, true, false]);
        drop((second, works));
        // The first is idle since now, the third for longer.
        let _fifth = connections.enter(None).expect("the third makes room");
        assert_eq!([&first, &third].map(|guest| leaves(guest)), [false, true]);
    }

    #[test]
    fn those_that_are_served_stay_and_who_goes_leaves_a_place() {
        let connections = Connections::new(2);
        let [first, second] = [(); 2].map(|()| Arc::new(connections.enter(None).expect("room")));
        let stays = [first.stay(), second.stay()];
        assert!(connections.enter(None).is_none());
        drop((first, second, stays));
        assert_eq!(connections.inside().all.len(), 0);
        let _again = connections.enter(None).expect("room");
    }

    #[test]
    fn one_address_has_half_of_the_room() {
        let connections = Connections::new(4);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().ok());
        let theirs = [(); 2].map(|()| connections.enter(one).expect("room"));
        let _third = connections.enter(one).expect("room for one that replaces one of its own");
        assert!(leaves(&theirs[0]) && !leaves(&theirs[1]));
        let others = [(); 2].map(|()| connections.enter(other).expect("room"));
        assert!(!leaves(&theirs[1]) && others.iter().all(|guest| !leaves(guest)));
    }
}
