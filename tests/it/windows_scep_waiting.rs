//! Certificates of simulated Windows devices that an administrator decides on: asked for, granted, refused, or let wait for too long.

use muster::clock::{DAY, HOUR, MINUTE, SECOND};
use muster::domain::desired::{Note, Record, State};
use muster::domain::user::User;
use muster::ids::ProfileId;
use muster::service::pki::{authority, scep};
use muster::sim::windows::Device;

use crate::support::windows::{House, by};
use crate::windows_scep::{certificates, draft, live, ordinary};

/// The only record of the only device's only item, and the item's state.
pub async fn record(house: &House) -> (State, Record) {
    let id = house.device_ids().await.remove(0);
    let item = house.items(&id).await.remove(0).item;
    (item.state, item.detail.records.into_values().next().unwrap())
}

fn demanding(fields: &str) -> muster::service::profile::Draft {
    draft(&["one"], &format!("needs-approval = true\n{fields}"), "subject = \"CN={{DeviceId}}\"\ndays = 365")
}

/// Time passes for the server and for the device.
fn pass(house: &House, device: &mut Device, millis: i64) {
    house.server.clock.advance(millis);
    device.faults.clock_skew += millis;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_is_approved_and_the_device_gets_its_certificate() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(demanding("")).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    // Sessions go by; the request waits, and the profile says so.
    for _ in 0..3 {
        pass(&house, &mut device, HOUR);
        device.settle().await.unwrap();
        let (state, record) = record(&house).await;
        assert_eq!((state, record.note), (State::Delivered, Some(Note::WaitsForApproval)));
    }
    let waiting = scep::list_pending(app, 10).await.unwrap();
    assert_eq!(waiting.len(), 1, "one request, and nobody withdrew it");
    assert!(certificates(&house).await.is_empty());
    let granted = scep::approve(app, "default", &waiting[0].transaction_id, "cli:test", "local").await.unwrap();
    // The device asks again when its own time has come, not sooner.
    device.settle().await.unwrap();
    assert!(device.certificates.is_empty());
    pass(&house, &mut device, 3 * HOUR);
    device.settle().await.unwrap();
    let (state, record) = record(&house).await;
    assert_eq!((state, record.note), (State::Verified, None));
    assert_eq!(live(&house).await.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), [granted]);
    assert_eq!(device.certificates.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_asks_as_often_as_it_is_told_and_then_gives_up() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(demanding("retry-count = 2\nretry-delay = 7")).await;
    let mut device = house.enroll(1).await;
    device.session().await.unwrap();
    device.work().await;
    let first = scep::list_pending(app, 10).await.unwrap().remove(0).transaction_id;
    for _ in 0..2 {
        pass(&house, &mut device, 7 * MINUTE - SECOND);
        device.work().await;
        assert!(!device.has_news(), "not its time yet");
        pass(&house, &mut device, SECOND);
        device.work().await;
    }
    assert!(device.has_news(), "the last look was in vain");
    device.settle().await.unwrap();
    assert!(scep::list_pending(app, 10).await.unwrap().is_empty(), "nobody would fetch it any more");
    let (state, record) = record(&house).await;
    assert_eq!((state, record.status, record.note), (State::Pending, Some(16), None));
    // Later it asks anew.
    pass(&house, &mut device, 10 * MINUTE);
    device.settle().await.unwrap();
    let waiting = scep::list_pending(app, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_ne!(waiting[0].transaction_id, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_refused_fails_on_the_device() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(demanding("retry-delay = 5")).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let waiting = scep::list_pending(app, 10).await.unwrap().remove(0).transaction_id;
    scep::refuse(app, "default", &waiting, "cli:test", "local").await.unwrap();
    pass(&house, &mut device, 5 * MINUTE);
    device.work().await;
    device.session().await.unwrap();
    let (state, record) = record(&house).await;
    assert_eq!((state, record.status, record.note), (State::Pending, Some(16), None));
}

async fn state_of(house: &House, profile: &ProfileId) -> (State, Option<String>) {
    let id = house.device_ids().await.remove(0);
    let item = house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item;
    (item.state, item.detail.records.into_values().find_map(|record| record.original_error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_authority_issues_settings_go_on_and_certificates_wait() {
    let house = House::new().await;
    let app = &house.server.app;
    let hello = house.assign_baseline("windows-hello-for-business").await;
    let scep = house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    authority::set_paused(app, authority::ISSUING, true, "cli:test", "local").await.unwrap();
    for _ in 0..2 {
        device.settle().await.unwrap();
        assert_eq!(state_of(&house, &hello).await.0, State::Verified);
        assert_eq!(state_of(&house, &scep).await, (State::Pending, None));
        assert!(device.certificates.is_empty());
        pass(&house, &mut device, HOUR);
    }
    authority::set_paused(app, authority::ISSUING, false, "cli:test", "local").await.unwrap();
    device.settle().await.unwrap();
    assert_eq!(state_of(&house, &scep).await, (State::Verified, None));
    assert_eq!(live(&house).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_lacks_a_value_is_made_when_the_value_is_there() {
    let house = House::new().await;
    let app = &house.server.app;
    let scep = house.assign(draft(&["one"], "", "scope = \"user\"\nsubject = \"E={{EmailAddress}}\"\ndays = 365")).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let (state, why) = state_of(&house, &scep).await;
    assert_eq!(state, State::Failed);
    assert!(why.as_deref().is_some_and(|why| why.contains("EmailAddress")), "{why:?}");
    let id = house.user.clone();
    let user = app.store.read(move |c| muster::store::users::load_user(c, &id)).await.unwrap();
    crate::desired::write_user(app, User { mail: Some("ana@example.org".into()), ..user }, &by()).await.unwrap();
    pass(&house, &mut device, DAY);
    device.settle().await.unwrap();
    assert_eq!(state_of(&house, &scep).await, (State::Verified, None));
    assert_eq!(live(&house).await.len(), 1);
}
