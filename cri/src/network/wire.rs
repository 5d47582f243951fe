//! Netlink messages as bytes: headers, attributes, nests. It knows no family's meaning and sends nothing.

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// `NLM_F_*`
pub const REQUEST: u16 = 1;
/// An answer is wanted even if all is well.
pub const ACK: u16 = 4;
/// All of them, not one.
pub const DUMP: u16 = 0x300;
/// What exists already is replaced.
pub const REPLACE: u16 = 0x100;
/// What exists already is an error.
pub const EXCL: u16 = 0x200;
/// What does not exist is made.
pub const CREATE: u16 = 0x400;
/// At the end of its list.
pub const APPEND: u16 = 0x800;

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;

/// One message in the making.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of a type, with the family's own fixed header.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        pad(&mut bytes);
        Self { bytes }
    }

    /// An attribute of bytes.
    #[must_use]
    pub fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(&mut self.bytes);
        self
    }

    /// An attribute of text, closed by a NUL.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// A number in the machine's byte order, as routing wants it.
    #[must_use]
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as netfilter wants it.
    #[must_use]
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A long number in network byte order.
    #[must_use]
    pub fn be64(self, kind: u16, value: u64) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// An attribute that holds what `inside` adds.
    #[must_use]
    pub fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut whole = inside(self);
        let length = (whole.bytes.len() - start) as u16;
        whole.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        whole
    }

    /// Bytes as they are, such as another family's header inside a nest.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        pad(&mut self.bytes);
        self
    }

    /// The bytes to send, under a sequence number; `flags` are added.
    pub fn finish(mut self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        let all = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its type.
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of one datagram; what is cut off at its end is left out.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        let received = Received {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// The attributes of a message's rest or of a nest: type without flags, value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Text without its NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The number at an offset, in the machine's byte order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let message = Message::new(16, CREATE, &[1, 2, 3])
            .text(3, "eth0")
            .nest(18, |nest| nest.text(1, "veth").nest(2, |nest| nest.u32(7, 9)));
        let bytes = [message.clone().finish(4, ACK), message.finish(5, 0)].concat();
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].flags, all[0].sequence), (16, REQUEST | CREATE | ACK, 4));
        let rest = &all[1].payload[4..];
        assert_eq!(text(attribute(rest, 3).unwrap()), "eth0");
        let inner = attribute(attribute(rest, 18).unwrap(), 2).unwrap();
        assert_eq!(u32_at(attribute(inner, 7).unwrap(), 0), Some(9));
    }

    #[test]
    fn nonsense_ends_the_list_and_does_not_panic() {
        for bytes in [&[0u8; 3][..], &[0; 40], &[255; 40], &[9, 0, 0, 0, 1]] {
            assert_eq!(messages(bytes).count(), 0);
            assert_eq!(attributes(bytes).count(), 0);
        }
    }
}
