//! Signed management messages (`MDM-Signature`): made by OpenSSL's own tool, whole and broken, with and without a client certificate.

use std::process::Command;

use muster::clock::MINUTE;
use muster::config::Config;
use muster::sim::windows::enroll::Identity;
use muster::sim::windows::{Device, Error};
use muster::store::audit;
use muster::wire::syncml::MEDIA_TYPE;
use openssl::x509::X509;

use crate::support::ca::Ca;
use crate::support::server::Options;
use crate::support::tools;
use crate::support::windows::House;

/// A house behind a proxy that ends TLS and passes no certificate on: to the server, every client of this machine is that proxy.
async fn behind_a_proxy(sign_messages: bool) -> House {
    let tweak = move |config: &mut Config| {
        config.proxies = vec!["127.0.0.1".parse().unwrap()];
        config.windows.sign_messages = sign_messages;
    };
    House::with(Options { tweak: Box::new(tweak), ..Options::default() }).await
}

/// A first message of the device, as it would send it.
fn message(device: &Device, session: &str) -> Vec<u8> {
    use muster::sim::windows::session::{Session, Start};
    let target = &device.identity.management.address;
    Session::new(session, &device.identity.device_id, target, Start::default(), None).first(&device.tree)
}

/// `openssl cms -sign`, detached, base64 on one line.
fn openssl_signs(body: &[u8], certificate: &X509, key: &openssl::pkey::PKey<openssl::pkey::Private>, digest: &str) -> Option<String> {
    let program = tools::find("openssl", "openssl")?;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (body, certificate) = (file("body", body), file("certificate", &certificate.to_pem().unwrap()));
    let key = file("key", &key.private_key_to_pem_pkcs8().unwrap());
    let mut command = Command::new(program);
    command.args(["cms", "-sign", "-binary", "-outform", "DER", "-md", digest]);
    let done = command.arg("-in").arg(body).arg("-signer").arg(certificate).arg("-inkey").arg(key).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, done.stdout))
}

/// Status of the answer to a signed message; with the device's certificate on the connection or without.
async fn post(house: &House, device: &Device, with_certificate: bool, header: &str, signature: Option<&str>, body: &[u8]) -> u16 {
    let builder = house.server.builder();
    let client = if with_certificate {
        let pem = [device.identity.certificate.to_pem().unwrap(), device.identity.key.private_key_to_pem_pkcs8().unwrap()];
        let identity = reqwest::Identity::from_pkcs8_pem(&pem[0], &pem[1]).unwrap();
        builder.identity(identity).build().unwrap()
    } else {
        builder.build().unwrap()
    };
    let mut request = client.post(device.identity.management.address.clone()).header("Content-Type", MEDIA_TYPE).body(body.to_vec());
    if let Some(signature) = signature {
        request = request.header(header, signature);
    }
    request.send().await.unwrap().status().as_u16()
}

async fn codes(house: &House) -> String {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().filter(|row| row.action == "management.refused").filter_map(|row| row.after).collect()
}

const NAME: &str = "MDM-Signature";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_a_signature_beside_the_certificate_is_checked() {
    let house = House::new().await;
    let device = house.enroll(1).await;
    let other = house.enroll(2).await;
    let (body, tampered) = (message(&device, "1"), message(&device, "2"));
    let Identity { certificate, key, .. } = &device.identity;
    let Some(good) = openssl_signs(&body, certificate, key, "sha256") else { return };
    assert_eq!(post(&house, &device, true, NAME, Some(&good), &body).await, 200);
    assert_eq!(post(&house, &device, true, "MS-Signature", Some(&good), &body).await, 200, "the connection proves that it is fresh");
    assert_eq!(post(&house, &device, true, NAME, Some(&good), &tampered).await, 403);
    assert_eq!(post(&house, &device, true, NAME, Some("no base64!"), &body).await, 403);
    let weak = openssl_signs(&body, certificate, key, "sha1").unwrap();
    assert_eq!(post(&house, &device, true, NAME, Some(&weak), &body).await, 403, "SHA-1");
    assert!(codes(&house).await.contains("MGT0020"));
    let foreign = openssl_signs(&body, &other.identity.certificate, &other.identity.key, "sha256").unwrap();
    assert_eq!(post(&house, &device, true, NAME, Some(&foreign), &body).await, 403, "another device's");
    assert!(codes(&house).await.contains("MGT0021"));
    house.server.clock.advance(6 * MINUTE);
    assert_eq!(post(&house, &device, true, NAME, Some(&good), &body).await, 403, "old");
    assert!(codes(&house).await.contains("MGT0022"));
    assert_eq!(post(&house, &device, false, NAME, None, &body).await, 403);
    house.server.clock.advance(-6 * MINUTE);
    assert_eq!(post(&house, &device, false, NAME, Some(&good), &body).await, 403, "without a certificate it counts for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_behind_a_proxy_the_signature_stands_for_the_certificate_once() {
    let house = behind_a_proxy(true).await;
    let device = house.enroll(1).await;
    let (body, tampered) = (message(&device, "1"), message(&device, "2"));
    let Identity { certificate, key, .. } = &device.identity;
    let Some(good) = openssl_signs(&body, certificate, key, "sha256") else { return };
    assert_eq!(post(&house, &device, false, NAME, None, &body).await, 403, "unsigned");
    assert_eq!(post(&house, &device, false, NAME, Some(&good), &tampered).await, 403);
    assert_eq!(post(&house, &device, false, NAME, Some(&good), &body).await, 200);
    assert_eq!(post(&house, &device, false, NAME, Some(&good), &body).await, 403, "replayed");
    assert!(codes(&house).await.contains("MGT0023"));
    let stranger = Ca::new("Stranger").leaf("stranger", &[]);
    let foreign = openssl_signs(&body, &stranger.certificate, &stranger.key, "sha256").unwrap();
    assert_eq!(post(&house, &device, false, NAME, Some(&foreign), &body).await, 403);
    assert!(codes(&house).await.contains("CRT0001"));
    let other = house.enroll(2).await;
    let foreign = openssl_signs(&body, &other.identity.certificate, &other.identity.key, "sha256").unwrap();
    assert_eq!(post(&house, &device, false, NAME, Some(&foreign), &body).await, 403, "another device's speaks for that device only");
    assert!(codes(&house).await.contains("MGT0004"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_an_expired_certificate_signs_nothing() {
    let house = behind_a_proxy(true).await;
    let device = house.enroll(1).await;
    house.server.clock.advance(400 * muster::clock::DAY);
    let body = message(&device, "1");
    let signed = device.identity.sign_message(&body, house.server.app.now()).unwrap();
    assert_eq!(post(&house, &device, false, NAME, Some(&signed), &body).await, 403);
    assert!(codes(&house).await.contains("CRT0028"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_behind_a_proxy_that_passes_no_certificate_is_managed_by_its_signatures() {
    let house = behind_a_proxy(true).await;
    house.assign_baseline("windows-hello-for-business").await;
    let mut device = house.enroll(1).await;
    assert!(device.identity.management.sign_messages, "it is told to sign");
    device.settle().await.unwrap();
    let items = house.items(&house.device_ids().await.remove(0)).await;
    assert!(!items.is_empty() && items.iter().all(|item| item.item.applied_version.is_some()));
    device.identity.management.sign_messages = false;
    assert!(matches!(device.session().await, Err(Error::Http(403, _))));
    let old = device.identity.certificate.to_der().unwrap();
    house.server.clock.advance(310 * muster::clock::DAY);
    device.renew().await.unwrap();
    assert_ne!(device.identity.certificate.to_der().unwrap(), old, "a renewal is signed anyway");
    let strict = behind_a_proxy(false).await;
    let mut device = strict.enroll(1).await;
    assert!(!device.identity.management.sign_messages);
    device.identity.management.sign_messages = true;
    assert!(matches!(device.session().await, Err(Error::Http(403, _))), "not unless the configuration says so");
    strict.server.clock.advance(310 * muster::clock::DAY);
    assert!(device.renew().await.is_err());
}
