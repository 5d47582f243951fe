//! Results on standard output, whole and unbuffered. A reader that has left is no error: it has seen what it wanted.

use crate::error::{Context, Result};

/// Whether anybody still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// As far as one can know.
    Here,
    /// The pipe is closed.
    Gone,
}

/// Writes all of it.
pub fn print(text: &[u8]) -> Result<()> {
    offer(text).map(drop)
}

/// Writes all of it, and says whether it is worth going on.
pub fn offer(text: &[u8]) -> Result<Reader> {
    let mut left = text;
    while !left.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(std::io::stdout(), left)) {
            Err(rustix::io::Errno::PIPE) => return Ok(Reader::Gone),
            written => left = &left[written.what(|| "write to standard output")?..],
        }
    }
    Ok(Reader::Here)
}
