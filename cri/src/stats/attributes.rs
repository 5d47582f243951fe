//! Which container some statistics are of. It never changes, so it is encoded once.

use prost::Message;

use crate::api;
use crate::bounds;
use crate::encoded::Encoded;
use crate::node::Container;

/// The message itself.
#[derive(Clone, PartialEq, Message)]
pub struct Fields {
    /// Of the container.
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<api::ContainerMetadata>,
    /// As asked for.
    #[prost(map = "string, string", tag = "3")]
    pub labels: std::collections::HashMap<String, String>,
    /// As asked for.
    #[prost(map = "string, string", tag = "4")]
    pub annotations: std::collections::HashMap<String, String>,
}

/// `ContainerAttributes` of a container.
pub fn of(container: &Container) -> Encoded {
    Encoded::of(&Fields {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
    })
}

/// The same with at most so many bytes, as far as that goes.
pub fn shorter(attributes: &Encoded, most: usize) -> Encoded {
    // We have encoded them.
    let mut fields = Fields::decode(attributes.bytes()).unwrap_or_default();
    bounds::fit("attributes", std::slice::from_mut(&mut fields), most);
    Encoded::of(&fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stand_in_an_answer_as_the_message_would() {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let fields = Fields { id: "c1".to_owned(), labels, ..Fields::default() };
        let attributes = Some(Encoded::of(&fields));
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
