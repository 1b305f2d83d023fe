//! Sealed values: none is missing from the list, and all move to a new master key while others work.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use diesel::RunQueryDsl as _;
use diesel::sql_types::Text;
use muster::app::App;
use muster::clock::{MINUTE, ManualClock, Time};
use muster::config::Config;
use muster::domain::certificate::{Grant, KeyAlgorithm, Purpose};
use muster::domain::signal::{Receiver, ReceiverStatus};
use muster::ids::{ReceiverId, TenantId};
use muster::secret::Sealer;
use muster::service::pki::authority::NewAuthority;
use muster::service::pki::keys::SigningKey;
use muster::service::pki::{authority, issue};
use muster::service::signing_keys as keys;
use muster::service::{Error, Result, audit, reseal, setup};
use muster::store::{Conn, Store, meta, receivers, sealed};

use crate::both_backends;
use crate::support::server::{Options, Server};

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
}

fn app(store: Store, folder: &Path) -> (App, ManualClock) {
    let clock = ManualClock::new(Time(1));
    (node(store, folder, &clock, Sealer::generate().unwrap()), clock)
}

fn node(store: Store, folder: &Path, clock: &ManualClock, sealer: Sealer) -> App {
    let config = Config { data_dir: folder.to_owned(), ..Config::default() };
    sealer.write(&folder.join("master.key")).unwrap();
    App::new(store, config, TenantId::new(), Arc::new(clock.clone()), sealer).unwrap()
}

async fn rotate(app: &App) -> Result<reseal::Report> {
    reseal::prepare(app, "cli:test").await.unwrap();
    reseal::rotate(app, "cli:test").await
}

async fn add(app: &App, name: &str) {
    let row = receiver(name, app.sealer().seal(sealed::RECEIVER_AUTHORIZATION, name.as_bytes()).unwrap());
    app.store.write(move |tx| receivers::insert_receiver(tx, &row)).await.unwrap();
}

fn code(result: Result<impl std::fmt::Debug>) -> &'static str {
    match result {
        Err(Error::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

fn receiver(name: &str, sealed_authorization: Vec<u8>) -> Receiver {
    Receiver {
        id: ReceiverId::new(),
        name: name.into(),
        endpoint_url: "https://receiver.example/".into(),
        audience: "a".into(),
        sealed_authorization: Some(sealed_authorization),
        status: ReceiverStatus::Enabled,
        status_reason: None,
        created_at: Time(1),
    }
}

async fn authorizations(app: &App) -> Vec<Vec<u8>> {
    let rows = app.store.read(receivers::list_receivers).await.unwrap();
    rows.iter()
        .map(|r| {
            let value = r.sealed_authorization.as_ref().unwrap();
            app.sealer().open(sealed::RECEIVER_AUTHORIZATION, value).unwrap().expose().to_vec()
        })
        .collect()
}

both_backends! {
    async fn no_sealed_column_is_missing_from_the_list(store: Store) {
        let found: Vec<Found> = store.read(|conn| Ok(match conn {
            Conn::Postgres(c) => diesel::sql_query(
                "SELECT table_name::text, column_name::text FROM information_schema.columns
                 WHERE table_schema = 'public' AND column_name LIKE '%sealed%'").load(c)?,
            Conn::Sqlite(c) => diesel::sql_query(
                "SELECT m.name AS table_name, p.name AS column_name FROM sqlite_master m JOIN pragma_table_info(m.name) p
                 WHERE m.type = 'table' AND p.name LIKE '%sealed%'").load(c)?,
        })).await.unwrap();
        let schema: BTreeSet<_> = found.into_iter().map(|f| (f.table_name, f.column_name)).collect();
        let listed: BTreeSet<_> = sealed::COLUMNS.iter().map(|c| (c.table.to_owned(), c.column.to_owned())).collect();
        assert_eq!(schema, listed);
        for column in sealed::COLUMNS {
            assert_eq!(column.purpose, format!("{}.{}", column.table, column.column));
            // The table's key is named right, too.
            assert!(store.read(|c| sealed::list_values(c, *column, "", 1)).await.unwrap().is_empty());
        }
    }

    async fn everything_moves_to_a_new_master_key_and_the_old_one_goes(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let (app, clock) = app(store, folder.path());
        let first = app.sealer();
        reseal::check_master_key(&app.store, &first).await.unwrap();
        keys::refresh(&app).await.unwrap();
        // More than one batch.
        let mut expected = Vec::new();
        for n in 0..450 {
            let name = format!("r{n:03}");
            expected.push(name.clone().into_bytes());
            let row = receiver(&name, first.seal(sealed::RECEIVER_AUTHORIZATION, name.as_bytes()).unwrap());
            app.store.write(move |tx| receivers::insert_receiver(tx, &row)).await.unwrap();
        }
        let report = rotate(&app).await.unwrap();
        assert_eq!((report.resealed, report.current), (452, 0));
        assert_ne!(app.sealer().current(), first.current());
        assert_eq!(authorizations(&app).await, expected);
        // The file holds both, so that a restart in between opens everything.
        let restarted = Sealer::read(&folder.path().join("master.key")).unwrap();
        assert_eq!(restarted.count(), 2);
        clock.advance(MINUTE);
        reseal::retire(&app, "cli:test").await.unwrap();
        let only = Sealer::read(&folder.path().join("master.key")).unwrap();
        assert_eq!((only.count(), only.current()), (1, app.sealer().current()));
        reseal::check_master_key(&app.store, &only).await.unwrap();
        assert_eq!(authorizations(&app).await, expected);
        keys::active(&app).await.unwrap();
        let refused = reseal::check_master_key(&app.store, &first).await.unwrap_err().to_string();
        assert!(refused.contains("does not belong to this database"), "{refused}");
    }

    async fn a_value_that_comes_under_the_old_key_meanwhile_is_moved_before_that_key_goes(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let (app, clock) = app(store, folder.path());
        let old = app.sealer();
        rotate(&app).await.unwrap();
        let late = receiver("late", old.seal(sealed::RECEIVER_AUTHORIZATION, b"late").unwrap());
        app.store.write(move |tx| receivers::insert_receiver(tx, &late)).await.unwrap();
        clock.advance(MINUTE);
        reseal::retire(&app, "cli:test").await.unwrap();
        assert_eq!(authorizations(&app).await, [b"late"]);
        assert_eq!(app.sealer().count(), 1);
    }

    async fn a_value_that_does_not_open_stops_the_move_and_keeps_the_old_key(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let (app, _) = app(store, folder.path());
        let mut broken = app.sealer().seal(sealed::RECEIVER_AUTHORIZATION, b"x").unwrap();
        *broken.last_mut().unwrap() ^= 1;
        let row = receiver("broken", broken);
        app.store.write(move |tx| receivers::insert_receiver(tx, &row)).await.unwrap();
        assert!(rotate(&app).await.is_err());
        assert!(reseal::retire(&app, "cli:test").await.is_err());
        assert_eq!(Sealer::read(&folder.path().join("master.key")).unwrap().count(), 2);
    }

    async fn a_changed_value_is_not_overwritten_by_the_move(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let (app, _) = app(store, folder.path());
        let row = receiver("r", app.sealer().seal(sealed::RECEIVER_AUTHORIZATION, b"new").unwrap());
        app.store.write(move |tx| receivers::insert_receiver(tx, &row)).await.unwrap();
        let column = *sealed::COLUMNS.iter().find(|c| c.table == "receivers").unwrap();
        let mut stale = app.store.read(move |c| sealed::list_values(c, column, "", 1)).await.unwrap().remove(0);
        stale.sealed = b"before".to_vec();
        assert!(!app.store.write(move |tx| sealed::claim_value(tx, column, &stale, b"stale")).await.unwrap());
        assert_eq!(authorizations(&app).await, [b"new"]);
    }

    async fn the_audit_log_stays_ours_under_a_new_master_key(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let (app, clock) = app(store, folder.path());
        setup::create_tenant(&app.store, &app.sealer(), "cli:test", Time(1)).await.unwrap();
        rotate(&app).await.unwrap();
        clock.advance(MINUTE);
        reseal::retire(&app, "cli:test").await.unwrap();
        assert!(setup::find_tenant(&app.store, &app.sealer()).await.unwrap().is_some(), "the key of the log moved, too");
        let report = audit::verify(&app, None).await.unwrap();
        assert_eq!((report.sound, report.broken), (4, None));
    }

    async fn the_key_of_the_audit_log_is_neither_replaced_nor_made_anew(store: Store) {
        let sealer = Sealer::generate().unwrap();
        setup::create_tenant(&store, &sealer, "cli:test", Time(1)).await.unwrap();
        // What the canary holds is known to everybody.
        store.write(|tx| {
            let canary = meta::find_value(tx.conn(), sealed::CANARY)?.unwrap();
            meta::upsert_value(tx, sealed::AUDIT_KEY, &canary)
        }).await.unwrap();
        assert!(setup::find_tenant(&store, &sealer).await.is_err());
        store.write(|tx| meta::take_value(tx, sealed::AUDIT_KEY).map(|_| ())).await.unwrap();
        for refused in [setup::find_tenant(&store, &sealer).await.err(), setup::create_tenant(&store, &sealer, "x", Time(2)).await.err()] {
            assert!(refused.unwrap().to_string().contains("key of the audit log is missing"));
        }
    }

    async fn other_nodes_follow_to_the_prepared_key(store: Store) {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, clock) = app(store.clone(), here.path());
        let other = node(store.clone(), there.path(), &clock, Sealer::parse(&one.sealer().to_text()).unwrap());
        reseal::check_master_key(&store, &one.sealer()).await.unwrap();
        if store.is_shared() {
            assert_eq!(code(reseal::rotate(&one, "cli:test").await), "KEY0003");
        }
        reseal::prepare(&one, "cli:test").await.unwrap();
        reseal::prepare(&one, "cli:test").await.unwrap();
        let next = reseal::status(&one).await.unwrap().prepared.unwrap();
        assert_eq!(one.sealer().count(), 2, "once");
        std::fs::copy(here.path().join("master.key"), there.path().join("master.key")).unwrap();
        add(&one, "before").await;
        reseal::rotate(&one, "cli:test").await.unwrap();
        assert_eq!(one.sealer().current(), next);
        // The other node has not looked yet and seals under the old key.
        assert_ne!(other.sealer().current(), next);
        add(&other, "between").await;
        reseal::follow(&other).await.unwrap();
        assert_eq!(other.sealer().current(), next);
        assert_eq!(authorizations(&other).await, [&b"before"[..], b"between"]);
        reseal::follow(&one).await.unwrap();
        assert_eq!(one.sealer().current(), next, "who rotated stays");
        if store.is_shared() {
            assert_eq!(code(reseal::retire(&one, "cli:test").await), "KEY0001");
        }
        clock.advance(MINUTE);
        reseal::retire(&one, "cli:test").await.unwrap();
        assert_eq!(authorizations(&one).await, [&b"before"[..], b"between"]);
        // Its own file still has the old key in front: the database says which one is in force.
        let again = Sealer::read(&there.path().join("master.key")).unwrap();
        assert_ne!(again.current(), next);
        let restarted = node(store, there.path(), &clock, again);
        reseal::follow(&restarted).await.unwrap();
        assert_eq!(restarted.sealer().current(), next);
    }

    async fn a_node_without_the_new_key_goes_on_with_what_is_open_until_the_file_arrives(store: Store) {
        let options = |sealer| Options { store: Some(store.clone()), sealer, ..Options::default() };
        let one = Server::with(options(None)).await;
        let other = Server::with(options(Some(Sealer::parse(&one.app.sealer().to_text()).unwrap()))).await;
        let file = |server: &Server| server.app.config.master_key_path();
        let issuing = authority::issuing(&other.app).await.unwrap();
        reseal::prepare(&one.app, "cli:test").await.unwrap();
        reseal::rotate(&one.app, "cli:test").await.unwrap();
        let new = NewAuthority {
            name: "second".into(),
            common_name: "Second CA".into(),
            parent: Some("root".into()),
            key_algorithm: KeyAlgorithm::P256,
            days: 30,
        };
        authority::create(&one.app, &new, "cli:test", "local").await.unwrap();
        one.clock.advance(MINUTE);
        other.clock.advance(MINUTE);
        let missing = reseal::follow(&other.app).await.unwrap_err().to_string();
        assert!(missing.contains("does not hold") && missing.contains("master.key"), "{missing}");
        let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
        let grant = Grant::client(Purpose::Authentication, "Device 7", 30);
        issue::issue(&other.app, &issuing.id, &grant, &spki, "cli:test", "local").await.unwrap();
        assert!(authority::by_name(&other.app, "second").await.is_err(), "its key is sealed under a key that is not here");
        std::fs::copy(file(&one), file(&other)).unwrap();
        reseal::follow(&other.app).await.unwrap();
        other.clock.advance(MINUTE);
        let second = authority::by_name(&other.app, "second").await.unwrap();
        issue::issue(&other.app, &second.id, &grant, &spki, "cli:test", "local").await.unwrap();
    }
}
