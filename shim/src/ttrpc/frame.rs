//! Frames: `length u32 | stream u32 | kind u8 | flags u8`, big endian, then `length` bytes of protobuf.
//!
//! Reads and writes bytes; what a frame means is for `connection` (server) and `channel` (client).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{Code, Status};

/// Bytes of a header.
const HEADER: usize = 10;
/// The largest message that either side may send: 4 MiB, ttrpc's own limit.
pub(super) const LIMIT: usize = 4 << 20;
/// What is skipped of a message that is too large, so that the connection can go on; after more than that it is closed.
const SKIPPED: usize = 16 << 20;
/// A frame that has begun has to end within this time.
const FRAME_TIME: Duration = Duration::from_secs(30);

/// What is read at once: most frames are smaller, and come in one piece.
const BUFFER: usize = 1 << 10;

pub(super) const REQUEST: u8 = 1;
pub(super) const RESPONSE: u8 = 2;
/// Flag of a request that is the beginning of a stream of messages.
pub(super) const REMOTE_OPEN: u8 = 2;

/// The ten bytes before each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub length: u32,
    pub stream: u32,
    pub kind: u8,
    pub flags: u8,
}

impl Header {
    fn decode(bytes: [u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = bytes;
        let (length, stream) = (u32::from_be_bytes([l0, l1, l2, l3]), u32::from_be_bytes([s0, s1, s2, s3]));
        Self { length, stream, kind, flags }
    }
}

/// Memory for messages that were read and are not answered, of all connections together. A message waits for it before it is read.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// What a message has of it, for as long.
pub(super) type Taken = Option<OwnedSemaphorePermit>;

impl Room {
    /// In pieces; a message smaller than one takes none.
    const PIECE: usize = 1 << 10;

    /// For so many bytes: at least the largest message.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.max(LIMIT) / Self::PIECE)))
    }

    async fn take(&self, bytes: usize) -> Taken {
        let pieces = u32::try_from(bytes / Self::PIECE).ok().filter(|pieces| *pieces > 0)?;
        Arc::clone(&self.0).acquire_many_owned(pieces).await.ok()
    }
}

/// What was read.
pub(super) enum Read {
    /// A whole frame, and what it has of the memory.
    Frame(Header, Vec<u8>, Taken),
    /// One whose message is larger than allowed; it was skipped, and the next frame can be read.
    TooLarge(Header),
    /// The peer closed the connection between two frames.
    End,
}

/// What [`read`] reads from best.
pub(super) fn buffered<R: AsyncRead>(from: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER, from)
}

/// Reads the next frame.
///
/// # Errors
/// The connection broke inside a frame, or a frame was begun and not ended in time, or is larger than what is skipped.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin), room: Option<&Room>) -> io::Result<Read> {
    let mut bytes = [0; HEADER];
    if from.read(&mut bytes[..1]).await? == 0 {
        return Ok(Read::End);
    }
    timeout(FRAME_TIME, rest(from, bytes, room)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn rest(
    from: &mut (impl AsyncRead + Unpin),
    mut bytes: [u8; HEADER],
    room: Option<&Room>,
) -> io::Result<Read> {
    from.read_exact(&mut bytes[1..]).await?;
    let header = Header::decode(bytes);
    let length = header.length as usize;
    if length > LIMIT {
        if length > SKIPPED {
            return Ok(Read::TooLarge(header));
        }
        let skipped = tokio::io::copy(&mut from.take(length as u64), &mut tokio::io::sink()).await?;
        return if skipped == length as u64 {
            Ok(Read::TooLarge(header))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
    }
    let taken = match room {
        Some(room) => room.take(length).await,
        None => None,
    };
    // Grows with what really comes: a header alone can't make anyone allocate 4 MiB.
    let mut message = Vec::with_capacity(length.min(BUFFER));
    from.take(length as u64).read_to_end(&mut message).await?;
    if message.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Read::Frame(header, message, taken))
}

/// Whether the connection can go on after a frame that was too large.
pub(super) fn was_skipped(header: Header) -> bool {
    header.length as usize <= SKIPPED
}

/// A whole frame, ready to be written. The stream's number may be set later, see [`set_stream`].
///
/// # Errors
/// `ResourceExhausted` for a message larger than the limit.
pub(super) fn encode(stream: u32, kind: u8, message: &impl Message) -> Result<Vec<u8>, Status> {
    let length = message.encoded_len();
    if length > LIMIT {
        let text = format!("send a message of {length} bytes: at most {LIMIT} are allowed");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind, 0]);
    let _ = message.encode(&mut frame); // a Vec always has room
    Ok(frame)
}

/// Writes the number of the stream into a frame.
pub(super) fn set_stream(frame: &mut [u8], stream: u32) {
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&stream.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    fn request() -> Request {
        Request {
            service: "a.B".into(),
            method: "C".into(),
            payload: vec![7; 300],
            timeout_nano: 5,
            metadata: Vec::new(),
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut frame = encode(0, REQUEST, &request()).expect("small");
        set_stream(&mut frame, 9);
        let Read::Frame(header, message, None) = block_on(read(&mut frame.as_slice(), None)).expect("whole")
        else {
            panic!("no frame");
        };
        assert_eq!((header.stream, header.kind, header.flags), (9, REQUEST, 0));
        assert_eq!(Request::decode(message.as_slice()).expect("a request"), request());
    }

    #[test]
    fn the_end_between_frames_is_no_error_and_inside_one_it_is() {
        let frame = encode(1, REQUEST, &request()).expect("small");
        assert!(matches!(block_on(read(&mut &b""[..], None)), Ok(Read::End)));
        for cut in 1..frame.len() {
            assert!(block_on(read(&mut &frame[..cut], None)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_too_large_is_skipped_and_the_next_frame_is_read() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(LIMIT as u32 + 1).to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 3, REQUEST, 0]);
        bytes.resize(HEADER + LIMIT + 1, 0);
        bytes.extend(encode(5, REQUEST, &request()).expect("small"));
        let mut left = bytes.as_slice();
        assert!(matches!(block_on(read(&mut left, None)), Ok(Read::TooLarge(header)) if header.stream == 3));
        assert!(matches!(block_on(read(&mut left, None)), Ok(Read::Frame(header, ..)) if header.stream == 5));
    }

    #[test]
    fn a_large_message_is_read_when_there_is_memory_for_it() {
        let room = Room::new(0);
        let mut bytes = u32::try_from(LIMIT).expect("small").to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 3, REQUEST, 0]);
        bytes.resize(HEADER + LIMIT, 0);
        block_on(async {
            let first = read(&mut bytes.as_slice(), Some(&room)).await.expect("whole");
            let others = room.clone();
            let second = tokio::spawn(async move {
                let seen = read(&mut bytes.as_slice(), Some(&others)).await;
                matches!(seen, Ok(Read::Frame(..)))
            });
            tokio::task::yield_now().await;
            assert!(!second.is_finished(), "there is none while the first is not answered");
            // A small one needs none.
            let small = encode(5, REQUEST, &request()).expect("small");
            assert!(matches!(read(&mut small.as_slice(), Some(&room)).await, Ok(Read::Frame(..))));
            drop(first);
            assert!(second.await.expect("read"));
        });
    }
}
