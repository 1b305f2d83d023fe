//! Scheduled jobs: due, leased, made up for after a pause, and run by one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use muster::app::App;
use muster::clock::{Clock, DAY, HOUR, MINUTE, ManualClock, SystemClock, Time};
use muster::config::Config;
use muster::domain::command::{Command, NodeOperation, Operation, State, Verb};
use muster::domain::device::Platform;
use muster::domain::profile::Scope;
use muster::ids::{CommandId, EnrollmentId, TenantId};
use muster::secret::Sealer;
use muster::service::jobs::{JOBS, Job, next_run, run_due, run_due_of};
use muster::store::apple::sessions::{self, Session};
use muster::store::{Conn, Store, Tx, commands, devices, enrollments, jobs};

use crate::both_backends;
use crate::desired::{device, enrollment};
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

async fn count_by_state(store: &Store) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Counted {
        #[diesel(sql_type = diesel::sql_types::Text)]
        state: String,
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    let read = |conn: &mut Conn| -> muster::store::Result<Vec<Counted>> {
        use diesel::RunQueryDsl as _;
        Ok(diesel::sql_query("SELECT state, count(*) AS count FROM commands GROUP BY state ORDER BY state").load(conn)?)
    };
    store.read(read).await.unwrap().iter().map(|c| format!("{} {}", c.state, c.count)).collect()
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

    async fn a_job_that_panics_fails_alone_gives_its_lease_back_and_runs_again(store: Store) {
        const SHAKY: &[Job] = &[
            Job { name: "shaky", schedule: "0 0 * * * *", run: |_| Box::pin(async { panic!("on purpose") }) },
            Job { name: "steady", schedule: "0 0 * * * *", run: |_| Box::pin(async { Ok(()) }) },
        ];
        const SURE: &[Job] = &[Job { run: |_| Box::pin(async { Ok(()) }), name: SHAKY[0].name, schedule: SHAKY[0].schedule }];
        let clock = ManualClock::new(start());
        let app = node(&store, &clock);
        let ended = run_due_of(&app, SHAKY).await.unwrap();
        let errors: Vec<_> = ended.iter().map(|e| (e.name, e.error.as_deref())).collect();
        assert_eq!(errors, [("shaky", Some("it panicked")), ("steady", None)]);
        let row = store.read(jobs::list_jobs).await.unwrap().remove(0);
        assert_eq!((row.lease_owner, row.lease_until, row.last_error.as_deref()), (None, None, Some("it panicked")));
        assert_eq!(row.next_at, start().plus(HOUR).0);
        clock.advance(HOUR);
        let ended = run_due_of(&app, SURE).await.unwrap();
        assert_eq!(ended.iter().map(|e| (e.name, e.error.is_none())).collect::<Vec<_>>(), [("shaky", true)]);
        assert_eq!(store.read(jobs::list_jobs).await.unwrap()[0].last_error, None);
    }

    async fn jobs_neither_storm_nor_stop_when_the_clock_jumps(store: Store) {
        db::begin_audit(&store).await;
        let clock = ManualClock::new(start());
        let app = node(&store, &clock);
        run_due(&app).await.unwrap();
        clock.advance(3650 * DAY);
        assert_eq!(run_due(&app).await.unwrap().len(), JOBS.len(), "once each");
        assert!(run_due(&app).await.unwrap().is_empty());
        // A node takes a job, dies, and the clock is set right.
        let ahead = app.now();
        store.write(move |tx| {
            jobs::upsert_job(tx, "crl", "*/15 * * * * *", ahead)?;
            jobs::claim_job(tx, "crl", "dead", ahead, ahead.plus(2 * MINUTE)).map(|claimed| assert!(claimed))
        }).await.unwrap();
        clock.advance(-3650 * DAY);
        assert!(run_due(&app).await.unwrap().is_empty(), "nothing is due by the right clock");
        clock.advance(MINUTE);
        let names: Vec<_> = run_due(&app).await.unwrap().iter().map(|e| e.name).collect();
        assert!(names.contains(&"crl") && names.contains(&"compliance") && !names.contains(&"audit"), "{names:?}");
        assert!(run_due(&app).await.unwrap().is_empty());
        clock.advance(DAY);
        assert_eq!(run_due(&app).await.unwrap().len(), JOBS.len());
    }

    async fn the_lease_of_a_job_is_not_over_for_a_node_whose_clock_is_ahead(store: Store) {
        // Where no other node can be the clock is our own.
        if !store.is_shared() { return }
        struct Ahead;
        impl Clock for Ahead {
            fn now(&self) -> Time { SystemClock.now().plus(DAY) }
            fn is_of_machine(&self) -> bool { true }
        }
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        const LONG: &[Job] = &[Job { name: "long", schedule: "0 0 0 1 1 *", run: |_| Box::pin(async {
            RUNS.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }) }];
        let of = |clock: Arc<dyn Clock>| {
            App::new(store.clone(), Config::default(), TenantId::new(), clock, Sealer::generate().unwrap()).unwrap()
        };
        let (right, ahead) = (of(Arc::new(SystemClock)), of(Arc::new(Ahead)));
        let now = right.common_now().await.unwrap();
        assert!(now.since(ahead.common_now().await.unwrap()).abs() < HOUR, "all nodes know one time");
        // The right node is at it.
        let node = right.node.clone();
        store.write(move |tx| {
            jobs::upsert_job(tx, "long", "0 0 0 1 1 *", now)?;
            jobs::claim_job(tx, "long", &node, now, now.plus(2 * MINUTE)).map(|claimed| assert!(claimed))
        }).await.unwrap();
        assert!(run_due_of(&ahead, LONG).await.unwrap().is_empty(), "a day ahead, and still not over");
        // It is given up, and due: whoever looks runs it once, and sets the next run by the same time.
        let node = right.node.clone();
        store.write(move |tx| jobs::update_finished(tx, "long", &node, now, now, None)).await.unwrap();
        assert_eq!(run_due_of(&ahead, LONG).await.unwrap().len(), 1);
        let row = store.read(jobs::list_jobs).await.unwrap().remove(0);
        assert_eq!(row.next_at, next_run("0 0 0 1 1 *", now).unwrap().0);
        assert!(row.last_finished_at.unwrap() - now.0 < HOUR);
        assert!(run_due_of(&right, LONG).await.unwrap().is_empty());
        assert_eq!(RUNS.load(Ordering::SeqCst), 1);
    }

    async fn orders_that_are_over_are_deleted_in_time_and_no_others(store: Store) {
        let pc = device("PC-1", Platform::Windows, None);
        let row = enrollment(&pc, start());
        let id = row.id.clone();
        store.write(move |tx| {
            devices::insert_device(tx, &pc, start())?;
            enrollments::insert_enrollment(tx, &row)
        }).await.unwrap();
        let orders = move |state: State, at: Time, count: usize| {
            let order = Command {
                id: CommandId::new(), enrollment_id: id.clone(), kind: "restart".into(), scope: Scope::Device, attempts: 1, result: None,
                operation: Operation::Node(NodeOperation { verb: Verb::Exec, uri: "./x".into(), format: None, data: None }),
                state, not_before: at, created_by: "cli:test".into(), version: 1,
            };
            move |tx: &mut Tx<'_>| (0..count).try_for_each(|_| {
                commands::insert_command(tx, &Command { id: CommandId::new(), ..order.clone() }, &b"sealed".to_vec().into(), at)
            })
        };
        let old = start().plus(-366 * DAY);
        store.write(orders(State::Done, old, 1203)).await.unwrap();
        for state in [State::Failed, State::Cancelled, State::Uncertain, State::Queued, State::Sent] {
            store.write(orders(state, old, 1)).await.unwrap();
        }
        store.write(orders(State::Done, start().plus(-364 * DAY), 1)).await.unwrap();
        assert_eq!(store.write(move |tx| commands::purge_commands(tx, start(), 2)).await.unwrap(), 2, "no more at once");
        let ended = run_due(&node(&store, &ManualClock::new(start()))).await.unwrap();
        assert_eq!(ended.iter().find(|e| e.name == "purge").unwrap().error, None);
        assert_eq!(count_by_state(&store).await, ["done 1", "queued 1", "sent 1", "uncertain 1"]);
    }

    async fn enrolments_that_were_given_up_are_forgotten(store: Store) {
        let session = |expires_at| Session {
            id: EnrollmentId::new(), user_id: None, platform: Platform::Ios, udid: None, serial: None, management: None,
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
