//! The audit log: whatever is done to its rows from outside is found, and writers at once keep the chain whole.

use std::sync::Arc;

use diesel::RunQueryDsl as _;
use diesel::sql_types::{BigInt, Text};
use muster::app::App;
use muster::clock::{ManualClock, Time};
use muster::config::Config;
use muster::domain::Refusal;
use muster::domain::audit::{Entry, Head, Place};
use muster::ids::TenantId;
use muster::secret::Sealer;
use muster::service::audit::{self, Broken};
use muster::service::setup;
use muster::store::{self, Store, Tx};

use crate::both_backends;
use crate::desired::user;
use crate::support::db;

fn app(store: Store) -> App {
    App::new(store, Config::default(), TenantId::new(), Arc::new(ManualClock::new(Time(1))), Sealer::generate().unwrap()).unwrap()
}

async fn append(store: &Store, count: usize) {
    if store.head_key().is_none() {
        db::begin_audit(store).await;
    }
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
    let report = audit::verify(&app(store.clone()), None).await.unwrap();
    (report.sound, report.broken)
}

fn broken(seq: i64, code: &str) -> (i64, Option<Broken>) {
    let why = *Refusal::ALL.iter().find(|refusal| refusal.code() == code).unwrap();
    (seq - 1, Some(Broken { seq, why }))
}

/// What a check that expects the row says.
async fn check_noted(store: &Store, seq: i64, hash: &str) -> Option<&'static str> {
    let noted = Place { seq, hash: hash.into() };
    audit::verify(&app(store.clone()), Some(&noted)).await.unwrap().broken.map(|broken| broken.why.code())
}

async fn head(store: &Store) -> Head {
    store.read(store::audit::head).await.unwrap()
}

async fn set_head(store: &Store, head: &Head) {
    let head = head.clone();
    let set = move |tx: &mut Tx<'_>| {
        diesel::sql_query("UPDATE audit_head SET seq = $1, hash = $2, mark = $3")
            .bind::<BigInt, _>(head.seq)
            .bind::<Text, _>(&head.hash)
            .bind::<Text, _>(&head.mark)
            .execute(tx.conn())?;
        Ok(())
    };
    store.write(set).await.unwrap();
}

/// Makes the rows from `from` on anew, with other actors and right hashes, as somebody can who may write the database only.
async fn forge(store: &Store, from: i64) {
    let rows = store.read(move |c| store::audit::list(c, from - 2, 100)).await.unwrap();
    let mut previous = rows[0].hash.clone();
    for mut row in rows.into_iter().skip(1) {
        (row.actor, row.previous_hash) = ("user:forged".into(), previous);
        row.hash = row.link().hash();
        previous = row.hash.clone();
        let set = move |tx: &mut Tx<'_>| {
            diesel::sql_query("UPDATE audit SET actor = $1, previous_hash = $2, hash = $3 WHERE seq = $4")
                .bind::<Text, _>(&row.actor)
                .bind::<Text, _>(&row.previous_hash)
                .bind::<Text, _>(&row.hash)
                .bind::<BigInt, _>(row.seq)
                .execute(tx.conn())?;
            Ok(())
        };
        store.write(set).await.unwrap();
    }
    let honest = head(store).await;
    set_head(store, &Head { hash: previous, ..honest }).await;
}

both_backends! {
    async fn a_log_of_several_pages_is_sound(store: Store) {
        db::begin_audit(&store).await;
        assert_eq!(check_after(&store, &[]).await, (0, None));
        append(&store, 2003).await;
        assert_eq!(check_after(&store, &[]).await, (2003, None));
    }

    async fn an_altered_row_is_named(store: Store) {
        append(&store, 5).await;
        assert_eq!(check_after(&store, &["UPDATE audit SET actor = 'user:2' WHERE seq = 3"]).await, broken(3, "AUD0003"));
    }

    async fn a_state_that_is_taken_away_is_named(store: Store) {
        append(&store, 3).await;
        assert_eq!(check_after(&store, &["UPDATE audit SET after = '' WHERE seq = 2"]).await, broken(2, "AUD0003"));
    }

    async fn a_removed_row_is_named(store: Store) {
        append(&store, 5).await;
        assert_eq!(check_after(&store, &["DELETE FROM audit WHERE seq = 2"]).await, broken(2, "AUD0001"));
    }

    async fn a_removed_row_whose_gap_is_closed_is_named(store: Store) {
        append(&store, 3).await;
        let sql = &["DELETE FROM audit WHERE seq = 2", "UPDATE audit SET seq = 2 WHERE seq = 3"];
        assert_eq!(check_after(&store, sql).await, broken(2, "AUD0002"));
    }

    async fn swapped_rows_are_named(store: Store) {
        append(&store, 5).await;
        let sql = &[
            "UPDATE audit SET seq = 99 WHERE seq = 2",
            "UPDATE audit SET seq = 2 WHERE seq = 3",
            "UPDATE audit SET seq = 3 WHERE seq = 99",
        ];
        assert_eq!(check_after(&store, sql).await, broken(2, "AUD0002"));
    }

    async fn a_tail_that_was_cut_off_is_found(store: Store) {
        append(&store, 5).await;
        assert_eq!(check_after(&store, &["DELETE FROM audit WHERE seq > 3"]).await, broken(4, "AUD0001"));
    }

    async fn a_cut_tail_with_a_turned_back_counter_is_found_by_the_heads_hash(store: Store) {
        append(&store, 5).await;
        let sql = &["DELETE FROM audit WHERE seq > 3", "UPDATE audit_head SET seq = 3"];
        assert_eq!(check_after(&store, sql).await, broken(3, "AUD0004"));
    }

    async fn a_well_formed_row_that_was_added_from_outside_is_found(store: Store) {
        append(&store, 3).await;
        let before = head(&store).await;
        append(&store, 1).await;
        set_head(&store, &before).await;
        assert_eq!(check_after(&store, &[]).await, broken(4, "AUD0005"));
    }

    async fn a_tail_that_was_made_anew_with_right_hashes_is_found_by_the_heads_mark_for_good(store: Store) {
        append(&store, 5).await;
        forge(&store, 4).await;
        assert_eq!(check_after(&store, &[]).await, broken(5, "AUD0006"));
        // Rows of an honest server after it do not make it good.
        append(&store, 2).await;
        assert_eq!(check_after(&store, &[]).await, broken(7, "AUD0006"));
    }

    async fn a_tail_that_was_cut_off_with_a_right_head_is_found_by_its_mark(store: Store) {
        append(&store, 3).await;
        let noted = head(&store).await;
        append(&store, 2).await;
        assert_eq!(check_noted(&store, noted.seq, &noted.hash).await, None);
        check_after(&store, &["DELETE FROM audit WHERE seq > 3"]).await;
        set_head(&store, &Head { mark: head(&store).await.mark, ..noted }).await;
        assert_eq!(check_after(&store, &[]).await, broken(3, "AUD0006"));
    }

    async fn a_log_that_was_begun_again_is_found(store: Store) {
        append(&store, 3).await;
        check_after(&store, &["DELETE FROM audit", "UPDATE audit_head SET seq = 0, hash = '', mark = ''"]).await;
        append(&store, 2).await;
        assert_eq!(check_after(&store, &[]).await, broken(2, "AUD0006"));
    }

    async fn a_log_that_was_begun_again_with_its_organisation_is_found(store: Store) {
        let sealer = Sealer::generate().unwrap();
        setup::create_tenant(&store, &sealer, "cli:test", Time(1)).await.unwrap();
        assert_eq!(check_after(&store, &[]).await, (1, None));
        store.write(|tx| store::users::insert_user(tx, &user("ana@example.org"), Time(2))).await.unwrap();
        let again = &["DELETE FROM audit", "UPDATE audit_head SET seq = 0, hash = '', mark = ''", "DELETE FROM meta WHERE key = 'tenant'"];
        check_after(&store, again).await;
        setup::create_tenant(&store, &sealer, "cli:test", Time(3)).await.unwrap();
        assert_eq!(check_after(&store, &[]).await, broken(1, "AUD0006"));
    }

    async fn a_head_that_was_noted_shows_what_was_turned_back_with_an_old_mark(store: Store) {
        append(&store, 3).await;
        let old = head(&store).await;
        append(&store, 2).await;
        let noted = head(&store).await;
        check_after(&store, &["DELETE FROM audit WHERE seq > 3"]).await;
        set_head(&store, &old).await;
        assert_eq!(check_after(&store, &[]).await, (3, None), "of itself the log cannot know");
        assert_eq!(check_noted(&store, noted.seq, &noted.hash).await, Some("AUD0008"));
        append(&store, 1).await;
        append(&store, 1).await;
        assert_eq!(check_noted(&store, noted.seq, &noted.hash).await, Some("AUD0007"));
        assert_eq!(check_noted(&store, old.seq, &old.hash).await, None);
    }

    async fn a_row_before_the_first_place_is_kept_out_and_found_where_it_came_in(store: Store) {
        append(&store, 3).await;
        let copy = "INSERT INTO audit SELECT -1, at, actor, action, target, origin, before, after, '', hash FROM audit WHERE seq = 1";
        let kept_out = store.write(move |tx| Ok(diesel::sql_query(copy).execute(tx.conn())?)).await;
        assert!(kept_out.is_err(), "{kept_out:?}");
        let let_in = move |tx: &mut Tx<'_>| {
            let loosen = if matches!(tx.conn(), store::Conn::Sqlite(_)) {
                "PRAGMA ignore_check_constraints = ON"
            } else {
                "ALTER TABLE audit DROP CONSTRAINT audit_seq_check"
            };
            diesel::sql_query(loosen).execute(tx.conn())?;
            diesel::sql_query(copy).execute(tx.conn())?;
            Ok(())
        };
        store.write(let_in).await.unwrap();
        let why = Refusal::ALL.iter().find(|refusal| refusal.code() == "AUD0005").copied().unwrap();
        assert_eq!(check_after(&store, &[]).await, (0, Some(Broken { seq: -1, why })));
        assert_eq!(check_after(&store, &["UPDATE audit SET seq = 0 WHERE seq = -1"]).await, (0, Some(Broken { seq: 0, why })));
    }

    async fn a_head_that_was_taken_away_is_named_by_checks_and_writers(store: Store) {
        append(&store, 3).await;
        assert_eq!(check_after(&store, &["DELETE FROM audit_head"]).await, broken(1, "AUD0009"));
        let entry = Entry::new("user:1", "test.do", "thing:1", "local");
        let written = store.write(move |tx| store::audit::append(tx, &entry, Time(5))).await;
        assert!(matches!(written, Err(store::Error::Refused(refusal)) if refusal.code() == "AUD0009"), "{written:?}");
    }

    async fn a_place_before_the_first_is_no_note(store: Store) {
        append(&store, 3).await;
        for seq in [0, -1, i64::MIN] {
            let noted = Place { seq, hash: "00".repeat(32) };
            let checked = audit::verify(&app(store.clone()), Some(&noted)).await;
            assert!(matches!(&checked, Err(muster::service::Error::Refused(no)) if no.code() == "AUD0010"), "{checked:?}");
        }
    }

    async fn a_check_during_writes_finds_nothing(store: Store) {
        append(&store, 10).await;
        let writer = tokio::spawn({ let store = store.clone(); async move { for _ in 0..60 { append(&store, 1).await; } } });
        let app = app(store.clone());
        while !writer.is_finished() {
            assert_eq!(audit::verify(&app, None).await.unwrap().broken, None);
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
    // As a server does before it writes anything: with the organisation the log is begun.
    for node in &nodes {
        db::begin_audit(node).await;
    }
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
