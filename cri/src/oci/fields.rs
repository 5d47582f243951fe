//! Messages as the fields that they are on the wire, and what to put into them, for those who mutate requests.

/// What is put into text.
pub const WORDS: [&str; 22] = [
    "",
    "/",
    "..",
    "../../etc/passwd",
    "/proc/self/fd/3",
    "a\0b",
    "\n",
    " ",
    "\u{202e}",
    "localhost/x",
    "runtime/default",
    "-1",
    "4294967295",
    "18446744073709551616",
    "0-3,5",
    "cpu.max",
    "../x",
    "net.ipv4.x",
    "kernel.shmmax",
    "2MB",
    "rwm",
    "system.slice",
];

/// What is put into numbers.
pub const NUMBERS: [u64; 10] = [0, 1, 2, 3, 99, u64::MAX, 1 << 31, 1 << 32, i64::MAX as u64, i64::MIN as u64];

/// One field as it is on the wire.
#[derive(Debug, Clone)]
pub enum Part {
    /// A number.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(Vec<u8>),
}

/// The fields of a message, one at least; None: these bytes are no message. CRI has no numbers of fixed size.
pub fn parse(mut bytes: &[u8]) -> Option<Vec<(u64, Part)>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let tag = prost::encoding::decode_varint(&mut bytes).ok()?;
        let value = prost::encoding::decode_varint(&mut bytes).ok()?;
        let part = match tag & 7 {
            0 => Part::Number(value),
            2 => {
                let (this, rest) = bytes.split_at_checked(usize::try_from(value).ok()?)?;
                bytes = rest;
                Part::Bytes(this.to_vec())
            }
            _ => return None,
        };
        parts.push((tag >> 3, part));
    }
    Some(parts).filter(|parts| !parts.is_empty())
}

/// The message again.
pub fn written(parts: &[(u64, Part)]) -> Vec<u8> {
    use prost::encoding::encode_varint;
    let mut bytes = Vec::new();
    for (number, part) in parts {
        match part {
            Part::Number(value) => {
                encode_varint(number << 3, &mut bytes);
                encode_varint(*value, &mut bytes);
            }
            Part::Bytes(value) => {
                encode_varint(number << 3 | 2, &mut bytes);
                encode_varint(value.len() as u64, &mut bytes);
                bytes.extend(value);
            }
        }
    }
    bytes
}
