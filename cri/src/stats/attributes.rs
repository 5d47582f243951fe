//! Which container some statistics are of. It never changes, so it is encoded once and put into each answer as it is.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::api;
use crate::node::Container;

/// `ContainerAttributes` of CRI, encoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Bytes);

/// The message itself.
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<api::ContainerMetadata>,
    #[prost(map = "string, string", tag = "3")]
    labels: std::collections::HashMap<String, String>,
    #[prost(map = "string, string", tag = "4")]
    annotations: std::collections::HashMap<String, String>,
}

impl Attributes {
    /// Those of a container.
    pub fn of(container: &Container) -> Self {
        let fields = Fields {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        };
        Self(fields.encode_to_vec().into())
    }
}

impl Message for Attributes {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stand_in_an_answer_as_the_message_would() {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let fields = Fields { id: "c1".to_owned(), labels, ..Fields::default() };
        let attributes = Some(Attributes(fields.encode_to_vec().into()));
        let cpu = Some(api::CpuUsage { timestamp: 7, ..Default::default() });
        let stats = api::ContainerStats { attributes, cpu, ..Default::default() };

        #[derive(Clone, PartialEq, Message)]
        struct Read {
            #[prost(message, optional, tag = "1")]
            attributes: Option<Fields>,
            #[prost(message, optional, tag = "2")]
            cpu: Option<api::CpuUsage>,
        }
        let read = Read::decode(stats.encode_to_vec().as_slice()).expect("ContainerStats");
        assert_eq!((read.attributes, read.cpu), (Some(fields), stats.cpu));
    }
}
