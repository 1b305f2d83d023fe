//! What the database does while a fleet enrols, gets its profiles and checks in: no statement of a device reads a table that grows with the
//! fleet from end to end, on either database. The statements are those that the server really sent, and the database itself says how it
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

/// The steps in which the statement reads a table from end to end.
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
            let scan =
                |step: &Step| step.detail.split_once("Seq Scan on ").map(|(_, rest)| rest.split(' ').next().unwrap_or_default().to_owned());
            steps.iter().filter_map(scan).collect()
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
