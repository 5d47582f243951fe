//! Messages to stderr, a line each, as containerd's log has them. A handful of lines in a shim's life: no queue, no colours.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::{Error, Result};
use crate::request;

struct Lines {
    most: Level,
}

/// Writes messages up to a level (error, warn, info, debug, trace; empty: info) to stderr from now on.
///
/// # Errors
/// Invalid: no such level.
pub fn to_stderr(level: &str) -> Result<()> {
    let most = match level {
        "" => Level::INFO,
        named => named.parse().map_err(|_| Error::invalid(format!("set the log level to {named:?}")))?,
    };
    // Fails only where a subscriber is set already, as tests may.
    let _ = tracing::subscriber::set_global_default(Lines { most });
    Ok(())
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.most.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let seconds =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        if let Some(request) = request::current() {
            let _ = write!(text.fields, " request={request:?}"); // writing to a string can't fail
        }
        let line = format!("time={seconds} level={level} msg={:?}{}\n", text.message, text.fields);
        // Where nobody reads any more there is nobody to tell.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    // Spans are not used.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string can't fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
