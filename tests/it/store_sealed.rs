//! Sealed values: none is missing from the list, and all move to a new master key while others work.

use std::collections::BTreeSet;
use std::sync::Arc;

use diesel::RunQueryDsl as _;
use diesel::sql_types::Text;
use muster::app::App;
use muster::clock::{ManualClock, Time};
use muster::config::Config;
use muster::domain::signal::{Receiver, ReceiverStatus};
use muster::ids::{ReceiverId, TenantId};
use muster::secret::Sealer;
use muster::service::reseal;
use muster::service::signals::keys;
use muster::store::{Conn, Store, receivers, sealed};

use crate::both_backends;

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
}

fn app(store: Store, folder: &std::path::Path) -> App {
    let config = Config { data_dir: folder.to_owned(), ..Config::default() };
    let sealer = Sealer::generate().unwrap();
    sealer.write(&folder.join("master.key")).unwrap();
    App::new(store, config, TenantId::new(), Arc::new(ManualClock::new(Time(1))), sealer).unwrap()
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
        let app = app(store, folder.path());
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
        let report = reseal::rotate(&app, "cli:test").await.unwrap();
        assert_eq!((report.resealed, report.current), (452, 0));
        assert_ne!(app.sealer().current(), first.current());
        assert_eq!(authorizations(&app).await, expected);
        // The file holds both, so that a restart in between opens everything.
        let restarted = Sealer::read(&folder.path().join("master.key")).unwrap();
        assert_eq!(restarted.count(), 2);
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
        let app = app(store, folder.path());
        let old = app.sealer();
        reseal::rotate(&app, "cli:test").await.unwrap();
        let late = receiver("late", old.seal(sealed::RECEIVER_AUTHORIZATION, b"late").unwrap());
        app.store.write(move |tx| receivers::insert_receiver(tx, &late)).await.unwrap();
        reseal::retire(&app, "cli:test").await.unwrap();
        assert_eq!(authorizations(&app).await, [b"late"]);
        assert_eq!(app.sealer().count(), 1);
    }

    async fn a_value_that_does_not_open_stops_the_move_and_keeps_the_old_key(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let app = app(store, folder.path());
        let mut broken = app.sealer().seal(sealed::RECEIVER_AUTHORIZATION, b"x").unwrap();
        *broken.last_mut().unwrap() ^= 1;
        let row = receiver("broken", broken);
        app.store.write(move |tx| receivers::insert_receiver(tx, &row)).await.unwrap();
        assert!(reseal::rotate(&app, "cli:test").await.is_err());
        assert!(reseal::retire(&app, "cli:test").await.is_err());
        assert_eq!(Sealer::read(&folder.path().join("master.key")).unwrap().count(), 2);
    }

    async fn a_changed_value_is_not_overwritten_by_the_move(store: Store) {
        let folder = tempfile::tempdir().unwrap();
        let app = app(store, folder.path());
        let row = receiver("r", app.sealer().seal(sealed::RECEIVER_AUTHORIZATION, b"new").unwrap());
        app.store.write(move |tx| receivers::insert_receiver(tx, &row)).await.unwrap();
        let column = *sealed::COLUMNS.iter().find(|c| c.table == "receivers").unwrap();
        let mut stale = app.store.read(move |c| sealed::list_values(c, column, "", 1)).await.unwrap().remove(0);
        stale.sealed = b"before".to_vec();
        assert!(!app.store.write(move |tx| sealed::claim_value(tx, column, &stale, b"stale")).await.unwrap());
        assert_eq!(authorizations(&app).await, [b"new"]);
    }
}
