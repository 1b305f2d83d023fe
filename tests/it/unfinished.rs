//! Enrolments that were begun and that no device finishes.

use muster::clock::DAY;
use muster::domain::device::State as DeviceState;
use muster::domain::enrollment::State;
use muster::service::{audit, device};
use muster::sim::apple::machine::Machine;
use muster::store::audit::Search;
use muster::store::devices::Filter;
use muster::store::enrollments;

use crate::apple_enroll::{enrolled, house, live};
use crate::support::windows::House;

/// The words for the devices' standing, in the order in which they enrolled.
async fn standing(house: &House, filter: Filter) -> Vec<&'static str> {
    let all = device::list(&house.server.app, filter, "", 100).await.unwrap();
    all.iter().map(device::Overview::standing).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_that_no_device_finishes_is_shown_as_such_and_ends() {
    let house = house().await;
    let app = &house.server.app;
    // A PC that got its identity and never called, one that did, and a Mac that introduced itself and never said how it is reached.
    let never = house.enroll(1).await;
    let mut calls = house.enroll(2).await;
    calls.session().await.unwrap();
    let mac = enrolled(&house, Machine::mac(1)).await;
    let half = live(&house, &mac.machine.udid).await.unwrap();
    let begun = muster::domain::enrollment::Enrollment { state: State::Provisioned, ..half.clone() };
    app.store.write(move |tx| enrollments::claim_update(tx, &begun)).await.unwrap();
    assert_eq!(standing(&house, Filter::default()).await, ["enrolling", "managed", "enrolling"]);
    let managed = Filter { state: Some(DeviceState::Managed), ..Filter::default() };
    assert_eq!(standing(&house, Filter { enrolling: Some(true), ..managed.clone() }).await, ["enrolling"; 2]);
    assert_eq!(standing(&house, Filter { enrolling: Some(false), ..managed.clone() }).await, ["managed"]);
    assert_eq!(device::show(app, &half.device_id).await.unwrap().overview.standing(), "enrolling");

    house.server.clock.advance(7 * DAY - 1);
    assert_eq!(device::end_unfinished(app).await.unwrap(), 0);
    house.server.clock.advance(1);
    assert_eq!(device::end_unfinished(app).await.unwrap(), 2);
    assert_eq!(device::end_unfinished(app).await.unwrap(), 0);
    assert_eq!(standing(&house, Filter::default()).await, ["retired", "managed", "retired"]);
    let wanted = Search { action: Some("enrollment.end-unfinished".into()), ..Search::default() };
    let (rows, _) = audit::search(app, wanted, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].actor.as_str()), (2, "system"));
    let ended = app.store.read(move |c| enrollments::load_enrollment(c, &half.id)).await.unwrap();
    assert_eq!(ended.state, State::Ended);
    // It comes after all: its certificate is revoked.
    let mut late = never;
    late.session().await.unwrap_err();
}
