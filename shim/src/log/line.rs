//! Lines of the CRI log format, from output that comes in pieces. Pure but for the time of day in [`prefix`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Stream;

/// What stands before the tag: `2026-11-21T04:05:48.123456789Z stdout `.
pub fn prefix(stream: Stream) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    prefix_at(now, stream)
}

fn prefix_at(since_epoch: Duration, stream: Stream) -> Vec<u8> {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since_epoch.subsec_nanos();
    let stream = stream.name();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z {stream} ")
        .into_bytes()
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

    /// Takes at most one line from `bytes`, writes what is complete of it to `out`, and gives what it did not take.
    pub fn take<'a>(&mut self, bytes: &'a [u8], prefix: &[u8], out: &mut Vec<u8>) -> &'a [u8] {
        let room = self.max - self.pending.len();
        match memchr::memchr(b'\n', &bytes[..bytes.len().min(room + 1)]) {
            Some(at) => {
                if self.pending.is_empty() {
                    write(out, prefix, b'F', trimmed(&bytes[..at]));
                } else {
                    self.pending.extend_from_slice(&bytes[..at]);
                    write(out, prefix, b'F', trimmed(&self.pending));
                    self.pending.clear();
                }
                &bytes[at + 1..]
            }
            // Only a byte more than fits shows that the line is too long: a newline may be the next.
            None if bytes.len() > room => {
                self.pending.extend_from_slice(&bytes[..room]);
                write(out, prefix, b'P', &self.pending);
                self.pending.clear();
                &bytes[room..]
            }
            None => {
                self.pending.extend_from_slice(bytes);
                &[]
            }
        }
    }

    /// No newline will come.
    pub fn finish(&mut self, prefix: &[u8], out: &mut Vec<u8>) {
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

fn write(out: &mut Vec<u8>, prefix: &[u8], tag: u8, text: &[u8]) {
    out.reserve(prefix.len() + text.len() + 3);
    out.extend_from_slice(prefix);
    out.extend_from_slice(&[tag, b' ']);
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

    fn cut(max: usize, pieces: &[&[u8]]) -> String {
        let (mut lines, mut out) = (Lines::new(max), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                rest = lines.take(rest, b"", &mut out);
            }
        }
        lines.finish(b"", &mut out);
        String::from_utf8(out).unwrap()
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
            String::from_utf8(prefix_at(Duration::new(seconds, nanos), Stream::Stderr)).unwrap()
        };
        assert_eq!(at(0, 1), "1970-01-01T00:00:00.000000001Z stderr ");
        assert_eq!(at(951_827_696, 120_000_000), "2000-02-29T12:34:56.120000000Z stderr ");
        assert_eq!(at(1_795_271_696, 0), "2026-11-21T14:34:56.000000000Z stderr ");
        assert_eq!(at(1_709_251_199, 0), "2024-02-29T23:59:59.000000000Z stderr ");
    }
}
