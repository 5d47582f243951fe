//! Messages that were encoded before: they are put into an answer as they are.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

/// In the place of any message, and read by nobody here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Encoded(Bytes);

impl Encoded {
    /// The message, encoded.
    pub fn of(message: &impl Message) -> Self {
        Self(message.encode_to_vec().into())
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A list's answer, `ListContainersResponse` and its like: on the wire, repeated messages are repeated bytes.
#[derive(Clone, PartialEq, Message)]
pub struct Listed {
    /// Each a message, encoded.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub items: Vec<Bytes>,
}

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    /// Nobody sends them here.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
