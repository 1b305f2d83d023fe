//! Certificates of Macs and iPhones that an administrator decides on: such a device asks for seconds only, and its profile waits with it.

use muster::clock::{Clock as _, DAY, MINUTE};
use muster::domain::certificate::CertificateStatus;
use muster::domain::desired::{Note, Record, State};
use muster::domain::device::Platform;
use muster::domain::profile::Kind;
use muster::domain::scep::Transaction;
use muster::ids::ProfileId;
use muster::service::pki::scep;
use muster::service::profile::Draft;
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use serde_json::{Value, json};

use crate::apple_enroll::{enrolled, house, live};
use crate::apple_identities::{issued, pass};
use crate::support::windows::House;

fn draft(subject: &str) -> Draft {
    let payloads = json!([{ "type": "scep", "name": "vpn", "needs-approval": true,
        "template": { "subject": subject, "days": 100, "key_usages": ["digital-signature"] } }]);
    let document = serde_json::from_value(json!({ "payloads": payloads })).unwrap();
    Draft { display_name: "Approved".into(), kind: Kind::Configuration, platform: Platform::MacOs, document }
}

async fn record(house: &House, device: &Device, profile: &ProfileId) -> (State, Record) {
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    let item = house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item;
    (item.state, item.detail.records.into_values().next().unwrap())
}

async fn pending(house: &House) -> Vec<Transaction> {
    scep::list_pending(&house.server.app, 10).await.unwrap()
}

async fn approve(house: &House, waiting: &Transaction) {
    scep::approve(&house.server.app, "default", &waiting.transaction_id, "cli:test", "local").await.unwrap();
}

/// The certificates of the device's identities, but for the one that it is managed by: SHA-256.
fn held(device: &Device) -> Vec<String> {
    let others = device.profiles.identities().filter(|one| one.certificate != device.enrollment.identity.certificate);
    others.map(|one| hex::encode(openssl::sha::sha256(&one.certificate))).collect()
}

/// How often the device began to install something and failed.
fn broken(device: &Device) -> usize {
    assert!(device.refusals.iter().all(|(_, why)| why.domain == "MCSCEPErrorDomain"), "{:?}", device.refusals);
    device.refusals.len()
}

/// When the server would wake the device, from now on in milliseconds; none: not.
async fn work_in(house: &House, device: &Device) -> Option<i64> {
    live(house, &device.machine.udid).await.unwrap().work_at.map(|at| at.since(house.server.clock.now()))
}

/// A Mac whose profile waits.
async fn waiting(house: &House) -> (Device, ProfileId) {
    let profile = house.assign(draft("CN={{SerialNumber}}")).await;
    let mut device = enrolled(house, Machine::mac(1)).await;
    device.settle().await.unwrap();
    (device, profile)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_waits_with_its_request_and_is_installed_when_that_is_approved() {
    let house = house().await;
    let (mut device, profile) = waiting(&house).await;
    // Days go by: one request, one attempt.
    for _ in 0..3 {
        let (state, found) = record(&house, &device, &profile).await;
        assert_eq!((state, found.note, found.tries), (State::Pending, Some(Note::WaitsForApproval), 0));
        assert_eq!((pending(&house).await.len(), broken(&device)), (1, 1));
        pass(&house, &mut device, DAY);
        device.settle().await.unwrap();
    }
    assert!(issued(&house, &profile).await.is_empty());
    assert!(work_in(&house, &device).await.is_none_or(|millis| millis > 0));
    approve(&house, &pending(&house).await[0]).await;
    // It is woken at once and asks for the same certificate; nobody is asked again.
    assert_eq!(work_in(&house, &device).await, Some(0));
    device.settle().await.unwrap();
    let (state, found) = record(&house, &device, &profile).await;
    assert_eq!((state, found.note, found.tries), (State::Verified, None, 0));
    assert_eq!((pending(&house).await.len(), broken(&device)), (0, 1));
    // The one that was approved and that nobody fetched is good for nothing.
    let [approved, own] = issued(&house, &profile).await.try_into().unwrap();
    assert_eq!((approved.status, own.status), (CertificateStatus::Revoked, CertificateStatus::Active));
    assert_eq!(held(&device), [own.sha256]);
    // An approval goes for one certificate: when that is near its end somebody is asked again, and what the device has stays.
    pass(&house, &mut device, 85 * DAY);
    device.settle().await.unwrap();
    let asked = pending(&house).await;
    assert_eq!((asked.len(), issued(&house, &profile).await.len()), (1, 2));
    assert_eq!(record(&house, &device, &profile).await.1.note, Some(Note::WaitsForApproval));
    assert_eq!(held(&device).len(), 1);
    approve(&house, &asked[0]).await;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.0, State::Verified);
    let [_, before, _, own] = issued(&house, &profile).await.try_into().unwrap();
    assert_eq!((before.status, own.status), (CertificateStatus::Revoked, CertificateStatus::Active));
    assert_eq!(held(&device), [own.sha256]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_whose_request_is_refused_says_so_and_asks_anew_the_next_day() {
    let house = house().await;
    let (mut device, profile) = waiting(&house).await;
    let first = pending(&house).await.remove(0).transaction_id;
    scep::refuse(&house.server.app, "default", &first, "cli:test", "local").await.unwrap();
    assert_eq!(work_in(&house, &device).await, Some(0));
    device.settle().await.unwrap();
    let (state, found) = record(&house, &device, &profile).await;
    assert_eq!((state, found.note), (State::Failed, None));
    assert_eq!(found.original_error.as_deref(), Some("an administrator refused its certificate"));
    assert_eq!((pending(&house).await.len(), broken(&device)), (0, 1));
    pass(&house, &mut device, DAY + MINUTE);
    device.settle().await.unwrap();
    let again = pending(&house).await;
    assert!(again.len() == 1 && again[0].transaction_id != first);
    assert_eq!(record(&house, &device, &profile).await.1.note, Some(Note::WaitsForApproval));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_goes_for_the_certificate_that_was_approved_and_no_other() {
    let house = house().await;
    let (mut device, profile) = waiting(&house).await;
    approve(&house, &pending(&house).await[0]).await;
    // Before the device hears of it the profile asks for another name.
    house.assign(draft("CN=admin")).await;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.1.note, Some(Note::WaitsForApproval));
    let asked = pending(&house).await;
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].grant.payload.as_deref(), Some("vpn"));
    assert_eq!(issued(&house, &profile).await.len(), 1, "nothing but what was approved");
    approve(&house, &asked[0]).await;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.0, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_is_changed_while_it_waits_does_not_wait_for_what_it_was() {
    let house = house().await;
    let (mut device, profile) = waiting(&house).await;
    let first = pending(&house).await.remove(0);
    house.assign(draft("CN=corrected")).await;
    device.settle().await.unwrap();
    // Its request takes the place of the other one, which nobody has to decide on any more.
    let asked = pending(&house).await;
    assert!(asked.len() == 1 && asked[0].transaction_id != first.transaction_id, "{asked:?}");
    assert_ne!(asked[0].grant.subject, first.grant.subject);
    approve(&house, &asked[0]).await;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.0, State::Verified);
    // A refusal goes for what was refused, too.
    house.assign(draft("CN=wrong")).await;
    device.settle().await.unwrap();
    let refused = pending(&house).await.remove(0).transaction_id;
    scep::refuse(&house.server.app, "default", &refused, "cli:test", "local").await.unwrap();
    house.assign(draft("CN=right")).await;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.1.note, Some(Note::WaitsForApproval));
    assert_eq!(pending(&house).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_outlives_that_the_device_is_busy_and_not_that_installing_fails_again_and_again() {
    let house = house().await;
    let (mut device, profile) = waiting(&house).await;
    approve(&house, &pending(&house).await[0]).await;
    device.faults.puts_off = Some("InstallProfile");
    for _ in 0..10 {
        device.settle().await.unwrap();
        pass(&house, &mut device, DAY);
    }
    device.faults.puts_off = None;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.0, State::Verified, "{:?}", pending(&house).await);
    // The next one is approved, too, and fails on the device whatever it tries.
    pass(&house, &mut device, 85 * DAY);
    device.settle().await.unwrap();
    approve(&house, &pending(&house).await[0]).await;
    device.faults.no_scep = true;
    for _ in 0..6 {
        device.settle().await.unwrap();
        pass(&house, &mut device, DAY);
    }
    device.faults.no_scep = false;
    assert_eq!(record(&house, &device, &profile).await.0, State::Failed);
    // It is given another try: the same certificate, and somebody is asked anew.
    let mut again = draft("CN={{SerialNumber}}");
    again.document.payloads[0].body.insert("retry-count".into(), 4.into());
    house.assign(again).await;
    device.settle().await.unwrap();
    assert_eq!(pending(&house).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_fetched_is_not_waited_for() {
    let document: Value = json!({ "payloads": [{ "type": "scep-asset", "name": "vpn", "needs-approval": true,
        "template": { "subject": "CN=x", "days": 100, "key_usages": ["digital-signature"] } }] });
    let document = serde_json::from_value(document).unwrap();
    let draft = Draft { display_name: "Declared".into(), kind: Kind::Configuration, platform: Platform::MacOs, document };
    let house = house().await;
    let refused = muster::service::profile::apply(&house.server.app, draft, &crate::support::windows::by()).await.unwrap_err();
    assert!(refused.to_string().contains("needs-approval"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_held_in_setup_assistant_until_an_administrator_decides() {
    let house = house().await;
    let profile = house.assign(draft("CN={{SerialNumber}}")).await;
    let mut device = enrolled(&house, Machine { awaiting: true, ..Machine::mac(1) }).await;
    device.settle().await.unwrap();
    assert_eq!(record(&house, &device, &profile).await.1.note, Some(Note::WaitsForApproval));
    assert!(!device.machine.awaiting);
}
