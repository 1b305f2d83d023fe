//! What a stranger could learn from answers, and from whose clock.

use std::sync::Arc;

use muster::app::App;
use muster::clock::{HOUR, SECOND};
use muster::domain::certificate::{Purpose, RevocationReason};
use muster::secret::Sealer;
use muster::service::pki::{revoke, scep};
use muster::store::certificates;
use muster::wire::asn1;
use muster::wire::cms::{CertificateView, SIGNING_TIME, Signer, sign};
use muster::wire::scep::{FailInfo, MessageType};

use super::{Answer, Device, grant, issued, mint, reason, registration, start};
use crate::support::server::Options;

const BAD_CHECK: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadMessageCheck));
const BAD_REQUEST: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadRequest));
const BAD_CERT_ID: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadCertId));

/// Payloads that a stranger would like to tell apart once they are decrypted: one that fits the message, and two that do not.
fn payloads(device: &Device) -> Vec<Vec<u8>> {
    let view = CertificateView::parse(&device.certificate).unwrap();
    vec![view.issuer_and_serial(), b"nothing of the kind".to_vec(), asn1::tlv(asn1::SEQUENCE, &[5, 0])]
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_no_answer_to_a_stranger_depends_on_what_an_envelope_holds() {
    let server = start(Options::default()).await;
    let app = &server.app;
    for (kind, said, why) in [
        (MessageType::CertPoll, BAD_REQUEST, "TransactionUnknown"),
        (MessageType::GetCert, BAD_REQUEST, "SigningCertThumbprintMismatch"),
        (MessageType::GetCrl, BAD_CERT_ID, "CertificateUnknown"),
    ] {
        let stranger = Device { message_type: kind, ..Device::new(app) };
        for payload in payloads(&stranger) {
            assert_eq!(stranger.send(app, &payload).await, said, "{kind:?}");
            assert_eq!(reason(app).await, why);
        }
    }
    // A request that was captured: with something behind it, the padding would decide whether it opens.
    let (device, stranger) = (Device::new(app), Device::new(app));
    let challenge = mint(app, grant("PC"), false).await;
    let mut longer = device.csr("PC", &challenge);
    longer.extend([0; 16]);
    for kind in [MessageType::PkcsReq, MessageType::RenewalReq] {
        let stranger =
            Device { message_type: kind, key: stranger.key.clone(), certificate: stranger.certificate.clone(), ..Device::new(app) };
        for payload in [longer.as_slice(), b"nothing of the kind"] {
            assert_eq!(stranger.send(app, payload).await, BAD_CHECK, "{kind:?}");
            assert_eq!(reason(app).await, "CertificateRequestDecodingFailed");
        }
    }
    assert_eq!(issued(app).await, 0);
    // Its own sender may leave something behind it.
    device.send(app, &longer).await.unwrap();
    // And whoever has a certificate is told of a payload that names nothing what he is told of an unknown certificate.
    let challenge = mint(app, grant("PC"), false).await;
    let device = Device::new(app);
    let certificate = device.send(app, &device.csr("PC", &challenge)).await.unwrap();
    let holder = Device { certificate, message_type: MessageType::GetCert, ..device };
    for payload in [b"nothing of the kind".to_vec(), payloads(&Device::new(app)).remove(0)] {
        assert_eq!(holder.send(app, &payload).await, BAD_CERT_ID);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_from_a_clock_far_from_ours_is_told_so() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let now = app.now();
    for (hours, good) in [(-25, false), (25, false), (-23, true), (23, true)] {
        let device = Device::new(app);
        let challenge = mint(app, grant("PC"), false).await;
        let content = device.seal(&device.csr("PC", &challenge), &registration(app).await);
        let nonce = [4; 16];
        let id: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x45, 1, 9];
        let oid = |last: u8| [id, &[last]].concat();
        let text = |text: &str| asn1::tlv(asn1::PRINTABLE_STRING, text.as_bytes());
        let (kind, sender, transaction) = (oid(2), oid(5), oid(7));
        let attributes: Vec<(&[u8], Vec<u8>)> = vec![
            (&transaction, text(&device.transaction)),
            (&kind, text("19")),
            (&sender, asn1::tlv(asn1::OCTET_STRING, &nonce)),
            (SIGNING_TIME, asn1::time(now.plus(hours * HOUR).seconds())),
        ];
        let signer = Signer { certificate: &device.certificate, key: &device.key, digest: device.digest };
        let message = sign(Some(&content), &attributes, &signer).unwrap();
        let answer = device.read(&scep::receive(app, "default", message, "test").await.unwrap());
        if good {
            answer.unwrap();
        } else {
            assert_eq!(answer, Err(Answer::Failure(FailInfo::BadTime)), "{hours}");
            assert_eq!(reason(app).await, "ClockWrong");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_registration_certificate_is_replaced_and_reads_nothing_more() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let old = registration(app).await;
    let sha256 = hex::encode(openssl::sha::sha256(&old));
    let row = app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap().unwrap();
    assert_eq!(row.grant.purpose, Purpose::Registration);
    revoke::revoke(app, &row.id, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    assert_ne!(registration(app).await, old);
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let csr = device.csr("PC", &challenge);
    let answer = scep::receive(app, "default", device.sign(&device.seal(&csr, &old)), "test").await.unwrap();
    assert_eq!(device.read(&answer), BAD_CHECK);
    device.send(app, &csr).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_registration_key_that_another_node_just_made_is_read() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let sealer = Sealer::parse(&app.sealer().to_text()).unwrap();
    let clock = Arc::new(server.clock.clone());
    let other = App::new(app.store.clone(), (*app.config).clone(), app.tenant.clone(), clock, sealer).unwrap();
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let sha256 = hex::encode(openssl::sha::sha256(&registration(app).await));
    let row = app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap().unwrap();
    revoke::revoke(&other, &row.id, RevocationReason::Superseded, "cli:test", "local").await.unwrap();
    let new = registration(&other).await;
    assert_ne!(registration(app).await, new, "this node still believes what it read before");
    server.clock.advance(2 * SECOND);
    let message = device.sign(&device.seal(&device.csr("PC", &challenge), &new));
    device.read(&scep::receive(app, "default", message, "test").await.unwrap()).unwrap();
    assert_eq!(registration(app).await, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_broken_envelope_is_answered_the_same_every_time() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let mut broken = device.seal(&device.csr("PC", &challenge), &registration(app).await);
    let key_at = broken.windows(4).position(|w| w == [0x04, 0x82, 0x01, 0x00]).unwrap() + 4;
    broken[key_at + 9] ^= 1;
    let mut lengths = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = scep::receive(app, "default", device.sign(&broken), "test").await.unwrap();
        assert_eq!(device.read(&answer), BAD_CHECK);
        assert_eq!(reason(app).await, "CertificateRequestDecodingFailed");
        lengths.insert(answer.len());
    }
    assert_eq!(lengths.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_again_and_again_fills_no_log() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let stranger = Device::new(app);
    let message = stranger.message(app, &stranger.csr("PC", "no challenge of ours")).await;
    let recorded = async || {
        let rows = app.store.read(|c| muster::store::audit::list(c, 0, 1000)).await.unwrap();
        rows.iter().filter(|row| row.action == "scep.refused").count()
    };
    for address in ["192.0.2.1", "192.0.2.2"] {
        let before = recorded().await;
        for _ in 0..20 {
            let answer = scep::receive(app, "default", message.clone(), address).await.unwrap();
            assert_eq!(stranger.read(&answer), BAD_REQUEST, "each is answered");
        }
        assert_eq!(recorded().await - before, 5, "{address}");
    }
    server.clock.advance(HOUR);
    let before = recorded().await;
    scep::receive(app, "default", stranger.message(app, &stranger.csr("PC", "no challenge of ours")).await, "192.0.2.1").await.unwrap();
    assert_eq!(recorded().await - before, 1, "the next hour");
}
