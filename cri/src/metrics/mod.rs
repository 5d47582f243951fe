//! What Prometheus is told of the server itself: how long RPCs and their stages take, what fails, pods, images, pulls, shims' memory.
//! What pods use is in `stats`, for the kubelet.
//!
//! Counting costs a lookup under a read lock; what is a state and no count is looked at when somebody asks.

mod scrape;
mod server;

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use self::server::start;

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Prometheus may ask, `ADDRESS:PORT`; empty: nowhere. Nobody is asked who he is there: keep it on loopback or behind a proxy.
    pub listen: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rpc {
    method: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    work: &'static str,
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Session {
    verb: &'static str,
}

/// What is counted as it happens. One per process, as the process is what is scraped.
struct Counts {
    rpc: Family<Rpc, Histogram>,
    stage: Family<Stage, Histogram>,
    pull: Family<Outcome, Histogram>,
    layer_bytes: Counter,
    layers: Counter,
    sessions: Family<Session, Gauge>,
    events_lost: Counter,
}

static COUNTS: LazyLock<Counts> = LazyLock::new(|| Counts {
    rpc: Family::new_with_constructor(latencies),
    stage: Family::new_with_constructor(latencies),
    pull: Family::new_with_constructor(latencies),
    layer_bytes: Counter::default(),
    layers: Counter::default(),
    sessions: Family::default(),
    events_lost: Counter::default(),
});

/// From a list in memory to a pull over a slow line.
fn latencies() -> Histogram {
    Histogram::new([0.000_1, 0.000_5, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
}

fn outcome(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "error" }
}

/// An RPC has been answered, a stream's has begun. `path` is `/SERVICE/METHOD`, as a client gave it.
pub fn rpc(path: &str, code: tonic::Code, took: Duration) {
    // A path that is none of ours would be a new series each time.
    let known = path.strip_prefix("/runtime.v1.").and_then(|path| path.split_once('/'));
    let method = known.map(|(_, method)| method).filter(|_| code != tonic::Code::Unimplemented);
    let label = Rpc { method: method.unwrap_or("other").to_owned(), code: format!("{code:?}") };
    COUNTS.rpc.get_or_create(&label).observe(took.as_secs_f64());
}

/// A stage of making something is over.
pub fn stage(work: &'static str, stage: &'static str, is_ok: bool, took: Duration) {
    let label = Stage { work, stage, outcome: outcome(is_ok) };
    COUNTS.stage.get_or_create(&label).observe(took.as_secs_f64());
}

/// A pull is over.
pub fn pull(is_ok: bool, took: Duration) {
    COUNTS.pull.get_or_create(&Outcome { outcome: outcome(is_ok) }).observe(took.as_secs_f64());
}

/// So many compressed bytes of layers came from a registry.
pub fn layer_bytes(count: u64) {
    COUNTS.layer_bytes.inc_by(count);
}

/// A layer that a pull wanted is there.
pub fn layer_done() {
    COUNTS.layers.inc();
}

/// A reader of container events was too slow for so many of them.
pub fn events_lost(count: u64) {
    COUNTS.events_lost.inc_by(count);
}

/// A streaming session, counted while this lives.
pub struct OpenSession(Gauge);

/// A session of `exec`, `attach` or `portforward` begins.
pub fn session(verb: &'static str) -> OpenSession {
    let gauge = COUNTS.sessions.get_or_create(&Session { verb }).clone();
    gauge.inc();
    OpenSession(gauge)
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Counts {
    fn register(&self, registry: &mut Registry) {
        let help = "From a CRI request to its answer, or to the first message of a stream";
        registry.register_with_unit("rpc_duration", help, Unit::Seconds, self.rpc.clone());
        let help = "From the beginning to the end of a pull that a client asked for";
        registry.register_with_unit("image_pull_duration", help, Unit::Seconds, self.pull.clone());
        let help = "Compressed layers that came from registries";
        registry.register_with_unit("image_layer_received", help, Unit::Bytes, self.layer_bytes.clone());
        let help = "Layers that pulls wanted and that are there";
        registry.register("image_layers_ready", help, self.layers.clone());
        let help = "Stages of making sandboxes and containers";
        registry.register_with_unit("stage_duration", help, Unit::Seconds, self.stage.clone());
        registry.register("streaming_sessions", "Open exec, attach and port-forward", self.sessions.clone());
        registry.register(
            "events_lost",
            "Container events that slow readers have missed",
            self.events_lost.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let mut registry = Registry::with_prefix("rt_cri");
        COUNTS.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        text
    }

    #[test]
    fn a_clients_words_make_no_series() {
        rpc("/runtime.v1.RuntimeService/Version", tonic::Code::Ok, Duration::from_millis(1));
        rpc("/runtime.v1.RuntimeService/Nonsense1", tonic::Code::Unimplemented, Duration::ZERO);
        rpc("/nonsense/Nonsense2", tonic::Code::Unimplemented, Duration::ZERO);
        stage("run", "make files", false, Duration::from_millis(20));
        let text = text();
        assert!(
            text.contains(r#"rt_cri_rpc_duration_seconds_count{method="Version",code="Ok"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"method="other",code="Unimplemented"} 2"#), "{text}");
        assert!(!text.contains("Nonsense"), "{text}");
        let failed =
            r#"rt_cri_stage_duration_seconds_count{work="run",stage="make files",outcome="error"} 1"#;
        assert!(text.contains(failed), "{text}");
    }

    #[test]
    fn a_session_counts_while_it_lasts() {
        let open = session("exec");
        assert!(text().contains(r#"rt_cri_streaming_sessions{verb="exec"} 1"#));
        drop(open);
        assert!(text().contains(r#"rt_cri_streaming_sessions{verb="exec"} 0"#));
    }
}
