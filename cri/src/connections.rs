//! The connections of one listener: so many at once and no more. When there is no room, the one that has asked for nothing for the
//! longest leaves for who comes; after those, the one that nobody has listened to for the longest, whose client may have gone long ago:
//! what it said last and nobody has taken hides that. All others that are being served stay. It reads and writes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A client that has said something and is not listened to for so long has to make room, or counts as gone if its connection has ended.
pub const UNHEARD: Duration = Duration::from_secs(10);

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
    heard: Arc<Heard>,
}

/// Since when nobody waits for what a client says, though it has said something; none while somebody does.
#[derive(Debug, Default)]
struct Heard(Mutex<Option<Instant>>);

impl Heard {
    fn is(&self, heard: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    fn not_for(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }
}

/// A connection. Dropped: it is gone.
#[derive(Debug)]
pub struct Guest {
    number: u64,
    leave: Arc<Notify>,
    heard: Arc<Heard>,
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
        let (leave, heard) = (Arc::new(Notify::new()), Arc::default());
        let number = inside.number();
        let entry =
            Entry { peer, works: 0, since: number, leave: Arc::clone(&leave), heard: Arc::clone(&heard) };
        inside.all.insert(number, entry);
        Some(Guest { number, leave, heard, of: Arc::clone(self) })
    }
}

impl Inside {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends the one away that has been idle for the longest, or unheard, of one peer if that is said.
    fn dismiss(&mut self, peer: Option<IpAddr>) -> Option<()> {
        let fits = || self.all.iter().filter(|(_, entry)| peer.is_none() || entry.peer == peer);
        let idle = fits().filter(|(_, entry)| entry.works == 0);
        let unheard = || {
            let unheard = fits().filter_map(|(number, entry)| Some((number, entry.heard.not_for()?)));
            unheard.filter(|(_, long)| *long >= UNHEARD).max_by_key(|(_, long)| *long)
        };
        let number = match idle.min_by_key(|(_, entry)| entry.since) {
            Some((number, _)) => *number,
            None => *unheard()?.0,
        };
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

    /// Somebody waits for what its client says.
    pub fn is_heard(&self) {
        self.heard.is(None);
    }

    /// Its client has said something, and nobody waits for more yet.
    pub fn is_not_heard(&self) {
        self.heard.is(Some(Instant::now()));
    }

    /// For how long nobody has.
    pub fn unheard(&self) -> Option<Duration> {
        self.heard.not_for()
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
    fn one_that_nobody_listens_to_makes_room_though_it_is_served() {
        let connections = Connections::new(3);
        let all = [(); 3].map(|()| Arc::new(connections.enter(None).expect("room")));
        let _all_stay = all.each_ref().map(Guest::stay);
        let unheard = |guest: &Guest, long| guest.heard.is(Instant::now().checked_sub(long));
        unheard(&all[0], UNHEARD * 2);
        unheard(&all[1], UNHEARD * 3);
        unheard(&all[2], UNHEARD / 2);
        all[1].is_heard();
        let fourth = Arc::new(connections.enter(None).expect("the first makes room"));
        let _stays = fourth.stay();
        assert_eq!(all.each_ref().map(|guest| leaves(guest)), [true, false, false]);
        assert!(connections.enter(None).is_none(), "a process may take its time");
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
