//! Traces: each request, and each stage of it, as a span that is sent to an OpenTelemetry collector (OTLP over HTTP). Only in builds
//! with the feature `otel`; what is a span is decided where the work is done.

use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::Result;

/// `[tracing]`
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The collector's URL, such as `http://127.0.0.1:4318/v1/traces`; empty: nobody is told.
    pub otlp_endpoint: String,
}

/// The target of spans that are for traces alone, and not for lines of the log.
pub const ONLY: &str = "cri::traces";

/// Sends spans until it is dropped; then those that wait are sent first.
#[must_use]
pub struct Traces(#[cfg(feature = "otel")] Option<exporting::Provider>);

/// Makes `subscriber` the program's, with traces where they are configured.
///
/// # Errors
/// `Unsupported` if they are configured and this build has none; `Invalid` for what is no URL.
#[cfg(not(feature = "otel"))]
pub fn start<S>(config: &Config, subscriber: S) -> Result<Traces>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    if !config.otlp_endpoint.is_empty() {
        let what =
            "send traces: tracing.otlp_endpoint is set, and this rt-cri was built without OpenTelemetry";
        return Err(crate::error::Error::unsupported(what).cure("build it with --features otel"));
    }
    subscriber.init();
    Ok(Traces())
}

#[cfg(feature = "otel")]
pub use exporting::start;

#[cfg(feature = "otel")]
mod exporting {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;

    use super::{Config, LookupSpan, Result, Subscriber, SubscriberInitExt, Traces};
    use crate::error::Error;

    pub type Provider = SdkTracerProvider;

    /// See the other one.
    pub fn start<S>(config: &Config, subscriber: S) -> Result<Traces>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        if config.otlp_endpoint.is_empty() {
            subscriber.init();
            return Ok(Traces(None));
        }
        let provider = provider(config)?;
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("rt-cri"));
        // Our own: those of libraries are of no use to anybody here.
        let ours = Targets::new().with_target("cri", tracing::Level::DEBUG);
        subscriber.with(spans.with_filter(ours)).init();
        Ok(Traces(Some(provider)))
    }

    fn provider(config: &Config) -> Result<Provider> {
        // Another part of the program may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&config.otlp_endpoint)
            .build()
            .map_err(|error| {
                Error::invalid(format!("tracing.otlp_endpoint {:?}: {error}", config.otlp_endpoint))
                    .cure("give the collector's URL, such as http://127.0.0.1:4318/v1/traces")
            })?;
        let resource = Resource::builder().with_service_name("rt-cri").build();
        Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
    }

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Some(provider) = &self.0
                && let Err(error) = provider.shutdown()
            {
                tracing::warn!(%error, "send the last traces");
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::{BufRead, BufReader, Read, Write};
        use std::net::TcpListener;

        /// The body of the first request, which is answered.
        fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
            let (socket, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(socket);
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).expect("a request");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a head");
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer =
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
            reader.get_mut().write_all(answer).expect("answered");
            (first, body)
        }

        #[test]
        fn a_request_and_its_stages_arrive_at_a_collector() {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let collector = std::thread::spawn(move || receive(&listener));
            let config = Config { otlp_endpoint: format!("http://{address}/v1/traces") };
            let traces = start(&config, tracing_subscriber::registry()).expect("traces");
            tracing::info_span!("request", id = "1-1", method = "RunPodSandbox").in_scope(|| {
                let stages = crate::stage::Stages::new("run");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let work = stages.at("make files", std::time::Duration::from_secs(1), async { Ok(()) });
                runtime.expect("a runtime").block_on(work).expect("nothing fails");
            });
            drop(traces);
            let (first, body) = collector.join().expect("no panic");
            assert_eq!(first.trim(), "POST /v1/traces HTTP/1.1");
            for word in ["rt-cri", "request", "RunPodSandbox", "1-1", "stage", "make files"] {
                let found = body.windows(word.len()).any(|window| window == word.as_bytes());
                assert!(found, "{word} is not in {}", String::from_utf8_lossy(&body));
            }
        }
    }
}

#[cfg(all(test, not(feature = "otel")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_traces_says_so() {
        let config = Config { otlp_endpoint: "http://127.0.0.1:4318/v1/traces".to_owned() };
        let Err(error) = start(&config, tracing_subscriber::registry()) else { panic!("traces") };
        assert!(error.to_string().contains("--features otel"), "{error}");
    }
}
