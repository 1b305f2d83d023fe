//! When devices were last heard of.

use diesel::connection::SimpleConnection as _;
use muster::clock::{HOUR, MINUTE};
use muster::ids::EnrollmentId;
use muster::service::{device, presence};
use muster::store::{Conn, Store, enrollments};

use crate::support::windows::{House, by};

async fn execute(store: &Store, sql: &'static str) {
    store
        .write(move |tx| {
            match tx.conn() {
                Conn::Sqlite(c) => c.batch_execute(sql)?,
                Conn::Postgres(c) => c.batch_execute(sql)?,
            }
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_written_is_written_the_next_time_all_of_it() {
    let house = House::new().await;
    let app = &house.server.app;
    house.enroll(1).await;
    // More than one transaction takes lies between the two.
    let between: Vec<EnrollmentId> = (0..1000).map(|_| EnrollmentId::new()).collect();
    house.enroll(2).await;
    presence::flush(app).await.unwrap();
    let mut own = Vec::new();
    for id in house.device_ids().await {
        own.push(app.store.read(move |c| enrollments::find_current_enrollment(c, &id)).await.unwrap().unwrap().id);
    }
    house.server.clock.advance(HOUR);
    let now = app.now();
    for id in own.iter().chain(&between) {
        app.presence.seen(id, now);
    }
    execute(&app.store, "CREATE TRIGGER refuse BEFORE UPDATE ON enrollments BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    presence::flush(app).await.unwrap_err();
    execute(&app.store, "DROP TRIGGER refuse").await;
    presence::flush(app).await.unwrap();
    for id in own {
        let seen = app.store.read(move |c| enrollments::load_enrollment(c, &id)).await.unwrap().last_seen_at;
        assert_eq!(seen, Some(now));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_has_left_was_heard_of_when_its_newest_enrolment_was() {
    let house = House::new().await;
    let app = &house.server.app;
    house.enroll(1).await;
    house.server.clock.advance(HOUR);
    let mut pc = house.enroll(1).await;
    house.server.clock.advance(MINUTE);
    pc.settle().await.unwrap();
    presence::flush(app).await.unwrap();
    let ids = house.device_ids().await;
    assert_eq!(ids.len(), 1, "the same PC");
    let before = device::show(app, &ids[0]).await.unwrap().overview.last_seen_at;
    assert_eq!(before, app.now());
    house.server.clock.advance(HOUR);
    device::retire(app, &ids[0], "cli:test", "local").await.unwrap();
    let shown = device::show(app, &ids[0]).await.unwrap();
    assert_eq!((shown.reasons[0].rule.as_str(), shown.reasons[0].got.as_deref()), ("isManaged", Some("retiring")));
    device::give_up_device(app, &ids[0], &by()).await.unwrap();
    let shown = device::show(app, &ids[0]).await.unwrap();
    assert_eq!((shown.overview.last_seen_at, shown.reasons[0].got.as_deref()), (before, Some("retired")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_on_hold_is_told_from_one_that_is_gone() {
    use muster::domain::certificate::RevocationReason;
    use muster::service::pki::revoke;
    use muster::store::certificates::{self, Search};
    let house = House::new().await;
    let app = &house.server.app;
    house.enroll(1).await;
    let id = house.device_ids().await.remove(0);
    let shown = device::show(app, &id).await.unwrap();
    assert!(shown.identity_until.is_some() && !shown.identity_held);
    let search = Search { device: Some(id.clone()), ..Search::default() };
    let own = app.store.read(move |c| certificates::list_certificates(c, &search, 10)).await.unwrap().remove(0);
    revoke::revoke(app, &own.id, RevocationReason::CertificateHold, "cli:test", "local").await.unwrap();
    let shown = device::show(app, &id).await.unwrap();
    assert!(shown.identity_until.is_none() && shown.identity_held);
}
