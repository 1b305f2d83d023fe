//! On PostgreSQL nobody waits for somebody who waits for them: what transactions take, they take in one order.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, sql_types};
use muster::clock::{DAY, Time};
use muster::domain::assignment::{Mode, Target};
use muster::domain::compliance::Rules;
use muster::domain::device::{Platform, State};
use muster::domain::signal::Initiator;
use muster::ids::{CertificateId, DeviceId};
use muster::service::compliance::{reevaluate_in, run_due};
use muster::service::{presence, profile};
use muster::store::{Location, Store, audit, authorities, certificates, compliance, devices, enrollments};

use crate::desired::{device, enrollment};
use crate::store_certificates::{authority, certificate};
use crate::support::db;
use crate::support::server::{Options, Server};
use crate::support::windows::{House, by};

/// A transaction of somebody else, which holds what it took until it ends. It waits for less time than PostgreSQL takes to find two that
/// wait for each other, and to send one of them away.
pub struct Other(PgConnection);

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = sql_types::BigInt)]
    count: i64,
}

impl Other {
    pub fn begin(url: &str, takes: &str) -> Self {
        let mut conn = PgConnection::establish(url).unwrap();
        conn.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '300ms'; {takes}")).unwrap();
        Self(conn)
    }

    /// Waits until somebody waits for this one.
    pub fn is_waited_for(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        let waits = "SELECT count(*) AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while diesel::sql_query(waits).get_result::<Count>(&mut self.0).unwrap().count == 0 {
            assert!(Instant::now() < end, "nobody waits");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub fn takes(&mut self, what: &str) {
        self.0.batch_execute(what).unwrap();
    }

    pub fn commit(mut self) {
        self.0.batch_execute("COMMIT").unwrap();
    }
}

pub fn database() -> Option<(String, Store)> {
    let url = db::postgres_url()?;
    let store = Store::open(&Location::Postgres(url.clone()), 8).unwrap();
    Some((url, store))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_leaves_takes_its_turn_before_it_holds_anything() {
    let Some((url, store)) = database() else { return };
    let house = House::with(Options { store: Some(store), ..Options::default() }).await;
    let mut pc = house.enroll(1).await;
    pc.settle().await.unwrap();
    pc.ask_to_leave();
    // Somebody assigns a profile: it is their turn.
    let mut other = Other::begin(&url, "SELECT pg_advisory_xact_lock(7709512301)");
    let leaves = tokio::spawn(async move { pc.session().await });
    let other = tokio::task::spawn_blocking(move || {
        other.is_waited_for();
        other.takes("UPDATE enrollments SET work_at = 0; UPDATE audit_head SET seq = seq");
        other
    });
    other.await.unwrap().commit();
    leaves.await.unwrap().unwrap();
    let id = house.device_ids().await.remove(0);
    let left = house.server.app.store.read(move |c| devices::load_device(c, &id)).await.unwrap();
    assert_eq!(left.state, State::Retired);
}

/// A profile reaches devices whose sessions are in the middle of being stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_a_profile_to_many_takes_their_enrolments_before_their_items() {
    let Some((url, store)) = database() else { return };
    let house = House::with(Options { store: Some(store), ..Options::default() }).await;
    for number in 1..=3 {
        house.enroll(number).await.settle().await.unwrap();
    }
    let profile = house.assign_baseline("trusted-root").await;
    let app = std::sync::Arc::clone(&house.server.app);
    let id = profile.clone();
    for what in ["takes it back", "gives it again"] {
        // A session holds the enrolment of one of them...
        let one = "(SELECT max(id) FROM enrollments)";
        let mut other = Other::begin(&url, &format!("UPDATE enrollments SET work_at = work_at WHERE id = {one}"));
        let (app, id) = (std::sync::Arc::clone(&app), id.clone());
        let change = tokio::spawn(async move {
            let all = Target::AllDevices;
            match what {
                "takes it back" => profile::unassign(&app, &id, Mode::Include, all, &by()).await,
                _ => profile::assign(&app, &id, Mode::Include, all, &by()).await.map(drop),
            }
        });
        let other = tokio::task::spawn_blocking(move || {
            other.is_waited_for();
            // ...and then writes its items and verdict.
            let device = format!("(SELECT device_id FROM enrollments WHERE id = {one})");
            other.takes(&format!("UPDATE desired_items SET attempts = attempts WHERE device_id = {device}"));
            other.takes(&format!("UPDATE compliance_states SET version = version WHERE device_id = {device}"));
            other
        });
        other.await.unwrap().commit();
        change.await.unwrap().unwrap_or_else(|why| panic!("{what}: {why}"));
    }
    for device in house.device_ids().await {
        assert_eq!(house.items(&device).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_notes_when_devices_were_heard_of_waits_for_none_of_them() {
    let Some((url, store)) = database() else { return };
    let house = House::with(Options { store: Some(store), ..Options::default() }).await;
    let mut enrolled = Vec::new();
    for number in 1..=2 {
        house.enroll(number).await;
    }
    let app = &house.server.app;
    for device in house.device_ids().await {
        enrolled.push(app.store.read(move |c| enrollments::find_current_enrollment(c, &device)).await.unwrap().unwrap().id);
    }
    let later = app.now().plus(DAY);
    let seen = async |id: &muster::ids::EnrollmentId| {
        let id = id.clone();
        app.store.read(move |c| enrollments::load_enrollment(c, &id)).await.unwrap().last_seen_at
    };
    let other = Other::begin(&url, &format!("UPDATE enrollments SET work_at = work_at WHERE id = '{}'", enrolled[0]));
    enrolled.iter().for_each(|id| app.presence.seen(id, later));
    presence::flush(app).await.unwrap();
    assert_ne!(seen(&enrolled[0]).await, Some(later));
    assert_eq!(seen(&enrolled[1]).await, Some(later));
    other.commit();
    presence::flush(app).await.unwrap();
    assert_eq!(seen(&enrolled[0]).await, Some(later), "it waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_judges_many_devices_holds_the_audit_log_only_when_nobody_is_waited_for_any_more() {
    let Some((url, store)) = database() else { return };
    let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
    let (app, now) = (&server.app, server.app.now());
    let pcs = [device("A", Platform::Windows, None), device("B", Platform::Windows, None)];
    let ids: Vec<DeviceId> = pcs.iter().map(|pc| pc.id.clone()).collect();
    let rules = Rules { secure_by_default: false, validity_days: 30 };
    let judged = app.store.write(move |tx| {
        for pc in &pcs {
            devices::insert_device(tx, pc, now)?;
            enrollments::insert_enrollment(tx, &enrollment(pc, now))?;
            reevaluate_in(tx, &pc.id, rules, Initiator::Policy, now)?;
        }
        Ok(())
    });
    judged.await.unwrap();
    // Both have been silent for too long; a session of the second one is being stored.
    server.clock.advance(31 * DAY);
    let takes = format!("SELECT 1 FROM compliance_states WHERE device_id = '{}' FOR UPDATE", ids[1]);
    let mut other = Other::begin(&url, &takes);
    let judging = tokio::spawn({
        let app = app.clone();
        async move { run_due(&app).await }
    });
    let other = tokio::task::spawn_blocking(move || {
        other.is_waited_for();
        other.takes("UPDATE audit_head SET seq = seq");
        other
    });
    other.await.unwrap().commit();
    assert_eq!(judging.await.unwrap().unwrap(), 2);
    for id in ids {
        let verdict = app.store.read(move |c| compliance::find_verdict(c, &id)).await.unwrap().unwrap().verdict;
        assert!(!verdict.compliant);
    }
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(rows.iter().filter(|row| row.action == "compliance.change").count() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_renews_takes_the_certificates_of_the_kind_in_their_order() {
    let Some((url, store)) = database() else { return };
    let record = authority();
    let (first, second) = (certificate(&record.id, "01"), certificate(&record.id, "02"));
    let leaves = [first.clone(), second.clone()];
    let written = store.write(move |tx| {
        authorities::insert_authority(tx, &record)?;
        leaves.iter().try_for_each(|leaf| certificates::insert_certificate(tx, leaf, Time(10)))
    });
    written.await.unwrap();
    let takes = |id: &CertificateId| format!("SELECT 1 FROM certificates WHERE id = '{id}' FOR UPDATE");
    // Somebody renews the first one, and will take the second one, too.
    let mut other = Other::begin(&url, &takes(&first.id));
    let (id, then) = (second.id.clone(), takes(&second.id));
    let renewing = tokio::spawn(async move { store.write(move |tx| certificates::claim_renewal(tx, &id, Time(20))).await });
    let other = tokio::task::spawn_blocking(move || {
        other.is_waited_for();
        other.takes(&then);
        other
    });
    other.await.unwrap().commit();
    assert_eq!(renewing.await.unwrap().unwrap(), Some(second));
}
