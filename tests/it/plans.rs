//! What the database does while devices enrol, get their profiles and check in among a thousand others: no statement of a device reads a
//! table that grows with the fleet from end to end, or expects many rows of one, on either database. The statements are those that the server really sent, and the database itself says how it
//! would answer them.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection as _, set_default_instrumentation};
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _};
use muster::sim::device::{Door, Kind};
use muster::sim::fleet::{Connection, Crew, Site};
use muster::store::{Conn, Location, Store};

use crate::support::apple::Push;
use crate::support::db;
use crate::support::server::Options;
use crate::support::windows::{House, UPN};

/// Tells this test from its parent, and where the database is.
const PLACE: &str = "MUSTER_PLANS";
const DEVICES: std::ops::Range<u64> = 1..3;
/// How often each of the devices is there once more in the tables: as good as a thousand.
const COPIES: i32 = 170;
/// How many rows of a table a statement of one device may expect. The fleet is three times as large.
const MANY: u64 = 300;
/// Tables with rows of devices, in the order in which they refer to each other.
const OF_DEVICES: [&str; 7] = ["devices", "enrollments", "certificates", "apple_channels", "desired_items", "facts", "compliance_states"];
/// Their columns that tell rows apart.
const NAMES: [&str; 11] = [
    "id",
    "device_id",
    "enrollment_id",
    "certificate_id",
    "mdm_id",
    "hardware_id",
    "entra_device_id",
    "serial_number",
    "serial",
    "sha1",
    "sha256",
];
/// Tables that have a few rows however large the fleet is.
const SMALL: [&str; 11] = [
    "ade_servers",
    "authorities",
    "crls",
    "jobs",
    "meta",
    "profiles",
    "receivers",
    "service_keys",
    "signing_keys",
    "assignments",
    "__diesel_schema_migrations",
];

static LISTENING: AtomicBool = AtomicBool::new(false);
static HEARD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn instrument() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event
            && LISTENING.load(Ordering::SeqCst)
        {
            let text = query.to_string();
            let statement = text.split(" -- binds:").next().unwrap_or_default().trim().to_owned();
            HEARD.lock().unwrap().insert(statement);
        }
    }))
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Which table a name in a statement stands for; none when it is an intermediate result of the statement itself, whose parts are judged.
fn table(statement: &str, name: &str) -> Option<String> {
    let words: Vec<&str> = statement.split(|c: char| c.is_whitespace() || "(),\"".contains(c)).filter(|word| !word.is_empty()).collect();
    let within = words.windows(2).any(|pair| pair[0] == name && pair[1].eq_ignore_ascii_case("AS"));
    let alias = words
        .windows(3)
        .find(|three| ["FROM", "JOIN", "UPDATE", "INTO"].iter().any(|verb| three[0].eq_ignore_ascii_case(verb)) && three[2] == name);
    match alias {
        Some(three) if three[1] != name => table(statement, three[1]),
        _ if within || name == "CONSTANT" => None,
        _ => Some(name.to_owned()),
    }
}

/// Puts the others in, each like one that is really there, and has PostgreSQL look at what it holds.
fn multiply(conn: &mut Conn) {
    for table in OF_DEVICES {
        let columns = match conn {
            Conn::Sqlite(_) => format!("SELECT name AS detail FROM pragma_table_info('{table}')"),
            Conn::Postgres(_) => format!(
                "SELECT column_name::text AS detail FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = '{table}'"
            ),
        };
        let columns: Vec<Step> = match conn {
            Conn::Sqlite(c) => diesel::sql_query(columns).load(c),
            Conn::Postgres(c) => diesel::sql_query(columns).load(c),
        }
        .unwrap();
        let columns: Vec<String> = columns.into_iter().map(|column| column.detail).collect();
        let of = |column: &String| match column.as_str() {
            "user_id" => "NULL".to_owned(),
            name if NAMES.contains(&name) => format!("{name} || '-' || n"),
            name => name.to_owned(),
        };
        let (names, values) = (columns.join(", "), columns.iter().map(of).collect::<Vec<_>>().join(", "));
        let numbers = format!("WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {COPIES})");
        let copy = format!("INSERT INTO {table} ({names}) {numbers} SELECT {values} FROM {table} CROSS JOIN g");
        match conn {
            Conn::Sqlite(c) => c.batch_execute(&copy),
            Conn::Postgres(c) => c.batch_execute(&copy),
        }
        .unwrap_or_else(|why| panic!("{copy}: {why}"));
    }
    // SQLite takes every table for a large one as long as it was not told otherwise.
    if let Conn::Postgres(c) = conn {
        c.batch_execute("ANALYZE").unwrap();
    }
}

/// A node of PostgreSQL's plan: how far it stands in, what it does, and whether something bounds it.
fn indent(line: &str) -> usize {
    line.find("->").map_or_else(|| line.len() - line.trim_start().len(), |at| at + 2)
}

/// The tables that a plan of PostgreSQL reads without a bound, or of which it expects many rows.
fn unbounded(plan: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let is_node = |line: &str| line.contains("(cost=");
    for (at, line) in plan.iter().enumerate().filter(|(_, line)| is_node(line)) {
        let Some((node, rest)) = line.split_once(" on ") else { continue };
        let whole = node.contains("Seq Scan");
        let by_index = node.contains("Index Scan") || node.contains("Index Only Scan");
        if !(whole || node.contains("Bitmap Heap Scan") || by_index && !node.contains("Bitmap")) {
            continue;
        }
        let table = rest.split(' ').next().unwrap_or_default().to_owned();
        let below = plan[at + 1..].iter().take_while(|line| !is_node(line));
        // A table with a few rows is read along its index whatever the index is for: only one that is as large as a fleet's says something.
        let without =
            OF_DEVICES.contains(&table.as_str()) && by_index && !below.into_iter().any(|line| line.trim_start().starts_with("Index Cond:"));
        let rows = line.split("rows=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        // The next rows in the order of an index are as many as are asked for.
        let above = plan[..at].iter().rev().filter(|above| is_node(above)).find(|above| indent(above) < indent(line));
        let limited = above.is_some_and(|above| above.contains("Limit "));
        if whole || !limited && (without || rows > MANY) {
            found.push(table);
        }
    }
    found
}

#[test]
fn a_plan_is_read_for_what_it_does_with_tables() {
    let of = |lines: &[&str]| unbounded(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
    assert_eq!(of(&["Seq Scan on facts  (cost=0.00..1.00 rows=1 width=4)"]), ["facts"]);
    let index = "Index Scan using facts_pkey on facts  (cost=0.00..1.00 rows=60 width=4)";
    assert_eq!(of(&[index]), ["facts"], "from end to end, if in order");
    assert_eq!(of(&[index, "  Index Cond: (device_id = $1)"]), [""; 0]);
    let many = "Index Scan using facts_pkey on facts  (cost=0.00..1.00 rows=6000 width=4)";
    assert_eq!(of(&[many, "  Index Cond: (status = $1)"]), ["facts"], "more with each device");
    let first = ["Limit  (cost=0.00..1.00 rows=1 width=4)", "  ->  Index Scan using by_name on facts  (cost=0.00..1.00 rows=6000 width=4)"];
    assert_eq!(of(&first), [""; 0]);
    let bitmap = [
        "Bitmap Heap Scan on facts  (cost=0.00..1.00 rows=6000 width=4)",
        "  Recheck Cond: (status = $1)",
        "  ->  Bitmap Index Scan on by_status  (cost=0.00..1.00 rows=6000 width=0)",
        "        Index Cond: (status = $1)",
    ];
    assert_eq!(of(&bitmap), ["facts"]);
}

/// The steps in which the statement reads a table from end to end, or more of it than one device's.
fn scans(conn: &mut Conn, statement: &str) -> Vec<String> {
    match conn {
        Conn::Sqlite(c) => {
            let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(c).unwrap();
            // SEARCH has bounds; SCAN has none, with or without an index.
            let scan = |step: &Step| step.detail.strip_prefix("SCAN ").map(|rest| rest.split(' ').next().unwrap_or_default().to_owned());
            steps.iter().filter_map(scan).collect()
        }
        Conn::Postgres(c) => {
            let numbers = statement.split('$').skip(1).filter_map(|rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<usize>().ok()
            });
            let values = vec!["NULL"; numbers.max().unwrap_or(0)].join(", ");
            let values = if values.is_empty() { values } else { format!("({values})") };
            c.batch_execute(
                "DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_indexonlyscan = on",
            )
            .unwrap();
            c.batch_execute(&format!("PREPARE judged AS {statement}")).unwrap_or_else(|why| panic!("{statement}: {why}"));
            c.batch_execute(&format!(
                "CREATE OR REPLACE FUNCTION plan_of() RETURNS SETOF text LANGUAGE plpgsql AS \
                 $f$ BEGIN RETURN QUERY EXECUTE $q$EXPLAIN EXECUTE judged{values}$q$; END $f$"
            ))
            .unwrap();
            let steps: Vec<Step> = diesel::sql_query("SELECT plan_of AS detail FROM plan_of()").load(c).unwrap();
            unbounded(&steps.into_iter().map(|step| step.detail).collect::<Vec<_>>())
        }
    }
}

fn is_judged(statement: &str) -> bool {
    ["SELECT", "UPDATE", "DELETE", "INSERT", "WITH"]
        .iter()
        .any(|verb| statement.get(..verb.len()).is_some_and(|v| v.eq_ignore_ascii_case(verb)))
}

/// Runs that test once more in a process of its own, where nobody else asks a database.
fn alone(name: &str, place: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args([name, "--exact", "--nocapture"]).env(PLACE, place).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("statements are answered by indexes"), "{said}");
}

async fn roll_out(location: Location) {
    set_default_instrumentation(instrument).unwrap();
    let store = Store::open(&location, 6).unwrap();
    let push = Push::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (config, place) = (push.apns.url(), folder.path().to_owned());
    std::fs::write(place.join("apns.pem"), &push.apns.root_pem).unwrap();
    let tweak = move |c: &mut muster::config::Config| {
        c.apple.sso.macos_extension = "ABCDE12345.org.example.sso".into();
        (c.apple.apns.url, c.apple.apns.root_file) = (config, Some(place.join("apns.pem")));
    };
    let house = House::with(Options { tweak: Box::new(tweak), system_clock: true, store: Some(store), ..Options::default() }).await;
    let app = &house.server.app;
    push.settle_in(app).await;
    LISTENING.store(true, Ordering::SeqCst);
    let crew = Crew::new(2, |_| ());
    let mut fleet = Vec::new();
    for kind in [Kind::Windows, Kind::Mac, Kind::Iphone] {
        let door = Door { roots: house.roots(), web: house.server.web.parse().unwrap(), user: UPN.into(), pass: house.pass().await };
        let site = Site::new(kind, door).await.unwrap();
        let (devices, enrolled) = crew.enroll(&site, DEVICES).await;
        assert_eq!(enrolled.failures, 0, "{:?}", enrolled.first_error);
        let (devices, settled) = crew.settle("first", devices).await;
        assert_eq!(settled.failures, 0, "{:?}", settled.first_error);
        fleet.extend(devices);
    }
    // What an administrator asks is not a device's path.
    LISTENING.store(false, Ordering::SeqCst);
    let others = |tx: &mut muster::store::Tx<'_>| {
        multiply(tx.conn());
        Ok(())
    };
    app.store.write(others).await.unwrap();
    for baseline in [
        "trusted-root",
        "windows-hello-for-business",
        "scep-device-certificate",
        "windows-compliance",
        "macos-platform-sso",
        "macos-single-sign-on",
    ] {
        house.assign_baseline(baseline).await;
    }
    LISTENING.store(true, Ordering::SeqCst);
    let mut fleet = fleet;
    for round in ["profiles", "certificates", "what is left"] {
        let measured;
        (fleet, measured) = crew.settle(round, fleet).await;
        assert_eq!(measured.failures, 0, "{round}: {:?}", measured.first_error);
        (fleet, _) = crew.scep(fleet).await;
    }
    let (_, idle) = crew.idle("idle", fleet, Connection::Kept, 2).await;
    assert_eq!(idle.failures, 0, "{:?}", idle.first_error);
    // Looked at by whoever watches the server, again and again.
    muster::service::apple::push_certificate::status(app).await.unwrap();
    LISTENING.store(false, Ordering::SeqCst);

    let heard: Vec<String> = HEARD.lock().unwrap().iter().filter(|statement| is_judged(statement)).cloned().collect();
    assert!(
        heard.len() > 60 && heard.iter().any(|s| s.contains("apple_channels")) && heard.iter().any(|s| s.contains("dm_sessions")),
        "{heard:#?}"
    );
    let (count, judged) = (heard.len(), heard);
    let found = app
        .store
        .write(move |tx| {
            let mut found = Vec::new();
            for statement in &judged {
                let read = scans(tx.conn(), statement).into_iter().filter_map(|name| table(statement, name.trim_matches('"')));
                found.extend(read.filter(|table| !SMALL.contains(&table.as_str())).map(|table| (table, statement.clone())));
            }
            Ok(found)
        })
        .await
        .unwrap();
    assert!(found.is_empty(), "{found:#?}");
    println!("{count} statements are answered by indexes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_reads_through_indexes_on_sqlite() {
    match std::env::var(PLACE) {
        Ok(folder) => roll_out(Location::Sqlite(std::path::Path::new(&folder).join("muster.db"))).await,
        Err(_) => alone("plans::a_roll_out_reads_through_indexes_on_sqlite", tempfile::tempdir().unwrap().path().to_str().unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_reads_through_indexes_on_postgresql() {
    match std::env::var(PLACE) {
        Ok(url) => roll_out(Location::Postgres(url)).await,
        Err(_) => {
            let Some(url) = db::postgres_url() else { return };
            alone("plans::a_roll_out_reads_through_indexes_on_postgresql", &url);
        }
    }
}
