//! OCSP over HTTP: questions of every kind.

use muster::clock::HOUR;
use muster::service::pki::ocsp;
use muster::wire::ocsp::{Hash, Request, cert_id};
use openssl::sha::{sha1, sha256};

use super::*;

fn ids_of(authority: &Authority, serial: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let bits = muster::wire::x509::Parts::parse(&authority.certificate).unwrap().key_bits.to_vec();
    let by_sha1 = cert_id(Hash::Sha1, &sha1(&authority.subject), &sha1(&bits), serial);
    let by_sha256 = cert_id(Hash::Sha256, &sha256(&authority.subject), &sha256(&bits), serial);
    (by_sha1, by_sha256)
}

/// Row 33 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ocsp_answers_every_kind_of_request_in_its_own_words() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let leaf = house.issue(&device()).await;
    let serial = hex::decode(&leaf.certificate.serial).unwrap();
    let (id, id256) = ids_of(&house.issuing, &serial);
    const MALFORMED: [u8; 5] = [0x30, 3, 0x0a, 1, 1];
    for garbage in [&b"garbage"[..], &[], &[0x30, 0x80, 0, 0]] {
        assert_eq!(house.post_ocsp(garbage.to_vec()).await, MALFORMED);
    }
    for (length, good) in [(0, false), (1, true), (16, true), (128, true), (129, false)] {
        let answer = house.post_ocsp(Request::der(std::slice::from_ref(&id), Some(&vec![7; length]))).await;
        assert_eq!(answer != MALFORMED, good, "{length}");
        if good {
            assert!(answer.windows(length).any(|w| w.iter().all(|b| *b == 7)), "the nonce comes back");
        }
    }
    let foreign = cert_id(Hash::Sha1, &[1; 20], &[2; 20], &serial);
    assert_eq!(house.post_ocsp(Request::der(&[foreign], None)).await, [0x30, 3, 0x0a, 1, 6]);
    // Two certificates, one never issued: both are answered, each by the CertID of the question.
    let (unknown, _) = ids_of(&house.issuing, &[0x41; 16]);
    house.write("two.der", &house.post_ocsp(Request::der(&[id256.clone(), unknown.clone()], None)).await);
    let (_, said) = house.openssl(&["ocsp", "-respin", "two.der", "-CAfile", "both.pem", "-resp_text"]);
    assert!(said.contains("Cert Status: good") && said.contains("Cert Status: unknown") && said.contains("Response verify OK"), "{said}");
    // GET: kept answers, with headers for proxies; the second is the same to the byte.
    let request = Request::der(&[id], None);
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &request);
    let escaped = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let mut bodies = BTreeSet::new();
    for form in [text, escaped] {
        let response = house.get(&format!("/ocsp/issuing/{form}")).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert!(headers["cache-control"].to_str().unwrap().starts_with("max-age=600, public"), "{headers:?}");
        assert!(["etag", "last-modified", "expires"].iter().all(|name| headers.contains_key(*name)));
        bodies.insert(response.bytes().await.unwrap());
    }
    assert_eq!(bodies.len(), 1);
    let response = house.get("/ocsp/issuing/!!!").await;
    assert_eq!((response.status().as_u16(), &response.bytes().await.unwrap()[..]), (200, &MALFORMED[..]));
    assert_eq!(house.get("/ocsp/nobody/MAA").await.status(), 404);
    // What was kept is signed again before it ends.
    house.server.clock.advance(13 * HOUR);
    assert_eq!(ocsp::renew_answers(&house.server.app).await.unwrap(), 1);
    assert_eq!(ocsp::renew_answers(&house.server.app).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_must_be_understood_and_is_not_makes_the_request_malformed() {
    let house = House::new(KeyAlgorithm::P256).await;
    let leaf = house.issue(&device()).await;
    let (id, _) = ids_of(&house.issuing, &hex::decode(&leaf.certificate.serial).unwrap());
    let der = |tag: u8, parts: &[&[u8]]| muster::wire::asn1::wrap(tag, parts);
    let ask = |critical: &[u8], of_all: bool| {
        // 1.3.6.1.5.5.7.48.1.7, the service locator, which nobody but relays understands.
        let oid: &[u8] = &[6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 7];
        let extensions = |tag| der(tag, &[&der(0x30, &[&der(0x30, &[oid, critical, &[4, 2, 0x30, 0]])])]);
        let (all, one) = if of_all { (extensions(0xa2), Vec::new()) } else { (Vec::new(), extensions(0xa0)) };
        let list = der(0x30, &[&der(0x30, &[&id, &one])]);
        house.post_ocsp(der(0x30, &[&der(0x30, &[&list, &all])]))
    };
    for of_all in [true, false] {
        assert_eq!(ask(&[1, 1, 0xff], of_all).await, [0x30, 3, 0x0a, 1, 1]);
        assert_eq!(ask(&[], of_all).await[4..7], [0x0a, 1, 0], "successful");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_asker_writes_is_not_signed_for_the_next() {
    let house = House::new(KeyAlgorithm::P256).await;
    let leaf = house.issue(&device()).await;
    let serial = hex::decode(&leaf.certificate.serial).unwrap();
    let (id, _) = ids_of(&house.issuing, &serial);
    let der = |tag: u8, parts: &[&[u8]]| muster::wire::asn1::wrap(tag, parts);
    let digest = |parameters: &[u8]| der(0x30, &[&[6, 5, 0x2b, 14, 3, 2, 26], parameters]);
    // The same certificate named without the digest's parameters, and by a serial number with a zero in front.
    let (rest, padded) = (&id[13..], der(2, &[&[0], &serial]));
    let (bare, long) = (der(0x30, &[&digest(&[]), rest]), der(0x30, &[&digest(&[5, 0]), &rest[..44], &padded]));
    assert_eq!(der(0x30, &[&digest(&[5, 0]), rest]), id, "the pieces are right");
    assert_eq!(house.post_ocsp(Request::der(&[long], None)).await, [0x30, 3, 0x0a, 1, 1]);
    let holds = |answer: &[u8], id: &[u8]| answer.windows(id.len()).any(|w| w == id);
    let odd = house.post_ocsp(Request::der(std::slice::from_ref(&bare), None)).await;
    assert!(holds(&odd, &bare), "who leaves the parameters out finds his own question in the answer");
    let usual = house.post_ocsp(Request::der(std::slice::from_ref(&id), None)).await;
    assert!(holds(&usual, &id) && !holds(&usual, &bare));
}
