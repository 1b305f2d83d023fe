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
    if started.is_ok() {
        drop(log::set_logger(&Libraries));
        log::set_max_level(log::LevelFilter::Debug);
        std::panic::set_hook(Box::new(|panic| {
            let said = panic.payload_as_str().unwrap_or_default();
            let at = panic.location().map(|at| format!("{}:{}", short(at.file()), at.line())).unwrap_or_default();
            tracing::error!(panic = said, at, "a panic: this is a bug");
        }));
    }
}

/// Takes the lines of libraries that log by the `log` crate. What they tell of their source files is left out: those are paths of the
/// machine that built the program.
struct Libraries;

impl log::Log for Libraries {
    fn enabled(&self, line: &log::Metadata<'_>) -> bool {
        match line.level() {
            log::Level::Error => tracing::enabled!(target: "library", tracing::Level::ERROR),
            log::Level::Warn => tracing::enabled!(target: "library", tracing::Level::WARN),
            log::Level::Info => tracing::enabled!(target: "library", tracing::Level::INFO),
            log::Level::Debug | log::Level::Trace => tracing::enabled!(target: "library", tracing::Level::DEBUG),
        }
    }

    fn log(&self, line: &log::Record<'_>) {
        let (from, said) = (line.target(), line.args());
        match line.level() {
            log::Level::Error => tracing::error!(target: "library", from, "{said}"),
            log::Level::Warn => tracing::warn!(target: "library", from, "{said}"),
            log::Level::Info => tracing::info!(target: "library", from, "{said}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "library", from, "{said}"),
        }
    }

    fn flush(&self) {}
}

/// A source file without the folders of the machine that built it: `serde-1.0.0/src/lib.rs`.
fn short(file: &str) -> &str {
    const SOURCES: [&str; 2] = ["/registry/src/", "/git/checkouts/"];
    match SOURCES.iter().find_map(|folder| file.split_once(folder)) {
        Some((_, inside)) => inside.split_once('/').map_or(inside, |(_, rest)| rest),
        None if file.starts_with("/rustc/") => file,
        None => file.rsplit_once("/src/").filter(|_| file.starts_with('/')).map_or(file, |(_, rest)| rest),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_building_machine_is_shown() {
        assert_eq!(short("/home/ana/.cargo/registry/src/index.crates.io-1949/r2d2-0.8.10/src/lib.rs"), "r2d2-0.8.10/src/lib.rs");
        assert_eq!(short("/home/ana/.cargo/git/checkouts/x-1/abc/src/lib.rs"), "abc/src/lib.rs");
        assert_eq!(short("/home/ana/muster/src/cli/mod.rs"), "cli/mod.rs");
        assert_eq!(short("src/cli/mod.rs"), "src/cli/mod.rs");
        assert_eq!(short("/rustc/abc/library/core/src/option.rs"), "/rustc/abc/library/core/src/option.rs");
    }
}
