//! The authority: messages, issuing, OCSP, and what every change leaves behind.

use std::sync::Arc;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use muster::app::App;
use muster::clock::{Clock as _, SystemClock};
use muster::config::Config;
use muster::domain::audit::Entry;
use muster::domain::certificate::{Grant, KeyAlgorithm, Purpose};
use muster::secret::Sealer;
use muster::service::pki::keys::SigningKey;
use muster::service::pki::{authority, issue, ocsp};
use muster::service::setup;
use muster::service::signing_keys as keys;
use muster::store::{Location, Store, audit};
use muster::wire::cms::{CertificateView, Cipher, Digest, Signer, seal};
use muster::wire::ocsp::{Hash, Request, cert_id};
use muster::wire::scep::{Message, MessageType, PkiRequest};
use muster::wire::x509::Parts;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha1;
use openssl::x509::{X509, X509NameBuilder};
use tokio::runtime::Runtime;

/// An instance with its authorities on a fresh SQLite file.
pub struct House {
    pub runtime: Runtime,
    pub app: Arc<App>,
    _folder: tempfile::TempDir,
}

impl House {
    pub fn new(key_algorithm: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        config.ca.key_algorithm = key_algorithm.into();
        let store = Store::open(&Location::Sqlite(folder.path().join("muster.db")), 2).unwrap();
        let sealer = Sealer::generate().unwrap();
        let app = runtime.block_on(async {
            let tenant = setup::create_tenant(&store, &sealer, "bench", SystemClock.now()).await.unwrap();
            let app = App::new(store, config, tenant, Arc::new(SystemClock), sealer).unwrap();
            authority::create_hierarchy(&app, "bench", "local").await.unwrap();
            Arc::new(app)
        });
        Self { runtime, app, _folder: folder }
    }
}

fn device() -> Grant {
    Grant::client(Purpose::Authentication, "Device 7", 365)
}

#[divan::bench(args = ["rsa-3072", "p-256"])]
fn certificate_issue(bencher: Bencher<'_, '_>, key_algorithm: &str) {
    let house = House::new(key_algorithm);
    let issuing = house.runtime.block_on(authority::issuing(&house.app)).unwrap();
    let spki = SigningKey::generate(KeyAlgorithm::Rsa2048).unwrap().spki().unwrap();
    let (grant, now) = (device(), house.app.now());
    bencher.bench_local(|| issue::prepare_now(&issuing, black_box(&grant), &spki, now).unwrap());
}

#[divan::bench]
fn ocsp_kept_answer(bencher: Bencher<'_, '_>) {
    let house = House::new("p-256");
    let request = house.runtime.block_on(async {
        let issuing = authority::issuing(&house.app).await.unwrap();
        let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
        let leaf = issue::issue(&house.app, &issuing.id, &device(), &spki, "bench", "local").await.unwrap();
        let bits = Parts::parse(&issuing.certificate).unwrap().key_bits;
        let serial = hex::decode(&leaf.certificate.serial).unwrap();
        Request::der(&[cert_id(Hash::Sha1, &sha1(&issuing.subject), &sha1(bits), &serial)], None)
    });
    bencher.bench_local(|| house.runtime.block_on(ocsp::answer(&house.app, "issuing", black_box(&request))).unwrap());
}

#[divan::bench]
fn audit_append(bencher: Bencher<'_, '_>) {
    let house = House::new("p-256");
    let now = house.app.now();
    bencher.bench_local(|| {
        let write = house.app.store.write(move |tx| audit::append(tx, &Entry::new("bench", "bench.run", "bench:1", "local"), now));
        house.runtime.block_on(write).unwrap();
    });
}

#[divan::bench]
fn event_token_sign(bencher: Bencher<'_, '_>) {
    let house = House::new("p-256");
    let active = house.runtime.block_on(keys::active(&house.app)).unwrap();
    let input = "x".repeat(900);
    bencher.bench_local(|| house.runtime.block_on(active.sign(input.clone())).unwrap());
}

fn wrapper(key: &PKey<Private>) -> Vec<u8> {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "Device 7").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build().to_der().unwrap()
}

/// A PKCSReq: parsed, and its signature checked.
#[divan::bench]
fn scep_request_verify(bencher: Bencher<'_, '_>) {
    let key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let certificate = wrapper(&key);
    let view = CertificateView::parse(&certificate).unwrap();
    let content = seal(&[7; 1000], &view, Cipher::Aes128, &[1; 16], &[2; 16]).unwrap();
    let request = PkiRequest { message_type: MessageType::PkcsReq, transaction_id: "bench", sender_nonce: &[3; 16], content: &content };
    let bytes = request.sign(&Signer { certificate: &certificate, key: &key, digest: Digest::Sha256 }).unwrap();
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| {
        let message = Message::parse(black_box(&bytes)).unwrap();
        message.verify().map(|verified| verified.digest).unwrap()
    });
}
