//! The outbox: order, leases, giving up, purging.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::connection::SimpleConnection as _;
use muster::app::App;
use muster::clock::{DAY, HOUR, ManualClock, Time};
use muster::config::Config;
use muster::ids::TenantId;
use muster::secret::Sealer;
use muster::service::outbox::{Deliverer, Delivery, Outcome, Worker};
use muster::store::outbox::{self, Claim, Lease, Message, Settled};
use muster::store::{Conn, Error, Store};

use crate::both_backends;

fn message(lane: &str, n: usize) -> Message {
    Message { topic: "test", order_key: lane.into(), dedup_key: format!("{lane}/{n}"), payload: n.to_string() }
}

fn lease(node: &str) -> Lease {
    Lease { node: node.into(), coalesced: vec!["wake"], millis: 60_000 }
}

async fn put(store: &Store, message: Message, now: i64) {
    store.write(move |tx| outbox::enqueue(tx, &message, Time(now))).await.unwrap();
}

async fn claim(store: &Store, node: &str, now: i64) -> Vec<Claim> {
    let lease = lease(node);
    store.write(move |tx| outbox::claim_due(tx, &lease, &[], 10, Time(now))).await.unwrap()
}

async fn settle(store: &Store, node: &str, claim: &Claim, settled: Settled, keep: bool, now: i64) -> Option<Claim> {
    let (claim, lease) = (claim.clone(), lease(node));
    store.write(move |tx| outbox::settle(tx, &claim, &lease, &settled, keep, Time(now))).await.unwrap()
}

async fn states(store: &Store, state: &'static str) -> Vec<i64> {
    store.read(move |c| outbox::list_rows(c, state, 0, 1000)).await.unwrap().iter().map(|r| r.seq).collect()
}

/// Panics at the first try of a message that says so.
struct Shaky;

impl Deliverer for Shaky {
    fn topic(&self) -> &'static str {
        "test"
    }

    fn retention(&self, _: &App) -> i64 {
        DAY
    }

    fn deliver<'a>(&'a self, _: &'a App, _: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            assert!(claim.payload != "13" || claim.attempts > 0, "on purpose");
            Outcome::Done
        })
    }
}

/// Says once that its destination is down as a whole.
struct Down(AtomicBool);

impl Deliverer for Down {
    fn topic(&self) -> &'static str {
        "test"
    }

    fn retention(&self, _: &App) -> i64 {
        DAY
    }

    fn deliver<'a>(&'a self, _: &'a App, _: &'a Lease, _: &'a Claim) -> Delivery<'a> {
        let was_down = self.0.swap(false, Ordering::SeqCst);
        let down = Outcome::Retry { reason: "503".into(), after: Some(HOUR), destination: true };
        Box::pin(std::future::ready(if was_down { down } else { Outcome::Done }))
    }
}

both_backends! {
    async fn a_destination_that_rests_since_the_clock_was_ahead_is_asked_again(store: Store) {
        let clock = ManualClock::new(Time(365 * DAY));
        let app = App::new(store.clone(), Config::default(), TenantId::new(), Arc::new(clock.clone()), Sealer::generate().unwrap()).unwrap();
        let worker = Arc::new(Worker::with(Arc::new(app), vec![Box::new(Down(AtomicBool::new(true)))], || 0));
        put(&store, message("d/a", 0), 365 * DAY).await;
        assert_eq!(worker.drain().await.unwrap(), 1, "it is down");
        assert_eq!(worker.drain().await.unwrap(), 0, "and left in peace");
        clock.advance(-364 * DAY);
        assert_eq!(worker.drain().await.unwrap(), 1);
        assert_eq!(states(&store, "queued").await, [0; 0]);
    }

    async fn a_destination_is_known_by_its_last_success_and_by_what_failed_since(store: Store) {
        let fortune = |name: &'static str| { let store = store.clone(); async move { store.read(move |c| outbox::find_fortune(c, name)).await.unwrap() } };
        assert_eq!(fortune("d").await, outbox::Fortune::default());
        for (lane, n) in [("d/a", 0), ("d/b", 1), ("dd/a", 2)] { put(&store, message(lane, n), 1).await; }
        for held in claim(&store, "n", 1).await {
            let settled = match held.order_key.as_str() {
                "d/a" => Settled::Retry(Time(5), "it is down".into()),
                _ => Settled::Done,
            };
            settle(&store, "n", &held, settled, false, 2).await;
        }
        let known = fortune("d").await;
        assert_eq!((known.last_success, known.failed, known.last_error.as_deref()), (Some(2), 1, Some("it is down")));
        let held = claim(&store, "n", 5).await.remove(0);
        settle(&store, "n", &held, Settled::Done, false, 9).await;
        assert_eq!(fortune("d").await, outbox::Fortune { last_success: Some(9), failed: 0, last_error: None });
    }

    async fn a_delivery_that_panics_is_tried_again_and_costs_nobody_else_anything(store: Store) {
        let clock = ManualClock::new(Time(DAY));
        let sealer = Sealer::generate().unwrap();
        let app = App::new(store.clone(), Config::default(), TenantId::new(), Arc::new(clock.clone()), sealer).unwrap();
        let worker = Arc::new(Worker::with(Arc::new(app), vec![Box::new(Shaky)], || 0));
        for (lane, n) in [("d/a", 13), ("d/a", 14), ("d/b", 1)] { put(&store, message(lane, n), DAY).await; }
        assert_eq!(worker.drain().await.unwrap(), 2, "the panic, and the other lane");
        let left = store.read(|c| outbox::list_rows(c, "queued", 0, 9)).await.unwrap();
        assert_eq!(left.iter().map(|row| (row.order_key.as_str(), row.attempts)).collect::<Vec<_>>(), [("d/a", 1), ("d/a", 0)]);
        assert!(left[0].last_error.as_deref().unwrap_or_default().contains("panicked"), "{left:?}");
        clock.advance(HOUR);
        assert_eq!(worker.drain().await.unwrap(), 2);
        assert_eq!(states(&store, "queued").await, [0; 0]);
    }

    async fn what_was_put_off_while_the_clock_was_ahead_does_not_wait_for_that_time(store: Store) {
        let ahead = 365 * DAY;
        for lane in ["d/held", "d/retry"] { put(&store, message(lane, 0), ahead).await; }
        let claims = claim(&store, "n1", ahead).await;
        settle(&store, "n1", &claims[1], Settled::Retry(Time(ahead + HOUR), "503".into()), true, ahead).await;
        put(&store, message("d/new", 0), ahead).await;
        // What is kept back for a day by the right clock stays so.
        put(&store, message("d/paused", 0), DAY).await;
        let sql = "UPDATE outbox_lanes SET next_at = 172800000 WHERE order_key = 'd/paused'";
        store.write(move |tx| { use diesel::RunQueryDsl as _; Ok(diesel::sql_query(sql).execute(tx.conn())?) }).await.unwrap();
        let due: Vec<_> = claim(&store, "n2", DAY + 1).await.into_iter().map(|claim| claim.order_key).collect();
        assert_eq!(due, ["d/held", "d/new", "d/retry"]);
        assert!(settle(&store, "n1", &claims[0], Settled::Done, true, DAY).await.is_none(), "the node that held it lost it");
    }

    async fn a_clock_that_is_set_back_a_little_takes_nothing_from_a_node_that_sends(store: Store) {
        put(&store, message("d/a", 0), DAY).await;
        let held = claim(&store, "n1", DAY).await.remove(0);
        for back in [1_000, 59_000, HOUR] {
            let taken = claim(&store, "n2", DAY - back).await;
            assert_eq!(taken.is_empty(), back < HOUR, "{back}");
        }
        assert!(settle(&store, "n1", &held, Settled::Done, true, DAY).await.is_none());
    }

    async fn only_the_oldest_row_of_a_lane_is_in_flight(store: Store) {
        for n in 0..3 { put(&store, message("d/a", n), 1).await; }
        put(&store, message("d/b", 0), 1).await;
        put(&store, message("d/b", 0), 1).await;
        let claims = claim(&store, "n1", 1).await;
        let seen: Vec<_> = claims.iter().map(|c| (c.order_key.as_str(), c.payload.as_str())).collect();
        assert_eq!(seen, [("d/a", "0"), ("d/b", "0")]);
        assert!(claim(&store, "n2", 1).await.is_empty());
        let next = settle(&store, "n1", &claims[0], Settled::Done, true, 2).await.unwrap();
        assert_eq!(next.payload, "1");
        assert!(settle(&store, "n1", &next, Settled::Retry(Time(50), "503".into()), true, 3).await.is_none());
        assert!(claim(&store, "n2", 49).await.is_empty());
        let again = claim(&store, "n2", 50).await;
        assert_eq!((again[0].payload.as_str(), again[0].attempts), ("1", 1));
        assert!(settle(&store, "n1", &claims[1], Settled::Done, true, 51).await.is_none());
        assert_eq!(store.read(outbox::count_lanes).await.unwrap(), 1);
    }

    async fn a_lease_expires_and_its_late_owner_changes_nothing(store: Store) {
        put(&store, message("d/a", 0), 1).await;
        put(&store, message("d/a", 1), 1).await;
        let first = claim(&store, "n1", 1).await.remove(0);
        assert!(claim(&store, "n2", 60_000).await.is_empty());
        let second = claim(&store, "n2", 60_001).await.remove(0);
        assert_eq!(second.payload, "0");
        assert!(settle(&store, "n1", &first, Settled::Done, true, 60_002).await.is_none());
        assert!(!store.write({ let first = first.clone(); move |tx| outbox::update_payload(tx, &first, &lease("n1"), "x") }).await.unwrap());
        assert_eq!(states(&store, "queued").await.len(), 2);
        assert_eq!(settle(&store, "n2", &second, Settled::Done, true, 60_003).await.unwrap().payload, "1");
    }

    async fn a_dead_row_lets_the_lane_go_on_and_comes_back_only_while_it_is_the_newest(store: Store) {
        for n in 0..2 { put(&store, message("d/a", n), 1).await; }
        let first = claim(&store, "n1", 1).await.remove(0);
        let second = settle(&store, "n1", &first, Settled::Dead("400 invalid_request".into()), true, 2).await.unwrap();
        assert_eq!(second.payload, "1");
        let seq = first.seq;
        store.write(move |tx| outbox::update_requeued(tx, seq, Time(3))).await.unwrap();
        assert!(states(&store, "dead").await.is_empty());
        // The lane is held: the row that came back waits for its turn, and goes before anything newer.
        let back = settle(&store, "n1", &second, Settled::Retry(Time(4), "x".into()), true, 3).await;
        assert!(back.is_none());
        let back = claim(&store, "n1", 4).await.remove(0);
        assert_eq!(back.seq, first.seq);
        let second = settle(&store, "n1", &back, Settled::Dead("again".into()), true, 5).await.unwrap();
        settle(&store, "n1", &second, Settled::Done, true, 6).await;
        let refused = store.write(move |tx| outbox::update_requeued(tx, seq, Time(7))).await;
        assert!(matches!(&refused, Err(Error::Refused(r)) if r.code() == "SIG0001"), "{refused:?}");
        let purged = store.write(|tx| outbox::purge_settled(tx, Time(DAY), Time(0), 100)).await.unwrap();
        assert_eq!(purged, 0, "the done row still proves that the dead one is superseded");
        let purged = store.write(|tx| outbox::purge_settled(tx, Time(DAY), Time(DAY), 100)).await.unwrap();
        assert_eq!(purged, 1);
        assert_eq!(store.write(|tx| outbox::purge_settled(tx, Time(DAY), Time(DAY), 100)).await.unwrap(), 1);
    }

    async fn a_wake_is_put_in_once_while_it_waits_and_again_once_it_is_in_flight(store: Store) {
        let wake = || Message { topic: "wake", order_key: "wns/1".into(), dedup_key: "wns/1".into(), payload: "{}".into() };
        for _ in 0..3 { put(&store, wake(), 1).await; }
        assert_eq!(states(&store, "queued").await.len(), 1);
        let first = claim(&store, "n1", 1).await.remove(0);
        for _ in 0..3 { put(&store, wake(), 2).await; }
        assert_eq!(states(&store, "queued").await.len(), 2);
        assert!(settle(&store, "n1", &first, Settled::Done, true, 3).await.is_some());
    }

    // A lane that another node lets go while those of its destination are made due is that node's: it may be at it again already.
    async fn what_another_node_holds_when_a_destination_is_resumed_is_left_to_it(store: Store) {
        put(&store, message("d/late", 0), 1).await;
        assert_eq!(claim(&store, "n2", 1).await.len(), 1);
        put(&store, message("d/a", 0), 1).await;
        // In the middle of it.
        store
            .write(|tx| {
                match tx.conn() {
                    Conn::Sqlite(c) => c.batch_execute(
                        "CREATE TRIGGER late AFTER UPDATE ON outbox_lanes WHEN NEW.order_key = 'd/a' \
                         BEGIN UPDATE outbox_lanes SET lease_owner = NULL WHERE order_key = 'd/late'; END",
                    )?,
                    Conn::Postgres(c) => c.batch_execute(
                        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS \
                         $$ BEGIN UPDATE outbox_lanes SET lease_owner = NULL WHERE order_key = 'd/late'; RETURN NULL; END $$; \
                         CREATE TRIGGER late AFTER UPDATE ON outbox_lanes FOR EACH ROW WHEN (NEW.order_key = 'd/a') EXECUTE FUNCTION late()",
                    )?,
                }
                Ok(())
            })
            .await
            .unwrap();
        store.write(|tx| outbox::update_resumed(tx, "d", Time(9)).map(drop)).await.unwrap();
        let rows = store.read(|c| outbox::list_rows(c, "queued", 0, 9)).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.order_key.as_str(), row.queued_at)).collect();
        assert_eq!(rows, [("d/late", 1), ("d/a", 9)]);
    }

    async fn a_destination_can_be_left_out_and_abandoned(store: Store) {
        put(&store, message("a/1", 0), 1).await;
        put(&store, message("a/2", 0), 1).await;
        put(&store, message("b/1", 0), 1).await;
        let claims = store.write(|tx| outbox::claim_due(tx, &lease("n"), &["a".into()], 10, Time(1))).await.unwrap();
        assert_eq!(claims.iter().map(Claim::destination).collect::<Vec<_>>(), ["b"]);
        assert_eq!(store.write(|tx| outbox::update_abandoned(tx, "a", "receiver removed", Time(2))).await.unwrap(), 2);
        assert!(claim(&store, "n", 3).await.is_empty());
    }

    async fn two_nodes_and_many_writers_lose_nothing_and_keep_the_order(store: Store) {
        const LANES: usize = 5;
        const EACH: usize = 20;
        let mut writers = Vec::new();
        for lane in 0..LANES {
            let store = store.clone();
            writers.push(tokio::spawn(async move {
                for n in 0..EACH { put(&store, message(&format!("d/{lane}"), n), 1).await; }
            }));
        }
        let seen = Arc::new(std::sync::Mutex::new(vec![Vec::new(); LANES]));
        let mut workers = Vec::new();
        for node in ["n1", "n2"] {
            let (store, seen) = (store.clone(), seen.clone());
            workers.push(tokio::spawn(async move {
                while seen.lock().unwrap().iter().map(Vec::len).sum::<usize>() < LANES * EACH {
                    for first in claim(&store, node, 1).await {
                        let mut held = Some(first);
                        while let Some(claim) = held {
                            let lane: usize = claim.order_key[2..].parse().unwrap();
                            seen.lock().unwrap()[lane].push(claim.payload.parse::<usize>().unwrap());
                            held = settle(&store, node, &claim, Settled::Done, true, 1).await;
                        }
                    }
                    tokio::task::yield_now().await;
                }
            }));
        }
        for task in writers.into_iter().chain(workers) { task.await.unwrap(); }
        for lane in seen.lock().unwrap().iter() {
            assert_eq!(*lane, (0..EACH).collect::<Vec<_>>());
        }
        assert_eq!(store.read(outbox::count_lanes).await.unwrap(), 0);
    }
}
