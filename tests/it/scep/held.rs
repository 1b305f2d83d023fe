//! Certificates on hold, and lines of certificates: what may take whose place, and what goes with what.

use muster::app::App;
use muster::domain::certificate::{Certificate, CertificateStatus, RevocationReason, San};
use muster::ids::CertificateId;
use muster::service::Error;
use muster::service::pki::{revoke, scep};
use muster::store::{Store, certificates};
use muster::wire::pkcs10::{GeneralName, Wish};
use muster::wire::scep::{FailInfo, MessageType};

use super::{Answer, Device, detail, grant, mint, reason, rsa, start};
use crate::both_backends;
use crate::support::server::{Options, Server};

const BAD_REQUEST: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadRequest));

async fn renewing(store: Store) -> Server {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    start(Options { store: Some(store), tweak, ..Options::default() }).await
}

/// A device with a certificate, ready to renew it.
async fn enrolled(app: &App) -> Device {
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let certificate = device.send(app, &device.csr("PC", &challenge)).await.unwrap();
    device.holding(certificate, MessageType::RenewalReq)
}

async fn renew(app: &App, device: &mut Device) -> Result<Vec<u8>, Answer> {
    device.ask_for_key(app, scep::DEFAULT, &Wish::common_name("PC"), &rsa(2048)).await
}

async fn row(app: &App, der: &[u8]) -> Certificate {
    let sha256 = hex::encode(openssl::sha::sha256(der));
    app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap().unwrap()
}

async fn standing(app: &App, der: &[u8]) -> (CertificateStatus, Option<RevocationReason>) {
    let row = row(app, der).await;
    (row.status, row.revocation_reason)
}

async fn hold(app: &App, id: &CertificateId) {
    revoke::revoke(app, id, RevocationReason::CertificateHold, "cli:test", "local").await.unwrap();
}

const ACTIVE: (CertificateStatus, Option<RevocationReason>) = (CertificateStatus::Active, None);
const SUPERSEDED: (CertificateStatus, Option<RevocationReason>) = (CertificateStatus::Revoked, Some(RevocationReason::Superseded));

both_backends! {
    async fn a_certificate_whose_successor_was_ever_on_hold_renews_nothing(store: Store) {
        let server = renewing(store).await;
        let app = &server.app;
        let mut device = enrolled(app).await;
        let key = rsa(2048);
        let second = device.ask_for_key(app, scep::DEFAULT, &Wish::common_name("PC"), &key).await.unwrap();
        let id = row(app, &second).await.id;
        hold(app, &id).await;
        for _ in 0..2 {
            assert_eq!(renew(app, &mut device).await, BAD_REQUEST);
            assert_eq!((reason(app).await.as_str(), detail(app).await.as_str()), ("CertificateHeld", "CRT0049"));
            if row(app, &second).await.status == CertificateStatus::Held {
                revoke::release(app, &id, "cli:test", "local").await.unwrap();
            }
        }
        // The newer one is good, and goes on.
        let mut newer = Device::with_key(app, key).holding(second, MessageType::RenewalReq);
        renew(app, &mut newer).await.unwrap();
    }

    async fn who_renews_again_after_a_lost_answer_forgets_nothing_of_the_line(store: Store) {
        let server = renewing(store).await;
        let app = &server.app;
        for (why, last) in [
            (RevocationReason::AffiliationChanged, ACTIVE),
            (RevocationReason::KeyCompromise, (CertificateStatus::Revoked, Some(RevocationReason::KeyCompromise))),
        ] {
            let mut device = enrolled(app).await;
            let lost = renew(app, &mut device).await.unwrap();
            let third = renew(app, &mut device).await.unwrap();
            let ids = [row(app, &lost).await.id, row(app, &third).await.id];
            assert_eq!(row(app, &device.certificate).await.superseded_by.as_ref(), Some(&ids[0]));
            assert_eq!(row(app, &lost).await.superseded_by.as_ref(), Some(&ids[1]));
            revoke::revoke(app, &ids[0], why, "cli:test", "local").await.unwrap();
            assert_eq!(standing(app, &lost).await, (CertificateStatus::Revoked, Some(why)));
            assert_eq!(standing(app, &device.certificate).await, SUPERSEDED, "{why}");
            assert_eq!(standing(app, &third).await, last, "{why}");
            let left = revoke::list_successors(app, &ids[0]).await.unwrap();
            assert_eq!(left.iter().map(|left| &left.id).eq(&ids[1..]), last == ACTIVE, "{why}");
        }
    }

    async fn what_is_on_hold_is_not_replaced_by_a_request_on_its_way(store: Store) {
        let server = renewing(store).await;
        let app = &server.app;
        let id = row(app, &enrolled(app).await.certificate).await.id;
        let (waits, asks) = (Device::new(app), Device::new(app));
        let challenge = mint(app, grant("PC"), true).await;
        assert_eq!(waits.send(app, &waits.csr("PC", &challenge)).await, Err(Answer::Pending));
        let challenge = mint(app, grant("PC"), false).await;
        hold(app, &id).await;
        assert_eq!(asks.send(app, &asks.csr("PC", &challenge)).await, BAD_REQUEST);
        assert_eq!((reason(app).await.as_str(), detail(app).await.as_str()), ("CertificateHeld", "CRT0049"));
        match scep::approve(app, "default", &waits.transaction, "cli:test", "local").await {
            Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "CRT0049"),
            other => panic!("{other:?}"),
        }
        // Another name is another place, and the challenge is still there after the release.
        let other = Device::new(app);
        let for_other = mint(app, grant("other"), false).await;
        other.send(app, &other.csr("other", &for_other)).await.unwrap();
        revoke::release(app, &id, "cli:test", "local").await.unwrap();
        asks.send(app, &asks.csr("PC", &challenge)).await.unwrap();
        scep::approve(app, "default", &waits.transaction, "cli:test", "local").await.unwrap();
    }

    async fn clients_that_share_a_subject_renew_each_on_its_own(store: Store) {
        let tweak = Box::new(|config: &mut muster::config::Config| {
            config.scep.renewal_percent = 100;
            config.scep.live_certificates = 2;
        });
        let server = start(Options { store: Some(store), tweak, ..Options::default() }).await;
        let app = &server.app;
        let names = |number: usize| (format!("printer{number}.example.org"), "printers.example.org".to_owned());
        let mut printers = Vec::new();
        for number in 0..5 {
            let (own, common) = names(number);
            let mut granted = grant("x");
            granted.subject.clear();
            granted.sans = vec![San::Dns(common.clone()), San::Dns(own.clone())];
            let device = Device::new(app);
            let san = vec![GeneralName::Dns(own), GeneralName::Dns(common)];
            let wish = Wish { subject: Vec::new(), san, challenge: Some(mint(app, granted, false).await), ..Wish::common_name("x") };
            let certificate = device.send(app, &device.csr_of(&wish)).await.unwrap();
            printers.push((device.holding(certificate, MessageType::RenewalReq), Wish { challenge: None, ..wish }));
        }
        for (printer, wish) in &mut printers {
            printer.ask_for_key(app, scep::DEFAULT, wish, &rsa(2048)).await.unwrap();
            assert_eq!(printer.ask_for_key(app, scep::DEFAULT, wish, &rsa(2048)).await, BAD_REQUEST);
            assert_eq!(reason(app).await, "RenewalTooMany");
        }
    }
}
