//! D-Bus messages as bytes: what a client of systemd writes and reads. It moves nothing.
//!
//! SPEC: dbus-specification, "Message Protocol". Little-endian only: both sides are on one machine, and the peer must take either.

use crate::plan::cgroup::property::{Property, Value};

/// Type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Call,
    /// Its answer.
    Return,
    /// Its refusal.
    Error,
    /// Told without being asked.
    Signal,
}

/// A call to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Bus name.
    pub destination: &'a str,
    /// Object.
    pub path: &'a str,
    /// Interface.
    pub interface: &'a str,
    /// Method.
    pub member: &'a str,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: Kind,
    /// The call that it answers; 0 for a signal.
    pub reply_to: u32,
    /// Method, signal or name of the error.
    pub name: String,
    /// Types of the body.
    pub signature: String,
    body: Vec<u8>,
}

/// Bodies are written with this.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// Longest message that the specification allows.
pub const LONGEST: usize = 1 << 27;

/// Bytes of the fixed part of a header, up to the length of its fields.
pub const FIXED: usize = 16;

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn uint32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn uint64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `b`
    pub fn boolean(&mut self, value: bool) {
        self.uint32(u32::from(value));
    }

    /// `s` or `o`
    pub fn text(&mut self, text: &str) {
        self.uint32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements are aligned to `to`.
    pub fn array(&mut self, to: usize, elements: impl FnOnce(&mut Self)) {
        self.uint32(0);
        let at = self.bytes.len() - 4;
        // The padding before the first element does not count.
        self.align(to);
        let start = self.bytes.len();
        elements(self);
        let len = (self.bytes.len() - start) as u32;
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// `a(sv)`
    pub fn properties<'a>(&mut self, properties: impl Iterator<Item = &'a Property>) {
        self.array(8, |array| {
            for property in properties {
                array.align(8);
                array.text(&property.name);
                array.variant(&property.value);
            }
        });
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => {
                self.signature("b");
                self.boolean(*value);
            }
            Value::Int32(value) => {
                self.signature("i");
                self.uint32(value.cast_unsigned());
            }
            Value::Uint32(value) => {
                self.signature("u");
                self.uint32(*value);
            }
            Value::Int64(value) => {
                self.signature("x");
                self.uint64(value.cast_unsigned());
            }
            Value::Uint64(value) => {
                self.signature("t");
                self.uint64(*value);
            }
            Value::Double(value) => {
                self.signature("d");
                self.uint64(value.to_bits());
            }
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Texts(all) => {
                self.signature("as");
                self.array(4, |array| all.iter().for_each(|text| array.text(text)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |array| array.bytes.extend(bytes));
            }
            Value::Uint32s(all) => {
                self.signature("au");
                self.array(4, |array| all.iter().for_each(|value| array.uint32(*value)));
            }
            Value::Pairs(all) => {
                self.signature("a(ss)");
                self.array(8, |array| {
                    for (first, second) in all {
                        array.align(8);
                        array.text(first);
                        array.text(second);
                    }
                });
            }
        }
    }
}

impl Call<'_> {
    /// The whole message.
    pub fn encode(&self, serial: u32, signature: &str, body: &Writer) -> Vec<u8> {
        let mut out = Writer::default();
        // Little-endian, method call, no flags, version 1.
        out.bytes.extend([b'l', 1, 0, 1]);
        out.uint32(body.bytes.len() as u32);
        out.uint32(serial);
        let texts = [
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
        ];
        out.array(8, |array| {
            for (code, kind, text) in texts {
                array.align(8);
                array.bytes.push(code);
                array.signature(kind);
                array.text(text);
            }
            if !signature.is_empty() {
                array.align(8);
                array.bytes.push(8);
                array.signature("g");
                array.signature(signature);
            }
        });
        out.align(8);
        out.bytes.extend(&body.bytes);
        out.bytes
    }
}

/// Length of a whole message, from its first [`FIXED`] bytes; `None`: not D-Bus, or too long.
pub fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let mut reader = Reader { bytes: fixed, at: 4, big: endian(fixed[0])? };
    let body = reader.uint32()? as usize;
    reader.at = 12;
    let fields = reader.uint32()? as usize;
    let whole = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (whole <= LONGEST).then_some(whole)
}

fn endian(first: u8) -> Option<bool> {
    match first {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// `None` if that is no message of version 1.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        };
        let mut reader = Reader { bytes, at: 12, big: endian(bytes[0])? };
        let end = FIXED + reader.uint32()? as usize;
        let mut message =
            Self { kind, reply_to: 0, name: String::new(), signature: String::new(), body: Vec::new() };
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            let of = reader.signature()?;
            match (code, of.as_str()) {
                (5, "u") => message.reply_to = reader.uint32()?,
                (3 | 4, "s") => message.name = reader.text()?,
                (8, "g") => message.signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.uint32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        reader.align(8);
        // The byte order goes along: the body is read by the same rules.
        message.body.push(bytes[0]);
        message.body.extend(bytes.get(reader.at..)?);
        Some(message)
    }

    /// Reads the body, which begins on a multiple of eight.
    pub fn body(&self) -> Reader<'_> {
        let big = self.body.first() == Some(&b'B');
        Reader { bytes: self.body.get(1..).unwrap_or_default(), at: 0, big }
    }
}

/// Reads values from bytes; `None` where they end too early or make no sense.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// `u`
    pub fn uint32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes: [u8; 4] = self.bytes.get(self.at..self.at.checked_add(4)?)?.try_into().ok()?;
        self.at += 4;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Option<String> {
        let len = self.uint32()? as usize;
        self.until_nul(len)
    }

    fn signature(&mut self) -> Option<String> {
        let len = usize::from(self.byte()?);
        self.until_nul(len)
    }

    fn until_nul(&mut self, len: usize) -> Option<String> {
        let end = self.at.checked_add(len)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        (self.bytes.get(end) == Some(&0)).then(|| self.at = end + 1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'static> = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StopUnit",
    };

    /// Laid out by hand after the specification.
    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let mut body = Writer::default();
        body.text("a.scope");
        body.text("replace");
        let mut expected = Vec::new();
        expected.extend(b"l\x01\x00\x01\x1c\0\0\0\x07\0\0\0\x90\0\0\0");
        expected.extend(b"\x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0");
        expected.extend(b"\x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0");
        expected.extend(b"\x03\x01s\0\x08\0\0\0StopUnit\0\0\0\0\0\0\0\0");
        expected.extend(b"\x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0");
        expected.extend(b"\x08\x01g\0\x02ss\0");
        expected.extend(b"\x07\0\0\0a.scope\0\x07\0\0\0replace\0");
        let bytes = CALL.encode(7, "ss", &body);
        // The body ends without padding.
        expected[4] = (body.bytes.len()) as u8;
        let fields = expected.len() - 16 - body.bytes.len();
        expected[12] = fields as u8;
        assert_eq!(bytes, expected);
        assert_eq!(length(bytes[..16].try_into().unwrap()), Some(bytes.len()));
    }

    #[test]
    fn values_are_aligned_inside_variants() {
        let property = |name: &str, value| Property { name: name.into(), value };
        let list = [
            property("A", Value::Uint64(1)),
            property("BC", Value::Bytes(vec![7])),
            property("D", Value::Pairs(vec![("x".into(), "y".into())])),
            property("PIDs", Value::Uint32s(vec![9])),
        ];
        let mut body = Writer::default();
        body.properties(list.iter());
        let mut expected = Vec::new();
        expected.extend(b"\x67\0\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0A\0\x01t\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
        expected.extend(b"\x02\0\0\0BC\0\x02ay\0\0\x01\0\0\0\x07\0\0\0\0\0\0\0");
        expected
            .extend(b"\x01\0\0\0D\0\x05a(ss)\0\0\0\0\x0e\0\0\0\0\0\0\0\x01\0\0\0x\0\0\0\x01\0\0\0y\0\0\0");
        expected.extend(b"\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x09\0\0\0");
        let len = expected.len() as u8 - 8;
        expected[0] = len;
        assert_eq!(body.bytes, expected, "{:x?}\n{:x?}", body.bytes, expected);
    }

    /// As systemd tells the end of a job, laid out by hand too.
    #[test]
    fn a_signal_is_read() {
        let mut bytes = b"l\x04\x01\x01\x3c\0\0\0\x05\0\0\0\x7f\0\0\0".to_vec();
        bytes.extend(b"\x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0");
        bytes.extend(b"\x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0");
        bytes.extend(b"\x03\x01s\0\x0a\0\0\0JobRemoved\0\0\0\0\0\0");
        bytes.extend(b"\x08\x01g\0\x04uoss\0");
        let fields = (bytes.len() - 16) as u8;
        bytes[12] = fields;
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let start = bytes.len();
        bytes.extend(b"\x2a\0\0\0\x06\0\0\0/job/4\0\0\x07\0\0\0a.scope\0\x04\0\0\0done\0");
        bytes[4] = (bytes.len() - start) as u8;
        assert_eq!(length(bytes[..16].try_into().unwrap()), Some(bytes.len()));
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(
            (message.kind, message.name.as_str(), message.signature.as_str()),
            (Kind::Signal, "JobRemoved", "uoss")
        );
        let mut body = message.body();
        assert_eq!(body.uint32(), Some(42));
        assert_eq!(body.text().as_deref(), Some("/job/4"));
        assert_eq!(body.text().as_deref(), Some("a.scope"));
        assert_eq!(body.text().as_deref(), Some("done"));
        assert_eq!(body.text(), None);
    }

    /// Nothing that is cut or changed may end in a panic.
    #[test]
    fn broken_messages_are_refused() {
        let mut body = Writer::default();
        body.text("x");
        let whole = CALL.encode(1, "s", &body);
        assert!(Message::decode(&whole).is_some());
        for len in 0..whole.len() {
            let _ = Message::decode(&whole[..len]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = Message::decode(&broken).map(|message| message.body().text());
                let _ = length(broken[..16].try_into().unwrap());
            }
        }
        assert_eq!(length(b"l\x01\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0"), None);
        assert_eq!(length(b"x\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0"), None);
    }
}
