//! Results on standard output, whole and unbuffered. A reader that has left is no error: it has seen what it wanted.

use crate::error::{Context, Result};

/// Writes all of it.
pub fn print(text: &[u8]) -> Result<()> {
    let mut left = text;
    while !left.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(std::io::stdout(), left)) {
            Err(rustix::io::Errno::PIPE) => return Ok(()),
            written => left = &left[written.what(|| "write to standard output")?..],
        }
    }
    Ok(())
}
