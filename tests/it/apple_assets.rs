//! Assets that are declared to Apple devices: made here, fetched over real TLS, held against size and hash, put to use, and given to nobody
//! else.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::{DAY, HOUR, MINUTE};
use muster::config::Config;
use muster::domain::certificate::{Certificate, CertificateStatus, RevocationReason};
use muster::domain::desired::{Record, State};
use muster::domain::device::Platform;
use muster::domain::profile::Kind;
use muster::ids::ProfileId;
use muster::service::Error;
use muster::service::pki::revoke;
use muster::service::profile::{self, Draft};
use muster::sim::apple::assets::Material;
use muster::sim::apple::{Device, Machine};
use muster::store::audit;
use muster::wire::apple::ddm::{Kind as Declared, Valid};
use serde_json::{Value, json};

use crate::apple_enroll::{client, codes, enrolled, house, live, on};
use crate::apple_identities::{issued, kept, pass};
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by};

const SECRET: &str = "a-word-that-nobody-reads";

fn draft(platform: Platform, name: &str, scope: Option<&str>, payloads: &Value) -> Draft {
    let mut document = json!({ "payloads": payloads });
    if let Some(scope) = scope {
        document["scope"] = scope.into();
    }
    Draft { display_name: name.into(), kind: Kind::Configuration, platform, document: serde_json::from_value(document).unwrap() }
}

/// An archive with one empty file.
fn archive() -> Vec<u8> {
    let mut local = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a".to_vec();
    let directory = b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0a";
    let at = u32::try_from(local.len()).unwrap();
    local.extend_from_slice(directory);
    local.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    local.extend_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
    local.extend_from_slice(&at.to_le_bytes());
    local.extend_from_slice(b"\0\0");
    local
}

fn template(days: u32) -> Value {
    json!({ "subject": "CN={{SerialNumber}}", "days": days })
}

fn scep(name: &str, days: u32) -> [Value; 2] {
    [
        json!({ "type": "scep-asset", "name": format!("{name}-asset"), "template": template(days) }),
        json!({ "type": "com.apple.configuration.security.identity", "name": name, "CredentialAssetReference": format!("{name}-asset") }),
    ]
}

/// One of everything.
fn everything(platform: Platform) -> Value {
    let mut all = vec![
        json!({ "type": "certificate-asset", "name": "root-asset", "authority": "root" }),
        json!({ "type": "com.apple.configuration.security.certificate", "name": "root", "CredentialAssetReference": "root-asset" }),
        json!({ "type": "pkcs12-asset", "name": "file-asset", "key": "p-256",
            "template": { "subject": "CN={{SerialNumber}}", "days": 100, "key_usages": ["digital-signature"] } }),
        json!({ "type": "com.apple.configuration.security.identity", "name": "file", "CredentialAssetReference": "file-asset" }),
        json!({ "type": "data-asset", "name": "data", "content": STANDARD.encode(b"x"), "content-type": "text/plain" }),
        json!({ "type": "com.apple.configuration.management.test", "name": "test", "Echo": "x", "EchoDataAssetReference": "data" }),
        json!({ "type": "password-asset", "name": "words", "user-name": "{{UserName}}", "password": SECRET }),
        json!({ "type": "com.apple.management.properties", "name": "properties", "floor": "second" }),
    ];
    all.extend(scep("scep", 100));
    if platform == Platform::MacOs {
        all.push(json!({ "type": "data-asset", "name": "zip", "content": STANDARD.encode(archive()), "content-type": "application/zip" }));
        all.push(json!({ "type": "com.apple.configuration.services.configuration-files", "name": "sshd",
            "ServiceType": "com.apple.sshd", "DataAssetReference": "zip" }));
    }
    Value::Array(all)
}

async fn record(house: &House, device: &Device, profile: &ProfileId, user: Option<&str>) -> Option<Record> {
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    let items = house.items(&id).await;
    let item = items.into_iter().find(|loaded| loaded.item.profile_id == *profile)?;
    let key = format!("declarations:{profile}{}", user.map(|user| format!("@{user}")).unwrap_or_default());
    item.item.detail.records.get(&key).cloned()
}

async fn log(house: &House) -> Vec<String> {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| format!("{} {} {}", row.action, row.target, row.after.unwrap_or_default())).collect()
}

/// The assets of a device by the last part of their identifiers, with their addresses.
fn addresses(device: &Device) -> BTreeMap<String, String> {
    let assets = device.declarations.held.iter().filter(|((kind, _), _)| *kind == Declared::Asset);
    let address = |held: &Value| held["DataURL"].as_str().unwrap().to_owned();
    assets.map(|((_, id), held)| (id.rsplit('.').next().unwrap().to_owned(), address(&held.declaration.payload["Reference"]))).collect()
}

async fn get(client: &reqwest::Client, url: &str) -> (u16, String, Vec<u8>) {
    let answer = client.get(url).send().await.unwrap();
    let media = answer.headers().get("content-type").map(|media| media.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status().as_u16(), media, answer.bytes().await.unwrap().to_vec())
}

/// The signature of a request without a body is the same for each of them: one that was found somewhere is of no use for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_fetches_assets_for_some_minutes_only_and_says_when_it_was_made() {
    let tweak = |config: &mut Config| config.apple.sign_messages = true;
    let house = on(House::with(crate::support::server::Options { tweak: Box::new(tweak), ..Default::default() }).await).await;
    house.assign(draft(Platform::MacOs, "assets", None, &everything(Platform::MacOs))).await;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    device.settle().await.unwrap();
    let url = addresses(&device).remove("root-asset").unwrap();
    let fetch = async |signature: &str| {
        let answer = house.server.client().get(&url).header("Mdm-Signature", signature).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    };
    let found = device.sign(b"").unwrap();
    assert_eq!(fetch(&found).await.0, 200);
    // The device's clock, or ours, is some minutes away.
    house.server.clock.advance(14 * MINUTE);
    assert_eq!(fetch(&found).await.0, 200);
    house.server.clock.advance(2 * MINUTE);
    let (status, said) = fetch(&found).await;
    assert!(status == 400 && said.starts_with("MGT0022"), "{status} {said}");
    let identity = &device.enrollment.identity;
    let signer =
        muster::wire::cms::Signer { certificate: &identity.certificate, key: &identity.key, digest: muster::wire::cms::Digest::Sha256 };
    let timeless = STANDARD.encode(muster::wire::cms::sign_detached(b"", &[], &signer).unwrap());
    let (status, said) = fetch(&timeless).await;
    assert!(status == 400 && said.starts_with("MGT0022"), "{status} {said}");
    device.faults.skew += 16 * MINUTE;
    assert_eq!(fetch(&device.sign(b"").unwrap()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_configurations_refer_to_is_fetched_and_put_to_use_and_only_by_whom_it_is_declared_to() {
    let house = house().await;
    let mut devices = Vec::new();
    for (platform, machine, target) in
        [(Platform::MacOs, Machine::mac(1), Target::mac("15.1")), (Platform::Ios, Machine::iphone(2), Target::iphone("18.1"))]
    {
        let profile = house.assign(draft(platform, &format!("assets for {platform}"), None, &everything(platform))).await;
        let mut device = enrolled(&house, machine).await;
        device.settle().await.unwrap();
        let found = record(&house, &device, &profile, None).await.unwrap();
        let statuses: Vec<_> = device.declarations.held.values().filter(|held| held.status.valid != Valid::Valid).collect();
        assert_eq!((found.state, statuses.len()), (State::Verified, 0), "{found:?} {statuses:#?}");
        // Both identities are certified by us and known to be the device's; the key that was made here is forgotten.
        let all = issued(&house, &profile).await;
        let mut names: Vec<_> = all.iter().map(|c| c.grant.payload.as_deref().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["file-asset", "scep-asset"]);
        let own = live(&house, &device.machine.udid).await.unwrap();
        assert!(all.iter().all(|c| c.status == CertificateStatus::Active && c.grant.device_id.as_ref() == Some(&own.device_id)));
        assert_eq!((device.declared_identities().count(), kept(&house).await), (2, devices.len()));
        assert!(device.asset(&asset_id(&device, "words")).is_none(), "nothing refers to it, so that nobody fetched it");
        if let Some(schema) = schema() {
            for held in device.declarations.held.values() {
                assert_eq!(schema.declaration(&serde_json::to_value(&held.declaration).unwrap(), target), [""; 0]);
            }
            let client = client(&house, &device);
            for (name, sheet) in [("scep-asset", "scep"), ("file-asset", "identity"), ("words", "usernameandpassword")] {
                let (status, media, body) = get(&client, &addresses(&device)[name]).await;
                assert_eq!((status, media.as_str()), (200, "application/json"), "{name}");
                assert_eq!(schema.credential(sheet, &serde_json::from_slice(&body).unwrap(), target), [""; 0], "{name}");
            }
        }
        devices.push(device);
    }
    // What is the same each time is told with size and hash; what is good once is not.
    for ((_, id), held) in devices[0].declarations.held.iter().filter(|((kind, _), _)| *kind == Declared::Asset) {
        let once = id.ends_with("scep-asset") || id.ends_with("file-asset");
        assert_eq!(held.declaration.payload["Reference"].get("Hash-SHA-256").is_none(), once, "{id}");
    }
    assert!(
        matches!(devices[0].asset(&asset_id(&devices[0], "data")), Some(Material::Data(media, bytes)) if media == "text/plain" && bytes == b"x")
    );
    // Each device with each address of the other, and with what is nobody's.
    for (one, other) in [(0, 1), (1, 0)] {
        let client = client(&house, &devices[one]);
        for (name, url) in addresses(&devices[other]) {
            assert_eq!(get(&client, &url).await.0, 404, "{name} of the other");
        }
        let own = addresses(&devices[one]);
        for wrong in [
            own["words"].replace("words", "nothing"),
            own["words"].replace(".asset.", ".configuration."),
            own["words"].replace("/device/", "/user/414e41/"),
            own["words"].replace("/device/", "/user/zz/"),
            own["words"].replace("/device/", "/user//"),
            own["words"].replace("/device/", "/device/..%2f"),
            format!("{}{}", own["words"], "x".repeat(5000)),
        ] {
            let (status, _, body) = get(&client, &wrong).await;
            assert!(status == 404 && !String::from_utf8_lossy(&body).contains(SECRET), "{wrong:.200}: {status}");
        }
        assert_eq!(client.post(&own["words"]).send().await.unwrap().status(), 405);
    }
    // Who shows nothing gets nothing, and is not told 401, which would end an enrolment.
    let words = addresses(&devices[0])["words"].clone();
    let stranger = house.server.client();
    assert_eq!(get(&stranger, &words).await.0, 400);
    devices[0].leave().await.unwrap();
    assert_eq!(get(&client(&house, &devices[0]), &words).await.0, 400, "it has left");
    let refused = codes(&house).await;
    assert!(refused.contains("CRT0001") && refused.contains("CRT0002"), "{refused}");
    // The log says who fetched what, and not what it is.
    let log = log(&house).await;
    assert!(log.iter().any(|row| row.starts_with("asset.read")) && log.iter().any(|row| row.starts_with("scep.challenge")));
    assert!(!log.iter().any(|row| row.contains(SECRET)));
}

fn asset_id(device: &Device, name: &str) -> String {
    let mut ids = device.declarations.held.keys().filter(|(kind, id)| *kind == Declared::Asset && id.rsplit('.').next() == Some(name));
    ids.next().unwrap().1.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_takes_no_asset_that_is_not_what_was_declared() {
    let house = house().await;
    house.assign(draft(Platform::MacOs, "assets", None, &everything(Platform::MacOs))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let id = (Declared::Asset, asset_id(&mac, "data"));
    let good = mac.declarations.held[&id].clone();
    for (key, value, code) in [
        ("Size", json!(2), "Error.AssetCannotBeVerified"),
        ("Hash-SHA-256", json!("00".repeat(32)), "Error.AssetCannotBeVerified"),
        ("ContentType", json!("text/html"), "Error.AssetCannotBeVerified"),
        ("DataURL", json!("http://x.example.org/a"), "Error.AssetCannotBeDownloaded"),
        ("DataURL", json!(addresses(&mac)["data"].replace("data", "gone")), "Error.AssetCannotBeDownloaded"),
    ] {
        let mut held = good.clone();
        held.declaration.server_token = format!("{key}{value}");
        held.declaration.payload["Reference"][key] = value.clone();
        mac.declarations.held.insert(id.clone(), held);
        mac.settle().await.unwrap();
        let status = mac.declarations.status(id.0, &id.1).unwrap();
        let found = status.reasons.first().map(|reason| reason.code.as_str());
        assert_eq!((status.valid, found), (Valid::Invalid, Some(code)), "{key} {value} {:?}", mac.declarations.held[&id]);
    }
    let test = mac.declarations.held.iter().find(|(_, held)| held.declaration.kind.ends_with("management.test")).unwrap().1;
    assert_eq!(test.status.reasons[0].code, "Error.MissingAssets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_of_assets_are_renewed_replaced_when_revoked_and_end_with_the_declaration() {
    let house = house().await;
    let payloads: Vec<Value> = everything(Platform::MacOs).as_array().unwrap().clone();
    let profile = house.assign(draft(Platform::MacOs, "assets", None, &json!(payloads))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    assert_eq!(issued(&house, &profile).await.len(), 2);
    // Nothing is asked for again while nothing changes.
    for _ in 0..3 {
        pass(&house, &mut mac, DAY);
        mac.settle().await.unwrap();
    }
    assert_eq!(issued(&house, &profile).await.len(), 2);
    // A new name of the profile's other parts is no reason either; nor is another asset.
    pass(&house, &mut mac, 80 * DAY);
    mac.settle().await.unwrap();
    pass(&house, &mut mac, HOUR);
    mac.settle().await.unwrap();
    let all = issued(&house, &profile).await;
    let active = |all: &[Certificate]| all.iter().filter(|c| c.status == CertificateStatus::Active).count();
    assert_eq!((all.len(), active(&all), kept(&house).await), (4, 2, 0), "{all:#?}");
    let old =
        all.iter().filter(|c| c.status == CertificateStatus::Revoked).all(|c| c.revocation_reason == Some(RevocationReason::Superseded));
    assert!(old, "{all:#?}");
    assert_eq!(record(&house, &mac, &profile, None).await.unwrap().state, State::Verified);
    // One is revoked: the device gets another.
    let gone =
        all.iter().find(|c| c.status == CertificateStatus::Active && c.grant.payload.as_deref() == Some("scep-asset")).unwrap().id.clone();
    revoke::revoke(&house.server.app, &gone, RevocationReason::KeyCompromise, "cli:test", "local").await.unwrap();
    mac.settle().await.unwrap();
    let all = issued(&house, &profile).await;
    assert_eq!((all.len(), active(&all)), (5, 2), "{all:#?}");
    // The declarations go, and with them the certificates.
    profile::delete(&house.server.app, &profile, &by()).await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!((active(&issued(&house, &profile).await), mac.declared_identities().count()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_of_a_mac_gets_identities_of_their_own() {
    let house = on(House::tweaked(|config: &mut Config| config.apple.user_channels = true).await).await;
    let mut payloads = scep("pass", 100).to_vec();
    payloads[1] = json!({ "type": "com.apple.configuration.security.passkey.attestation", "name": "passkey",
        "AttestationIdentityAssetReference": "pass-asset", "RelyingParties": ["example.org"] });
    let declared = house.assign(draft(Platform::MacOs, "passkeys", Some("user"), &json!(payloads))).await;
    let installed = house
        .assign(draft(Platform::MacOs, "files", Some("user"), &json!([
            { "type": "pkcs12", "name": "vpn", "key": "p-256", "template": { "subject": "CN={{SerialNumber}}", "days": 100, "key_usages": ["digital-signature"] } },
            { "type": "scep", "name": "wifi", "template": template(100) },
        ])))
        .await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    assert_eq!((issued(&house, &declared).await.len(), issued(&house, &installed).await.len()), (0, 0), "nobody is there");
    for user in ["ANA", "BEN"] {
        mac.sign_in(user).await.unwrap();
        mac.settle().await.unwrap();
        assert_eq!(record(&house, &mac, &declared, Some(user)).await.unwrap().state, State::Verified, "{:?}", mac.refusals);
        assert_eq!((mac.declared_identities().count(), mac.profiles.identities().count()), (1, 2));
    }
    let labels = async |profile: &ProfileId| {
        let all = issued(&house, profile).await;
        let mut labels: Vec<_> =
            all.iter().filter(|c| c.status == CertificateStatus::Active).map(|c| c.grant.payload.clone().unwrap()).collect();
        labels.sort_unstable();
        labels
    };
    assert_eq!(labels(&declared).await, ["pass-asset@ANA", "pass-asset@BEN"]);
    assert_eq!(labels(&installed).await, ["vpn@ANA", "vpn@BEN", "wifi@ANA", "wifi@BEN"]);
    assert_eq!(kept(&house).await, 0);
    // One user's address is another's only by who asks: the device may speak for each of its users, and for nobody else's.
    let url = addresses(&mac)["pass-asset"].clone();
    assert!(url.contains(&hex::encode("BEN")));
    let other = enrolled(&house, Machine::mac(2)).await;
    assert_eq!(get(&client(&house, &other), &url).await.0, 404);
    let own = url.replace(&format!("/user/{}/", hex::encode("BEN")), "/device/");
    assert_eq!(get(&client(&house, &mac), &own).await.0, 404, "it is no asset of the device itself");
    // Ben's account goes: his identities end, and Ana's stay.
    mac.sign_out().await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(
        (labels(&declared).await, labels(&installed).await),
        (vec!["pass-asset@ANA".to_owned()], vec!["vpn@ANA".to_owned(), "wifi@ANA".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_that_are_wrong_are_refused_by_name_and_secrets_are_sealed_and_hidden() {
    let house = house().await;
    let data = |content: &str, media: &str| json!({ "type": "data-asset", "name": "a", "content": content, "content-type": media });
    let refers = |kind: &str, key: &str| json!({ "type": kind, "name": "c", key: "a" });
    let identity = refers("com.apple.configuration.security.identity", "CredentialAssetReference");
    let files = |asset: Value| {
        json!([asset, { "type": "com.apple.configuration.services.configuration-files", "name": "c",
        "ServiceType": "com.apple.sshd", "DataAssetReference": "a" }])
    };
    let passkey = json!({ "type": "com.apple.configuration.security.passkey.attestation", "name": "c",
        "AttestationIdentityAssetReference": "a", "RelyingParties": ["example.org"] });
    let asset = |kind: &str, more: Value| {
        let mut asset = json!({ "type": kind, "name": "a" });
        asset.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asset
    };
    let large = STANDARD.encode(vec![0; 600 * 1024]);
    let theirs =
        json!({ "type": "com.apple.asset.data", "name": "a", "Reference": { "DataURL": "https://h/a", "ContentType": "application/zip" } });
    for (payloads, scope, why) in [
        (json!([data("?", "text/plain")]), None, "content: should be Base64"),
        (json!([data("", "text/plain")]), None, "content: 1 to"),
        (json!([data(&large, "text/plain")]), None, "content: 1 to"),
        (json!([data(&STANDARD.encode(vec![0; 2_000_000]), "text/plain")]), None, "content: longer than"),
        (json!([data("eA==", "text")]), None, "content-type: a media type"),
        (json!([data("eA==", "text/plain\r\nx: y")]), None, "content-type: a media type"),
        (json!([data("eA==", "application/zip")]), None, "content: no ZIP archive"),
        (files(data("eA==", "text/plain")), None, "DataAssetReference: a has to be application/zip"),
        (files(theirs), None, "DataAssetReference: a has to be application/zip, with its hash"),
        (json!([asset("password-asset", json!({ "user-name": "" }))]), None, "user-name, password: 1 to 1024"),
        (json!([asset("password-asset", json!({ "user-name": "{{Nobody}}" }))]), None, "user-name: "),
        (json!([asset("password-asset", json!({ "user-name": "x", "pass": "y" }))]), None, "pass"),
        (json!([asset("scep-asset", json!({ "template": template(100), "extractable": true }))]), None, "the configuration that refers"),
        (json!([asset("scep-asset", json!({ "template": template(1) }))]), None, "template: "),
        (json!([asset("acme-asset", json!({ "directory-url": "http://x", "template": template(100) }))]), None, "DirectoryURL: https://"),
        (json!([asset("pkcs12-asset", json!({ "template": template(100), "renew-percent": 99 }))]), None, "renew-percent: 1 to 90"),
        (json!([asset("certificate-asset", json!({ "certificate": "x" }))]), None, "certificate: not a certificate"),
        (json!([identity]), None, "CredentialAssetReference: the profile has no asset of that kind called a"),
        (json!([data("eA==", "text/plain"), identity]), None, "CredentialAssetReference: the profile has no asset of that kind"),
        (json!([asset("scep-asset", json!({ "template": template(100) })), passkey]), None, "is for the users of a Mac"),
        (json!([asset("scep-asset", json!({ "template": { "subject": "CN={{UserName}}", "scope": "user" } }))]), Some("user"), "template"),
        (json!([asset("password-asset", json!({ "user-name": "{{UserName}}" }))]), Some("user"), "user-name: "),
        (json!([{ "type": "imported-pfx", "name": "a", "purpose": "vpn" }]), Some("user"), "is for the device"),
    ] {
        let shown = payloads.to_string();
        match profile::apply(&house.server.app, draft(Platform::MacOs, "wrong", scope, &payloads), &by()).await {
            Err(Error::Invalid(refusal, detail)) => {
                assert!(refusal.code() == "PRF0005" && detail.contains(why), "{shown:.200}: {} {detail}", refusal.code());
            }
            other => panic!("{shown:.300}: {other:?}"),
        }
    }
    let good = draft(Platform::MacOs, "good", None, &everything(Platform::MacOs));
    let shown = serde_json::to_string(&good.document.masked(muster::catalogue::catalogue())).unwrap();
    assert!(!shown.contains(SECRET) && !shown.contains(&STANDARD.encode(archive())));
    house.assign(good).await;
    let mut written = Vec::new();
    for entry in std::fs::read_dir(house.server.folder()).unwrap().flatten() {
        written.extend(std::fs::read(entry.path()).unwrap_or_default());
    }
    assert!(!written.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_account_finds_its_person_and_its_passwords_inside_of_its_servers() {
    let house = on(House::new().await).await;
    let server = |host: &str, words: &str| json!({ "HostName": host, "AuthenticationMethod": "Password", "AuthenticationCredentialsAssetReference": words });
    let account = |words: &str| {
        let mut incoming = server("imap.example.org", words);
        incoming["ServerType"] = "IMAP".into();
        json!([
            { "type": "password-asset", "name": "words", "user-name": "a@example.org", "password": SECRET },
            { "type": "com.apple.asset.useridentity", "name": "person", "FullName": "A", "EmailAddress": "a@example.org" },
            { "type": "com.apple.configuration.account.mail", "name": "mail", "UserIdentityAssetReference": "person",
              "IncomingServer": incoming, "OutgoingServer": server("smtp.example.org", "words") },
        ])
    };
    match profile::apply(&house.server.app, draft(Platform::Ios, "mail", None, &account("nobody")), &by()).await {
        Err(Error::Invalid(refusal, detail)) => {
            assert_eq!(refusal.code(), "PRF0005");
            assert!(detail.contains("IncomingServer/AuthenticationCredentialsAssetReference: the profile has no asset"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let wanted = house.assign(draft(Platform::Ios, "mail", None, &account("words"))).await;
    let mut phone = enrolled(&house, Machine::iphone(1)).await;
    phone.settle().await.unwrap();
    assert_eq!(record(&house, &phone, &wanted, None).await.unwrap().state, State::Verified);
    let held = phone.declarations.held.values().find(|held| held.declaration.kind.ends_with("account.mail")).unwrap();
    if let Some(schema) = schema() {
        let findings = schema.declaration(&serde_json::to_value(&held.declaration).unwrap(), Target::iphone("18.1"));
        assert!(findings.is_empty(), "{findings:#?}");
    }
    let words = held.declaration.payload["IncomingServer"]["AuthenticationCredentialsAssetReference"].as_str().unwrap();
    assert!(matches!(phone.asset(words), Some(Material::Words(name, Some(word))) if name == "a@example.org" && word == SECRET));
}
