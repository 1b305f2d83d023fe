//! What a running server shows of itself: log lines and numbers.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Upper edges of the duration histograms, in seconds.
const BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What libraries say of themselves in a normal run is no news of ours; a filter that names them goes before this.
const QUIET: &str = "actix_server=warn,actix_http=warn,actix_web=warn,tracing=warn";

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging to standard error: lines for people on a terminal, JSON otherwise. `filter` has the syntax of `RUST_LOG`, which goes
/// before it. Does nothing when logging has been started already.
pub fn start_logging(filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},{filter}")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        builder.compact().with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    drop(started);
}

/// Starts counting; from here on the `metrics` macros count. Does nothing the second time.
pub fn start_metrics() {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new().set_buckets(BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder();
        let handle = recorder.handle();
        // Another recorder in this process keeps its place; ours then renders nothing.
        drop(metrics::set_global_recorder(recorder));
        metrics::describe_counter!("muster_http_requests_total", "Requests answered, by face, route, method and status");
        metrics::describe_histogram!("muster_http_request_seconds", "Time from request to answer, by face and route");
        metrics::describe_counter!("muster_panics_total", "Panics caught while answering: each is a bug");
        metrics::describe_counter!("muster_http_throttled_total", "Requests refused because their address sent too many");
        handle
    });
}

/// All numbers in Prometheus's text format; empty before [`start_metrics`].
#[must_use]
pub fn render_metrics() -> String {
    METRICS.get().map_or_else(String::new, |handle| {
        handle.run_upkeep();
        handle.render()
    })
}
