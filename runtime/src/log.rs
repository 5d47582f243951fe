//! Where messages go: `--log FILE` in the form that engines parse, else standard error. It decides no exit code.
//!
//! A subscriber of our own: a general one costs more than many a command does (reference/crates.md §14).
//! Warnings come as [`tracing`] events from anywhere; an error is reported once, at the edge, by [`report`].

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Metadata, Subscriber, span};

use crate::error::{Context, Error, Result, errno_name, visible};

/// The options of the command line that concern messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Absent: standard error.
    pub file: Option<PathBuf>,
    /// How a line is written.
    pub format: LogFormat,
    /// The least that is written; absent: warnings.
    pub level: Option<Level>,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`, as logrus does. An error alone on standard error is `rt: …`.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`, one object a line: the shims of containerd and podman show its msg. An error that ends
    /// the command also has its `kind` in a word, and the `errno` at its root, if there is one.
    Json,
}

/// From worst to least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The command failed.
    Error,
    /// Something was ignored.
    Warning,
    /// What is done.
    Info,
    /// How.
    Debug,
    /// All of it.
    Trace,
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warning => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }

    /// As logrus calls it.
    fn name(level: tracing::Level) -> &'static str {
        match level {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warning",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        }
    }
}

struct Log {
    file: Option<OwnedFd>,
    format: LogFormat,
    filter: LevelFilter,
    /// What the caller calls the request that this command is a part of.
    request: Option<String>,
}

/// The caller's name for its request: it stands in every line. Containers and hooks have an environment of their own.
const REQUEST: &str = "RT_REQUEST_ID";

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log and sends events there. Once per process; a second call changes nothing.
pub fn install(options: &LogOptions) -> Result<()> {
    let file = match options.file.as_deref() {
        Some(path) if !is_stderr(path) => Some(open(path)?),
        _ => None,
    };
    let filter = options.level.unwrap_or(Level::Warning).filter();
    let request = std::env::var(REQUEST).ok().filter(|id| is_request_id(id));
    if LOG.set(Log { file, format: options.format, filter, request }).is_ok() {
        // Someone who uses this crate as a library may have a subscriber already; then events are theirs.
        let _ = tracing::dispatcher::set_global_default(Dispatch::new(Lines));
    }
    Ok(())
}

/// Reports the error that ends the command: in the log, and on standard error for whoever looks there.
pub fn report(error: &Error) {
    let log = LOG.get();
    let mut fields = vec![("kind", error.kind().word().to_owned())];
    fields.extend(log.and_then(Log::request));
    fields.extend(error.errno().map(|errno| ("errno", errno_name(errno))));
    let line = |format| line(format, tracing::Level::ERROR, &error.to_string(), &fields);
    let file = log.and_then(|log| log.file.as_ref().map(|file| (file, log.format)));
    if let Some((file, format)) = file {
        write(file, &line(format));
    }
    match log {
        Some(Log { file: None, format: LogFormat::Json, .. }) => {
            write(std::io::stderr(), &line(LogFormat::Json));
        }
        _ => write(std::io::stderr(), &format!("rt: {}\n", visible(&error.to_string()))),
    }
}

impl Log {
    fn request(&self) -> Option<(&'static str, String)> {
        self.request.as_ref().map(|id| ("request", id.clone()))
    }
}

/// Nothing that could make two lines of one, or a long one.
fn is_request_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn open(path: &Path) -> Result<OwnedFd> {
    crate::outfile::append(path).what(|| format!("open log {}", path.display()))
}

fn is_stderr(path: &Path) -> bool {
    ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"].iter().any(|name| Path::new(name) == path)
}

/// A log that can't be written must not stop a container.
fn write(to: impl AsFd, line: &str) {
    let mut left = line.as_bytes();
    while !left.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(&to, left)) {
            Ok(written) if written > 0 => left = &left[written..],
            _ => return,
        }
    }
}

fn line(
    format: LogFormat,
    level: tracing::Level,
    message: &str,
    fields: &[(&'static str, String)],
) -> String {
    let (level, time) = (Level::name(level), crate::clock::now());
    let mut out = String::with_capacity(96 + message.len());
    let written = match format {
        LogFormat::Text => {
            let fields = fields.iter().try_fold(String::new(), |mut all, (name, value)| {
                write!(all, " {name}={value:?}").map(|()| all)
            });
            writeln!(out, "time=\"{time}\" level={level} msg={message:?}{}", fields.unwrap_or_default())
        }
        LogFormat::Json => {
            let fields = fields.iter().try_fold(String::new(), |mut all, (name, value)| {
                write!(all, ",{}:{}", json(name), json(value)).map(|()| all)
            });
            let message = json(message);
            writeln!(
                out,
                "{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"{}}}",
                fields.unwrap_or_default()
            )
        }
    };
    debug_assert!(written.is_ok());
    out
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes each event as a line; knows no spans.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        LOG.get().is_some_and(|log| metadata.is_event() && log.filter >= *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        LOG.get().map(|log| log.filter)
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = LOG.get() else { return };
        let mut parts = Parts::default();
        event.record(&mut parts);
        parts.fields.extend(log.request());
        let level = *event.metadata().level();
        match &log.file {
            Some(file) => write(file, &line(log.format, level, &parts.message, &parts.fields)),
            None if log.format == LogFormat::Text && std::io::stderr().is_terminal() => {
                write(
                    std::io::stderr(),
                    &format!("rt: {}: {}\n", Level::name(level), visible(&parts.message)),
                );
            }
            None => write(std::io::stderr(), &line(log.format, level, &parts.message, &parts.fields)),
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => self.fields.push((name, value.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_one_object_whatever_the_message_holds() {
        let message = "open \"/x\n\u{1}\": é";
        let text = line(LogFormat::Json, tracing::Level::WARN, message, &[("cgroup", "/a \"b\"".into())]);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["level"], &value["msg"], &value["cgroup"]),
            (&"warning".into(), &message.into(), &"/a \"b\"".into())
        );
        assert!(text.starts_with("{\"level\":\"warning\",\"msg\":\"open"), "{text}");
        assert_eq!(value["time"].as_str().unwrap().len(), "2026-11-21T04:05:48.123456789Z".len());
    }

    #[test]
    fn a_text_line_is_logrus() {
        let text = line(LogFormat::Text, tracing::Level::ERROR, "open \"x\"", &[("pid", "7".into())]);
        assert!(text.starts_with("time=\"20"), "{text}");
        assert!(text.ends_with("Z\" level=error msg=\"open \\\"x\\\"\" pid=\"7\"\n"), "{text}");
    }

    #[test]
    fn a_request_id_is_one_short_word() {
        assert!(is_request_id("7f3a-12/x"));
        for id in ["", "two words", "a\nb", "é", &"x".repeat(65)] {
            assert!(!is_request_id(id), "{id:?}");
        }
    }

    #[test]
    fn standard_error_has_several_names() {
        assert!(is_stderr(Path::new("/dev/stderr")) && !is_stderr(Path::new("/var/log/x")));
    }
}
