//! Memory for what is on its way between clients and processes, of all connections together. Each connection has a little of its own,
//! which nobody can take from it; beyond that all share one budget. Where that is used up nothing is refused that has come in pieces:
//! connections go on with what is their own, more slowly. It moves no bytes.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The most bytes of a piece: what a pipe holds, so that one reading takes all that a process could write meanwhile.
pub const PIECE: usize = 64 * 1024;

/// Pieces that wait on one stream.
pub const QUEUE: usize = 32;

/// What all streams of one connection may have waiting in one direction, as much as one of them alone: a client that is not listened to
/// on many streams costs no more than on one.
const MOST: usize = QUEUE * PIECE;

/// What a connection has of its own in each direction: a piece.
const OWN: usize = PIECE;

/// What all connections have beyond that: 32 whose clients don't read may have all that one can, a thousand have a piece each.
const SHARED: usize = 64 << 20;

/// Streams of one connection that nobody can take from it: exec has five.
const OWN_STREAMS: usize = 8;

/// Those of all connections beyond: two for each connection that may be forwarded. One takes 3 kB, whatever it carries.
const SHARED_STREAMS: usize = 32 << 10;

/// Something of which a connection has some, and shares the rest with all others.
#[derive(Clone)]
struct Share {
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

impl Share {
    fn new(own: usize, shared: &Arc<Semaphore>) -> Self {
        Self { own: Arc::new(Semaphore::new(own)), shared: Arc::clone(shared) }
    }

    fn try_take(&self, count: u32) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        let own = Arc::clone(&self.own).try_acquire_many_owned(count);
        own.or_else(|_| Arc::clone(&self.shared).try_acquire_many_owned(count))
    }

    async fn take(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.try_take(count) {
            return Some(permit);
        }
        tokio::select! {
            permit = Arc::clone(&self.own).acquire_many_owned(count) => permit,
            permit = Arc::clone(&self.shared).acquire_many_owned(count) => permit,
        }
        .ok() // they are never closed
    }
}

/// What all connections share.
pub struct Budget {
    bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Budget {
    /// So many bytes and streams.
    pub fn new(bytes: usize, streams: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes)), streams: Arc::new(Semaphore::new(streams)) }
    }

    /// The server's.
    fn all() -> &'static Self {
        static ALL: LazyLock<Budget> = LazyLock::new(|| Budget::new(SHARED, SHARED_STREAMS));
        &ALL
    }
}

/// One direction of a connection.
#[derive(Clone)]
pub struct Lane {
    most: Arc<Semaphore>,
    share: Share,
}

/// Room in a lane.
#[derive(Debug)]
pub struct Place {
    most: OwnedSemaphorePermit,
    share: OwnedSemaphorePermit,
}

impl Lane {
    fn new(budget: &Budget) -> Self {
        Self { most: Arc::new(Semaphore::new(MOST)), share: Share::new(OWN, &budget.bytes) }
    }

    /// Waits until there is room for so many bytes, at most a piece.
    pub async fn take(&self, bytes: usize) -> Option<Place> {
        let bytes = u32::try_from(bytes.min(PIECE)).unwrap_or(u32::MAX);
        let most = Arc::clone(&self.most).acquire_many_owned(bytes).await.ok()?; // it is never closed
        Some(Place { most, share: self.share.take(bytes).await? })
    }
}

impl Place {
    /// It turned out to be less.
    pub fn keep(&mut self, bytes: usize) {
        for permit in [&mut self.most, &mut self.share] {
            let _more = permit.split(permit.num_permits().saturating_sub(bytes));
        }
    }
}

/// The room of one connection.
#[derive(Clone)]
pub struct Room {
    /// For what its client has sent and nobody has taken yet.
    pub input: Lane,
    /// For what its client has not read yet.
    pub output: Lane,
    streams: Share,
    messages: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Room {
    /// Of a new connection.
    pub fn new() -> Self {
        Self::of(Budget::all())
    }

    /// Of a new connection that has this budget with others.
    pub fn of(budget: &Budget) -> Self {
        Self {
            input: Lane::new(budget),
            output: Lane::new(budget),
            streams: Share::new(OWN_STREAMS, &budget.streams),
            messages: Arc::clone(&budget.bytes),
        }
    }

    /// One more stream, as long as that is held; None: there are as many as may be.
    pub fn stream(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.try_take(1).ok()
    }

    /// For what is read of a message that is not whole yet, and of which no more than `most` bytes are held.
    pub fn message(&self, most: usize) -> Unfinished {
        Unfinished { shared: Arc::clone(&self.messages), read: Arc::default(), most }
    }
}

/// What was read of a message that nobody can use before it is whole. Clones are of the same.
#[derive(Clone)]
pub struct Unfinished {
    shared: Arc<Semaphore>,
    read: Arc<Mutex<Read>>,
    most: usize,
}

#[derive(Default)]
struct Read {
    bytes: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl Unfinished {
    /// More was read. An error if it is more than a piece and there is no room: half a message can't wait for that, others may have halves, too.
    pub fn add(&self, bytes: usize) -> std::io::Result<()> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.bytes = (read.bytes + bytes).min(self.most);
        let held = read.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = read.bytes.saturating_sub(OWN + held);
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.shared).try_acquire_many_owned(missing) else {
            return Err(std::io::Error::other(format!(
                "a message of more than {OWN} bytes: all streaming connections have as much memory as they may, smaller ones are taken"
            )));
        };
        match &mut read.held {
            Some(held) => held.merge(more),
            held => *held = Some(more),
        }
        Ok(())
    }

    /// It was whole, and is done with.
    pub fn clear(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Read::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn take(lane: &Lane, bytes: usize) -> Option<Place> {
        lane.take(bytes).now_or_never().flatten()
    }

    #[test]
    fn connections_that_stand_still_have_no_more_than_the_budget_together_and_leave_each_its_own() {
        const CONNECTIONS: usize = 100;
        let budget = Budget::new(10 * PIECE, 0);
        let rooms: Vec<Room> = (0..CONNECTIONS).map(|_| Room::of(&budget)).collect();
        let mut held = Vec::new();
        for _ in 0..=QUEUE {
            held.extend(rooms[1..].iter().filter_map(|room| take(&room.output, PIECE)));
        }
        assert_eq!(held.len(), CONNECTIONS - 1 + 10);
        // One that moves goes on.
        for lane in [&rooms[0].output, &rooms[0].input].repeat(100) {
            assert!(take(lane, PIECE).is_some());
        }
        let own = take(&rooms[0].output, PIECE).expect("its own");
        assert!(take(&rooms[0].output, PIECE).is_none());
        drop(own);
        assert!(take(&rooms[0].output, PIECE).is_some());
    }

    #[test]
    fn who_waits_for_room_has_it_from_whoever_gives_it_back() {
        let budget = Budget::new(PIECE, 0);
        let [one, other] = [(); 2].map(|()| Room::of(&budget));
        let mut held = [&one, &one, &other].map(|room| take(&room.input, PIECE));
        let mut waits = Box::pin(one.input.take(PIECE));
        assert!(waits.as_mut().now_or_never().is_none());
        let mut waits_too = Box::pin(other.input.take(PIECE));
        assert!(waits_too.as_mut().now_or_never().is_none());
        // Its own, and then what both share.
        held[2] = None;
        assert!(waits_too.now_or_never().is_some());
        held[1].as_mut().expect("held").keep(1);
        assert!(waits.as_mut().now_or_never().is_none());
        held[1] = None;
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn streams_are_counted_and_each_connection_has_some() {
        let budget = Budget::new(0, 10);
        let [greedy, modest] = [(); 2].map(|()| Room::of(&budget));
        let held: Vec<_> = std::iter::from_fn(|| greedy.stream()).collect();
        assert_eq!(held.len(), OWN_STREAMS + 10);
        let theirs: Vec<_> = std::iter::from_fn(|| modest.stream()).collect();
        assert_eq!(theirs.len(), OWN_STREAMS);
    }

    #[test]
    fn halves_of_large_messages_are_refused_when_there_is_no_room_and_small_ones_are_not() {
        let budget = Budget::new(100, 0);
        let [one, other] = [(); 2].map(|()| Room::of(&budget).message(OWN + 95));
        one.add(OWN + 91).expect("room");
        other.add(OWN).expect("its own");
        assert!(other.add(10).is_err());
        one.add(1000).expect("no more than what is held");
        one.clear();
        other.add(0).expect("room again");
    }
}
