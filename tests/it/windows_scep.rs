//! Certificates by SCEP on simulated Windows devices: failure, loss, withdrawal and renewal.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::assignment::{Mode, Target};
use muster::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose, RevocationReason};
use muster::domain::desired::State;
use muster::ids::{CertificateId, ProfileId};
use muster::service::pki::scep;
use muster::service::profile::{self, Draft};
use muster::service::{Error, device, directory};
use muster::sim::http::Client;
use muster::sim::scep::{Error as ScepError, Identity, Options, Outcome, Server};
use muster::sim::windows::session::{Login, Session, Start};
use muster::sim::windows::{Device, Error as DeviceError};
use muster::store::audit::{self, Row};
use muster::store::certificates::{self, Search};
use muster::store::enrollments;
use muster::wire::pkcs10::{GeneralName, Wish};
use muster::wire::scep::FailInfo;

use crate::support::windows::{House, by};
use crate::support::wire::Wire;

/// A profile with payloads of these names.
pub fn draft(names: &[&str], fields: &str, template: &str) -> Draft {
    let mut text = "display_name = \"certificates\"\nkind = \"configuration\"\nplatform = \"windows\"\n".to_owned();
    for name in names {
        text += &format!(
            "[[document.payloads]]\ntype = \"scep\"\nname = \"{name}\"\n{fields}\n[document.payloads.template]\n{template}\n\
             sans = [{{ type = \"uri\", value = \"urn:muster:{name}:{{{{DeviceId}}}}\" }}]\n"
        );
    }
    Draft::parse(&text).unwrap()
}

pub fn ordinary(names: &[&str]) -> Draft {
    draft(names, "", "subject = \"CN={{DeviceId}}\"\ndays = 365")
}

pub async fn certificates(house: &House) -> Vec<Certificate> {
    let all = house.server.app.store.read(|c| certificates::list_certificates(c, &Search::default(), 10_000)).await.unwrap();
    all.into_iter().filter(|c| c.grant.purpose == Purpose::Authentication).collect()
}

pub async fn live(house: &House) -> Vec<Certificate> {
    certificates(house).await.into_iter().filter(|c| c.status == CertificateStatus::Active).collect()
}

pub async fn rows(house: &House, action: &'static str) -> Vec<Row> {
    let all = house.server.app.store.read(|c| audit::list(c, 0, 100_000)).await.unwrap();
    all.into_iter().filter(|row| row.action == action).collect()
}

async fn challenges(house: &House) -> usize {
    rows(house, "scep.challenge").await.len()
}

/// The reason and the code of the last refusal.
pub async fn refused(house: &House) -> (String, String) {
    let last = rows(house, "scep.refused").await.pop().expect("a refusal");
    let after: serde_json::Value = serde_json::from_str(last.after.as_deref().unwrap()).unwrap();
    (after["reason"].as_str().unwrap().to_owned(), after["detail"].as_str().unwrap_or_default().to_owned())
}

/// The requests in the device's tree, each by its status.
fn requests(device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["./Device", "./User"] {
        let leaves = device.tree.leaves(&format!("{root}/Vendor/MSFT/ClientCertificateInstall/SCEP"));
        found.extend(leaves.into_iter().filter(|(uri, _)| uri.ends_with("/Status")).map(|(_, value)| value));
    }
    found
}

async fn state(house: &House) -> State {
    let id = house.device_ids().await.remove(0);
    house.items(&id).await.remove(0).item.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_fails_takes_nothing_of_the_old_certificate_with_it() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let old = live(&house).await.remove(0);
    house.server.clock.advance(300 * DAY);
    device.faults.no_scep = true;
    device.settle().await.unwrap();
    assert_eq!(live(&house).await, std::slice::from_ref(&old), "the old one is good while there is no new one");
    assert_eq!(requests(&device), ["1"], "the failed request is gone, the old one is there");
    device.faults.no_scep = false;
    house.server.clock.advance(10 * MINUTE);
    device.settle().await.unwrap();
    let new = live(&house).await;
    assert_eq!(new.len(), 1);
    assert_ne!(new[0].id, old.id);
    assert_eq!(requests(&device), ["1"], "the old node is deleted");
    let old = certificates(&house).await.into_iter().find(|c| c.id == old.id).unwrap();
    assert_eq!((old.status, old.revocation_reason), (CertificateStatus::Revoked, Some(RevocationReason::Superseded)));
    assert_eq!(state(&house).await, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_the_device_does_not_delete_is_asked_for_again() {
    use muster::wire::locuri::LocUri;
    use muster::wire::syncml::Verb;
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    house.server.clock.advance(300 * DAY);
    let root = LocUri::parse("./Device/Vendor/MSFT/ClientCertificateInstall/SCEP").unwrap();
    device.tree.faults.refuse.push((root, Some(Verb::Delete), 500));
    device.settle().await.unwrap();
    assert_eq!(requests(&device).len(), 2, "the device keeps the old one");
    device.tree.faults.refuse.clear();
    house.server.clock.advance(25 * HOUR);
    device.settle().await.unwrap();
    assert_eq!(requests(&device).len(), 1);
    assert_eq!(live(&house).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_whose_session_died_is_looked_at_before_another_is_begun() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    assert_eq!(challenges(&house).await, 1);
    house.server.clock.advance(300 * DAY);
    // The device has begun the enrolment, and nobody heard of it.
    device.faults.mute_after = Some(1);
    assert!(matches!(device.session().await, Err(DeviceError::Dropped)));
    device.faults.mute_after = None;
    device.work().await;
    device.settle().await.unwrap();
    assert_eq!(challenges(&house).await, 2, "no third request");
    assert_eq!((certificates(&house).await.len(), live(&house).await.len()), (2, 1));
    assert_eq!(requests(&device), ["1"]);
    assert_eq!(state(&house).await, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_the_device_never_heard_of_is_begun_again_at_once() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    house.server.clock.advance(300 * DAY);
    device.faults.drop_after = Some(1);
    assert!(matches!(device.session().await, Err(DeviceError::Dropped)));
    device.faults.drop_after = None;
    device.settle().await.unwrap();
    assert_eq!((challenges(&house).await, certificates(&house).await.len(), live(&house).await.len()), (3, 2, 1));
    assert_eq!(requests(&device), ["1"]);
    assert_eq!(state(&house).await, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_before_it_was_verified_is_revoked() {
    let house = House::new().await;
    let profile = house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.session().await.unwrap();
    device.work().await;
    assert_eq!(live(&house).await.len(), 1);
    profile::unassign(&house.server.app, &profile, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    device.settle().await.unwrap();
    assert!(live(&house).await.is_empty());
    assert!(requests(&device).is_empty());
    assert!(house.items(&house.device_ids().await[0]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_leaves_its_profile_takes_its_challenge_and_certificate_and_no_other() {
    let house = House::new().await;
    house.assign(ordinary(&["one", "two"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    assert_eq!(live(&house).await.len(), 2);
    // A request of the second one is under way when it goes.
    house.server.clock.advance(300 * DAY);
    device.session().await.unwrap();
    let applied = profile::apply(&house.server.app, ordinary(&["one"]), &by()).await.unwrap();
    assert!(!applied.created);
    device.session().await.unwrap();
    device.work().await;
    device.settle().await.unwrap();
    let left = live(&house).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].grant.payload.as_deref(), Some("one"));
    assert_eq!(requests(&device), ["1"]);
    assert!(!rows(&house, "scep.withdraw").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_challenge_is_made_for_a_user_who_is_not_there() {
    let house = House::new().await;
    house.assign(draft(&["one"], "", "scope = \"user\"\nsubject = \"CN={{UserPrincipalName}}\"\ndays = 365")).await;
    let mut device = house.enroll(1).await;
    device.login = Login::None;
    for _ in 0..3 {
        device.settle().await.unwrap();
        house.server.clock.advance(2 * HOUR);
    }
    assert_eq!(challenges(&house).await, 0);
    device.login = Login::User;
    device.settle().await.unwrap();
    assert_eq!((challenges(&house).await, live(&house).await.len()), (1, 1));
    assert_eq!(state(&house).await, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_user_gets_no_certificate() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.session().await.unwrap();
    directory::enable_user(&house.server.app, &house.user, false, &by()).await.unwrap();
    device.work().await;
    assert!(certificates(&house).await.is_empty());
    assert_eq!(refused(&house).await, ("BadUserIdInChallenge".into(), "SCP0004".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approval_comes_too_late_for_those_who_left() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(draft(&["one"], "needs-approval = true", "subject = \"CN={{DeviceId}}\"\ndays = 365")).await;
    let mut device = house.enroll(1).await;
    device.session().await.unwrap();
    device.work().await;
    let waiting = scep::list_pending(app, 10).await.unwrap().remove(0);
    let approve = async || match scep::approve(app, "default", &waiting.transaction_id, "cli:test", "local").await {
        Err(Error::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    };
    directory::enable_user(app, &house.user, false, &by()).await.unwrap();
    assert_eq!(approve().await, "SCP0004");
    directory::enable_user(app, &house.user, true, &by()).await.unwrap();
    let id = house.device_ids().await.remove(0);
    device::give_up_device(app, &id, &by()).await.unwrap();
    assert!(scep::list_pending(app, 10).await.unwrap().is_empty(), "the end of the enrolment decides");
    assert_eq!(approve().await, "SCP0001");
    assert!(certificates(&house).await.is_empty());
}

/// Asks for a renewal by the certificate itself.
async fn renew(house: &House, current: &Identity) -> Result<Identity, FailInfo> {
    let id = house.device_ids().await.remove(0);
    let mut http = Client::new(&house.roots(), None).unwrap();
    let url = format!("{}/scep/issuing", house.server.web);
    let server = Server::discover(&mut http, &url, Options::default()).await.unwrap();
    let san = vec![GeneralName::Uri(format!("urn:muster:one:{id}"))];
    let wish = Wish { san, ..Wish::common_name(id.as_str()) };
    match server.renew(&mut http, &wish, current).await {
        Ok(Outcome::Issued(identity)) => Ok(identity),
        Err(ScepError::Refused(info)) => Err(info),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_renews_itself_late_a_few_times_and_for_as_long_as_its_profile_stands() {
    let house = House::new().await;
    let profile = house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let held = device.certificates.values().next().unwrap().identity.clone();
    assert_eq!(renew(&house, &held).await.err(), Some(FailInfo::BadRequest));
    assert_eq!(refused(&house).await, ("RenewalTooEarly".into(), "SCP0002".into()));
    house.server.clock.advance(190 * DAY);
    let mut renewed = Vec::new();
    while let Ok(identity) = renew(&house, &held).await {
        renewed.push(identity);
        assert!(renewed.len() < 10);
    }
    assert_eq!(refused(&house).await, ("RenewalTooMany".into(), "SCP0003".into()));
    assert_eq!(live(&house).await.len(), 5, "scep.live_certificates");
    // A profile that is not the device's any more renews nothing, and everything that came of it ends.
    house.server.clock.advance(20 * DAY);
    profile::unassign(&house.server.app, &profile, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    assert_eq!(renew(&house, &held).await.err(), Some(FailInfo::BadRequest));
    assert_eq!(refused(&house).await, ("ScepProfileNoLongerTargetedToTheClient".into(), "SCP0004".into()));
    device.settle().await.unwrap();
    assert!(live(&house).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_has_the_names_of_today() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let held = device.certificates.values().next().unwrap().identity.clone();
    house.server.clock.advance(190 * DAY);
    let changed = draft(&["one"], "", "subject = \"CN={{DeviceId}},O=Example\"\ndays = 365");
    profile::apply(&house.server.app, changed, &by()).await.unwrap();
    assert_eq!(renew(&house, &held).await.err(), Some(FailInfo::BadRequest));
    assert_eq!(refused(&house).await.0, "SubjectNameMismatch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_thousands_of_certificates_loses_all_of_them() {
    let house = House::new().await;
    let app = &house.server.app;
    let profile: ProfileId = house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let model = live(&house).await.remove(0);
    let id = house.device_ids().await.remove(0);
    assert_eq!(model.grant.profile_id.as_ref(), Some(&profile));
    let now = app.now();
    app.store
        .write(move |tx| {
            for number in 0..2_500_u32 {
                // The oldest are revoked already.
                let old = number < 1_200;
                let row = Certificate {
                    id: CertificateId::new(),
                    serial: format!("{number:032x}"),
                    sha1: format!("{number:040x}"),
                    sha256: format!("{number:064x}"),
                    grant: Grant { profile_id: None, payload: None, ..model.grant.clone() },
                    status: if old { CertificateStatus::Revoked } else { CertificateStatus::Active },
                    revoked_at: old.then_some(now),
                    ..model.clone()
                };
                certificates::insert_certificate(tx, &row, now)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    // The next one of the profile is far from the oldest, and found.
    house.server.clock.advance(300 * DAY);
    device.settle().await.unwrap();
    assert_eq!(state(&house).await, State::Verified);
    device::give_up_device(app, &id, &by()).await.unwrap();
    assert!(live(&house).await.is_empty());
    let held = app.store.read(move |c| enrollments::find_current_enrollment(c, &id)).await.unwrap();
    assert!(held.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_wanted_again_while_it_is_taken_away_is_asked_for_at_once() {
    let house = House::new().await;
    let profile = house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    assert_eq!(requests(&device), ["1"]);
    profile::unassign(&house.server.app, &profile, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    let mut wire = Wire::new(&house, &device);
    let mut session = Session::new("77", &device.identity.device_id, wire.url.as_str(), Start::default(), None);
    let (_, answer) = wire.post(&session.first(&device.tree)).await;
    let mut message = session.answer(&answer, &mut device.tree).unwrap();
    assert!(requests(&device).is_empty(), "the device has taken it away, and nobody knows yet");
    profile::assign(&house.server.app, &profile, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    while let Some(body) = message {
        let (_, answer) = wire.post(&body).await;
        message = session.answer(&answer, &mut device.tree).unwrap();
    }
    assert_eq!(challenges(&house).await, 2, "another one is asked for in the same session");
}
