//! Who signs: certificates of others, messages that two sign, and an authority that signs nothing any more.

use muster::domain::certificate::{KeyAlgorithm, RevocationReason};
use muster::service::pki::{authority, scep};
use muster::wire::asn1;
use muster::wire::pkcs10::Wish;
use muster::wire::scep::{FailInfo, MessageType};
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspRequest, OcspResponse, OcspResponseStatus};
use openssl::x509::{X509, X509Crl};

use super::{Answer, Device, grant, issued, mint, mint_at, reason, rsa, start};
use crate::support::server::{Options, Server};

const BAD_REQUEST: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadRequest));

/// A server whose certificates renew themselves at any time.
async fn renewing() -> Server {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    start(Options { tweak, ..Options::default() }).await
}

/// A device with a certificate of that authority, ready to renew it.
async fn enrolled(server: &Server, authority: &str) -> Device {
    let device = Device::new(&server.app);
    let challenge = mint_at(&server.app, authority, grant("PC"), false).await;
    let certificate = device.send_to(&server.app, authority, &device.csr("PC", &challenge)).await.unwrap();
    device.holding(certificate, MessageType::RenewalReq)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_the_certificates_of_another_authority_or_organisation_renew_nothing_here() {
    let (server, stranger) = (renewing().await, renewing().await);
    let app = &server.app;
    let new = authority::NewAuthority {
        name: "other".into(),
        common_name: "Other".into(),
        parent: Some("root".into()),
        key_algorithm: KeyAlgorithm::P256,
        days: 1000,
    };
    authority::create(app, &new, "test", "local").await.unwrap();
    let (wish, key) = (Wish::common_name("PC"), rsa(2048));
    let mut other = enrolled(&server, "other").await;
    // The same names, made by the same program elsewhere.
    let mut foreign = enrolled(&stranger, "issuing").await;
    let before = issued(app).await;
    for device in [&mut other, &mut foreign] {
        assert_eq!(device.ask_for_key(app, "issuing", &wish, &key).await, BAD_REQUEST);
        assert_eq!(reason(app).await, "SigningCertThumbprintMismatch");
    }
    assert_eq!(issued(app).await, before);
    other.ask_for_key(app, "other", &wish, &key).await.unwrap();
    foreign.ask_for_key(&stranger.app, "issuing", &wish, &key).await.unwrap();
}

/// The message with its SignerInfo changed.
fn with_signer_info(message: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = |der: &[u8]| {
        let mut fields = asn1::Reader::lenient(der).element().unwrap().reader();
        let mut parts = Vec::new();
        while !fields.is_empty() {
            parts.push(fields.element().unwrap().raw.to_vec());
        }
        parts
    };
    let wrapped = |tag: u8, parts: &[Vec<u8>]| asn1::tlv(tag, &parts.concat());
    let mut outer = parts(message);
    let body = outer.pop().unwrap();
    let mut fields = parts(&parts(&body).remove(0));
    let infos = parts(&fields.pop().unwrap());
    fields.push(asn1::tlv(asn1::SET, &change(&infos.concat())));
    outer.push(asn1::tlv(asn1::context(0), &wrapped(asn1::SEQUENCE, &fields)));
    wrapped(asn1::SEQUENCE, &outer)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_two_signers_or_two_transactions_in_one_message_are_refused() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let good = device.message(app, &device.csr("PC", &challenge)).await;
    let twice = with_signer_info(&good, |info| [info, info].concat());
    let named_twice = with_signer_info(&good, |info| {
        let mut fields = asn1::Reader::lenient(info).element().unwrap().reader();
        let mut parts = Vec::new();
        while !fields.is_empty() {
            let part = fields.element().unwrap();
            if part.tag == asn1::context(0) {
                let mut attributes = part.reader();
                let mut list = part.value.to_vec();
                while !attributes.is_empty() {
                    let attribute = attributes.element().unwrap().raw;
                    if attribute.windows(device.transaction.len()).any(|w| w == device.transaction.as_bytes()) {
                        list.extend(attribute);
                    }
                }
                parts.extend(asn1::tlv(part.tag, &list));
            } else {
                parts.extend(part.raw);
            }
        }
        asn1::tlv(asn1::SEQUENCE, &parts)
    });
    assert_eq!(with_signer_info(&good, <[u8]>::to_vec), good, "the pieces are right");
    for bad in [twice, named_twice] {
        assert_ne!(bad, good);
        assert_eq!(device.read(&scep::receive(app, "default", bad, "test").await.unwrap()), BAD_REQUEST);
        assert_eq!(reason(app).await, "SignatureValidationFailed");
    }
    assert_eq!(issued(app).await, 0);
    device.read(&scep::receive(app, "default", good, "test").await.unwrap()).unwrap();
}

/// What the responder says of a certificate of the issuing authority.
async fn standing(server: &Server, certificate: &[u8], issuer: &[u8]) -> OcspCertStatus {
    let id = || {
        let (certificate, issuer) = (X509::from_der(certificate).unwrap(), X509::from_der(issuer).unwrap());
        OcspCertId::from_cert(MessageDigest::sha1(), &certificate, &issuer).unwrap()
    };
    let mut request = OcspRequest::new().unwrap();
    request.add_id(id()).unwrap();
    let post = server.client().post(format!("{}/ocsp/issuing", server.pki)).body(request.to_der().unwrap());
    let response = OcspResponse::from_der(&post.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(response.status(), OcspResponseStatus::SUCCESSFUL);
    response.basic().unwrap().find_status(&id()).unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_paused_or_revoked_authority_issues_nothing_and_its_list_and_answers_are_served() {
    let server = renewing().await;
    let app = &server.app;
    let issuer = authority::by_name(app, "issuing").await.unwrap().certificate.clone();
    let mut holder = enrolled(&server, "issuing").await;
    for revoked in [false, true] {
        let late = Device::new(app);
        let challenge = mint(app, grant("PC"), false).await;
        if revoked {
            authority::revoke(app, "issuing", RevocationReason::CessationOfOperation, "test", "local").await.unwrap();
        } else {
            authority::set_paused(app, "issuing", true, "test", "local").await.unwrap();
        }
        assert_eq!(late.send(app, &late.csr("PC", &challenge)).await, BAD_REQUEST);
        assert_eq!(reason(app).await, "AuthorityPaused");
        assert_eq!(holder.ask_for_key(app, "issuing", &Wish::common_name("PC"), &rsa(2048)).await, BAD_REQUEST);
        assert_eq!(reason(app).await, "AuthorityPaused");
        assert_eq!(issued(app).await, 1);
        let list = server.client().get(format!("{}/crl/issuing.crl", server.pki)).send().await.unwrap();
        let list = X509Crl::from_der(&list.bytes().await.unwrap()).unwrap();
        assert!(list.verify(&X509::from_der(&issuer).unwrap().public_key().unwrap()).unwrap());
        assert_eq!(standing(&server, &holder.certificate, &issuer).await, OcspCertStatus::GOOD);
    }
}
