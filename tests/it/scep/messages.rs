//! Messages of our own making against the service: one test for each row of the protocol notes, in their order, in one file.

use std::sync::Arc;

use muster::app::App;
use muster::clock::{DAY, HOUR, MINUTE, SystemClock};
use muster::domain::certificate::{Grant, KeyUsage, RevocationReason, San};
use muster::secret::Sealer;
use muster::service::Error;
use muster::service::pki::{authority, scep, service_key};
use muster::wire::asn1;
use muster::wire::cms::{CertificateView, Cipher, Digest};
use muster::wire::pkcs10::{GeneralName, Wish, key_usage};
use muster::wire::scep::{FailInfo, MessageType, issuer_and_subject};
use openssl::x509::X509;

use super::{Answer, Device, detail, grant, issued, mint, reason, registration, rsa, start, wrapper};
use crate::support::db;
use crate::support::server::Options;

const BAD_CHECK: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadMessageCheck));
const BAD_ALG: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadAlg));
const BAD_REQUEST: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadRequest));
const BAD_CERT_ID: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadCertId));

fn allow_all() -> Options {
    Options { tweak: Box::new(|config| config.scep.allow_sha1 = true), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cipher_and_digest_is_answered_in_kind() {
    let server = start(allow_all()).await;
    let ciphers = [Cipher::TripleDes, Cipher::Aes128, Cipher::Aes192, Cipher::Aes256];
    for (at, cipher) in ciphers.into_iter().enumerate() {
        for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha512] {
            let name = format!("PC {at}");
            let device = Device { cipher, digest, ..Device::new(&server.app) };
            let challenge = mint(&server.app, grant(&name), false).await;
            let der = device.send(&server.app, &device.csr(&name, &challenge)).await.unwrap();
            let certificate = X509::from_der(&der).unwrap();
            assert!(certificate.public_key().unwrap().public_eq(&device.key));
        }
    }
    assert_eq!(issued(&server.app).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_5_wrappers_with_serials_of_32_and_33_octets_are_accepted() {
    let server = start(Options::default()).await;
    for octets in [32, 33] {
        let mut device = Device::new(&server.app);
        device.certificate = wrapper(&device.key, octets, server.app.now());
        let challenge = mint(&server.app, grant("PC"), false).await;
        device.send(&server.app, &device.csr("PC", &challenge)).await.unwrap();
    }
}

/// Every constructed element of indefinite length, long octet strings in chunks; `keep` elements stay as they are.
fn to_ber(der: &[u8], keep: &[&[u8]], out: &mut Vec<u8>) {
    let mut reader = asn1::Reader::lenient(der);
    while !reader.is_empty() {
        let element = reader.element().unwrap();
        if keep.contains(&element.raw) {
            out.extend(element.raw);
        } else if matches!(element.tag, 0x04 | 0x80) && element.value.len() > 40 {
            out.extend([if element.tag == 0x04 { 0x24 } else { 0xa0 }, 0x80]);
            for chunk in element.value.chunks(48) {
                asn1::put(out, asn1::OCTET_STRING, chunk);
            }
            out.extend([0, 0]);
        } else if element.tag & 0x20 != 0 {
            out.extend([element.tag, 0x80]);
            to_ber(element.value, keep, out);
            out.extend([0, 0]);
        } else {
            out.extend(element.raw);
        }
    }
}

/// The signed attributes' element in a message.
fn signed_attributes(message: &[u8]) -> Vec<u8> {
    let mut reader = asn1::Reader::lenient(message).element().unwrap().reader();
    reader.element().unwrap();
    let mut signed = reader.element().unwrap().reader().element().unwrap().reader();
    let mut last = None;
    while !signed.is_empty() {
        last = Some(signed.element().unwrap());
    }
    let mut info = last.unwrap().reader().element().unwrap().reader();
    for _ in 0..3 {
        info.element().unwrap();
    }
    info.element().unwrap().raw.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_6_ber_outside_inside_and_both_is_read_like_der() {
    let server = start(Options::default()).await;
    let registration = registration(&server.app).await;
    for (outer, inner) in [(true, false), (false, true), (true, true)] {
        let device = Device::new(&server.app);
        let challenge = mint(&server.app, grant("PC"), false).await;
        let mut content = device.seal(&device.csr("PC", &challenge), &registration);
        if inner {
            let der = std::mem::take(&mut content);
            to_ber(&der, &[], &mut content);
        }
        let mut message = device.sign(&content);
        if outer {
            let der = std::mem::take(&mut message);
            to_ber(&der, &[&device.certificate, &signed_attributes(&der)], &mut message);
        }
        let answer = scep::receive(&server.app, "default", message, "test").await.unwrap();
        device.read(&answer).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_8_changed_messages_are_refused_and_issue_nothing() {
    let server = start(Options::default()).await;
    let device = Device::new(&server.app);
    let challenge = mint(&server.app, grant("PC"), false).await;
    let good = device.message(&server.app, &device.csr("PC", &challenge)).await;
    let attributes = signed_attributes(&good);
    let digest = device.digest.of(&good);
    let start = good.windows(attributes.len()).position(|w| w == attributes).unwrap();
    let nonce = start + attributes.windows(16).position(|w| w == [4; 16]).unwrap();
    // The message digest is the only OCTET STRING of its length among the attributes.
    let header = [0x04, u8::try_from(digest.len()).unwrap()];
    let in_digest = start + attributes.windows(2).rposition(|w| w == header).unwrap() + 5;
    for at in [good.len() - 1, nonce, in_digest, good.len() - 200] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let answer = scep::receive(&server.app, "default", bad, "test").await.unwrap();
        assert_eq!(muster_status(&answer), BAD_CHECK, "octet {at}");
        assert_eq!(reason(&server.app).await, "SignatureValidationFailed");
        assert!((8..100).contains(&detail(&server.app).await.len()));
    }
    assert_eq!(issued(&server.app).await, 0);
    device.read(&scep::receive(&server.app, "default", good, "test").await.unwrap()).unwrap();
}

/// What an answer says, without looking at nonces.
fn muster_status(answer: &[u8]) -> Result<Vec<u8>, Answer> {
    use muster::wire::scep::{Message, Status};
    match Message::parse(answer).unwrap().verify().unwrap().status.unwrap() {
        Status::Failure(info, _) => Err(Answer::Failure(info)),
        Status::Pending => Err(Answer::Pending),
        Status::Success(envelope) => Ok(envelope),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_what_does_not_open_looks_the_same_whatever_the_reason() {
    let server = start(Options::default()).await;
    let device = Device::new(&server.app);
    let challenge = mint(&server.app, grant("PC"), false).await;
    let registration = registration(&server.app).await;
    let csr = device.csr("PC", &challenge);
    let good = device.seal(&csr, &registration);
    let key_at = good.windows(4).position(|w| w == [0x04, 0x82, 0x01, 0x00]).unwrap() + 4;
    let mut bad_key = good.clone();
    bad_key[key_at + 9] ^= 1;
    let mut bad_padding = good.clone();
    *bad_padding.last_mut().unwrap() ^= 1;
    let mut bad_iv = good.clone();
    let iv_at = good.windows(16).position(|w| w == [9; 16]).unwrap();
    bad_iv[iv_at] ^= 1;
    let garbage = device.seal(b"not a request", &registration);
    let mut unproven = csr.clone();
    *unproven.last_mut().unwrap() ^= 1;
    let unproven = device.seal(&unproven, &registration);
    let mut sizes = Vec::new();
    for content in [bad_key, bad_padding, bad_iv, garbage, unproven] {
        let answer = scep::receive(&server.app, "default", device.sign(&content), "test").await.unwrap();
        assert_eq!(device.read(&answer), BAD_CHECK);
        assert_eq!(reason(&server.app).await, "CertificateRequestDecodingFailed");
        assert_eq!(detail(&server.app).await, "the envelope does not open to a sound request", "the same for all");
        sizes.push(answer.len());
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    assert_eq!(issued(&server.app).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_what_was_sealed_for_another_authority_does_not_open() {
    let server = start(Options::default()).await;
    let device = Device::new(&server.app);
    let challenge = mint(&server.app, grant("PC"), false).await;
    let other = wrapper(&rsa(2048), 16, server.app.now());
    let message = device.sign(&device.seal(&device.csr("PC", &challenge), &other));
    let answer = scep::receive(&server.app, "default", message, "test").await.unwrap();
    assert_eq!(device.read(&answer), BAD_CHECK);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_des_md5_and_what_is_switched_off_are_bad_algorithms() {
    let server = start(Options { tweak: Box::new(|config| config.scep.allow_3des = false), ..Options::default() }).await;
    let challenge = mint(&server.app, grant("PC"), false).await;
    let cases = [(Cipher::TripleDes, Digest::Sha256), (Cipher::Aes128, Digest::Md5), (Cipher::Aes128, Digest::Sha1)];
    for (cipher, digest) in cases {
        let device = Device { cipher, digest, ..Device::new(&server.app) };
        assert_eq!(device.send(&server.app, &device.csr("PC", &challenge)).await, BAD_ALG, "{cipher:?} {digest:?}");
        assert_eq!(reason(&server.app).await, "AlgorithmRefused");
        let part = if cipher == Cipher::TripleDes { "the cipher of the envelope" } else { "the digest of the signature" };
        assert_eq!(detail(&server.app).await, part, "{cipher:?} {digest:?}");
    }
    // DES: the name of the cipher in an envelope is enough.
    let device = Device { cipher: Cipher::TripleDes, ..Device::new(&server.app) };
    let sealed = device.seal(b"x", &registration(&server.app).await);
    let des = renamed(&sealed, Cipher::TripleDes.oid(), Cipher::Des.oid());
    let answer = scep::receive(&server.app, "default", device.sign(&des), "test").await.unwrap();
    assert_eq!(device.read(&answer), BAD_ALG);
    assert_eq!(issued(&server.app).await, 0);
}

/// The structure with one object identifier in place of another.
fn renamed(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = asn1::Reader::lenient(der);
    while !reader.is_empty() {
        let element = reader.element().unwrap();
        if element.tag == asn1::OID && element.value == from {
            asn1::put(&mut out, asn1::OID, to);
        } else if element.tag & 0x20 != 0 {
            asn1::put(&mut out, element.tag, &renamed(element.value, from, to));
        } else {
            out.extend(element.raw);
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_only_a_valid_challenge_of_this_authority_is_accepted() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let server = start(Options::default()).await;
    let app = &server.app;
    let refused = async |challenge: Option<String>| {
        let device = Device::new(app);
        let csr = device.csr_of(&Wish { challenge, ..Wish::common_name("PC") });
        assert_eq!(device.send(app, &csr).await, BAD_REQUEST);
        reason(app).await
    };
    assert_eq!(refused(None).await, "ChallengePasswordMissing");
    assert_eq!(refused(Some("guess".into())).await, "ChallengeDecodingError");
    let good = mint(app, grant("PC"), false).await;
    let mut bytes = STANDARD.decode(&good).unwrap();
    bytes[32] ^= 1;
    assert_eq!(refused(Some(STANDARD.encode(&bytes))).await, "ChallengeDecodingError");
    // Of another authority: the check value covers its name.
    let new = authority::NewAuthority {
        name: "other".into(),
        common_name: "Other".into(),
        parent: Some("root".into()),
        key_algorithm: muster::domain::certificate::KeyAlgorithm::P256,
        days: 1000,
    };
    authority::create(app, &new, "test", "local").await.unwrap();
    let device = Device::new(app);
    let other = scep::resolve(app, "other").await.unwrap();
    let theirs = &other.service_key(muster::domain::certificate::Purpose::Registration, app.now()).unwrap().certificate;
    let message = device.sign(&device.seal(&device.csr("PC", &good), theirs));
    assert_eq!(device.read(&scep::receive(app, "other", message, "test").await.unwrap()), BAD_REQUEST);
    assert_eq!(reason(app).await, "ChallengeDecodingError");
    // Withdrawn, then expired, then used.
    let withdrawn = mint(app, grant("PC"), false).await;
    app.store.write(|tx| muster::store::scep::purge(tx, muster::clock::Time(i64::MAX), 100)).await.unwrap();
    assert_eq!(refused(Some(withdrawn)).await, "BadCertificateRequestIdInChallenge");
    let late = mint(app, grant("PC"), false).await;
    server.clock.advance(24 * HOUR);
    assert_eq!(refused(Some(late)).await, "ChallengeExpired");
    let gone = muster::service::pki::authorize::scep_challenge::NewChallenge {
        authority: scep::resolve(app, "default").await.unwrap().id.clone(),
        grant: grant("PC"),
        device: None,
        user: None,
        enrollment: Some(muster::ids::EnrollmentId::new()),
        profile: None,
        needs_approval: false,
        expires: None,
    };
    let gone = muster::service::pki::authorize::scep_challenge::mint(app, gone, "test", "local").await.unwrap();
    assert_eq!(refused(Some(String::from_utf8(gone.expose().to_vec()).unwrap())).await, "BadDeviceIdInChallenge");
    let once = mint(app, grant("PC"), false).await;
    let device = Device::new(app);
    device.send(app, &device.csr("PC", &once)).await.unwrap();
    assert_eq!(refused(Some(once)).await, "ChallengeUsed");
    // A client that was told "base64" may send what it decoded, or encode once more.
    let wrapped = STANDARD.encode(mint(app, grant("PC"), false).await);
    let device = Device::new(app);
    device.send(app, &device.csr("PC", &wrapped)).await.unwrap();
    assert_eq!(issued(app).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_the_same_message_again_gives_the_same_certificate_for_a_while() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let message = device.message(app, &device.csr("PC", &challenge)).await;
    let receive = async || scep::receive(app, "default", message.clone(), "test").await.unwrap();
    let (first, second) = (receive().await, receive().await);
    assert_ne!(first, second, "enveloped afresh");
    assert_eq!(device.read(&first).unwrap(), device.read(&second).unwrap());
    assert_eq!(issued(app).await, 1);
    // Another request under the same name.
    let other = mint(app, grant("PC 2"), false).await;
    assert_eq!(device.send(app, &device.csr("PC 2", &other)).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "TransactionMismatch");
    server.clock.advance(11 * MINUTE);
    assert_eq!(device.read(&receive().await), BAD_REQUEST);
    assert_eq!(reason(app).await, "ChallengeUsed");
    // The name is free again for the same key's next request.
    device.send(app, &device.csr("PC 2", &other)).await.unwrap();
    assert_eq!(issued(app).await, 2);
}

async fn fifty_uses_of_one_challenge(options: Options) {
    let server = start(options).await;
    let challenge = mint(&server.app, grant("PC"), false).await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let app = Arc::clone(&server.app);
        let challenge = challenge.clone();
        tasks.push(tokio::spawn(async move {
            let device = Device::new(&app);
            device.send(&app, &device.csr("PC", &challenge)).await
        }));
    }
    let mut given = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => given += 1,
            refused => assert_eq!(refused, BAD_REQUEST),
        }
    }
    assert_eq!((given, issued(&server.app).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn row_14_fifty_uses_of_one_challenge_give_one_certificate_on_sqlite() {
    fifty_uses_of_one_challenge(Options::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn row_14_fifty_uses_of_one_challenge_give_one_certificate_on_postgres() {
    let Some(store) = db::postgres() else { return };
    fifty_uses_of_one_challenge(Options { store: Some(store), ..Options::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_15_to_17_requests_that_ask_for_more_or_less_than_granted_are_refused() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let granted = || {
        let mut granted: Grant = grant("PC");
        granted.sans = vec![San::Dns("pc.example.org".into())];
        granted.key_usages = vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment];
        granted
    };
    let wish = || Wish { san: vec![GeneralName::Dns("pc.example.org".into())], ..Wish::common_name("PC") };
    let sid = GeneralName::Uri("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500".into());
    let ca = ("2.5.29.19".to_owned(), vec![0x30, 3, 1, 1, 0xff]);
    let cases: Vec<(Wish, u32, &str)> = vec![
        (Wish { subject: Wish::common_name("Boss").subject, ..wish() }, 2048, "SubjectNameMismatch"),
        (Wish { subject: Vec::new(), ..wish() }, 2048, "SubjectNameMissing"),
        (Wish { san: vec![GeneralName::Dns("dc.example.org".into())], ..wish() }, 2048, "SubjectAltNameMismatch"),
        (Wish { san: Vec::new(), ..wish() }, 2048, "SubjectAltNameMissing"),
        (Wish { key_usage: Some(key_usage::NON_REPUDIATION), ..wish() }, 2048, "KeyUsageMismatch"),
        (Wish { ext_key_usage: vec!["1.3.6.1.5.5.7.3.1".into()], ..wish() }, 2048, "EnhancedKeyUsageMismatch"),
        (Wish { ext_key_usage: vec!["1.3.6.1.5.5.7.3.9".into()], ..wish() }, 2048, "ForbiddenExtension"),
        (Wish { key_usage: Some(key_usage::KEY_CERT_SIGN), ..wish() }, 2048, "ForbiddenExtension"),
        (Wish { extensions: vec![ca], ..wish() }, 2048, "ForbiddenExtension"),
        (Wish { extensions: vec![("1.3.6.1.4.1.311.25.2".into(), vec![0x30, 0])], ..wish() }, 2048, "ForeignSid"),
        (Wish { san: vec![GeneralName::Dns("pc.example.org".into()), sid], ..wish() }, 2048, "ForeignSid"),
        (wish(), 1024, "KeyLengthMismatch"),
    ];
    for (wish, bits, code) in cases {
        let challenge = mint(app, granted(), false).await;
        let device = Device::with_key(app, rsa(bits));
        let csr = device.csr_of(&Wish { challenge: Some(challenge.clone()), ..wish });
        assert_eq!(device.send(app, &csr).await, BAD_REQUEST, "{code}");
        assert_eq!(reason(app).await, code);
    }
    assert_eq!(issued(app).await, 0);
    // A wrapper with another key than the request's.
    let challenge = mint(app, granted(), false).await;
    let (device, other) = (Device::new(app), Device::new(app));
    let csr = other.csr_of(&Wish { challenge: Some(challenge), ..wish() });
    assert_eq!(device.send(app, &csr).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "RegisteredKeyMismatch");
}

fn poll_payload(device: &Device) -> Vec<u8> {
    let view = CertificateView::parse(&device.certificate).unwrap();
    issuer_and_subject(view.issuer, view.subject)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_a_request_waits_for_approval_and_only_its_signer_is_told() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let mut device = Device::new(app);
    let challenge = mint(app, grant("PC"), true).await;
    let csr = device.csr("PC", &challenge);
    assert_eq!(device.send(app, &csr).await, Err(Answer::Pending));
    assert_eq!(device.send(app, &csr).await, Err(Answer::Pending), "the same again waits, too");
    device.message_type = MessageType::CertPoll;
    assert_eq!(device.send(app, &poll_payload(&device)).await, Err(Answer::Pending));
    let mut stranger = Device { message_type: MessageType::CertPoll, ..Device::new(app) };
    assert_eq!(stranger.send(app, &poll_payload(&stranger)).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "TransactionUnknown");
    stranger.transaction.clone_from(&device.transaction);
    assert_eq!(stranger.send(app, &poll_payload(&stranger)).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "TransactionMismatch");
    assert_eq!(scep::list_pending(app, 10).await.unwrap().len(), 1);
    scep::approve(app, "default", &device.transaction, "cli:root", "local").await.unwrap();
    let decided = scep::approve(app, "default", &device.transaction, "cli:root", "local").await;
    assert!(matches!(decided, Err(Error::Refused(refusal)) if refusal.code() == "SCP0001"));
    let der = device.send(app, &poll_payload(&device)).await.unwrap();
    assert!(X509::from_der(&der).unwrap().public_key().unwrap().public_eq(&device.key));
    assert_eq!(issued(app).await, 1);

    let mut refused = Device::new(app);
    let challenge = mint(app, grant("PC"), true).await;
    assert_eq!(refused.send(app, &refused.csr("PC", &challenge)).await, Err(Answer::Pending));
    scep::refuse(app, "default", &refused.transaction, "cli:root", "local").await.unwrap();
    refused.message_type = MessageType::CertPoll;
    assert_eq!(refused.send(app, &poll_payload(&refused)).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "RefusedByAdministrator");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_a_valid_certificate_renews_itself_and_no_other_does() {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { tweak, ..Options::default() }).await;
    let app = &server.app;
    let enrol = async || {
        let device = Device::new(app);
        let challenge = mint(app, grant("PC"), false).await;
        let certificate = device.send(app, &device.csr("PC", &challenge)).await.unwrap();
        Device { certificate, message_type: MessageType::RenewalReq, ..device }
    };
    let renewal = |old: &Device, name: &str| {
        let mut device = Device::new(app);
        let csr = device.csr_of(&Wish::common_name(name));
        device.transaction = hex::encode(openssl::sha::sha256(&csr));
        let key = device.key.clone();
        let signer = Device { key: old.key.clone(), certificate: old.certificate.clone(), ..device };
        (Device { message_type: MessageType::RenewalReq, ..signer }, csr, key)
    };
    let old = enrol().await;
    let (signer, csr, key) = renewal(&old, "PC");
    let renewed = X509::from_der(&signer.send(app, &csr).await.unwrap()).unwrap();
    assert!(renewed.public_key().unwrap().public_eq(&key));
    assert_eq!(issued(app).await, 2);
    let (signer, csr, _) = renewal(&old, "Boss");
    assert_eq!(signer.send(app, &csr).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "SubjectNameMismatch");
    // Self-signed.
    let (signer, csr, _) = renewal(&Device::new(app), "PC");
    assert_eq!(signer.send(app, &csr).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "SigningCertThumbprintMismatch");
    // Revoked.
    let revoked = enrol().await;
    let sha256 = hex::encode(openssl::sha::sha256(&revoked.certificate));
    let now = app.now();
    app.store
        .write(move |tx| {
            let row = muster::store::certificates::find_certificate_by_sha256(tx.conn(), &sha256)?.unwrap();
            muster::store::certificates::update_revoked(tx, &row.id, RevocationReason::KeyCompromise, now)
        })
        .await
        .unwrap();
    let (signer, csr, _) = renewal(&revoked, "PC");
    assert_eq!(signer.send(app, &csr).await, BAD_REQUEST);
    // Expired.
    server.clock.advance(31 * DAY);
    let (signer, csr, _) = renewal(&old, "PC");
    assert_eq!(signer.send(app, &csr).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "SigningCertThumbprintMismatch");
    assert_eq!(issued(app).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_absurd_messages_are_refused_fast() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let message = device.message(app, b"x").await;
    for bad in [[0x30, 0x80].repeat(10_000), message[..message.len() - 9].to_vec(), Vec::new(), vec![0; 100]] {
        let answer = scep::receive(app, "default", bad, "test").await;
        assert!(matches!(answer, Err(Error::Malformed(_))));
    }
    assert!(matches!(scep::receive(app, "nobody", message, "test").await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_nodes_over_one_database_answer_for_each_other() {
    let Some(store) = db::postgres() else { return };
    let server = start(Options { store: Some(store.clone()), system_clock: true, ..Options::default() }).await;
    let (one, two) = {
        let sealer = || Sealer::parse(&server.app.sealer().to_text()).unwrap();
        let node = || {
            let config = (*server.app.config).clone();
            App::new(store.clone(), config, server.app.tenant.clone(), Arc::new(SystemClock), sealer()).unwrap()
        };
        (node(), node())
    };
    let device = Device::new(&one);
    let challenge = mint(&one, grant("PC"), false).await;
    let message = device.message(&one, &device.csr("PC", &challenge)).await;
    let first = device.read(&scep::receive(&two, "default", message.clone(), "test").await.unwrap()).unwrap();
    let again = device.read(&scep::receive(&one, "default", message, "test").await.unwrap()).unwrap();
    assert_eq!(first, again);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_an_older_registration_key_still_reads_until_it_ends() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let old = registration(app).await;
    server.clock.advance(300 * DAY);
    service_key::renew(app).await.unwrap();
    let new = registration(app).await;
    assert_ne!(old, new);
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let message = device.sign(&device.seal(&device.csr("PC", &challenge), &old));
    let answer = scep::receive(app, "default", message, "test").await.unwrap();
    device.read(&answer).unwrap();
    let der = muster::wire::scep::Message::parse(&answer).unwrap().verify().unwrap().signer.raw.to_vec();
    assert_eq!(der, old, "the client knows the old one");
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    device.send(app, &device.csr("PC", &challenge)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_paused_authority_issues_nothing_but_repeats_itself() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let (device, late) = (Device::new(app), Device::new(app));
    let challenge = mint(app, grant("PC"), false).await;
    let csr = device.csr("PC", &challenge);
    let first = device.send(app, &csr).await.unwrap();
    let challenge = mint(app, grant("PC"), false).await;
    authority::set_paused(app, "issuing", true, "test", "local").await.unwrap();
    assert_eq!(device.send(app, &csr).await.unwrap(), first);
    assert_eq!(late.send(app, &late.csr("PC", &challenge)).await, BAD_REQUEST);
    assert_eq!(reason(app).await, "AuthorityPaused");
    authority::set_paused(app, "issuing", false, "test", "local").await.unwrap();
    late.send(app, &late.csr("PC", &challenge)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_revocation_lists_are_handed_out() {
    let server = start(Options::default()).await;
    let app = &server.app;
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let der = device.send(app, &device.csr("PC", &challenge)).await.unwrap();
    let view = CertificateView::parse(&der).unwrap();
    let name = view.issuer_and_serial();
    let own = Device { certificate: der.clone(), message_type: MessageType::GetCert, ..device };
    assert_eq!(own.send(app, &name).await.unwrap(), der);
    let other = asn1::wrap(asn1::SEQUENCE, &[view.issuer, &[2, 1, 5]]);
    assert_eq!(own.send(app, &other).await, BAD_CERT_ID);
    assert_eq!(reason(app).await, "CertificateUnknown");
    let stranger = Device { message_type: MessageType::GetCert, ..Device::new(app) };
    assert_eq!(stranger.send(app, &name).await, BAD_REQUEST);
    let asks = Device { message_type: MessageType::GetCrl, ..stranger };
    let crl = openssl::x509::X509Crl::from_der(&asks.send(app, &name).await.unwrap()).unwrap();
    assert_eq!(crl.issuer_name().to_der().unwrap(), view.issuer);
    let foreign = CertificateView::parse(&asks.certificate).unwrap().issuer_and_serial();
    assert_eq!(asks.send(app, &foreign).await, BAD_CERT_ID);
}

/// CPU time of a request beside that of its private-key operations, as ratios: run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, for a machine with nothing else to do"]
async fn what_a_request_costs() {
    const ROUNDS: u32 = 100;
    let tweak = Box::new(|config: &mut muster::config::Config| config.ca.key_algorithm = "rsa-3072".into());
    let server = start(Options { tweak, ..Options::default() }).await;
    let app = &server.app;
    let mut messages = Vec::new();
    for _ in 0..ROUNDS {
        let device = Device::new(app);
        let challenge = mint(app, grant("PC"), false).await;
        messages.push(device.message(app, &device.csr("PC", &challenge)).await);
    }
    let before = cpu_ticks();
    for message in messages {
        scep::receive(app, "default", message, "test").await.unwrap();
    }
    let used = cpu_ticks() - before;
    assert_eq!(issued(app).await, usize::try_from(ROUNDS).unwrap());
    let issuing = authority::issuing(app).await.unwrap();
    let own = issuing.service_key(muster::domain::certificate::Purpose::Registration, app.now()).unwrap();
    let (unwrapping, mut plain) = (own.key.pkey().rsa().unwrap(), vec![0; 256]);
    let before = cpu_ticks();
    for _ in 0..ROUNDS {
        unwrapping.private_decrypt(&[1; 256], &mut plain, openssl::rsa::Padding::NONE).unwrap();
        own.key.sign(b"x").unwrap();
        issuing.key.sign(b"x").unwrap();
    }
    let floor = cpu_ticks() - before;
    eprintln!("{ROUNDS} requests: {used} ticks, their private-key operations: {floor} ticks");
}

/// Ticks of CPU time that this process has used.
fn cpu_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
