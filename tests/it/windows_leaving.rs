//! Devices that are told to leave and do not answer.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::certificate::CertificateStatus;
use muster::domain::device::State as DeviceState;
use muster::domain::enrollment::State;
use muster::service::{device, jobs};
use muster::sim::windows::{Device, Error};
use muster::store::certificates::Search;
use muster::store::{audit, certificates, devices, enrollments};

use crate::support::windows::House;

async fn run_jobs(house: &House) {
    for ended in jobs::run_due(&house.server.app).await.unwrap() {
        assert!(ended.error.is_none(), "{ended:?}");
    }
}

/// State of device and enrolment, and how many of its certificates are not revoked.
async fn state(house: &House) -> (DeviceState, Option<State>, usize) {
    let id = house.device_ids().await.remove(0);
    let read = house.server.app.store.read(move |c| {
        let search = Search { device: Some(id.clone()), ..Search::default() };
        let open = certificates::list_certificates(c, &search, 100)?;
        let open = open.into_iter().filter(|certificate| certificate.status != CertificateStatus::Revoked).count();
        let current = enrollments::find_current_enrollment(c, &id)?.map(|enrollment| enrollment.state);
        Ok((devices::load_device(c, &id)?.state, current, open))
    });
    read.await.unwrap()
}

async fn ended_by_silence(house: &House) -> usize {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.iter().filter(|row| row.action == "enrollment.end-by-silence").count()
}

async fn told_to_leave(house: &House) -> Device {
    house.assign_baseline("windows-hello-for-business").await;
    house.assign_baseline("windows-compliance").await;
    let mut pc = house.enroll(1).await;
    pc.settle().await.unwrap();
    run_jobs(house).await;
    let id = house.device_ids().await.remove(0);
    device::retire(&house.server.app, &id, "cli:test", "local").await.unwrap();
    pc
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_heard_the_order_to_leave_and_is_silent_for_two_polls_has_left() {
    let house = House::new().await;
    let mut pc = told_to_leave(&house).await;
    // It hears the order, aborts the session as Windows does, and its last word gets lost.
    pc.session().await.unwrap();
    assert!(pc.left);
    muster::service::presence::flush(&house.server.app).await.unwrap();
    house.server.clock.advance(16 * HOUR - MINUTE);
    run_jobs(&house).await;
    assert_eq!(state(&house).await, (DeviceState::Retiring, Some(State::Unenrolling), 1), "it may still answer");
    house.server.clock.advance(2 * MINUTE + 5 * MINUTE);
    run_jobs(&house).await;
    assert_eq!(state(&house).await, (DeviceState::Retired, None, 0));
    assert_eq!(ended_by_silence(&house).await, 1);
    assert_eq!(house.items(&house.device_ids().await.remove(0)).await.len(), 0, "nothing is wanted of it any more");
    assert!(matches!(pc.session().await, Err(Error::Http(403, _))));
    house.server.clock.advance(DAY);
    run_jobs(&house).await;
    assert_eq!(ended_by_silence(&house).await, 1, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_never_hears_the_order_to_leave_is_waited_for_as_long_as_configured() {
    let house = House::new().await;
    told_to_leave(&house).await;
    house.server.clock.advance(30 * DAY - HOUR);
    run_jobs(&house).await;
    assert_eq!(state(&house).await, (DeviceState::Retiring, Some(State::Unenrolling), 1), "it is in a drawer");
    house.server.clock.advance(2 * HOUR);
    run_jobs(&house).await;
    assert_eq!(state(&house).await, (DeviceState::Retired, None, 0));
    assert_eq!(ended_by_silence(&house).await, 1);
}
