//! An authority is revoked: what becomes of the devices whose identities it issued.

use std::sync::Arc;

use muster::clock::DAY;
use muster::domain::certificate::{KeyAlgorithm, RevocationReason};
use muster::ids::DeviceId;
use muster::service::device;
use muster::service::outbox::Worker;
use muster::service::pki::authority::{self, NewAuthority};
use muster::sim::apple::machine::Machine;

use crate::apple_enroll::{enrolled, house, live};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_whose_identity_falls_with_its_authority_are_refused_and_judged() {
    let house = house().await;
    let app = &house.server.app;
    let mut pc = house.enroll(1).await;
    pc.settle().await.unwrap();
    let of_pc = house.device_ids().await.remove(0);
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let of_mac = live(&house, &mac.machine.udid).await.unwrap().device_id;
    // Another authority issues to the second PC.
    let second = NewAuthority {
        name: "second".into(),
        common_name: "Second".into(),
        parent: Some("root".into()),
        key_algorithm: KeyAlgorithm::P256,
        days: 3650,
    };
    authority::create(app, &second, "cli:test", "local").await.unwrap();
    authority::set_paused(app, "issuing", true, "cli:test", "local").await.unwrap();
    let mut other = house.enroll(2).await;
    other.settle().await.unwrap();
    let of_other = house.device_ids().await.into_iter().find(|id| ![&of_pc, &of_mac].contains(&id)).unwrap();
    let worker = Arc::new(Worker::new(Arc::clone(app)).unwrap());
    worker.drain().await.unwrap();
    let compliant = async |id: &DeviceId| device::show(app, id).await.unwrap().overview.compliant;
    for id in [&of_pc, &of_mac, &of_other] {
        assert_eq!(compliant(id).await, Some(true));
    }

    authority::revoke(app, "issuing", RevocationReason::CessationOfOperation, "cli:test", "local").await.unwrap();
    pc.session().await.unwrap_err();
    mac.connect().await.unwrap_err();
    other.session().await.unwrap();
    worker.drain().await.unwrap();
    for id in [&of_pc, &of_mac] {
        let shown = device::show(app, id).await.unwrap();
        let failed = |rule: &str| shown.reasons.iter().any(|reason| reason.rule == rule && reason.status.as_str() != "compliant");
        assert!(shown.overview.compliant == Some(false) && failed("hasIdentity") && shown.identity_until.is_none());
    }
    assert_eq!(compliant(&of_other).await, Some(true));

    // Nor does it become a good identity by renewal.
    house.server.clock.advance(310 * DAY);
    other.renew().await.unwrap();
    pc.renew().await.unwrap_err();
}
