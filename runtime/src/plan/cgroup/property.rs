//! A property of a systemd unit: a name and a value with its D-Bus type. Which ones a container gets is in `unit`.

use serde::{Serialize, Serializer};

/// One property of a unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Property {
    /// As in systemd's D-Bus interface.
    pub name: String,
    /// With its type.
    pub value: Value,
}

/// A value of one of the types that these properties have.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Uint32s(Vec<u32>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => value.serialize(serializer),
            Self::Int32(value) => value.serialize(serializer),
            Self::Uint32(value) => value.serialize(serializer),
            Self::Int64(value) => value.serialize(serializer),
            Self::Uint64(value) => value.serialize(serializer),
            Self::Double(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::Texts(value) => value.serialize(serializer),
            Self::Bytes(value) => value.serialize(serializer),
            Self::Uint32s(value) => value.serialize(serializer),
            Self::Pairs(value) => value.serialize(serializer),
        }
    }
}
