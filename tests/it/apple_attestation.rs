//! Managed Device Attestation: simulated devices with a chain of their own below a test root, over real TLS; good ones are proven, and
//! everything else is no evidence.

use std::sync::Arc;

use muster::clock::{DAY, HOUR, Time};
use muster::config::Config;
use muster::domain::apple::attestation::Fault;
use muster::domain::compliance::Status;
use muster::domain::device::Platform;
use muster::domain::profile::Kind;
use muster::ids::DeviceId;
use muster::service::apple::attestation::{judge_object, verify};
use muster::service::device;
use muster::service::profile::Draft;
use muster::sim::apple::Device;
use muster::sim::apple::attestation::{Attestor, Claims, claims, udid};
use muster::sim::apple::machine::{Machine, Settings};
use muster::store::{devices, facts};
use muster::wire::apple::attestation::oid;
use muster::wire::apple::command::Command;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use serde_json::json;

use crate::apple_enroll::{live, on, profile};
use crate::support::apple_schema::{Target, schema};
use crate::support::server::Options;
use crate::support::windows::{House, key};

/// A house that takes the attestations of that root.
async fn house() -> (House, Arc<Attestor>, tempfile::TempDir) {
    let attestor = Arc::new(Attestor::new(muster::clock::Clock::now(&muster::clock::SystemClock)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.pem");
    std::fs::write(&path, attestor.root_pem().unwrap()).unwrap();
    let tweak = move |config: &mut Config| config.apple.attestation_root_file = Some(path);
    (on(House::with(Options { tweak: Box::new(tweak), ..Options::default() }).await).await, attestor, folder)
}

async fn enrolled(house: &House, machine: Machine, attestor: Option<Arc<Attestor>>, claims: Option<Claims>) -> (Device, DeviceId) {
    let mut device = Device::enroll(&house.roots(), &profile(house).await, machine, &key()).await.unwrap();
    (device.attestor, device.claims, device.heard) = (attestor, claims, Some(Vec::new()));
    device.settle().await.unwrap();
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    (device, id)
}

async fn fact(house: &House, device: &DeviceId, name: &str) -> Option<String> {
    let device = device.clone();
    let all = house.server.app.store.read(move |c| facts::list_for_device(c, &device)).await.unwrap();
    all.get(name).and_then(|fact| fact.value.clone())
}

/// How a rule is met.
async fn status(house: &House, device: &DeviceId, rule: &str) -> Status {
    let known = device::show(&house.server.app, device).await.unwrap();
    known.reasons.into_iter().find(|reason| reason.rule == rule).unwrap().status
}

async fn assign_policy(house: &House, platform: Platform, rules: &serde_json::Value) {
    let document = serde_json::from_value(json!({ "compliance": { "rules": rules } })).unwrap();
    house.assign(Draft { display_name: format!("{platform}"), kind: Kind::Compliance, platform, document }).await;
}

fn mac_rules() -> serde_json::Value {
    json!({ "attested": true, "attestedSystemIntegrityProtection": true, "attestedSecureBoot": true })
}

/// How often the device was asked for an attestation.
fn asked(device: &Device) -> Vec<Command> {
    let commands = device.heard.iter().flatten().filter(|body| !body.is_empty()).map(|body| Command::decode(body).unwrap());
    commands.filter(|command| command.body.data("DeviceAttestationNonce").is_some()).collect()
}

/// Time passes for the server and the device.
fn pass(house: &House, device: &mut Device, millis: i64) {
    house.server.clock.advance(millis);
    device.faults.skew += millis;
}

fn without(mut claims: Claims, oid: &str) -> Claims {
    claims.retain(|(known, _)| *known != oid);
    claims
}

fn with(claims: Claims, oid: &'static str, value: &[u8]) -> Claims {
    let mut claims = without(claims, oid);
    claims.push((oid, value.to_vec()));
    claims
}

/// What a Mac's attestation says, but for the code.
fn truth(machine: &Machine) -> Claims {
    without(claims(machine, &Settings::default(), b""), oid::FRESHNESS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_attestation_proves_a_mac_and_an_iphone_and_is_asked_for_every_seven_days() {
    let (house, attestor, _folder) = house().await;
    assign_policy(&house, Platform::MacOs, &mac_rules()).await;
    assign_policy(&house, Platform::Ios, &json!({ "attested": true })).await;
    for machine in [Machine::mac(1), Machine::iphone(2)] {
        let mac = machine.serial.starts_with("SIMM");
        let (mut device, id) = enrolled(&house, machine, Some(Arc::clone(&attestor)), None).await;
        assert_eq!(fact(&house, &id, "apple.attestation").await.as_deref(), Some("attested"), "{:?}", device.refusals);
        assert_eq!(status(&house, &id, "attested").await, Status::Compliant);
        assert_eq!(fact(&house, &id, "apple.attested-os-version").await, Some(device.machine.os_version.clone()));
        if mac {
            assert_eq!(fact(&house, &id, "apple.attested-sip").await.as_deref(), Some("enabled"));
            assert_eq!(fact(&house, &id, "apple.attested-secure-boot").await.as_deref(), Some("full security"));
            assert_eq!(fact(&house, &id, "apple.attested-kernel-extensions").await.as_deref(), Some("disabled"));
            assert_eq!(status(&house, &id, "attestedSystemIntegrityProtection").await, Status::Compliant);
            assert_eq!(status(&house, &id, "attestedSecureBoot").await, Status::Compliant);
        }
        let first = asked(&device);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].body.data("DeviceAttestationNonce").unwrap().len(), 32);
        if let Some(schema) = schema() {
            let findings = schema.command(&first[0].to_value(), if mac { Target::mac("15.1") } else { Target::iphone("18.1") });
            assert!(findings.is_empty(), "{findings:#?}");
        }
        for _ in 0..6 {
            pass(&house, &mut device, DAY);
            device.settle().await.unwrap();
        }
        assert_eq!(asked(&device).len(), 1, "not before seven days");
        pass(&house, &mut device, DAY + HOUR);
        device.settle().await.unwrap();
        let again = asked(&device);
        assert_eq!(again.len(), 2);
        assert_ne!(again[0].body.data("DeviceAttestationNonce"), again[1].body.data("DeviceAttestationNonce"));
        assert_eq!(fact(&house, &id, "apple.attestation").await.as_deref(), Some("attested"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_attested_wrongly_or_not_at_all_is_not_compliant() {
    let (house, attestor, _folder) = house().await;
    assign_policy(&house, Platform::MacOs, &mac_rules()).await;
    let stranger = Arc::new(Attestor::new(house.server.app.now()).unwrap());
    let (one, two, three, four, five) = (Machine::mac(1), Machine::mac(2), Machine::mac(3), Machine::mac(4), Machine::mac(5));
    let other_serial = with(truth(&two), oid::SERIAL, b"OTHER");
    let other_udid = with(truth(&three), oid::UDID, four.udid.as_bytes());
    for (machine, attestor, claims, fault) in [
        (one, Some(stranger), None, "chain"),
        (two, Some(Arc::clone(&attestor)), Some(other_serial), "device"),
        // The UDID of device management is not what a Mac's attestation has.
        (three, Some(Arc::clone(&attestor)), Some(other_udid), "device"),
        (four, None, None, "missing"),
        (five.clone(), Some(Arc::clone(&attestor)), Some(without(truth(&five), oid::SERIAL)), "device"),
    ] {
        let (_, id) = enrolled(&house, machine, attestor, claims).await;
        assert_eq!(fact(&house, &id, "apple.attestation").await.as_deref(), Some("none"), "{fault}");
        assert_eq!(fact(&house, &id, "apple.attestation-fault").await.as_deref(), Some(fault));
        assert_eq!(fact(&house, &id, "apple.attested-sip").await, None);
        for rule in ["attested", "attestedSystemIntegrityProtection", "attestedSecureBoot"] {
            assert_ne!(status(&house, &id, rule).await, Status::Compliant, "{rule} {fault}");
        }
    }
    // Protection that is off is attested the other way round, and what is blank is not known.
    let (six, seven) = (Machine::mac(6), Machine::mac(7));
    let off = with(truth(&six), oid::SIP, &[2, 1, 1]);
    let (_, id) = enrolled(&house, six, Some(Arc::clone(&attestor)), Some(off)).await;
    assert_eq!(fact(&house, &id, "apple.attested-sip").await.as_deref(), Some("disabled"));
    assert_eq!(status(&house, &id, "attested").await, Status::Compliant);
    assert_eq!(status(&house, &id, "attestedSystemIntegrityProtection").await, Status::NonCompliant);
    let blank = with(with(truth(&seven), oid::SIP, b""), oid::SECURE_BOOT, b"");
    let (_, id) = enrolled(&house, seven, Some(attestor), Some(blank)).await;
    assert_eq!((fact(&house, &id, "apple.attested-sip").await, fact(&house, &id, "apple.attested-secure-boot").await), (None, None));
    assert_eq!(status(&house, &id, "attested").await, Status::Compliant);
    for rule in ["attestedSystemIntegrityProtection", "attestedSecureBoot"] {
        assert_ne!(status(&house, &id, rule).await, Status::Compliant, "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attestation_that_the_device_kept_counts_for_a_code_of_this_enrolment_only_and_not_for_ever() {
    let (house, attestor, _folder) = house().await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1), Some(Arc::clone(&attestor)), None).await;
    // The device's clock runs slower than the server's: it sends the one it has, for the code that it was given first.
    house.server.clock.advance(8 * DAY);
    mac.settle().await.unwrap();
    assert_eq!((asked(&mac).len(), fact(&house, &id, "apple.attestation").await.as_deref()), (2, Some("attested")));
    // After 30 days that code is too old.
    house.server.clock.advance(23 * DAY);
    mac.settle().await.unwrap();
    assert_eq!(fact(&house, &id, "apple.attestation-fault").await.as_deref(), Some("freshness"));
    // Codes of another enrolment are none of this one's.
    let kept = Some(with(truth(&mac.machine), oid::FRESHNESS, asked(&mac)[0].body.data("DeviceAttestationNonce").unwrap()));
    let (_, other) = enrolled(&house, Machine::mac(2), Some(attestor), kept).await;
    assert_eq!(fact(&house, &other, "apple.attestation").await.as_deref(), Some("none"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_systems_and_macs_without_apple_silicon_are_not_asked() {
    let (house, attestor, _folder) = house().await;
    assign_policy(&house, Platform::MacOs, &json!({ "attested": true })).await;
    let old = Machine { os_version: "13.6".into(), ..Machine::mac(1) };
    let intel = Machine { product: "MacBookPro16,1".into(), ..Machine::mac(2) };
    for machine in [old, intel] {
        let (mac, id) = enrolled(&house, machine, Some(Arc::clone(&attestor)), None).await;
        assert!(asked(&mac).is_empty());
        assert_ne!(status(&house, &id, "attested").await, Status::Compliant);
    }
}

fn p256() -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap()
}

/// An attestation object as devices send it.
fn object(chain: &[Vec<u8>]) -> Vec<u8> {
    let text = |text: &str| [&[0x60 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let mut bytes = [&[0xa2][..], &text("fmt"), &text("apple"), &text("attStmt"), &[0xa1], &text("x5c")].concat();
    bytes.push(0x80 | u8::try_from(chain.len()).unwrap());
    for der in chain {
        bytes.push(0x59);
        bytes.extend_from_slice(&u16::try_from(der.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(der);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_attested_for_its_own_token_request_and_device() {
    let (house, attestor, _folder) = house().await;
    let (mac, id) = enrolled(&house, Machine::mac(1), None, None).await;
    let app = &house.server.app;
    let row = app.store.read(move |c| devices::load_device(c, &id)).await.unwrap();
    let (attested, now) = (p256(), app.now());
    let fresh = |token: &str| with(truth(&mac.machine), oid::FRESHNESS, &openssl::sha::sha256(token.as_bytes()));
    let chain = |claims: &Claims| attestor.attest(&attested, claims, now.plus(-DAY), now.plus(DAY)).unwrap();
    let udid = udid(&mac.machine);
    let judged = |object: &[u8], token: &str, key: &PKey<Private>| {
        judge_object(app, object, token, &row, Some(&udid), &key.public_key_to_der().unwrap()).unwrap()
    };
    let good = object(&chain(&fresh("token")));
    let properties = judged(&good, "token", &attested).unwrap();
    assert_eq!((properties.serial.as_deref(), properties.sip), (Some(mac.machine.serial.as_str()), Some(true)));
    assert_eq!(judged(&good, "token", &p256()), Err(Fault::Key));
    assert_eq!(judged(&good, "another", &attested), Err(Fault::Freshness));
    let other = with(fresh("token"), oid::SERIAL, b"OTHER");
    assert_eq!(judged(&object(&chain(&other)), "token", &attested), Err(Fault::Device));
    let stranger = Attestor::new(now).unwrap().attest(&attested, &fresh("token"), now.plus(-DAY), now.plus(DAY)).unwrap();
    assert_eq!(judged(&object(&stranger), "token", &attested), Err(Fault::Chain));
    assert_eq!(judged(b"\xa0", "token", &attested), Err(Fault::Malformed));
    assert_eq!(judged(&object(&[]), "token", &attested), Err(Fault::Missing));
}

#[test]
fn a_chain_is_judged_by_signatures_and_dates() {
    let now = Time::from_seconds(1_790_000_000);
    let attestor = Attestor::new(now).unwrap();
    let root = X509::from_pem(&attestor.root_pem().unwrap()).unwrap();
    let claims = truth(&Machine::mac(1));
    let chain = attestor.attest_device(&claims, now).unwrap();
    assert!(verify(&chain, &root, now).is_ok());
    assert_eq!(verify(&chain, &root, now.plus(366 * DAY)).unwrap_err(), Fault::Chain, "over");
    assert_eq!(verify(&chain, &root, now.plus(-2 * DAY)).unwrap_err(), Fault::Chain, "not yet");
    assert_eq!(verify(&chain[..1], &root, now).unwrap_err(), Fault::Chain, "without the one between");
    let mut altered = chain.clone();
    let last = altered[0].len() - 1;
    altered[0][last] ^= 1;
    assert_eq!(verify(&altered, &root, now).unwrap_err(), Fault::Chain);
    // A chain that brings its own root.
    let stranger = Attestor::new(now).unwrap();
    let mut own = stranger.attest_device(&claims, now).unwrap();
    own.push(X509::from_pem(&stranger.root_pem().unwrap()).unwrap().to_der().unwrap());
    assert_eq!(verify(&own, &root, now).unwrap_err(), Fault::Chain);
    // A leaf is no authority.
    let signed_by_leaf = [chain[0].clone(), chain[0].clone(), chain[1].clone()];
    assert!(verify(&signed_by_leaf, &root, now).is_ok(), "what is not needed does no harm");
    // Apple's own root takes none of these.
    let apple = X509::from_pem(muster::service::apple::attestation::APPLE_ROOT.as_bytes()).unwrap();
    assert_eq!(verify(&chain, &apple, now).unwrap_err(), Fault::Chain);
}
