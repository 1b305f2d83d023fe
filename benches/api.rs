//! Pages of managed devices, as the Graph-shaped API asks for them: `cargo bench --bench api` prints the median and the 99th percentile of
//! each question with 1,000 and with 100,000 devices in the database, and how the latter grows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench that cannot run stops"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use muster::app::App;
use muster::clock::{Clock as _, SystemClock};
use muster::config::Config;
use muster::domain::access::Reach;
use muster::domain::compliance::{State, Verdict};
use muster::secret::Sealer;
use muster::service::device::managed::page_managed;
use muster::service::setup;
use muster::store::{Conn, Location, Store};
use muster::wire::odata::query::Query;

/// How often each question is asked.
const TIMES: usize = 400;
/// Devices of a page.
const TOP: u32 = 100;
/// What is asked. The last one follows the pages.
const QUESTIONS: &[(&str, &str)] = &[
    ("a page", ""),
    ("by platform", "$filter=operatingSystem%20eq%20'Windows'"),
    ("by compliance", "$filter=complianceState%20eq%20'noncompliant'"),
    ("by the beginning of the name", "$filter=startswith(deviceName,'PC-9')&$orderby=deviceName"),
    ("the next page", ""),
];

fn fill(conn: &mut Conn, count: u32) {
    let verdict =
        Verdict { state: State::Compliant, compliant: true, grace_expires_at: None, reevaluate_at: None, held: None, policies: Vec::new() };
    let verdict = serde_json::to_string(&verdict).unwrap();
    let sql = format!(
        "INSERT INTO users (id, upn, display_name, mail, enabled, created_at, updated_at)
            WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {count})
            SELECT 'u' || (1000000 + n), 'user' || n || '@example.org', 'User ' || n, NULL, TRUE, n, n FROM g;
        INSERT INTO devices (id, display_name, platform, user_id, serial_number, os_version, state, created_at, updated_at)
            SELECT 'd' || id, 'PC-' || created_at, 'windows', id, 'SN' || created_at, '10.0.26100', 'managed', created_at, created_at FROM users;
        INSERT INTO enrollments (id, device_id, platform, kind, state, mdm_id, context, last_seen_at, enrolled_at, version)
            SELECT 'e' || id, id, platform, 'full', 'active', id, '{{}}', created_at, created_at, 1 FROM devices;
        INSERT INTO compliance_states (device_id, state, compliant, detail, evaluated_at, changed_at, version)
            SELECT id, CASE WHEN created_at % 50 = 0 THEN 'noncompliant' ELSE 'compliant' END, created_at % 50 <> 0, '{verdict}', 1, 1, 1
            FROM devices;
        ANALYZE;"
    );
    match conn {
        Conn::Sqlite(c) => c.batch_execute(&sql),
        Conn::Postgres(c) => c.batch_execute(&sql),
    }
    .unwrap();
}

async fn ask(app: &App, query: &Query) -> Option<String> {
    let found = page_managed(app, query, &Reach::All, TOP).await.unwrap();
    assert!(!found.objects.is_empty(), "{query:?}");
    found.next
}

/// Median and 99th percentile of a question.
async fn measure(app: &App, name: &str, text: &str) -> (Duration, Duration) {
    let mut query = Query::parse(text).unwrap();
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let begin = Instant::now();
        let next = ask(app, &query).await;
        took.push(begin.elapsed());
        if name == "the next page" {
            query.skip_token = next;
        }
    }
    took.sort();
    (took[TIMES / 2], took[TIMES * 99 / 100])
}

async fn house(folder: &std::path::Path, count: u32) -> Arc<App> {
    let store = Store::open(&Location::Sqlite(folder.join("muster.db")), 2).unwrap();
    let sealer = Sealer::generate().unwrap();
    let tenant = setup::create_tenant(&store, &sealer, "bench", SystemClock.now()).await.unwrap();
    let config = Config { data_dir: folder.to_owned(), ..Config::default() };
    let app = Arc::new(App::new(store, config, tenant, Arc::new(SystemClock), sealer).unwrap());
    app.store
        .write(move |tx| {
            fill(tx.conn(), count);
            Ok(())
        })
        .await
        .unwrap();
    app
}

#[tokio::main]
async fn main() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (few, many) = (house(folders[0].path(), 1_000).await, house(folders[1].path(), 100_000).await);
    println!("{:32} {:>12} {:>12} {:>12} {:>12} {:>8}", "pages of 100", "1,000: p50", "p99", "100,000: p50", "p99", "growth");
    for (name, text) in QUESTIONS {
        // In turn, so that both meet the same machine.
        let (small, large) = (measure(&few, name, text).await, measure(&many, name, text).await);
        let growth = large.1.as_secs_f64() / small.1.as_secs_f64();
        println!("{name:32} {:>12.1?} {:>12.1?} {:>12.1?} {:>12.1?} {growth:>8.2}", small.0, small.1, large.0, large.1);
    }
}
