//! Every field of CRI's requests, by the protocol's own description, and the bytes that set one: appended to a good request, they replace
//! or add that field alone.
//!
//! It knows no meaning of any field.

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;

/// A field of a message, however deep.
#[derive(Debug, Clone)]
pub struct Field {
    /// `config.linux.cgroup_parent`
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// From the outermost message in: number, and the type of the message that it leads to.
    way: Vec<(u32, String)>,
    number: u32,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, or bytes.
    Text,
    /// A number, a truth value or an enum's.
    Number,
    /// A message.
    Message,
}

/// Something to put into a field.
#[derive(Debug, Clone)]
pub enum Value {
    /// Into text or a message.
    Bytes(Vec<u8>),
    /// Into a number.
    Number(u64),
}

/// The requests of CRI.
pub struct Requests {
    messages: BTreeMap<String, DescriptorProto>,
    /// Method (`RuntimeService/Version`) and its request's type.
    pub methods: Vec<(String, String)>,
}

impl Requests {
    /// As the protocol file has them.
    pub fn read() -> Self {
        let set = include_bytes!(concat!(env!("OUT_DIR"), "/cri.desc"));
        let set = FileDescriptorSet::decode(&set[..]).expect("a set of descriptors");
        let mut messages = BTreeMap::new();
        let mut methods = Vec::new();
        for file in set.file {
            let package = format!(".{}", file.package());
            for message in file.message_type {
                enter(&mut messages, &package, message);
            }
            for service in &file.service {
                let method = |method: &prost_types::MethodDescriptorProto| {
                    (format!("{}/{}", service.name(), method.name()), method.input_type().to_owned())
                };
                methods.extend(service.method.iter().map(method));
            }
        }
        Self { messages, methods }
    }

    /// All fields of a request, deep ones too.
    pub fn fields(&self, message: &str) -> Vec<Field> {
        let mut found = Vec::new();
        self.below(message, "", &[], &mut found);
        found
    }

    fn below(&self, message: &str, prefix: &str, way: &[(u32, String)], found: &mut Vec<Field>) {
        for field in &self.messages[message].field {
            let name = format!("{prefix}{}", field.name());
            let number = u32::try_from(field.number()).expect("a field's number");
            let kind = match field.r#type() {
                Type::String | Type::Bytes => Kind::Text,
                Type::Message => Kind::Message,
                Type::Double | Type::Float => continue,
                _ => Kind::Number,
            };
            found.push(Field { name: name.clone(), kind, way: way.to_vec(), number });
            if kind == Kind::Message {
                let mut way = way.to_vec();
                way.push((number, field.type_name().to_owned()));
                self.below(field.type_name(), &format!("{name}."), &way, found);
            }
        }
    }
}

fn enter(messages: &mut BTreeMap<String, DescriptorProto>, prefix: &str, message: DescriptorProto) {
    let name = format!("{prefix}.{}", message.name());
    for nested in message.nested_type.clone() {
        enter(messages, &name, nested);
    }
    messages.insert(name, message);
}

impl Field {
    /// The bytes that set it. `good` has, by the type of a message, what an element of it needs beside the field to make sense.
    pub fn set(&self, value: &Value, good: &BTreeMap<&str, Vec<u8>>) -> Vec<u8> {
        let mut bytes = match value {
            Value::Bytes(bytes) => part(self.number, bytes),
            Value::Number(number) => {
                let mut bytes = Vec::new();
                varint(&mut bytes, u64::from(self.number) << 3);
                varint(&mut bytes, *number);
                bytes
            }
        };
        for (number, kind) in self.way.iter().rev() {
            let mut element = good.get(kind.as_str()).cloned().unwrap_or_default();
            element.extend(bytes);
            bytes = part(*number, &element);
        }
        bytes
    }
}

fn part(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut made = Vec::new();
    varint(&mut made, u64::from(number) << 3 | 2);
    varint(&mut made, bytes.len() as u64);
    made.extend_from_slice(bytes);
    made
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
