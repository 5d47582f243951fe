//! A reader whose bytes are made a few buffers ahead of who reads them, on another thread while a core is left for one, else by the
//! reader itself. It knows nothing of what they are.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// Buffers of one reader, and what one holds: large enough that handing over costs nothing beside filling it, small enough for the cache.
const BUFFERS: usize = 3;
const SIZE: usize = 64 << 10;

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    /// Fills it from `input`; less than full only at the end, or where an error came.
    fn fill(&mut self, input: &mut impl Read) -> io::Result<()> {
        self.filled = 0;
        self.bytes.resize(SIZE, 0);
        while self.filled < SIZE {
            match input.read(&mut self.bytes[self.filled..]) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What both threads share.
struct State<R> {
    /// None while one of the two reads from it, outside of the lock.
    input: Option<R>,
    full: VecDeque<Buffer>,
    empty: Vec<Buffer>,
    /// The last word; the error once.
    end: Option<io::Result<()>>,
    /// Whether the other thread is to make some.
    wanted: bool,
    reader_waits: bool,
}

impl<R: Read> State<R> {
    /// `input` comes back with what it gave.
    fn back(&mut self, input: R, buffer: Buffer, result: io::Result<()>) {
        self.input = Some(input);
        if result.is_err() || buffer.filled < SIZE {
            self.end = Some(result);
        }
        if buffer.filled == 0 {
            self.empty.push(buffer);
        } else {
            self.full.push_back(buffer);
        }
    }
}

struct Shared<R> {
    state: Mutex<State<R>>,
    /// For the other thread: something to do. For the reader: something to read.
    wanted: Condvar,
    made: Condvar,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the other thread where it is at work, else makes a buffer itself.
    fn more<'a>(&'a self, mut state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>>
    where
        R: Read,
    {
        let Some(mut input) = state.input.take() else {
            state.reader_waits = true;
            let mut state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.reader_waits = false;
            return state;
        };
        let mut buffer = state.empty.pop().unwrap_or_default();
        drop(state);
        let result = buffer.fill(&mut input);
        let mut state = self.lock();
        state.back(input, buffer, result);
        state
    }
}

/// The reading end.
pub struct Ahead<'scope, R> {
    shared: Arc<Shared<R>>,
    current: Buffer,
    taken: usize,
    maker: Option<ScopedJoinHandle<'scope, ()>>,
    to_spare: fn() -> bool,
}

impl<'scope, R: Read + Send + 'scope> Ahead<'scope, R> {
    /// Reads `input`, on a thread of its own whenever `to_spare` says that there is a core for one.
    pub fn new<'env>(scope: &'scope Scope<'scope, 'env>, input: R, to_spare: fn() -> bool) -> Self {
        let state = State {
            input: Some(input),
            full: VecDeque::with_capacity(BUFFERS),
            empty: (1..BUFFERS).map(|_| Buffer::default()).collect(),
            end: None,
            wanted: to_spare(),
            reader_waits: false,
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), wanted: Condvar::new(), made: Condvar::new() });
        let other = Leaving(shared.clone());
        let maker = scope.spawn(move || make(&other.0));
        Self { shared, current: Buffer::default(), taken: 0, maker: Some(maker), to_spare }
    }

    /// Reads what is left; then the input, which is at its end too.
    pub fn finish(mut self) -> io::Result<R> {
        while self.next()? {}
        self.leave();
        let panicked = || io::Error::other("the thread that decompresses panicked");
        self.maker.take().ok_or_else(panicked)?.join().map_err(|_| panicked())?;
        self.shared.lock().input.take().ok_or_else(panicked)
    }

    /// Takes the next buffer; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        self.taken = 0;
        state.empty.push(std::mem::take(&mut self.current));
        state.wanted = (self.to_spare)();
        loop {
            if let Some(next) = state.full.pop_front() {
                self.current = next;
                if state.wanted && state.input.is_some() {
                    shared.wanted.notify_one();
                }
                return Ok(true);
            }
            match &mut state.end {
                Some(end) => return std::mem::replace(end, Ok(())).map(|()| false),
                None => state = shared.more(state),
            }
        }
    }
}

impl<R> Ahead<'_, R> {
    /// The other thread ends.
    fn leave(&self) {
        self.shared.lock().end.get_or_insert(Ok(()));
        self.shared.wanted.notify_one();
    }
}

impl<R> Drop for Ahead<'_, R> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The other thread's hold: a reader that waits for it hears when it ends, however it does.
struct Leaving<R>(Arc<Shared<R>>);

impl<R> Drop for Leaving<R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.input.is_none() && state.end.is_none() {
            state.end = Some(Err(io::Error::other("the thread that decompresses panicked")));
        }
        self.0.made.notify_one();
    }
}

/// Makes buffers while they are wanted, until the end.
fn make<R: Read>(shared: &Shared<R>) {
    let mut state = shared.lock();
    while state.end.is_none() {
        let free = state.wanted && !state.empty.is_empty();
        let Some(mut input) = free.then(|| state.input.take()).flatten() else {
            state = shared.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let mut buffer = state.empty.pop().unwrap_or_default();
        drop(state);
        let result = buffer.fill(&mut input);
        state = shared.lock();
        state.back(input, buffer, result);
        if state.reader_waits {
            shared.made.notify_one();
        }
    }
}

impl<'scope, R: Read + Send + 'scope> Read for Ahead<'scope, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = buffer.len().min(bytes.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<'scope, R: Read + Send + 'scope> BufRead for Ahead<'scope, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.current.filled && !self.next()? {
            return Ok(&[]);
        }
        Ok(&self.current.bytes[self.taken..self.current.filled])
    }

    fn consume(&mut self, amount: usize) {
        self.taken = self.current.filled.min(self.taken + amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// With a core to spare never, always, and now and then.
    const SPARE: [fn() -> bool; 3] = [|| false, || true, now_and_then];

    fn now_and_then() -> bool {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        ASKED.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)
    }

    fn through(input: impl Read + Send, most: u64, to_spare: fn() -> bool) -> io::Result<Vec<u8>> {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, input, to_spare);
            let mut all = Vec::new();
            ahead.by_ref().take(most).read_to_end(&mut all)?;
            ahead.finish().map(|_| all)
        })
    }

    #[test]
    fn all_bytes_come_in_their_order() {
        for length in [0, 1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 99 * SIZE + 77] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            for to_spare in SPARE {
                assert_eq!(through(bytes.as_slice(), u64::MAX, to_spare).expect("no error"), bytes);
            }
        }
    }

    #[test]
    fn what_is_not_read_is_passed_over_and_errors_arrive() {
        let bytes = vec![1; 20 * SIZE];
        struct Torn(usize);
        impl Read for Torn {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 3 { Err(io::Error::other("torn")) } else { Ok(buffer.len().min(SIZE)) }
            }
        }
        for to_spare in SPARE {
            assert_eq!(through(bytes.as_slice(), 10, to_spare).expect("no error").len(), 10);
            assert_eq!(through(Torn(0), u64::MAX, to_spare).expect_err("an error").to_string(), "torn");
        }
    }

    #[test]
    fn giving_up_in_the_middle_ends_the_other_thread() {
        for to_spare in SPARE {
            std::thread::scope(|scope| {
                let mut ahead = Ahead::new(scope, io::repeat(1), to_spare);
                let mut some = [0; 100];
                ahead.read_exact(&mut some).expect("bytes");
                drop(ahead);
            });
        }
    }
}
