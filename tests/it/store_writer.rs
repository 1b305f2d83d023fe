//! The store's foundations: transactions, group commit, locks, migrations on both databases.

use std::collections::{BTreeMap, BTreeSet};

use diesel::RunQueryDsl as _;
use muster::clock::Time;
use muster::domain::Refusal;
use muster::domain::user::{Details, User};
use muster::ids::UserId;
use muster::store::{Conn, Error, Location, Store, meta, users};

use crate::both_backends;
use crate::support::db;

fn user(upn: &str) -> User {
    User {
        id: UserId::new(),
        upn: upn.into(),
        display_name: upn.into(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        enabled: true,
        details: Details::default(),
    }
}

both_backends! {
    async fn a_failed_write_leaves_nothing_and_spares_its_neighbours(store: Store) {
        let mut tasks = Vec::new();
        for n in 0..100 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let person = user(&format!("user{n}@example.org"));
                store.write(move |tx| {
                    users::insert_user(tx, &person, Time(1))?;
                    if n % 2 == 0 { Err(Error::corrupt("on purpose")) } else { Ok(()) }
                }).await
            }));
        }
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap().is_ok(), n % 2 == 1);
        }
        let left = store.read(|c| users::list_users(c, "", 1000)).await.unwrap();
        assert_eq!(left.len(), 50);
    }

    async fn a_taken_upn_is_refused(store: Store) {
        store.write(|tx| users::insert_user(tx, &user("Ana@Example.org"), Time(1))).await.unwrap();
        let again = store.write(|tx| users::insert_user(tx, &user("ana@example.org"), Time(1))).await;
        assert!(matches!(again, Err(Error::Refused(Refusal::UserNameTaken))), "{again:?}");
        let found = store.read(|c| users::find_user_by_upn(c, "ANA@EXAMPLE.ORG")).await.unwrap();
        assert_eq!(found.unwrap().display_name, "Ana@Example.org");
    }

    async fn a_value_can_be_put_over_another(store: Store) {
        store.write(|tx| meta::upsert_value(tx, "k", "1")).await.unwrap();
        store.write(|tx| meta::upsert_value(tx, "k", "2")).await.unwrap();
        assert_eq!(store.read(|c| meta::find_value(c, "k")).await.unwrap().as_deref(), Some("2"));
        assert_eq!(store.read(|c| meta::find_value(c, "other")).await.unwrap(), None);
    }

    async fn a_panicking_write_does_not_stop_the_others(store: Store) {
        let lost = store.write(|_| -> Result<(), Error> { panic!("on purpose") }).await;
        assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
        store.write(|tx| users::insert_user(tx, &user("ben@example.org"), Time(1))).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_hears_of_success_when_sqlite_gave_up_the_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = db::sqlite(dir.path());
    let mut tasks = Vec::new();
    for n in 0..200 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let person = user(&format!("user{n}@example.org"));
            let write = store.write(move |tx| {
                users::insert_user(tx, &person, Time(1))?;
                if n % 10 == 5 {
                    // What SQLite does by itself when the disk is full.
                    diesel::sql_query("ROLLBACK").execute(tx.conn())?;
                }
                Ok(())
            });
            write.await.is_ok()
        }));
    }
    for (n, task) in tasks.into_iter().enumerate() {
        let done = task.await.unwrap();
        let upn = format!("user{n}@example.org");
        let there = store.read(move |c| users::find_user_by_upn(c, &upn)).await.unwrap().is_some();
        assert_eq!(done, there, "user{n}");
        assert!(!(done && n % 10 == 5), "user{n}");
    }
    store.write(|tx| users::insert_user(tx, &user("ben@example.org"), Time(1))).await.unwrap();
}

#[tokio::test]
async fn a_second_process_on_one_sqlite_file_is_refused_with_a_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let first = db::sqlite(dir.path());
    let second = Store::open(&Location::Sqlite(dir.path().join("muster.db")), 2).unwrap_err().to_string();
    assert!(second.contains("another muster process"), "{second}");
    drop(first);
    Store::open(&Location::Sqlite(dir.path().join("muster.db")), 2).unwrap();
}

/// (table, column) to (kind, nullable).
type Columns = BTreeMap<(String, String), (String, bool)>;

#[derive(diesel::QueryableByName)]
struct Column {
    #[diesel(sql_type = diesel::sql_types::Text)]
    table_name: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    column_name: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    kind: String,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    nullable: bool,
}

/// Where SQLite counts changes; PostgreSQL has the numbers of its transactions.
const NUMBERS: &str = "change_clock";

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_tables_and_columns() {
    let dir = tempfile::tempdir().unwrap();
    let (lite, Some(pg)) = (db::sqlite(dir.path()), db::postgres()) else { return };
    let read = |conn: &mut Conn| -> Result<Columns, Error> {
        let rows: Vec<Column> = match conn {
            Conn::Postgres(c) => diesel::sql_query(
                "SELECT table_name::text, column_name::text, upper(data_type)::text AS kind, is_nullable = 'YES' AS nullable
                 FROM information_schema.columns WHERE table_schema = 'public'",
            )
            .load(c)?,
            Conn::Sqlite(c) => diesel::sql_query(
                "SELECT m.name AS table_name, p.name AS column_name, p.type AS kind, p.\"notnull\" = 0 AS nullable
                 FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
            )
            .load(c)?,
        };
        let same = |kind: &str| match kind {
            "BYTEA" => "BLOB".to_owned(),
            "INTEGER" => "BIGINT".to_owned(),
            other => other.to_owned(),
        };
        Ok(rows
            .into_iter()
            .filter(|row| !row.table_name.starts_with("__diesel") && row.table_name != NUMBERS)
            .map(|row| ((row.table_name, row.column_name), (same(&row.kind), row.nullable)))
            .collect())
    };
    let (lite, pg) = (lite.read(read).await.unwrap(), pg.read(read).await.unwrap());
    assert!(lite.len() > 100);
    assert_eq!(lite, pg);
}

/// The columns of a key or an index of a table: whether it keeps values apart, whether it leaves rows out, and its columns in their order.
type Indexes = BTreeSet<(String, bool, bool, String)>;

#[derive(diesel::QueryableByName)]
struct Index {
    #[diesel(sql_type = diesel::sql_types::Text)]
    table_name: String,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_unique: bool,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_partial: bool,
    #[diesel(sql_type = diesel::sql_types::Text)]
    column_names: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_keys_and_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let (lite, Some(pg)) = (db::sqlite(dir.path()), db::postgres()) else { return };
    let read = |conn: &mut Conn| -> Result<Indexes, Error> {
        let rows: Vec<Index> = match conn {
            Conn::Postgres(c) => diesel::sql_query(
                "SELECT t.relname::text AS table_name, x.indisunique AS is_unique, x.indpred IS NOT NULL AS is_partial,
                    (SELECT string_agg(coalesce(a.attname::text, '(expression)'), ',' ORDER BY k.place)
                     FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(number, place)
                     LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number AND k.number > 0) AS column_names
                 FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
                 WHERE n.nspname = 'public'",
            )
            .load(c)?,
            // The primary keys apart: one that is the row's number has no index.
            Conn::Sqlite(c) => diesel::sql_query(
                "SELECT m.name AS table_name, l.\"unique\" AS is_unique, l.partial AS is_partial,
                    (SELECT group_concat(coalesce(name, '(expression)'), ',')
                     FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) AS column_names
                 FROM sqlite_master m JOIN pragma_index_list(m.name) l
                 WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND l.origin <> 'pk'
                 UNION ALL
                 SELECT m.name, 1, 0, (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_table_info(m.name) WHERE pk > 0 ORDER BY pk))
                 FROM sqlite_master m
                 WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'
                    AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE pk > 0)",
            )
            .load(c)?,
        };
        Ok(rows
            .into_iter()
            .filter(|row| !row.table_name.starts_with("__diesel") && row.table_name != NUMBERS)
            .map(|row| (row.table_name, row.is_unique, row.is_partial, row.column_names))
            .collect())
    };
    let (lite, pg) = (lite.read(read).await.unwrap(), pg.read(read).await.unwrap());
    assert!(lite.len() > 60 && lite.iter().any(|(_, unique, partial, _)| *unique && *partial));
    assert_eq!(lite, pg);
}

/// What is asked over and over, whatever the size of the tables, and the index that answers it. PostgreSQL tells nothing of the first two as
/// long as the tables are empty: any index serves.
const PLANS: [(&str, &str); 8] = [
    (
        "SELECT id FROM enrollments e WHERE work_at BETWEEN 1 AND 2 AND ended_at IS NULL AND (platform IN ('macos', 'ios') \
         OR channel_uri IS NOT NULL) AND id > '' ORDER BY id LIMIT 5",
        "enrollments_by_work",
    ),
    (
        "SELECT id FROM enrollments WHERE waiting_since BETWEEN 1 AND 2 AND ended_at IS NULL AND id > '' ORDER BY id LIMIT 5",
        "enrollments_by_wait",
    ),
    ("SELECT id FROM commands WHERE state IN ('done', 'failed') AND updated_at < 5 LIMIT 5", "commands_by_update"),
    ("SELECT id FROM taps WHERE expires_at < 5 LIMIT 5", "taps_by_expiry"),
    ("SELECT token_hash FROM enrollment_tokens WHERE expires_at < 5 LIMIT 5", "enrollment_tokens_by_expiry"),
    ("SELECT key FROM throttles WHERE window_started_at < 5 AND blocked_until < 5 LIMIT 5", "throttles_by_window"),
    (
        "SELECT c.id FROM certificates c INNER JOIN certificates n ON n.id = c.superseded_by WHERE c.superseded_by IS NOT NULL \
         AND c.status = 'active' AND c.not_after > 5 AND n.created_at < 5 AND n.status = 'active' ORDER BY c.id LIMIT 5",
        "certificates_by_replacement",
    ),
    ("SELECT max(set_at) FROM outbox_lanes", "outbox_lanes_by_setting"),
];

#[derive(diesel::QueryableByName)]
struct Step {
    #[diesel(sql_type = diesel::sql_types::Text)]
    detail: String,
}

fn plan(conn: &mut Conn, query: &str) -> Result<String, Error> {
    let steps: Vec<Step> = match conn {
        Conn::Sqlite(c) => diesel::sql_query(format!("EXPLAIN QUERY PLAN {query}")).load(c)?,
        Conn::Postgres(c) => {
            use diesel::connection::SimpleConnection as _;
            // The tables are empty, where reading all is the cheapest; and what a plan says is not a row that can be named.
            c.batch_execute(&format!(
                "SET enable_seqscan = off; SET enable_bitmapscan = off; CREATE OR REPLACE FUNCTION plan_of() RETURNS SETOF text LANGUAGE plpgsql AS \
                 $$ BEGIN RETURN QUERY EXECUTE $q$EXPLAIN {query}$q$; END $$"
            ))?;
            diesel::sql_query("SELECT plan_of AS detail FROM plan_of()").load(c)?
        }
    };
    Ok(steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("\n"))
}

both_backends! {
    async fn what_is_due_and_what_is_over_is_found_by_an_index(store: Store) {
        for (query, index) in PLANS.into_iter().skip(if store.is_shared() { 2 } else { 0 }) {
            let steps = store.read(move |conn| plan(conn, query)).await.unwrap();
            assert!(steps.contains(index), "{query}:\n{steps}");
        }
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("migrations/sqlite"), names("migrations/postgres"));
}

/// Without these SQLite compiles statements with a bound limit anew each time they run, and connections wait for each other.
#[test]
fn sqlite_is_compiled_as_it_should_be() {
    use diesel::prelude::*;
    use diesel::sql_types::Text;

    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = Text)]
        compile_options: String,
    }
    let mut conn = SqliteConnection::establish(":memory:").unwrap();
    let options: Vec<Setting> = diesel::sql_query("PRAGMA compile_options").load(&mut conn).unwrap();
    let has = |name: &str| options.iter().any(|o| o.compile_options == name);
    assert!(has("ENABLE_QPSG"), "is .cargo/config.toml in force?");
    assert!(has("DEFAULT_MEMSTATUS=0") && !has("ENABLE_MEMORY_MANAGEMENT"));
}
