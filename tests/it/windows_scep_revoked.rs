//! Certificates of simulated Windows devices that an administrator revokes: told of, and replaced.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::certificate::{Certificate, CertificateStatus, Purpose, RevocationReason};
use muster::domain::desired::{Note, State};
use muster::service::device;
use muster::service::pki::revoke;
use muster::sim::windows::Device;
use muster::store::certificates::{Search, list_certificates};

use crate::support::windows::{House, by};
use crate::windows_scep::{certificates, live, ordinary};
use crate::windows_scep_waiting::record;

/// A device with a certificate of a profile.
async fn holding_one() -> (House, Device, Certificate) {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let certificate = live(&house).await.remove(0);
    (house, device, certificate)
}

/// It has another one made, and does not come back to say that it has it.
async fn renewing(house: &House, device: &mut Device, first: &Certificate) -> Certificate {
    house.server.clock.advance(300 * DAY);
    device.session().await.unwrap();
    device.work().await;
    live(house).await.into_iter().find(|c| c.id != first.id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_told_of_and_replaced_at_the_next_session() {
    let (house, mut device, old) = holding_one().await;
    let app = &house.server.app;
    house.server.clock.advance(HOUR);
    revoke::revoke(app, &old.id, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    let (state, noted) = record(&house).await;
    assert_eq!((state, noted.note), (State::Delivered, Some(Note::CertificateRevoked)));
    let shown = serde_json::to_string(&noted).unwrap();
    assert!(shown.contains("certificate-revoked"), "{shown}");
    device.settle().await.unwrap();
    let new = live(&house).await;
    assert_eq!(new.len(), 1);
    assert_ne!(new[0].id, old.id);
    let key = |der: &[u8]| openssl::x509::X509::from_der(der).unwrap().public_key().unwrap().public_key_to_der().unwrap();
    assert_ne!(key(&new[0].der), key(&old.der), "a key that was compromised is not certified again");
    let (state, record) = record(&house).await;
    assert_eq!((state, record.note, record.drift), (State::Verified, None, None));
    // What is not in use is none of the profile's business.
    house.server.clock.advance(HOUR);
    let before = house.items(new[0].grant.device_id.as_ref().unwrap()).await;
    assert!(revoke::revoke(app, &old.id, RevocationReason::Superseded, "cli:test", "local").await.is_err());
    assert_eq!(house.items(new[0].grant.device_id.as_ref().unwrap()).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_certificates_of_a_user_are_replaced_but_not_on_a_device_that_leaves() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(ordinary(&["one", "two"])).await;
    let (mut stays, mut leaves) = (house.enroll(1).await, house.enroll(2).await);
    stays.settle().await.unwrap();
    leaves.settle().await.unwrap();
    let ids = house.device_ids().await;
    let of = |device: &Device, ids: &[muster::ids::DeviceId], all: &[Certificate]| {
        let sha1 =
            openssl::hash::hash(openssl::hash::MessageDigest::sha1(), &device.certificates.values().next().unwrap().identity.certificate);
        let sha1 = hex::encode(sha1.unwrap());
        let id = all.iter().find(|c| c.sha1 == sha1).unwrap().grant.device_id.clone().unwrap();
        assert!(ids.contains(&id));
        id
    };
    let all = live(&house).await;
    let (staying, leaving) = (of(&stays, &ids, &all), of(&leaves, &ids, &all));
    device::retire(app, &leaving, "cli:test", "local").await.unwrap();
    house.server.clock.advance(HOUR);
    let count = revoke::revoke_of_user(app, &house.user, RevocationReason::PrivilegeWithdrawn, "cli:test", "local").await.unwrap();
    assert_eq!(count, 2, "identities stay: who has none cannot be told anything");
    leaves.settle().await.unwrap();
    stays.settle().await.unwrap();
    let good = live(&house).await;
    assert_eq!(good.len(), 2);
    assert!(good.iter().all(|c| c.grant.device_id.as_ref() == Some(&staying)));
    device::give_up_device(app, &staying, &by()).await.unwrap();
    assert!(live(&house).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_revokes_an_identity_is_told_that_the_device_cannot_be_managed_any_more() {
    let house = House::new().await;
    let app = &house.server.app;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let all = app.store.read(|c| list_certificates(c, &Search::default(), 100)).await.unwrap();
    let identity = all.iter().find(|c| c.grant.purpose == Purpose::MdmIdentity).unwrap();
    let order =
        serde_json::json!({ "Ca": { "Revoke": { "what": identity.serial, "device": null, "user": null, "reason": "key-compromise" } } });
    let order: muster::cli::Order = serde_json::from_value(order).unwrap();
    let said = order.run(app, "cli:test").await.unwrap();
    assert!(said["note"].as_str().is_some_and(|note| note.contains("--give-up")), "{said}");
    assert!(device.session().await.is_err(), "it is refused");
}

/// A device that cannot come says nothing new: what it said last does not stand for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_identity_is_revoked_or_on_hold_is_not_compliant_from_that_moment_on() {
    let house = House::new().await;
    let app = &house.server.app;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let id = house.device_ids().await.remove(0);
    let verdict = async || {
        let read = {
            let id = id.clone();
            app.store.read(move |c| muster::store::compliance::find_verdict(c, &id))
        };
        let verdict = read.await.unwrap().unwrap().verdict;
        (verdict.compliant, verdict.failed_rules().iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>())
    };
    let all = app.store.read(|c| list_certificates(c, &Search::default(), 100)).await.unwrap();
    let identity = all.iter().find(|c| c.grant.purpose == Purpose::MdmIdentity).unwrap();
    assert_eq!(verdict().await, (true, vec![]));
    revoke::revoke(app, &identity.id, RevocationReason::CertificateHold, "cli:test", "local").await.unwrap();
    assert_eq!(verdict().await, (false, vec!["hasIdentity".to_owned()]));
    let reasons = device::explain(app, &id).await.unwrap();
    assert!(reasons.iter().any(|reason| reason.title == "Has an identity certificate in force"), "{reasons:?}");
    revoke::release(app, &identity.id, "cli:test", "local").await.unwrap();
    assert_eq!(verdict().await, (true, vec![]), "it can come again");
    device.session().await.unwrap();
    revoke::revoke(app, &identity.id, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    assert_eq!(verdict().await, (false, vec!["hasIdentity".to_owned()]));
    // Enrolled again it is one like any other.
    house.join(&muster::sim::windows::enroll::Machine::windows_11(1)).await.unwrap();
    assert_eq!(verdict().await, (true, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_revokes_a_certificate_revokes_those_that_it_took_the_place_of() {
    let (house, mut device, first) = holding_one().await;
    let app = &house.server.app;
    let second = renewing(&house, &mut device, &first).await;
    revoke::revoke(app, &second.id, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    let all = certificates(&house).await;
    let of = |id| all.iter().find(|c| c.id == id).map(|c| (c.status, c.revocation_reason)).unwrap();
    assert_eq!(of(second.id.clone()), (CertificateStatus::Revoked, Some(RevocationReason::KeyCompromise)));
    assert_eq!(of(first.id.clone()), (CertificateStatus::Revoked, Some(RevocationReason::Superseded)));
    device.settle().await.unwrap();
    house.server.clock.advance(HOUR);
    device.settle().await.unwrap();
    assert_eq!(live(&house).await.len(), 1);
    assert_eq!(record(&house).await.0, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_on_hold_keeps_those_before_it_good_for_their_week_only() {
    let (house, mut device, first) = holding_one().await;
    let app = &house.server.app;
    let second = renewing(&house, &mut device, &first).await;
    revoke::revoke(app, &second.id, RevocationReason::CertificateHold, "cli:test", "local").await.unwrap();
    assert_eq!(live(&house).await, [certificates(&house).await.into_iter().find(|c| c.id == first.id).unwrap()]);
    house.server.clock.advance(7 * DAY + MINUTE);
    assert_eq!(revoke::revoke_superseded(app).await.unwrap(), 1);
    assert!(live(&house).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_on_hold_is_neither_replaced_nor_renewed() {
    let (house, mut device, held) = holding_one().await;
    let app = &house.server.app;
    revoke::revoke(app, &held.id, RevocationReason::CertificateHold, "cli:test", "local").await.unwrap();
    // Looked at daily, and then in the last part of its life.
    for _ in 0..3 {
        house.server.clock.advance(100 * DAY);
        device.settle().await.unwrap();
        let all = certificates(&house).await;
        assert!(live(&house).await.is_empty() && all.iter().filter(|c| c.grant.profile_id.is_some()).count() == 1, "{all:?}");
    }
    revoke::release(app, &held.id, "cli:test", "local").await.unwrap();
    house.server.clock.advance(DAY);
    device.settle().await.unwrap();
    assert!(live(&house).await.iter().any(|c| c.id != held.id), "released, it is renewed");
}
