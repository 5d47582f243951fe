//! Those who are attached to a container's output. Each gets what is printed as fast as it takes it; what some have not taken yet is kept
//! once for all of them, up to a bound. Then the container waits: as long as it likes for who takes it at a pace, for all others together within
//! an allowance that is soon used up; who still has not taken it is let go. It reads nothing of the container's.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;

use crate::log::Stream;

/// What is kept of a stream for those who have not taken it.
const KEPT: usize = 1 << 20;

/// How long a container waits for those who don't keep the pace, all in all: what it is given back is a hundredth of the time that passes.
const ALLOWANCE: Duration = Duration::from_secs(2);
const GIVEN_BACK: u32 = 100;

/// Bytes in a second that a client has to take to be waited for at no cost. A slow line has it, a terminal that nobody looks at has not.
const PACE: u64 = 64 << 10;

/// For how long what a client takes speaks for it. A socket has room for more in steps of up to 150 kB, which are two seconds apart at that pace.
const MOST_PAID: Duration = Duration::from_secs(2);

/// How long those who don't keep the pace may take to read the last of what was printed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Counts the connections of those who are attached, whoever holds them.
#[derive(Debug, Clone, Default)]
pub struct Guest(Arc<()>);

impl Guest {
    /// How many there are beside this one.
    pub fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// A socket that gets what is printed to a stream.
#[derive(Debug)]
pub struct Client {
    /// Which stream.
    pub stream: Stream,
    /// Non-blocking.
    pub socket: OwnedFd,
    /// Counts it, as long as it is there.
    pub _guest: Guest,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Attached {
    clients: Vec<Reader>,
    kept: [Kept; 2],
    patience: Patience,
}

#[derive(Debug)]
struct Reader {
    client: Client,
    /// How much of the stream it has been given, or was printed before it came.
    at: u64,
    /// It has kept the pace up to here, as someone who is late.
    paid: Instant,
}

/// What was printed to a stream and not taken by all.
#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// How much of the stream was printed up to here.
    end: u64,
    is_over: bool,
}

impl Kept {
    /// From this byte of the stream on, in two pieces.
    fn from(&self, at: u64) -> (&[u8], &[u8]) {
        let missing = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        let skipped = self.bytes.len().saturating_sub(missing);
        match skipped.checked_sub(first.len()) {
            Some(skipped) => (&second[skipped..], &[]),
            None => (&first[skipped..], second),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= KEPT
    }
}

impl Attached {
    /// One more, who gets what is printed from now on. After the end of its stream it is closed at once.
    pub fn welcome(&mut self, client: Client) {
        let kept = &self.kept[index(client.stream)];
        if !kept.is_over {
            self.clients.push(Reader { at: kept.end, paid: Instant::now(), client });
        }
    }

    /// What was printed.
    pub fn give(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = &mut self.kept[index(stream)];
        let before = kept.end;
        kept.end += bytes.len() as u64;
        let mut is_missed = !kept.bytes.is_empty();
        self.clients.retain_mut(|reader| {
            if reader.client.stream != stream || reader.at < before {
                return true;
            }
            let Ok(taken) = reader.take(bytes) else { return false };
            is_missed |= taken < bytes.len();
            true
        });
        if is_missed {
            kept.bytes.extend(bytes);
            self.forget(stream);
        }
    }

    /// No more will be printed: each is closed when it has all.
    pub fn end(&mut self, stream: Stream) {
        self.kept[index(stream)].is_over = true;
        self.forget(stream);
    }

    /// Whether a stream has to wait for those who have not taken what was printed to it.
    pub fn is_full(&self, stream: Stream) -> bool {
        self.kept[index(stream)].is_full()
    }

    /// How long to wait before this is asked again; who is not waited for any longer is let go. None: nobody is waited for.
    pub fn wait_for_them(&mut self) -> Option<Duration> {
        let now = Instant::now();
        loop {
            let holding_up = || self.clients.iter().filter(|reader| reader.holds_up(&self.kept));
            let Some(paid) = holding_up().map(|reader| reader.paid).min() else {
                self.patience.rest(now);
                return None;
            };
            if paid > now {
                self.patience.rest(now);
                return Some(paid - now);
            }
            let left = self.patience.left(now);
            if !left.is_zero() {
                return Some(left);
            }
            self.clients.retain(|reader| reader.paid > now || !reader.holds_up(&self.kept));
            [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| self.forget(stream));
        }
    }

    /// What to wait for of each.
    pub fn interests(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.clients.iter().map(|reader| {
            let more = reader.at < self.kept[index(reader.client.stream)].end;
            let wanted = if more { PollFlags::POLLOUT } else { PollFlags::empty() };
            PollFd::new(reader.socket(), wanted)
        })
    }

    /// What came of it, in the same order: they take what was kept for them, or have gone.
    pub fn attend(&mut self, seen: &[PollFlags]) {
        let mut seen = seen.iter();
        let kept = &self.kept;
        self.clients.retain_mut(|reader| match seen.next().copied().unwrap_or(PollFlags::empty()) {
            flags if flags.is_empty() => true,
            flags if flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) => false,
            _ => reader.catch_up(&kept[index(reader.client.stream)]).is_ok(),
        });
        [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| self.forget(stream));
    }

    /// The container's side is over: those who are late may take the rest, for a while.
    pub fn farewell(mut self) {
        let deadline = Instant::now() + FAREWELL;
        [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| self.end(stream));
        loop {
            let now = Instant::now();
            self.clients.retain(|reader| reader.paid.max(deadline) > now);
            let Some(next) = self.clients.iter().map(|reader| reader.paid.max(deadline)).min() else {
                return;
            };
            // A part of a millisecond is one, so that this doesn't turn round and round.
            let left = PollTimeout::try_from(next - now + Duration::from_millis(1));
            let mut fds: Vec<_> = self.interests().collect();
            match poll(&mut fds, left.unwrap_or(PollTimeout::ZERO)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
            let seen = flags(&fds);
            drop(fds);
            self.attend(&seen);
        }
    }

    /// What all have taken is kept no longer; who has all of a stream that is over is closed.
    fn forget(&mut self, stream: Stream) {
        let kept = &mut self.kept[index(stream)];
        let (end, is_over) = (kept.end, kept.is_over);
        self.clients.retain(|reader| reader.client.stream != stream || !is_over || reader.at < end);
        let slowest = self.clients.iter().filter(|reader| reader.client.stream == stream);
        let slowest = slowest.map(|reader| reader.at).min().unwrap_or(end);
        if slowest == end {
            kept.bytes = VecDeque::new();
        } else {
            let missing = usize::try_from(end - slowest).unwrap_or(usize::MAX);
            kept.bytes.drain(..kept.bytes.len().saturating_sub(missing));
        }
    }
}

/// What poll says of each.
pub fn flags(fds: &[PollFd<'_>]) -> Vec<PollFlags> {
    fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR)).collect()
}

impl Reader {
    fn socket(&self) -> BorrowedFd<'_> {
        self.client.socket.as_fd()
    }

    /// Whether it is one of those for whose sake a stream is full.
    fn holds_up(&self, kept: &[Kept; 2]) -> bool {
        let kept = &kept[index(self.client.stream)];
        kept.is_full() && kept.end - self.at >= KEPT as u64 / 2
    }

    fn catch_up(&mut self, kept: &Kept) -> Result<(), Errno> {
        let before = self.at;
        let (first, second) = kept.from(self.at);
        if self.take(first)? == first.len() {
            self.take(second)?;
        }
        let now = Instant::now();
        let worth = Duration::from_secs(1).mul_f64((self.at - before) as f64 / PACE as f64);
        self.paid = (self.paid.max(now) + worth).min(now + MOST_PAID);
        Ok(())
    }

    /// As much as it takes now.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut taken = 0;
        while taken < bytes.len() {
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.client.socket, &bytes[taken..])) {
                Ok(written) => taken += written,
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        self.at += taken as u64;
        Ok(taken)
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// What is left of the allowance.
#[derive(Debug)]
struct Patience {
    left: Duration,
    since: Option<Instant>,
    rested: Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: ALLOWANCE, since: None, rested: Instant::now() }
    }
}

impl Patience {
    /// Waiting: from now on, or going on.
    fn left(&mut self, now: Instant) -> Duration {
        let since = *self.since.get_or_insert_with(|| {
            let back = now.saturating_duration_since(self.rested) / GIVEN_BACK;
            self.left = (self.left + back).min(ALLOWANCE);
            now
        });
        self.left.saturating_sub(now.saturating_duration_since(since))
    }

    /// Not waiting any more.
    fn rest(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
            self.rested = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn client(attached: &mut Attached, stream: Stream) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        attached.welcome(Client { stream, socket: theirs.into(), _guest: Guest::default() });
        ours
    }

    fn piece(number: u32) -> Vec<u8> {
        number.to_ne_bytes().repeat(1000)
    }

    #[test]
    fn whoever_is_late_gets_all_in_order_and_the_end() {
        let mut attached = Attached::default();
        let mut late = client(&mut attached, Stream::Stdout);
        let mut other = client(&mut attached, Stream::Stderr);
        let wanted: Vec<u8> = (0..200).flat_map(piece).collect();
        for number in 0..200 {
            attached.give(Stream::Stdout, &piece(number));
        }
        assert!(attached.interests().any(|fd| fd.events().contains(PollFlags::POLLOUT)), "it is late");
        // Came late, and gets what comes from now on.
        let mut new = client(&mut attached, Stream::Stdout);
        attached.give(Stream::Stdout, b"new");
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            late.read_to_end(&mut seen).unwrap();
            seen
        });
        attached.farewell();
        assert!(reader.join().unwrap() == [wanted, b"new".to_vec()].concat());
        let mut seen = Vec::new();
        new.read_to_end(&mut seen).unwrap();
        assert_eq!(seen, b"new");
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn however_many_do_not_read_they_are_waited_for_together_and_let_go() {
        let mut attached = Attached::default();
        let _deaf: Vec<_> = (0..50).map(|_| client(&mut attached, Stream::Stdout)).collect();
        let mut number = 0;
        while !attached.is_full(Stream::Stdout) {
            attached.give(Stream::Stdout, &piece(number));
            number += 1;
        }
        assert!(attached.kept[0].bytes.len() < KEPT + 4000, "kept once for all");
        let began = Instant::now();
        while let Some(left) = attached.wait_for_them() {
            std::thread::park_timeout(left);
        }
        assert!(began.elapsed() < ALLOWANCE * 2, "{:?}", began.elapsed());
        assert!(attached.clients.is_empty() && attached.kept[0].bytes.capacity() == 0);
        // The next has no allowance of its own.
        let _deaf = client(&mut attached, Stream::Stdout);
        while !attached.is_full(Stream::Stdout) {
            attached.give(Stream::Stdout, &piece(number));
        }
        let began = Instant::now();
        while let Some(left) = attached.wait_for_them() {
            std::thread::park_timeout(left);
        }
        assert!(began.elapsed() < ALLOWANCE / 4, "{:?}", began.elapsed());
    }

    #[test]
    fn who_takes_it_slowly_but_steadily_is_waited_for_and_others_beside_him_are_not() {
        const PIECES: u32 = 800;
        let mut attached = Attached::default();
        let deaf = client(&mut attached, Stream::Stdout);
        let mut slow = client(&mut attached, Stream::Stdout);
        let reader = std::thread::spawn(move || {
            let (mut count, mut piece) = (0, vec![0; 32 << 10]);
            slow.set_nonblocking(false).unwrap();
            while let Ok(read @ 1..) = slow.read(&mut piece) {
                count += read;
                std::thread::sleep(Duration::from_millis(70));
            }
            count
        });
        let mut waited = Duration::ZERO;
        for number in 0..PIECES {
            let began = Instant::now();
            while let Some(left) = attached.wait_for_them() {
                let mut fds: Vec<_> = attached.interests().collect();
                let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap();
                poll(&mut fds, left).unwrap();
                let seen = flags(&fds);
                drop(fds);
                attached.attend(&seen);
            }
            waited += began.elapsed();
            attached.give(Stream::Stdout, &piece(number));
        }
        assert!(waited > ALLOWANCE, "nobody was slow: {waited:?}");
        assert_eq!(attached.clients.len(), 1, "the one is let go, the other not");
        drop(deaf);
        attached.farewell();
        assert!(reader.join().unwrap() > 2_000_000);
    }

    #[test]
    fn what_is_kept_is_given_from_any_place() {
        let mut kept = Kept { bytes: VecDeque::with_capacity(8), end: 0, is_over: false };
        // Around the end of its memory.
        kept.bytes.extend([0; 6]);
        kept.bytes.drain(..6);
        kept.bytes.extend(1..=8);
        kept.end = 108;
        for at in 100..=108u64 {
            let (first, second) = kept.from(at);
            let wanted: Vec<u8> = (1..=8).skip(usize::try_from(at - 100).unwrap()).collect();
            assert_eq!([first, second].concat(), wanted);
        }
    }
}
