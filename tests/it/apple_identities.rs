//! Identities that go to Apple devices with their key: made by the server, or imported for a person. Real TLS, real files, and OpenSSL's
//! own program as judge.

use std::sync::Arc;

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::acme::Client;
use muster::domain::certificate::{Certificate, CertificateStatus, RevocationReason};
use muster::domain::desired::State;
use muster::domain::device::Platform;
use muster::domain::pfx::{Pfx, Purpose};
use muster::domain::profile::Kind;
use muster::ids::{CertificateId, DeviceId, PfxId, ProfileId};
use muster::secret::Secret;
use muster::service::outbox::Worker;
use muster::service::pfx::Brought;
use muster::service::pki::{authority, revoke};
use muster::service::profile::{self, Draft};
use muster::service::{Error, device, directory, pfx};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::certificates::{self, Search};
use muster::store::{acme_clients, audit, sealed};
use muster::wire::apple::command::{Command, Status};
use muster::wire::apple::profile::Profile;
use muster::wire::plist::Dict;
use openssl::pkey::{PKey, Private};
use serde_json::{Value, json};

use crate::apple_enroll::{enrolled, house, live};
use crate::apple_late::{idle, say};
use crate::desired::user;
use crate::support::apple::{Push, lock};
use crate::support::apple_schema::{Target, schema};
use crate::support::ca::Ca;
use crate::support::tools;
use crate::support::windows::{House, by};

const PKCS12: &str = "com.apple.security.pkcs12";
const ACME: &str = "com.apple.security.acme";

fn draft(platform: Platform, name: &str, payloads: &Value) -> Draft {
    let document = serde_json::from_value(json!({ "payloads": payloads })).unwrap();
    Draft { display_name: name.into(), kind: Kind::Configuration, platform, document }
}

fn own(days: u32) -> Value {
    json!([{ "type": "pkcs12", "name": "vpn", "key": "p-256",
        "template": { "subject": "CN={{SerialNumber}}", "days": days, "key_usages": ["digital-signature"] } }])
}

/// Time passes for the server and the device.
pub fn pass(house: &House, device: &mut Device, millis: i64) {
    house.server.clock.advance(millis);
    device.faults.skew += millis;
}

/// The identities that the device got as files: certificate (DER) and key.
fn identities(device: &Device) -> Vec<(Vec<u8>, PKey<Private>)> {
    let mut found = Vec::new();
    for installed in device.profiles.iter() {
        for payload in installed.profile.payloads().iter().filter(|payload| payload.kind == PKCS12) {
            let identity = &installed.identities[&payload.uuid];
            found.push((identity.certificate.clone(), identity.key.clone()));
        }
    }
    found
}

/// The files themselves with their passwords.
fn files(device: &Device) -> Vec<(Vec<u8>, String)> {
    let of = |payload: &muster::wire::apple::profile::Payload| {
        (payload.body.data("PayloadContent").unwrap().to_vec(), payload.body.string("Password").unwrap().to_owned())
    };
    device.profiles.payloads(PKCS12).map(of).collect()
}

pub async fn issued(house: &House, profile: &ProfileId) -> Vec<Certificate> {
    let all = house.server.app.store.read(|c| certificates::list_certificates(c, &Search::default(), 1000)).await.unwrap();
    let mut all: Vec<_> = all.into_iter().filter(|c| c.grant.profile_id.as_ref() == Some(profile)).collect();
    all.sort_by_key(|certificate| certificate.created_at);
    all
}

pub async fn kept(house: &House) -> usize {
    let column = *sealed::COLUMNS.iter().find(|column| column.purpose == sealed::ISSUED_KEY).unwrap();
    house.server.app.store.read(move |c| sealed::list_values(c, column, "", 1000)).await.unwrap().len()
}

async fn id_of(house: &House, device: &Device) -> DeviceId {
    live(house, &device.machine.udid).await.unwrap().device_id
}

async fn state(house: &House, device: &Device, profile: &ProfileId) -> State {
    house.items(&id_of(house, device).await).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item.state
}

async fn log(house: &House) -> Vec<String> {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| format!("{} {} {} {}", row.actor, row.action, row.target, row.after.unwrap_or_default())).collect()
}

/// What OpenSSL's program says of a file.
fn judged(file: &[u8], password: &str) -> Option<String> {
    let program = tools::find("openssl", "openssl")?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.p12");
    std::fs::write(&path, file).unwrap();
    let said = std::process::Command::new(program)
        .args(["pkcs12", "-info", "-noout", "-passin", &format!("pass:{password}"), "-in"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{text}");
    Some(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_device_gets_a_key_of_its_own_in_a_file_that_its_system_opens_and_the_server_forgets_it() {
    let house = house().await;
    let (macs, phones) = (
        house.assign(draft(Platform::MacOs, "Mac VPN", &own(100))).await,
        house.assign(draft(Platform::Ios, "Phone VPN", &own(100))).await,
    );
    let old = |machine: Machine, version: &str| Machine { os_version: version.into(), ..machine };
    let machines = [
        (Machine::mac(1), true),
        (old(Machine::mac(2), "14.6"), false),
        (Machine::iphone(3), true),
        (old(Machine::iphone(4), "17.6"), false),
    ];
    let mut serials = std::collections::BTreeSet::new();
    let mut passwords = std::collections::BTreeSet::new();
    for (machine, aes) in machines {
        let (serial, mac) = (machine.serial.clone(), machine.serial.starts_with("SIMM"));
        let mut device = enrolled(&house, machine).await;
        device.settle().await.unwrap();
        assert!(device.refusals.is_empty(), "{:?}", device.refusals);
        let profile = if mac { &macs } else { &phones };
        assert_eq!(state(&house, &device, profile).await, State::Verified);
        let [(certificate, key)] = identities(&device).try_into().unwrap();
        let certificate = openssl::x509::X509::from_der(&certificate).unwrap();
        assert!(certificate.public_key().unwrap().public_eq(&key));
        let name = certificate.subject_name().entries().next().unwrap().data().to_string().unwrap();
        assert_eq!(name, serial);
        assert!(serials.insert(certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()));
        let [(file, password)] = files(&device).try_into().unwrap();
        assert!(password.len() >= 20 && passwords.insert(password.clone()));
        if let Some(said) = judged(&file, &password) {
            let wanted = if aes {
                ["MAC: sha256, Iteration 2048", "salt length: 8", "PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256"]
            } else {
                ["MAC: sha1, Iteration 2048", "salt length: 8", "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048"]
            };
            assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said}");
        }
        // The intermediate goes with it, the root does not.
        let chain = openssl::pkcs12::Pkcs12::from_der(&file).unwrap().parse2(&password).unwrap().ca.unwrap();
        assert_eq!(chain.len(), 1);
        if let Some(schema) = schema() {
            let target = if mac { Target::mac("15.1") } else { Target::iphone("18.1") };
            let installed = device.profiles.iter().find(|p| p.profile.payloads().iter().any(|p| p.kind == PKCS12)).unwrap();
            let findings = schema.profile(&installed.profile.to_value(), target);
            assert!(findings.is_empty(), "{findings:#?}");
        }
        assert_eq!(kept(&house).await, 0, "the device has it");
    }
    assert_eq!((issued(&house, &macs).await.len(), issued(&house, &phones).await.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_the_same_until_the_device_has_it_and_looks_make_no_new_one() {
    let house = house().await;
    let profile = house.assign(draft(Platform::MacOs, "VPN", &own(300))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    // What it says of the installation is lost, and so is the profile: it is told again.
    mac.faults.mute_after = Some(3);
    let mut lost = 0;
    while mac.connect().await.is_err() && lost < 10 {
        lost += 1;
    }
    assert!(lost > 0);
    mac.faults.mute_after = None;
    let waiting = kept(&house).await;
    mac.settle().await.unwrap();
    let all = issued(&house, &profile).await;
    assert_eq!((waiting <= 1, all.len()), (true, 1));
    let (first, _) = identities(&mac).remove(0);
    assert_eq!((kept(&house).await, state(&house, &mac, &profile).await), (0, State::Verified));
    // Nothing of the key is in the database or the audit log.
    let log = log(&house).await.join("\n");
    let (_, password) = files(&mac).remove(0);
    assert!(log.contains("certificate.issue") && !log.contains(&password) && !log.contains("PRIVATE"));

    for _ in 0..3 {
        pass(&house, &mut mac, 5 * DAY);
        mac.settle().await.unwrap();
    }
    assert_eq!((identities(&mac).remove(0).0, issued(&house, &profile).await.len()), (first.clone(), 1));

    // Somebody takes the profile away: another key comes, and the old certificate ends.
    let identifier = mac.profiles.iter().find(|p| p.profile.payloads().iter().any(|p| p.kind == PKCS12)).unwrap();
    let identifier = identifier.profile.identifier.clone();
    assert!(mac.profiles.remove(&identifier));
    pass(&house, &mut mac, 2 * DAY);
    mac.settle().await.unwrap();
    mac.settle().await.unwrap();
    let all = issued(&house, &profile).await;
    let states: Vec<_> = all.iter().map(|certificate| certificate.status).collect();
    assert_eq!(states, [CertificateStatus::Revoked, CertificateStatus::Active]);
    assert_ne!(identities(&mac).remove(0).0, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_before_its_end_and_when_it_is_revoked_and_ends_when_the_device_leaves() {
    let house = house().await;
    let profile = house.assign(draft(Platform::MacOs, "VPN", &own(100))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let first = identities(&mac).remove(0).0;
    pass(&house, &mut mac, 70 * DAY);
    mac.settle().await.unwrap();
    assert_eq!(identities(&mac).remove(0).0, first, "not yet");
    pass(&house, &mut mac, 11 * DAY);
    mac.settle().await.unwrap();
    let second = identities(&mac).remove(0).0;
    assert_ne!(second, first);
    let statuses = async || issued(&house, &profile).await.into_iter().map(|c| c.status).collect::<Vec<_>>();
    assert_eq!(statuses().await, [CertificateStatus::Revoked, CertificateStatus::Active]);

    let current: CertificateId = issued(&house, &profile).await.remove(1).id;
    revoke::revoke(&house.server.app, &current, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    pass(&house, &mut mac, HOUR);
    mac.settle().await.unwrap();
    let third = identities(&mac).remove(0).0;
    assert_ne!(third, second);
    assert_eq!(statuses().await[1..], [CertificateStatus::Revoked, CertificateStatus::Active]);

    device::retire(&house.server.app, &id_of(&house, &mac).await, "cli:test", "local").await.unwrap();
    mac.settle().await.unwrap();
    assert!(statuses().await.iter().all(|status| *status == CertificateStatus::Revoked));
    assert_eq!(kept(&house).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_takes_its_waiting_key_along() {
    let house = house().await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let profile = house.assign(draft(Platform::MacOs, "VPN", &own(100))).await;
    // It is sent and never seen.
    mac.faults.drop_after = Some(1);
    mac.connect().await.unwrap_err();
    assert_eq!(kept(&house).await, 1);
    let waiting = issued(&house, &profile).await.remove(0);
    revoke::revoke(&house.server.app, &waiting.id, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    assert_eq!(kept(&house).await, 0);
    mac.faults.drop_after = None;
    mac.settle().await.unwrap();
    let on_device = hex::encode(openssl::sha::sha256(&identities(&mac).remove(0).0));
    assert_ne!(on_device, waiting.sha256);
}

fn file(name: &str, password: &str) -> (Vec<u8>, PKey<Private>) {
    let leaf = Ca::new("Mail CA").leaf(name, &[]);
    let mut builder = openssl::pkcs12::Pkcs12::builder();
    builder.pkey(&leaf.key).cert(&leaf.certificate);
    (builder.build2(password).unwrap().to_der().unwrap(), leaf.key)
}

async fn import(house: &House, file: &[u8], password: &str) -> Result<Pfx, Error> {
    let password = Secret::new(password.as_bytes().to_vec());
    let brought = Brought { purpose: Purpose::SmimeEncryption, file, password: &password, sent: None, thumbprint: None };
    pfx::import(&house.server.app, &house.user, brought, &by()).await
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Refused(refusal) | Error::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_identity_goes_to_the_devices_of_its_person_and_is_taken_back() {
    let house = house().await;
    let mail = json!([{ "type": "imported-pfx", "name": "mail", "purpose": "smime-encryption" }]);
    let (on_macs, on_phones) =
        (house.assign(draft(Platform::MacOs, "Mac mail", &mail)).await, house.assign(draft(Platform::Ios, "Phone mail", &mail)).await);
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    let mut phone = enrolled(&house, Machine { os_version: "17.6".into(), ..Machine::iphone(2) }).await;
    for device in [&mut mac, &mut phone] {
        device.settle().await.unwrap();
        assert!(identities(device).is_empty());
    }
    assert_eq!(state(&house, &mac, &on_macs).await, State::Failed, "the person has none yet");

    let (first, key) = file("ana 2025", "pass word");
    let imported = import(&house, &first, "pass word").await.unwrap();
    for device in [&mut mac, &mut phone] {
        device.settle().await.unwrap();
        assert!(identities(device).iter().map(|(_, key)| key).all(|found| found.public_eq(&key)) && identities(device).len() == 1);
    }
    assert_eq!((state(&house, &mac, &on_macs).await, state(&house, &phone, &on_phones).await), (State::Verified, State::Verified));
    let (on_mac, on_phone) = (files(&mac).remove(0), files(&phone).remove(0));
    assert!(on_mac.1 != on_phone.1 && on_mac.1 != "pass word");
    if let (Some(new), Some(old)) = (judged(&on_mac.0, &on_mac.1), judged(&on_phone.0, &on_phone.1)) {
        assert!(new.contains("AES-256-CBC") && old.contains("3-KeyTripleDES"), "{new} {old}");
    }
    let rows = log(&house).await;
    assert_eq!(rows.iter().filter(|row| row.contains("pfx.read")).count(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| !row.contains("pass word") && !row.contains(&on_mac.1)));

    // A newer one joins it: old mail is still read.
    let (second, _) = file("ana 2026", "other");
    import(&house, &second, "other").await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(identities(&mac).len(), 2);
    // Looks change nothing.
    let before = files(&mac);
    pass(&house, &mut mac, 3 * DAY);
    mac.settle().await.unwrap();
    assert_eq!(files(&mac), before);

    pfx::delete(&house.server.app, &house.user, &imported.id, &by()).await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(identities(&mac).len(), 1);
    let left = pfx::list(&house.server.app, &house.user).await.unwrap().remove(0);
    pfx::delete(&house.server.app, &house.user, &left.id, &by()).await.unwrap();
    mac.settle().await.unwrap();
    assert!(identities(&mac).is_empty() && mac.profiles.payloads(PKCS12).next().is_none());
    import(&house, &second, "other").await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!((identities(&mac).len(), state(&house, &mac, &on_macs).await), (1, State::Verified));
    profile::delete(&house.server.app, &on_macs, &by()).await.unwrap();
    mac.settle().await.unwrap();
    assert!(identities(&mac).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_identity_is_for_one_person_and_what_is_wrong_with_a_file_is_named() {
    let house = house().await;
    house.assign(draft(Platform::MacOs, "Mail", &json!([{ "type": "imported-pfx", "name": "mail", "purpose": "smime-encryption" }]))).await;
    let bob = directory::create_user(&house.server.app, user("bob@example.org"), &by()).await.unwrap().id;
    let (content, _) = file("bob", "p");
    let password = Secret::new(b"p".to_vec());
    let brought = |purpose| Brought { purpose, file: &content, password: &password, sent: None, thumbprint: None };
    let app = &house.server.app;
    let of_bob = pfx::import(app, &bob, brought(Purpose::SmimeEncryption), &by()).await.unwrap();
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    assert!(identities(&mac).is_empty(), "it is ana's");
    assert!(matches!(pfx::delete(app, &house.user, &of_bob.id, &by()).await, Err(Error::NotFound(_))));
    assert!(matches!(pfx::delete(app, &bob, &PfxId::new(), &by()).await, Err(Error::NotFound(_))));
    assert_eq!(code(pfx::import(app, &bob, brought(Purpose::Vpn), &by()).await), "PFX0003");
    assert_eq!(code(import(&house, &content, "wrong").await), "PFX0001");
    directory::delete_user(app, &bob, &by()).await.unwrap();
    assert_eq!(code(directory::deleted::purge_user(app, &bob, &by()).await), "USR0010");
    let (content, _) = file("late", "p");
    assert!(matches!(pfx::import(app, &bob, Brought { file: &content, ..brought(Purpose::Vpn) }, &by()).await, Err(Error::NotFound(_))));
    for n in 0..50 {
        import(&house, &file(&format!("{n}"), "p").0, "p").await.unwrap();
    }
    assert_eq!(code(import(&house, &file("one more", "p").0, "p").await), "PFX0004");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acme_payload_gives_each_device_an_identifier_that_is_good_once_and_ends_with_the_profile() {
    let house = house().await;
    let acme = json!([{ "type": "acme", "name": "id", "directory-url": "https://acme.example.org/directory",
        "template": { "subject": "CN={{SerialNumber}}" } }]);
    let profile = house.assign(draft(Platform::MacOs, "ACME", &acme)).await;
    let app = &house.server.app;
    let mut given = Vec::new();
    for number in [1, 2] {
        let mut mac = enrolled(&house, Machine::mac(number)).await;
        mac.heard = Some(Vec::new());
        mac.settle().await.unwrap();
        // This device speaks no ACME: what it was told is what counts here.
        let told = told(&mac);
        let payload = told.payloads().iter().find(|payload| payload.kind == ACME).unwrap();
        let of = |key: &str| payload.body.get(key).cloned().unwrap();
        assert_eq!((of("HardwareBound"), of("Attest"), of("KeySize")), (true.into(), true.into(), 384.into()));
        if let Some(schema) = schema() {
            let findings = schema.profile(&told.to_value(), Target::mac("15.1"));
            assert!(findings.is_empty(), "{findings:#?}");
        }
        given.push((id_of(&house, &mac).await, payload.body.string("ClientIdentifier").unwrap().to_owned()));
    }
    assert!(given[0].1 != given[1].1 && given[0].1.len() == 64);
    for (device, identifier) in &given {
        let (hash, now) = (Client::hash_of(identifier), app.now());
        let (wanted, at) = (hash.clone(), now.plus(HOUR * 24 * 30));
        assert_eq!(app.store.read(move |c| acme_clients::find_client(c, &wanted, at)).await.unwrap(), None, "it is over");
        let wanted = hash.clone();
        let client = app.store.read(move |c| acme_clients::find_client(c, &wanted, now)).await.unwrap().unwrap();
        assert_eq!((client.grant.device_id.as_ref(), client.grant.profile_id.as_ref()), (Some(device), Some(&profile)));
        assert!(client.attest && client.hardware_bound && client.grant.payload.as_deref() == Some("id"));
        for expected in [true, false] {
            let hash = hash.clone();
            assert_eq!(app.store.write(move |tx| acme_clients::claim_client(tx, &hash, now)).await.unwrap(), expected);
        }
    }
    assert!(log(&house).await.iter().all(|row| !row.contains(&given[0].1)), "the identifier is a secret");
    // A device that leaves has none any more.
    let mut last = enrolled(&house, Machine::mac(3)).await;
    last.heard = Some(Vec::new());
    last.settle().await.unwrap();
    let hash = Client::hash_of(&identifier_in(&last));
    let (wanted, now) = (hash.clone(), app.now());
    assert!(app.store.read(move |c| acme_clients::find_client(c, &wanted, now)).await.unwrap().is_some());
    device::retire(app, &id_of(&house, &last).await, "cli:test", "local").await.unwrap();
    last.settle().await.unwrap();
    assert_eq!(app.store.read(move |c| acme_clients::find_client(c, &hash, now)).await.unwrap(), None);
}

/// The profile with an ACME payload that the device was told last.
fn told(device: &Device) -> Profile {
    let bodies = device.heard.iter().flatten().filter(|body| !body.is_empty());
    let documents = bodies.filter_map(|body| Command::decode(body).unwrap().body.data("Payload").map(<[u8]>::to_vec));
    let profiles = documents.map(|document| Profile::decode(&document).unwrap());
    profiles.rev().find(|profile| profile.payloads().iter().any(|payload| payload.kind == ACME)).unwrap()
}

fn identifier_in(device: &Device) -> String {
    let profile = told(device);
    let payload = profile.payloads().iter().find(|payload| payload.kind == ACME).unwrap();
    payload.body.string("ClientIdentifier").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_authority_issues_a_mac_is_managed_on_and_its_certificates_wait() {
    let house = house().await;
    let own = house.assign(draft(Platform::MacOs, "VPN", &own(100))).await;
    let scep = house.assign_baseline("macos-scep-device-certificate").await;
    let passcode = house.assign_baseline("macos-passcode").await;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    authority::set_paused(&house.server.app, authority::ISSUING, true, "cli:test", "local").await.unwrap();
    device.settle().await.unwrap();
    assert_eq!(state(&house, &device, &passcode).await, State::Verified);
    assert_eq!((state(&house, &device, &own).await, state(&house, &device, &scep).await), (State::Pending, State::Pending));
    assert!(issued(&house, &own).await.is_empty());
    authority::set_paused(&house.server.app, authority::ISSUING, false, "cli:test", "local").await.unwrap();
    pass(&house, &mut device, HOUR);
    device.settle().await.unwrap();
    assert_eq!((state(&house, &device, &own).await, state(&house, &device, &scep).await), (State::Verified, State::Verified));
    assert!(device.refusals.is_empty(), "{:?}", device.refusals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_imported_and_what_is_revoked_wakes_a_device_at_once_whatever_it_puts_off() {
    let push = Push::start().await;
    let (url, root) = (push.apns.url(), push.apns.root_pem.clone());
    let tweak = move |config: &mut muster::config::Config| {
        let file = config.data_dir.join("apns.pem");
        std::fs::write(&file, &root).unwrap();
        (config.apple.apns.url, config.apple.apns.root_file) = (url, Some(file));
    };
    let house = House::tweaked(tweak).await;
    let app = &house.server.app;
    push.settle_in(app).await;
    house.assign(draft(Platform::MacOs, "Mail", &json!([{ "type": "imported-pfx", "name": "mail", "purpose": "smime-encryption" }]))).await;
    let vpn = house.assign(draft(Platform::MacOs, "VPN", &own(100))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let worker = Arc::new(Worker::new(Arc::clone(app)).unwrap());
    worker.drain().await.unwrap();
    // It puts off what it is given from now on.
    lock(app, &id_of(&house, &mac).await, Platform::MacOs).await;
    let puts_off = async || {
        let mut next = idle(&house, &mac).await;
        while let Some(command) = next {
            next = say(&house, &mac, Status::NotNow, Some(&command.uuid), Dict::new()).await;
        }
        worker.drain().await.unwrap();
        house.server.clock.advance(MINUTE);
        let known = live(&house, &mac.machine.udid).await.unwrap();
        assert!(known.waiting_since.is_some() && known.work_at.is_none_or(|at| at > app.now()), "{known:?}");
        push.apns.count()
    };
    let is_woken = async |before: usize| {
        assert_eq!(live(&house, &mac.machine.udid).await.unwrap().work_at, Some(app.now()));
        worker.drain().await.unwrap();
        assert_eq!(push.apns.count(), before + 1);
    };
    let before = puts_off().await;
    let (mail, _) = file("ana", "pass word");
    import(&house, &mail, "pass word").await.unwrap();
    is_woken(before).await;

    let before = puts_off().await;
    let own: CertificateId = issued(&house, &vpn).await.remove(0).id;
    revoke::revoke(app, &own, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    is_woken(before).await;
}
