//! Lines of the CRI log format, from output that comes in pieces. Pure but for the time of day in [`prefix`].

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Stream;

/// What stands before a line's text: `2026-11-21T04:05:48.123456789Z stdout F `. Of a fixed length, so that copying it is a few
/// instructions and no call.
pub type Prefix = [u8; 40];

/// Where the tag stands in it.
const TAG: usize = 38;

/// The prefix of whole lines that were read now.
pub fn prefix(stream: Stream) -> Prefix {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    prefix_at(now, stream)
}

fn prefix_at(since_epoch: Duration, stream: Stream) -> Prefix {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since_epoch.subsec_nanos();
    let stream = stream.name();
    let mut prefix: Prefix = [b' '; 40];
    // Fits unless the year has five digits: then its end is cut off.
    let _ = write!(
        &mut prefix[..],
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z {stream} F "
    );
    prefix
}

/// Year, month and day of a day since 1970-01-01, Gregorian: eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// One stream's unfinished line.
#[derive(Debug)]
pub struct Lines {
    max: usize,
    pending: Vec<u8>,
}

impl Lines {
    /// Pieces of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), pending: Vec::new() }
    }

    /// Takes lines from `bytes` until `out` has `enough` bytes of what is complete of them, and gives what it did not take.
    pub fn take<'a>(
        &mut self,
        mut bytes: &'a [u8],
        prefix: &Prefix,
        out: &mut Vec<u8>,
        enough: usize,
    ) -> &'a [u8] {
        while !bytes.is_empty() && out.len() < enough {
            bytes = if self.pending.is_empty() {
                self.fresh(bytes, prefix, out)
            } else {
                self.continued(bytes, prefix, out)
            };
        }
        bytes
    }

    /// Of nearly every line: it begins and ends in `bytes`, and is copied once.
    fn fresh<'a>(&mut self, bytes: &'a [u8], prefix: &Prefix, out: &mut Vec<u8>) -> &'a [u8] {
        // Only a byte more than fits shows that the line is too long: a newline may be the next.
        match memchr::memchr(b'\n', &bytes[..bytes.len().min(self.max + 1)]) {
            Some(at) => {
                write(out, prefix, b'F', trimmed(&bytes[..at]));
                &bytes[at + 1..]
            }
            None if bytes.len() > self.max => {
                write(out, prefix, b'P', &bytes[..self.max]);
                &bytes[self.max..]
            }
            None => {
                self.pending.extend_from_slice(bytes);
                &[]
            }
        }
    }

    /// The line began in an earlier piece.
    fn continued<'a>(&mut self, bytes: &'a [u8], prefix: &Prefix, out: &mut Vec<u8>) -> &'a [u8] {
        let room = self.max - self.pending.len();
        let (taken, rest, tag) = match memchr::memchr(b'\n', &bytes[..bytes.len().min(room + 1)]) {
            Some(at) => (&bytes[..at], &bytes[at + 1..], Some(b'F')),
            None if bytes.len() > room => (&bytes[..room], &bytes[room..], Some(b'P')),
            None => (bytes, &bytes[bytes.len()..], None),
        };
        self.pending.extend_from_slice(taken);
        if let Some(tag) = tag {
            let text = if tag == b'F' { trimmed(&self.pending) } else { &self.pending };
            write(out, prefix, tag, text);
            self.pending.clear();
        }
        rest
    }

    /// No newline will come.
    pub fn finish(&mut self, prefix: &Prefix, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            write(out, prefix, b'P', &self.pending);
            self.pending = Vec::new();
        }
    }

    /// Gives memory back if there is no unfinished line.
    pub fn rest(&mut self) {
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}

fn write(out: &mut Vec<u8>, prefix: &Prefix, tag: u8, text: &[u8]) {
    let mut prefix = *prefix;
    prefix[TAG] = tag;
    out.reserve(prefix.len() + text.len() + 1);
    out.extend_from_slice(&prefix);
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Terminals end lines with `\r\n`; readers of logs don't want to know.
fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: Prefix = *b"######################################F ";

    fn cut(max: usize, pieces: &[&[u8]]) -> String {
        let (mut lines, mut out) = (Lines::new(max), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let enough = out.len() + 1;
                rest = lines.take(rest, &PREFIX, &mut out, enough);
            }
        }
        lines.finish(&PREFIX, &mut out);
        String::from_utf8(out).unwrap().replace(&"#".repeat(TAG), "")
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(cut(9, &[b"one\ntwo\n"]), "F one\nF two\n");
        assert_eq!(cut(9, &[b"o", b"ne\nt", b"", b"wo", b"\n"]), "F one\nF two\n");
        assert_eq!(cut(9, &[b"\n\n"]), "F \nF \n");
        assert_eq!(cut(9, &[b"one\r\ntwo\r", b"\n"]), "F one\nF two\n");
    }

    #[test]
    fn a_long_line_is_parts_and_an_end() {
        assert_eq!(cut(4, &[b"abcd\n"]), "F abcd\n");
        assert_eq!(cut(4, &[b"abcd", b"\n"]), "F abcd\n");
        assert_eq!(cut(4, &[b"abcdefgh\nx\n"]), "P abcd\nF efgh\nF x\n");
        assert_eq!(cut(4, &[b"abc", b"defghi\n"]), "P abcd\nP efgh\nF i\n");
    }

    #[test]
    fn what_never_ends_is_a_part() {
        assert_eq!(cut(4, &[b"x\nab"]), "F x\nP ab\n");
        assert_eq!(cut(4, &[b"abcde"]), "P abcd\nP e\n");
        assert_eq!(cut(4, &[b"abcd"]), "P abcd\n");
    }

    #[test]
    fn any_cut_of_the_input_gives_the_same_text() {
        let text = b"a\nbb\r\nccc\n\ndddddddddd\neeee\nffffffffffffffff";
        let whole = cut(4, &[text]);
        for first in 0..text.len() {
            for second in first..text.len() {
                assert_eq!(cut(4, &[&text[..first], &text[first..second], &text[second..]]), whole);
            }
        }
    }

    #[test]
    fn times_are_rfc_3339_with_nanoseconds() {
        let at = |seconds, nanos| {
            String::from_utf8(prefix_at(Duration::new(seconds, nanos), Stream::Stderr).to_vec()).unwrap()
        };
        assert_eq!(at(0, 1), "1970-01-01T00:00:00.000000001Z stderr F ");
        assert_eq!(at(951_827_696, 120_000_000), "2000-02-29T12:34:56.120000000Z stderr F ");
        assert_eq!(at(1_795_271_696, 0), "2026-11-21T14:34:56.000000000Z stderr F ");
        assert_eq!(at(1_709_251_199, 0), "2024-02-29T23:59:59.000000000Z stderr F ");
    }
}
