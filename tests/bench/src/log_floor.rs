//! The floor of a container's log: `log-floor FILE` copies stdin to the file in the format of CRI logs, line by line, and does nothing
//! else. No long lines, no unfinished ones, no rotation, no clients: what any writer of such logs has to do at least.

use std::io::{Read, Result, Write};

const PREFIX: &[u8] = b"2026-11-21T04:05:48.123456789Z stdout F ";

fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    let mut stdin = std::io::stdin().lock();
    let (mut input, mut out) = (vec![0; 64 << 10], Vec::with_capacity(256 << 10));
    let mut begun = 0;
    loop {
        // Unbuffered: the buffer is larger than stdin's own.
        let read = stdin.read(&mut input[begun..])?;
        if read == 0 {
            return file.write_all(&input[..begun]);
        }
        let end = begun + read;
        let mut rest = &input[..end];
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            out.extend_from_slice(PREFIX);
            out.extend_from_slice(&rest[..=newline]);
            rest = &rest[newline + 1..];
        }
        file.write_all(&out)?;
        out.clear();
        begun = rest.len();
        input.copy_within(end - begun..end, 0);
    }
}
