//! Scheduled jobs: due, leased, made up for after a pause, and run by one node.

use std::sync::Arc;

use muster::app::App;
use muster::clock::{DAY, HOUR, ManualClock, Time};
use muster::config::Config;
use muster::domain::device::Platform;
use muster::ids::{EnrollmentId, TenantId};
use muster::secret::Sealer;
use muster::service::jobs::{JOBS, next_run, run_due};
use muster::store::apple::sessions::{self, Session};
use muster::store::{Store, jobs};

use crate::both_backends;
use crate::support::db;

fn start() -> Time {
    Time::parse("2026-03-01T00:00:00Z").unwrap()
}

fn node(store: &Store, clock: &ManualClock) -> App {
    App::new(store.clone(), Config::default(), TenantId::new(), Arc::new(clock.clone()), Sealer::generate().unwrap()).unwrap()
}

async fn claim(store: &Store, node: &'static str, now: i64) -> bool {
    store.write(move |tx| jobs::claim_job(tx, "j", node, Time(now), Time(now + 10))).await.unwrap()
}

async fn finish(store: &Store, node: &'static str, now: i64, error: Option<&'static str>) {
    store.write(move |tx| jobs::update_finished(tx, "j", node, Time(now + 100), Time(now), error)).await.unwrap();
}

both_backends! {
    async fn a_job_is_taken_by_one_node_and_by_another_once_the_lease_is_over(store: Store) {
        store.write(|tx| jobs::upsert_job(tx, "j", "0 0 * * * *", Time(5))).await.unwrap();
        assert!(!claim(&store, "n1", 4).await);
        assert!(claim(&store, "n1", 5).await);
        assert!(!claim(&store, "n2", 14).await);
        assert!(claim(&store, "n2", 15).await);
        finish(&store, "n1", 16, None).await;
        assert_eq!(store.read(jobs::list_jobs).await.unwrap()[0].lease_owner.as_deref(), Some("n2"), "the late owner changes nothing");
        finish(&store, "n2", 17, Some("no disk")).await;
        let row = store.read(jobs::list_jobs).await.unwrap().remove(0);
        assert_eq!((row.next_at, row.lease_owner, row.last_finished_at), (117, None, Some(17)));
        assert_eq!(row.last_error.as_deref(), Some("no disk"));
        assert!(!claim(&store, "n1", 116).await);
        assert!(claim(&store, "n1", 117).await);
    }

    async fn of_nodes_that_look_at_once_one_takes_the_job(store: Store) {
        store.write(|tx| jobs::upsert_job(tx, "j", "0 0 * * * *", Time(5))).await.unwrap();
        let tries: Vec<_> = ["n1", "n2", "n3", "n4"]
            .map(|node| { let store = store.clone(); tokio::spawn(async move { claim(&store, node, 5).await }) })
            .into();
        let mut won = 0;
        for one in tries { won += usize::from(one.await.unwrap()); }
        assert_eq!(won, 1);
    }

    async fn every_job_runs_at_the_first_start_then_by_schedule_and_once_after_a_pause(store: Store) {
        db::begin_audit(&store).await;
        let clock = ManualClock::new(start());
        let app = node(&store, &clock);
        let ended = run_due(&app).await.unwrap();
        assert_eq!(ended.len(), JOBS.len());
        assert!(ended.iter().all(|e| e.error.is_none()), "{ended:?}");
        assert!(run_due(&app).await.unwrap().is_empty());
        for row in store.read(jobs::list_jobs).await.unwrap() {
            assert_eq!(row.next_at, next_run(&row.schedule, start()).unwrap().0, "{}", row.name);
            assert_eq!(row.lease_owner, None);
        }
        // Ten days without any node: what was missed is made up once, by whoever comes first.
        clock.advance(10 * DAY);
        assert_eq!(run_due(&node(&store, &clock)).await.unwrap().len(), JOBS.len());
        assert!(run_due(&app).await.unwrap().is_empty());
        clock.advance(HOUR);
        let hourly: Vec<_> = run_due(&app).await.unwrap().iter().map(|e| e.name).collect();
        assert!(hourly.contains(&"purge") && !hourly.contains(&"audit"), "{hourly:?}");
    }

    async fn enrolments_that_were_given_up_are_forgotten(store: Store) {
        let session = |expires_at| Session {
            id: EnrollmentId::new(), user_id: None, platform: Platform::Ios, udid: None, serial: None,
            method: "link".into(), created_at: start(), expires_at,
        };
        let rows = [session(start().plus(-2 * HOUR)), session(start().plus(HOUR))];
        let [given_up, open] = rows.clone().map(|row| row.id);
        store.write(move |tx| rows.iter().try_for_each(|row| sessions::insert_session(tx, row))).await.unwrap();
        run_due(&node(&store, &ManualClock::new(start()))).await.unwrap();
        assert_eq!(store.read(move |c| sessions::find_session(c, &given_up)).await.unwrap(), None);
        assert!(store.read(move |c| sessions::find_session(c, &open)).await.unwrap().is_some());
    }

    async fn a_failed_job_says_why_and_runs_again_by_schedule(store: Store) {
        db::begin_audit(&store).await;
        let clock = ManualClock::new(start());
        let app = node(&store, &clock);
        run_due(&app).await.unwrap();
        store.write(|tx| {
            use diesel::RunQueryDsl as _;
            diesel::sql_query("UPDATE audit SET actor = 'x' WHERE seq = 1").execute(tx.conn())?;
            Ok(())
        }).await.unwrap();
        clock.advance(DAY);
        let ended = run_due(&app).await.unwrap();
        let audit = ended.iter().find(|e| e.name == "audit").unwrap();
        assert!(audit.error.as_deref().unwrap().contains("AUD0003"), "{audit:?}");
        let rows = store.read(jobs::list_jobs).await.unwrap();
        let row = rows.iter().find(|r| r.name == "audit").unwrap();
        assert_eq!(row.last_error, audit.error);
        assert!(row.next_at > start().plus(DAY).0);
    }
}
