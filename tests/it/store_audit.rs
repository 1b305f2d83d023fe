//! The audit log: whatever is done to its rows from outside is found, and writers at once keep the chain whole.

use std::sync::Arc;

use diesel::RunQueryDsl as _;
use muster::app::App;
use muster::clock::{ManualClock, Time};
use muster::config::Config;
use muster::domain::audit::Entry;
use muster::ids::TenantId;
use muster::secret::Sealer;
use muster::service::audit::{self, Broken};
use muster::store::{self, Store};

use crate::both_backends;
use crate::support::db;

fn app(store: Store) -> App {
    App::new(store, Config::default(), TenantId::new(), Arc::new(ManualClock::new(Time(1))), Sealer::generate().unwrap()).unwrap()
}

async fn append(store: &Store, count: usize) {
    store
        .write(move |tx| {
            (0..count).try_for_each(|n| store::audit::append(tx, &Entry::new("user:1", "test.do", format!("thing:{n}"), "local"), Time(5)))
        })
        .await
        .unwrap();
}

/// A log of that many rows after somebody ran that SQL, and what a check says.
async fn check_after(store: &Store, statements: &'static [&'static str]) -> (i64, Option<Broken>) {
    store
        .write(move |tx| {
            for sql in statements {
                diesel::sql_query(*sql).execute(tx.conn())?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let report = audit::verify(&app(store.clone())).await.unwrap();
    (report.sound, report.broken)
}

fn broken(seq: i64, what: &'static str) -> (i64, Option<Broken>) {
    (seq - 1, Some(Broken { seq, what }))
}

both_backends! {
    async fn a_log_of_several_pages_is_sound(store: Store) {
        assert_eq!(check_after(&store, &[]).await, (0, None));
        append(&store, 2003).await;
        assert_eq!(check_after(&store, &[]).await, (2003, None));
    }

    async fn an_altered_row_is_named(store: Store) {
        append(&store, 5).await;
        assert_eq!(check_after(&store, &["UPDATE audit SET actor = 'user:2' WHERE seq = 3"]).await, broken(3, "the row was altered"));
    }

    async fn a_state_that_is_taken_away_is_named(store: Store) {
        append(&store, 3).await;
        assert_eq!(check_after(&store, &["UPDATE audit SET after = '' WHERE seq = 2"]).await, broken(2, "the row was altered"));
    }

    async fn a_removed_row_is_named(store: Store) {
        append(&store, 5).await;
        assert_eq!(check_after(&store, &["DELETE FROM audit WHERE seq = 2"]).await, broken(2, "the row is missing"));
    }

    async fn a_removed_row_whose_gap_is_closed_is_named(store: Store) {
        append(&store, 3).await;
        let sql = &["DELETE FROM audit WHERE seq = 2", "UPDATE audit SET seq = 2 WHERE seq = 3"];
        assert_eq!(check_after(&store, sql).await, broken(2, "the row does not follow the one before it"));
    }

    async fn swapped_rows_are_named(store: Store) {
        append(&store, 5).await;
        let sql = &[
            "UPDATE audit SET seq = 99 WHERE seq = 2",
            "UPDATE audit SET seq = 2 WHERE seq = 3",
            "UPDATE audit SET seq = 3 WHERE seq = 99",
        ];
        assert_eq!(check_after(&store, sql).await, broken(2, "the row does not follow the one before it"));
    }

    async fn a_tail_that_was_cut_off_is_found(store: Store) {
        append(&store, 5).await;
        assert_eq!(check_after(&store, &["DELETE FROM audit WHERE seq > 3"]).await, broken(4, "the row is missing"));
    }

    async fn a_cut_tail_with_a_turned_back_counter_is_found_by_the_heads_hash(store: Store) {
        append(&store, 5).await;
        let sql = &["DELETE FROM audit WHERE seq > 3", "UPDATE audit_head SET seq = 3"];
        assert_eq!(check_after(&store, sql).await, broken(3, "the row is not the one that was written last"));
    }

    async fn a_well_formed_row_that_was_added_from_outside_is_found(store: Store) {
        append(&store, 3).await;
        let before = store.read(store::audit::head).await.unwrap();
        append(&store, 1).await;
        store.write(move |tx| {
            diesel::sql_query("UPDATE audit_head SET seq = $1, hash = $2")
                .bind::<diesel::sql_types::BigInt, _>(before.0)
                .bind::<diesel::sql_types::Text, _>(&before.1)
                .execute(tx.conn())?;
            Ok(())
        }).await.unwrap();
        assert_eq!(check_after(&store, &[]).await, broken(4, "the row was added from outside"));
    }

    async fn a_check_during_writes_finds_nothing(store: Store) {
        append(&store, 10).await;
        let writer = tokio::spawn({ let store = store.clone(); async move { for _ in 0..60 { append(&store, 1).await; } } });
        let app = app(store.clone());
        while !writer.is_finished() {
            assert_eq!(audit::verify(&app).await.unwrap().broken, None);
        }
        writer.await.unwrap();
        assert_eq!(check_after(&store, &[]).await, (70, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_at_once_keep_one_chain() {
    let Some(url) = db::postgres_url() else { return };
    let location = store::Location::parse(&url);
    let nodes = [Store::open(&location, 4).unwrap(), Store::open(&location, 4).unwrap()];
    let tasks: Vec<_> = (0..8)
        .map(|n: usize| {
            let store = nodes[n % 2].clone();
            tokio::spawn(async move {
                for _ in 0..15 {
                    append(&store, 2).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(check_after(&nodes[0], &[]).await, (240, None));
}
