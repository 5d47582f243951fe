//! How containerd starts a shim: what it says on stdin, and the answer in the form that this containerd understands.
//!
//! 1.6 to 2.2 send the runtime's options and take a plain address, with which they speak task v2. 2.3 and later send
//! BootstrapParams and take BootstrapResult, with which they speak task v3; both as protobuf (read in 2.4.2's source, although
//! the protocol's own comment says JSON: that is understood as well). Old options may happen to parse as
//! BootstrapParams, so the id in them has to be the one on the command line.

use std::path::Path;

use prost::Message;
use prost_types::Any;

use crate::api::containerd::runtime::bootstrap::v1 as api;
use crate::cli::Caller;
use crate::error::{Context, Error, Result};

/// What containerd said beside its flags.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The runtime's options.
    pub options: Option<Any>,
    /// Where it takes events.
    pub events: Option<String>,
    /// Where it wants the shim's socket to be.
    pub socket_dir: Option<String>,
    /// Whether debug messages are wanted.
    pub debug: bool,
    form: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Plain,
    Protobuf,
    Json,
}

/// The type of the options that are meant for the runtime.
const OPTIONS: [&str; 2] = ["containerd.runc.v1.Options", "runtimeoptions.v1.Options"];

impl Asked {
    /// Reads what came on stdin.
    ///
    /// # Errors
    /// Invalid: neither of the forms.
    pub fn read(input: &[u8], caller: &Caller) -> Result<Self> {
        if input.trim_ascii_start().first() == Some(&b'{') {
            return from_json(input);
        }
        let params = api::BootstrapParams::decode(input).ok().filter(|params| {
            !params.instance_id.is_empty()
                && params.instance_id == caller.id
                && params.namespace == caller.namespace
        });
        let Some(params) = params else {
            let any = Any::decode(input)
                .map_err(|error| Error::invalid(format!("read what containerd sent: {error}")))?;
            let options = (!any.type_url.is_empty()).then_some(any);
            return Ok(Self { options, ..Self::default() });
        };
        let mut values = params.extensions.into_iter().filter_map(|extension| extension.value);
        Ok(Self {
            options: values.find(|any| OPTIONS.iter().any(|known| any.type_url.ends_with(known))),
            events: Some(params.containerd_ttrpc_address).filter(|address| !address.is_empty()),
            socket_dir: params.socket_dir.filter(|dir| !dir.is_empty()),
            debug: params.log_level <= api::LogLevel::Debug as i32,
            form: Form::Protobuf,
        })
    }

    /// Keeps a plain address where a containerd that starts again looks for it: 1.6 leaves this to the shim.
    ///
    /// # Errors
    /// The bundle can't be written to.
    pub fn keep(&self, answer: &[u8], bundle: &Path) -> Result<()> {
        if self.form != Form::Plain {
            return Ok(());
        }
        let (path, draft) = (bundle.join("address"), bundle.join(".address"));
        let what = || format!("write {}", path.display());
        std::fs::write(&draft, answer).what(what)?;
        std::fs::rename(&draft, &path).what(what)
    }

    /// The answer: the address of the socket, in the form that was asked for.
    pub fn answer(&self, address: &str) -> Vec<u8> {
        match self.form {
            Form::Plain => address.as_bytes().to_vec(),
            Form::Protobuf => api::BootstrapResult {
                version: 3,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..api::BootstrapResult::default()
            }
            .encode_to_vec(),
            Form::Json => serde_json::json!({ "version": 3, "address": address, "protocol": "ttrpc" })
                .to_string()
                .into_bytes(),
        }
    }
}

/// The JSON form, in protobuf's spelling of names or in Go's.
fn from_json(input: &[u8]) -> Result<Asked> {
    let value: serde_json::Value = serde_json::from_slice(input)
        .map_err(|error| Error::invalid(format!("read what containerd sent: {error}")))?;
    let text = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| value.get(name)?.as_str());
        found.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if value.get("extensions").and_then(|list| list.as_array()).is_some_and(|list| !list.is_empty()) {
        return Err(Error::unsupported("read what containerd sent: options inside JSON"));
    }
    Ok(Asked {
        options: None,
        events: text(["containerd_ttrpc_address", "containerdTtrpcAddress"]),
        socket_dir: text(["socket_dir", "socketDir"]),
        debug: false,
        form: Form::Json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { id: "c1".into(), namespace: "default".into(), ..Caller::default() }
    }

    fn options() -> Any {
        Any { type_url: "containerd.runc.v1.Options".into(), value: vec![0x32, 1, b'x'] }
    }

    #[test]
    fn options_alone_are_answered_with_a_plain_address() {
        for input in [Vec::new(), options().encode_to_vec()] {
            let asked = Asked::read(&input, &caller()).expect("understood");
            assert_eq!(asked.options.is_some(), !input.is_empty());
            assert_eq!(asked.answer("unix:///s"), b"unix:///s");
        }
    }

    #[test]
    fn parameters_are_answered_with_a_result() {
        let params = api::BootstrapParams {
            instance_id: "c1".into(),
            namespace: "default".into(),
            containerd_ttrpc_address: "/run/c.ttrpc".into(),
            socket_dir: Some("/run/s".into()),
            extensions: vec![api::Extension { value: Some(options()) }],
            ..api::BootstrapParams::default()
        };
        let asked = Asked::read(&params.encode_to_vec(), &caller()).expect("understood");
        assert_eq!(asked.options, Some(options()));
        assert_eq!(
            (asked.events.as_deref(), asked.socket_dir.as_deref()),
            (Some("/run/c.ttrpc"), Some("/run/s"))
        );
        let result = api::BootstrapResult::decode(asked.answer("unix:///s").as_slice()).expect("a result");
        assert_eq!(
            (result.version, result.address.as_str(), result.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }

    #[test]
    fn parameters_of_another_container_are_not_taken_for_ours() {
        let params = api::BootstrapParams { instance_id: "other".into(), ..api::BootstrapParams::default() };
        let asked = Asked::read(&params.encode_to_vec(), &caller());
        assert!(asked.is_ok_and(|asked| asked.form == Form::Plain));
    }

    #[test]
    fn json_is_answered_with_json() {
        let input =
            br#"{"instance_id":"c1","namespace":"default","containerd_ttrpc_address":"/run/c.ttrpc"}"#;
        let asked = Asked::read(input, &caller()).expect("understood");
        assert_eq!(asked.events.as_deref(), Some("/run/c.ttrpc"));
        let answer: serde_json::Value = serde_json::from_slice(&asked.answer("unix:///s")).expect("JSON");
        assert_eq!((answer["version"].as_i64(), answer["address"].as_str()), (Some(3), Some("unix:///s")));
        assert!(
            Asked::read(br#"{"extensions":[{}]}"#, &caller()).is_err()
                && Asked::read(b"{", &caller()).is_err()
        );
    }
}
