//! Certificates of ours that are revoked, and authorities of which another node knows more.

use muster::domain::authority::Status;

use super::*;

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
    app.store.write(move |tx| muster::store::authorities::claim_status(tx, &id, Status::Active, Status::Paused)).await.unwrap();
    assert_eq!(authority::by_name(app, "issuing").await.unwrap().status, Status::Active);
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let refused = issue::issue(app, &house.issuing.id, &device(), &spki, ACTOR, "local").await;
    assert!(matches!(refused, Err(Error::Refused(refusal)) if refusal.code() == "CRT0011"));
}
