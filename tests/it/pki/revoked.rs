//! Certificates of ours that are revoked, and authorities of which another node knows more.

use muster::domain::authority::Status;
use muster::domain::device::Platform;
use muster::ids::{DeviceId, UserId};
use muster::store::{devices, users};

use super::*;
use crate::desired;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_certificates_of_ours_are_replaced_and_not_used_any_more() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    for purpose in [Purpose::OcspResponder, Purpose::Registration, Purpose::Server] {
        let key = |authority: &Authority| authority.service_key(purpose, app.now()).unwrap().certificate.clone();
        let old = key(&authority::by_name(app, "issuing").await.unwrap());
        let all = revoke::search(app, Search { authority: Some(house.issuing.id.clone()), ..Search::default() }, 100).await.unwrap();
        let row = all.into_iter().find(|row| row.der == old).unwrap();
        revoke::revoke_by_serial(app, &house.issuing.id, &row.serial, RevocationReason::KeyCompromise, ACTOR, "local").await.unwrap();
        let issuing = authority::by_name(app, "issuing").await.unwrap();
        assert_ne!(key(&issuing), old, "{purpose}");
        assert!(issuing.service_keys.iter().all(|key| key.certificate != old), "{purpose}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_of_an_authority_is_revoked_with_the_authority_and_never_held() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let root = authority::by_name(app, "root").await.unwrap().id.clone();
    let all = revoke::search(app, Search { authority: Some(root), ..Search::default() }, 100).await.unwrap();
    let own = all.into_iter().find(|row| row.der == house.issuing.certificate).unwrap();
    let held = revoke::revoke(app, &own.id, RevocationReason::CertificateHold, ACTOR, "local").await;
    assert_eq!(code(&held.unwrap_err()), "CRT0042");
    revoke::revoke(app, &own.id, RevocationReason::AuthorityCompromise, ACTOR, "local").await.unwrap();
    assert_eq!(authority::by_name(app, "issuing").await.unwrap().status, Status::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_paused_issues_nothing_whatever_is_remembered_here() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    house.issue(&device()).await;
    let id = house.issuing.id.clone();
    // As another node does it: this one still believes what it read before.
    let now = app.now();
    app.store.write(move |tx| muster::store::authorities::claim_status(tx, &id, Status::Paused, now)).await.unwrap();
    assert_eq!(authority::by_name(app, "issuing").await.unwrap().status, Status::Active);
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let refused = issue::issue(app, &house.issuing.id, &device(), &spki, ACTOR, "local").await;
    assert!(matches!(refused, Err(Error::Refused(refusal)) if refusal.code() == "CRT0011"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_pause_or_activate_goes_by_what_is_so_and_not_by_what_is_remembered_here() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let id = &house.issuing.id;
    let orders = [(false, Status::Active, Status::Paused, "authority.activate"), (true, Status::Paused, Status::Active, "authority.pause")];
    for (paused, wanted, elsewhere, action) in orders {
        let change = |to: Status| {
            let (id, now) = (id.clone(), app.now());
            app.store.write(move |tx| muster::store::authorities::claim_status(tx, &id, to, now))
        };
        // Remembered here as the order wants it; another node changes it.
        change(wanted).await.unwrap();
        app.keys.invalidate();
        assert_eq!(authority::by_name(app, "issuing").await.unwrap().status, wanted);
        change(elsewhere).await.unwrap();
        // The second time there is nothing to do.
        for _ in 0..2 {
            authority::set_paused(app, "issuing", paused, ACTOR, "local").await.unwrap();
        }
        let all = app.store.read(muster::store::authorities::list_authorities).await.unwrap();
        assert_eq!(all.iter().find(|record| record.id == *id).unwrap().status, wanted);
        let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
        assert_eq!(rows.iter().filter(|row| row.action == action).count(), 1, "{action}");
    }
}

/// A certificate for each device and user, and a server that knows them.
async fn given(house: &House, whose: &[(Option<DeviceId>, Option<UserId>)]) -> Vec<issue::Issued> {
    let mut given = Vec::new();
    for (device_id, user_id) in whose.iter().cloned() {
        given.push(house.issue(&Grant { device_id, user_id, ..device() }).await);
    }
    given
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_certificates_of_a_device_or_of_a_user_are_revoked_and_no_others() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let people = ["ana@example.org", "bea@example.org"].map(desired::user);
    let pcs = ["PC-1", "PC-2"].map(|name| desired::device(name, Platform::Windows, None));
    let (ana, bea) = (Some(people[0].id.clone()), Some(people[1].id.clone()));
    let (one, two) = (Some(pcs[0].id.clone()), Some(pcs[1].id.clone()));
    let now = app.now();
    app.store
        .write(move |tx| {
            people.iter().try_for_each(|person| users::insert_user(tx, person, now))?;
            pcs.iter().try_for_each(|pc| devices::insert_device(tx, pc, now))
        })
        .await
        .unwrap();
    let whose =
        [(one.clone(), ana.clone()), (one.clone(), None), (one.clone(), bea.clone()), (two.clone(), ana.clone()), (two, bea), (None, None)];
    let given = given(&house, &whose).await;
    let standing = async || {
        let all = revoke::search(app, Search::default(), 100).await.unwrap();
        let of = |issued: &issue::Issued| all.iter().find(|row| row.id == issued.certificate.id).unwrap().revocation_reason;
        given.iter().map(of).collect::<Vec<_>>()
    };
    let (hold, gone, left) =
        (Some(RevocationReason::CertificateHold), Some(RevocationReason::CessationOfOperation), Some(RevocationReason::AffiliationChanged));
    house.revoke(&given[1], RevocationReason::CertificateHold).await;
    let (device, user) = (one.unwrap(), ana.unwrap());
    let count = revoke::revoke_of_device(app, &device, RevocationReason::CertificateHold, ACTOR, "local").await.unwrap();
    assert_eq!((count, standing().await), (2, vec![hold, hold, hold, None, None, None]), "what is on hold is not put on hold again");
    let count = revoke::revoke_of_device(app, &device, RevocationReason::CessationOfOperation, ACTOR, "local").await.unwrap();
    assert_eq!((count, standing().await), (3, vec![gone, gone, gone, None, None, None]), "what is on hold is revoked for good");
    let count = revoke::revoke_of_user(app, &user, RevocationReason::AffiliationChanged, ACTOR, "local").await.unwrap();
    assert_eq!((count, standing().await), (1, vec![gone, gone, gone, left, None, None]));
    assert_eq!(revoke::revoke_of_user(app, &user, RevocationReason::AffiliationChanged, ACTOR, "local").await.unwrap(), 0);
    crl::due(app).await.unwrap();
    let listed: BTreeSet<_> = house.fetch_lists().await[1].revoked.iter().map(|entry| hex::encode(&entry.serial)).collect();
    let wanted: BTreeSet<_> = given.iter().take(4).map(|issued| issued.certificate.serial.clone()).collect();
    assert_eq!(listed, wanted);
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.action == "certificate.revoke").count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_authority_issues_devices_are_told_of_the_newest_that_is_in_force() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let told = async || authority::told_of(app).await.unwrap().name.clone();
    let new = |name: &str, days: u32| NewAuthority {
        name: name.into(),
        common_name: name.into(),
        parent: Some("root".into()),
        key_algorithm: KeyAlgorithm::P256,
        days,
    };
    authority::create(app, &new("second", 3650), ACTOR, "local").await.unwrap();
    authority::create(app, &new("short", 30), ACTOR, "local").await.unwrap();
    assert_eq!(told().await, "issuing", "the oldest that issues");
    for (name, next) in [("issuing", "second"), ("second", "short"), ("short", "short")] {
        authority::set_paused(app, name, true, ACTOR, "local").await.unwrap();
        assert_eq!(told().await, next);
    }
    house.server.clock.advance(31 * DAY);
    assert_eq!(told().await, "second", "not one that has ended");
    authority::set_paused(app, "second", false, ACTOR, "local").await.unwrap();
    assert_eq!(told().await, "second");
}
