//! Renewal, and what ends a device's right to it.

use super::*;

async fn find(house: &House, identity: &Identity) -> enrollments::Identity {
    let hash = hex::encode(sha256(&identity.certificate.to_der().unwrap()));
    house.server.app.store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_renewal_in_its_window_keeps_the_old_certificate_until_the_new_one_is_used() {
    let house = House::new().await;
    let app = &house.server.app;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    let mut client = identity.client(&house.roots()).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).1, Some(ErrorType::NotEligibleToRenew), "too early");
    assert!(house.refused("ENR0012").await);
    house.server.clock.advance(310 * DAY);
    let first = enroll::renew(&mut client, &identity, &key(), true).await.unwrap();
    house.server.clock.advance(MINUTE);
    let second = enroll::renew(&mut client, &identity, &key(), false).await.expect("the answer may have been lost");
    let revoked = async |identity: &Identity| find(&house, identity).await.certificate.revoked_at.is_some();
    assert!(!revoked(&identity).await, "the old one still works");
    confirm_renewal(app, &find(&house, &identity).await, "192.0.2.1").await.unwrap();
    assert!(!revoked(&second).await, "using the old one changes nothing");
    // The first answer did arrive: it is used, and the second one may come yet.
    confirm_renewal(app, &find(&house, &first).await, "192.0.2.1").await.unwrap();
    assert_eq!([revoked(&identity).await, revoked(&first).await, revoked(&second).await], [true, false, false]);
    confirm_renewal(app, &find(&house, &second).await, "192.0.2.1").await.unwrap();
    assert_eq!([revoked(&identity).await, revoked(&first).await, revoked(&second).await], [true, true, false]);
    let new = find(&house, &second).await;
    assert_eq!(new.enrollment.certificate_id, Some(new.certificate.id.clone()));
    confirm_renewal(app, &new, "192.0.2.1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_has_a_few_unused_renewals_and_no_more() {
    let house = House::tweaked(|config| config.scep.live_certificates = 3).await;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    house.server.clock.advance(310 * DAY);
    let mut client = identity.client(&house.roots()).unwrap();
    enroll::renew(&mut client, &identity, &key(), false).await.unwrap();
    let last = enroll::renew(&mut client, &identity, &key(), false).await.unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).1, Some(ErrorType::NotEligibleToRenew));
    assert!(house.refused("ENR0024").await);
    house.server.clock.advance(1);
    confirm_renewal(&house.server.app, &find(&house, &last).await, "192.0.2.1").await.unwrap();
    assert!(find(&house, &identity).await.certificate.revoked_at.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_renewed_identity_is_on_hold_the_older_one_renews_nothing() {
    let house = House::new().await;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    house.server.clock.advance(310 * DAY);
    let mut client = identity.client(&house.roots()).unwrap();
    let newer = enroll::renew(&mut client, &identity, &key(), false).await.unwrap();
    let id = find(&house, &newer).await.certificate.id;
    let reason = muster::domain::certificate::RevocationReason::CertificateHold;
    muster::service::pki::revoke::revoke(&house.server.app, &id, reason, "cli:test", "local").await.unwrap();
    assert!(enroll::renew(&mut client, &identity, &key(), false).await.is_err());
    assert!(house.refused("CRT0049").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_account_is_disabled_renews_nothing() {
    let house = House::new().await;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    house.server.clock.advance(310 * DAY);
    house.enable(false).await;
    let mut client = identity.client(&house.roots()).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).0, Code::Authorization);
    assert!(house.refused("AUT0001").await || house.refused("CRT0002").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_renewal_by_anything_but_the_current_certificate_is_refused() {
    let house = House::new().await;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    let other = house.join(&Machine::windows_11(2)).await.unwrap();
    house.server.clock.advance(310 * DAY);
    let roots = house.roots();
    let csr = enroll::certificate_request("D", &key()).unwrap();
    let renew_with = |signed: Vec<u8>| RequestToken { request_type: RequestType::Renew, csr: Csr::Pkcs7(signed), context: Vec::new() };
    let to = identity.enrollment_url.clone();
    let foreign = Ca::new("Foreign").leaf("foreign", &[]);
    // Signed by another device's certificate, by a foreign one, and with the right certificate but the wrong key.
    let newest = async || house.audit().await.into_iter().rfind(|(action, _)| action == "enrollment.refused").unwrap().1;
    for (signed, code) in [
        (enroll::sign(&csr, &other.certificate, &other.key).unwrap(), "ENR0011"),
        (enroll::sign(&csr, &foreign.certificate, &key()).unwrap(), "ENR0011"),
        (enroll::sign(&csr, &identity.certificate, &new_key().unwrap()).unwrap(), "ENR0010"),
    ] {
        let mut client = identity.client(&roots).unwrap();
        let refused = enroll::request_token(&mut client, &to, &renew_with(signed), &Security::None).await;
        assert_eq!(fault(refused).0, Code::Authentication);
        assert!(newest().await.contains(code), "{code}");
    }
    let good = enroll::sign(&csr, &identity.certificate, &identity.key).unwrap();
    let without = enroll::request_token(&mut house.client(), &to, &renew_with(good.clone()), &Security::None).await;
    assert_eq!(fault(without).0, Code::Authentication, "without a client certificate");
    assert!(newest().await.contains("AUT0006"));
    let mut stranger = Client::new(&roots, Some((&foreign.certificate, &[], &foreign.key))).unwrap();
    assert_eq!(fault(enroll::request_token(&mut stranger, &to, &renew_with(good.clone()), &Security::None).await).0, Code::Authentication);
    assert!(newest().await.contains("CRT0001"));
    let id = house.server.app.store.read(|c| certificates::list_certificates(c, &Search::default(), 100)).await.unwrap();
    let id = id.into_iter().find(|c| c.der == other.certificate.to_der().unwrap()).unwrap().id;
    let (app, reason) = (&house.server.app, muster::domain::certificate::RevocationReason::KeyCompromise);
    muster::service::pki::service_key::renew(app).await.unwrap();
    muster::service::pki::revoke::revoke(app, &id, reason, "cli:test", "local").await.unwrap();
    let mut client = other.client(&roots).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &other, &key(), false).await).0, Code::Authentication, "revoked");
    assert!(newest().await.contains("CRT0002"));
    house.server.clock.advance(60 * DAY);
    let mut client = identity.client(&roots).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).0, Code::Authentication, "expired");
    assert!(newest().await.contains("ENR0009"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_device_keeps_only_its_identity_until_it_has_left() {
    use muster::service::device;
    let house = House::new().await;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    let hash = hex::encode(sha256(&identity.certificate.to_der().unwrap()));
    let find = || {
        let (hash, store) = (hash.clone(), house.server.app.store.clone());
        async move { store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap() }
    };
    let before = find().await;
    device::retire(&house.server.app, &before.enrollment.device_id, "cli:test", "local").await.unwrap();
    device::retire(&house.server.app, &before.enrollment.device_id, "cli:test", "local").await.unwrap();
    let told = find().await;
    assert_eq!(told.enrollment.state, muster::domain::enrollment::State::Unenrolling);
    assert!(told.certificate.revoked_at.is_none());
    let id = told.enrollment.id.clone();
    let sealer = house.server.app.sealer();
    let orders = house.server.app.store.read(move |c| muster::store::commands::list_open(c, &sealer, &id, 10)).await.unwrap();
    assert_eq!(orders.readable.len(), 1);
    house.server.clock.advance(310 * DAY);
    let mut client = identity.client(&house.roots()).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).0, Code::Authentication, "it is leaving");
    assert!(house.refused("ENR0001").await);
    device::give_up(&house.server.app, &told.enrollment.id, "cli:test", "192.0.2.1").await.unwrap();
    let gone = find().await;
    assert!(gone.certificate.revoked_at.is_some() && gone.enrollment.ended_at.is_some());
    let all = house.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 10)).await.unwrap();
    assert_eq!(all[0].state, DeviceState::Retired);
}
