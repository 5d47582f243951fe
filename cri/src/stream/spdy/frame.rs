//! Frames as bytes: heads, control frames, and what a server writes. Reads no socket; header blocks stay compressed here.
//!
//! Source: SPDY Protocol, Draft 3.1, section 2 (all numbers big endian).

/// Bytes of the head that each frame begins with.
pub const HEAD: usize = 8;

/// The longest control frame that is taken. Header blocks of Kubernetes' clients have some hundred bytes.
pub const CONTROL_MAX: usize = 16 * 1024;

const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream is reset (draft 3.1, section 2.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// A frame for a stream that is not open.
    InvalidStream = 2,
    /// The stream is no longer wanted.
    Cancel = 5,
}

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the words are the protocol's
pub enum Head {
    /// Payload of a stream follows.
    Data { stream: u32, fin: bool, length: usize },
    /// A control frame's body follows.
    Control { kind: u16, fin: bool, length: usize },
}

/// A control frame that a client may send. Those without a meaning here are `Ignored`.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Control<'a> {
    /// A new stream with its compressed headers.
    Open { stream: u32, fin: bool, block: &'a [u8] },
    /// More headers: they have to be decompressed even though nobody wants them, for the compressor's state.
    Headers { stream: u32, fin: bool, block: &'a [u8] },
    /// The client gives a stream up.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// The client opens no more streams.
    GoAway,
    /// SETTINGS, WINDOW_UPDATE, SYN_REPLY and kinds of other drafts.
    Ignored,
}

impl Head {
    /// Takes a frame's head apart. A control frame of another version, or one that is too long, is an error.
    pub fn parse(bytes: [u8; HEAD]) -> Result<Self, String> {
        let first = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let fin = bytes[4] & FIN != 0;
        let length = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
        if first >> 31 == 0 {
            return match first {
                0 => Err("data frame for stream 0".to_owned()),
                stream => Ok(Self::Data { stream, fin, length }),
            };
        }
        let version = (first >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(format!("control frame of SPDY version {version}, only {VERSION} is spoken here"));
        }
        if length > CONTROL_MAX {
            return Err(format!("control frame of {length} bytes, at most {CONTROL_MAX} are taken"));
        }
        Ok(Self::Control { kind: first as u16, fin, length })
    }
}

impl<'a> Control<'a> {
    /// Takes the body of a control frame apart.
    pub fn parse(kind: u16, fin: bool, body: &'a [u8]) -> Result<Self, String> {
        Ok(match kind {
            // stream, associated stream, priority and slot, then the block
            SYN_STREAM => Self::Open { stream: stream(body)?, fin, block: after(body, 10)? },
            HEADERS => Self::Headers { stream: stream(body)?, fin, block: after(body, 4)? },
            RST_STREAM => Self::Reset { stream: stream(body)? },
            PING => Self::Ping { id: number(body)? },
            GOAWAY => Self::GoAway,
            _ => Self::Ignored,
        })
    }
}

fn number(body: &[u8]) -> Result<u32, String> {
    match body.first_chunk::<4>() {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => Err(format!("control frame with a body of {} bytes", body.len())),
    }
}

fn stream(body: &[u8]) -> Result<u32, String> {
    match number(body)? & 0x7fff_ffff {
        0 => Err("control frame for stream 0".to_owned()),
        stream => Ok(stream),
    }
}

fn after(body: &[u8], skipped: usize) -> Result<&[u8], String> {
    body.get(skipped..).ok_or_else(|| format!("control frame with a body of {} bytes", body.len()))
}

/// The head of a data frame; the payload is written after it.
///
/// `length` is at most 2^24 - 1.
pub fn data_head(stream: u32, length: usize, last: bool) -> [u8; HEAD] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [s0 & 0x7f, s1, s2, s3, if last { FIN } else { 0 }, a, b, c]
}

/// The answer to a new stream.
pub fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, &[&stream.to_be_bytes(), block])
}

/// Gives a stream up.
pub fn reset(stream: u32, status: Status) -> Vec<u8> {
    control(RST_STREAM, &[&stream.to_be_bytes(), &(status as u32).to_be_bytes()])
}

/// The answer to a ping.
pub fn ping(id: u32) -> Vec<u8> {
    control(PING, &[&id.to_be_bytes()])
}

/// No further stream is accepted; `last` is the newest that was.
pub fn go_away(last: u32) -> Vec<u8> {
    control(GOAWAY, &[&last.to_be_bytes(), &0_u32.to_be_bytes()])
}

fn control(kind: u16, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_apart() {
        assert_eq!(
            Head::parse([0, 0, 0, 5, 1, 0, 1, 2]),
            Ok(Head::Data { stream: 5, fin: true, length: 258 })
        );
        assert_eq!(
            Head::parse([0x80, 3, 0, 1, 0, 0, 0, 10]),
            Ok(Head::Control { kind: 1, fin: false, length: 10 })
        );
    }

    #[test]
    fn bad_heads_say_what_is_wrong() {
        for (bytes, expected) in [
            ([0, 0, 0, 0, 0, 0, 0, 1], "data frame for stream 0"),
            ([0x80, 2, 0, 1, 0, 0, 0, 0], "control frame of SPDY version 2, only 3 is spoken here"),
            ([0x80, 3, 0, 1, 0, 0xff, 0, 0], "control frame of 16711680 bytes, at most 16384 are taken"),
        ] {
            assert_eq!(Head::parse(bytes), Err(expected.to_owned()));
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let frame = reset(7, Status::Cancel);
        let head = Head::parse(*frame.first_chunk().expect("a head"));
        assert_eq!(head, Ok(Head::Control { kind: RST_STREAM, fin: false, length: 8 }));
        assert_eq!(Control::parse(RST_STREAM, false, &frame[HEAD..]), Ok(Control::Reset { stream: 7 }));
        let frame = ping(9);
        assert_eq!(Control::parse(PING, false, &frame[HEAD..]), Ok(Control::Ping { id: 9 }));
        assert_eq!(
            Head::parse(data_head(3, 70_000, true)),
            Ok(Head::Data { stream: 3, fin: true, length: 70_000 })
        );
    }

    #[test]
    fn every_cut_body_is_an_error_or_ignored() {
        for kind in 0..12 {
            for length in 0..12 {
                let body = vec![0xff; length];
                let parsed = Control::parse(kind, false, &body);
                let needed = match kind {
                    SYN_STREAM => 10,
                    HEADERS | RST_STREAM | PING => 4,
                    _ => 0,
                };
                assert_eq!(parsed.is_ok(), length >= needed, "kind {kind}, {length} bytes: {parsed:?}");
            }
        }
    }
}
