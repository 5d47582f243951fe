//! A reader whose bytes are made on another thread, a few buffers ahead of who reads them. It knows nothing of what they are.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Buffers on their way, and what one holds: large enough that handing over costs nothing beside filling it, small enough for the cache.
const BUFFERS: usize = 3;
const SIZE: usize = 64 << 10;

struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

/// The reading end.
pub struct Ahead<'scope, R> {
    full: Receiver<io::Result<Buffer>>,
    empty: SyncSender<Buffer>,
    current: Buffer,
    taken: usize,
    maker: ScopedJoinHandle<'scope, R>,
}

impl<'scope, R: Read + Send + 'scope> Ahead<'scope, R> {
    /// Begins to read `input` on a thread of its own.
    pub fn new<'env>(scope: &'scope Scope<'scope, 'env>, input: R) -> Self {
        let (send_full, full) = sync_channel(BUFFERS);
        let (empty, take_empty) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS - 1 {
            let _ = empty.send(Buffer { bytes: vec![0; SIZE], filled: 0 });
        }
        let maker = scope.spawn(move || make(input, &take_empty, &send_full));
        Self { full, empty, current: Buffer { bytes: vec![0; SIZE], filled: 0 }, taken: 0, maker }
    }

    /// Reads what is left; then the input, which is at its end too.
    pub fn finish(mut self) -> io::Result<R> {
        while self.next()? {}
        drop((self.full, self.empty));
        self.maker.join().map_err(|_| io::Error::other("the thread that decompresses panicked"))
    }

    /// Takes the next buffer; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        // Gone: it has said its last word, which was the end or an error.
        let Ok(next) = self.full.recv() else { return Ok(false) };
        let used = std::mem::replace(&mut self.current, next?);
        self.taken = 0;
        let _ = self.empty.send(used);
        Ok(true)
    }
}

/// Fills buffers until the end, an error, or until nobody wants them.
fn make<R: Read>(mut input: R, empty: &Receiver<Buffer>, full: &SyncSender<io::Result<Buffer>>) -> R {
    while let Ok(mut buffer) = empty.recv() {
        buffer.filled = 0;
        let mut result = Ok(());
        while buffer.filled < SIZE {
            match input.read(&mut buffer.bytes[buffer.filled..]) {
                Ok(0) => break,
                Ok(count) => buffer.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let end = buffer.filled < SIZE;
        if buffer.filled > 0 && full.send(Ok(buffer)).is_err() {
            break;
        }
        if let Err(error) = result {
            let _ = full.send(Err(error));
        }
        if end {
            break;
        }
    }
    input
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

    fn through(input: impl Read + Send, most: u64) -> io::Result<Vec<u8>> {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, input);
            let mut all = Vec::new();
            ahead.by_ref().take(most).read_to_end(&mut all)?;
            ahead.finish().map(|_| all)
        })
    }

    #[test]
    fn all_bytes_come_in_their_order() {
        for length in [0, 1, SIZE - 1, SIZE, SIZE + 1, 9 * SIZE + 77] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            assert_eq!(through(bytes.as_slice(), u64::MAX).expect("no error"), bytes);
        }
    }

    #[test]
    fn what_is_not_read_is_passed_over_and_errors_arrive() {
        let bytes = vec![1; 20 * SIZE];
        assert_eq!(through(bytes.as_slice(), 10).expect("no error").len(), 10);
        struct Torn(usize);
        impl Read for Torn {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 3 { Err(io::Error::other("torn")) } else { Ok(buffer.len().min(SIZE)) }
            }
        }
        assert_eq!(through(Torn(0), u64::MAX).expect_err("an error").to_string(), "torn");
    }

    #[test]
    fn giving_up_in_the_middle_ends_the_other_thread() {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, io::repeat(1));
            let mut some = [0; 100];
            ahead.read_exact(&mut some).expect("bytes");
            drop(ahead);
        });
    }
}
