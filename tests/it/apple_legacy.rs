//! Profiles that are declared: fetched by the device, installed as they are, and gone with their declaration.

use muster::domain::desired::State;
use muster::domain::device::Platform;
use muster::domain::profile::Kind;
use muster::ids::ProfileId;
use muster::service::profile::{self, Draft};
use muster::sim::apple::{Device, Machine};
use muster::wire::apple::profile::Profile;
use serde_json::{Value, json};

use crate::apple_enroll::{client, enrolled, house, live};
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by};

const IDENTIFIER: &str = "org.example.passcode";

/// A profile as somebody else made it.
fn made_elsewhere(kind: &str, length: u8) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
  <key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>
  <key>PayloadIdentifier</key><string>{IDENTIFIER}</string>
  <key>PayloadUUID</key><string>2C0F4A4E-94F8-4D4E-8B1C-0C6F3A3D7C11</string>
  <key>PayloadContent</key><array><dict>
    <key>PayloadType</key><string>{kind}</string><key>PayloadVersion</key><integer>1</integer>
    <key>PayloadIdentifier</key><string>{IDENTIFIER}.1</string>
    <key>PayloadUUID</key><string>9A5E6C7D-0B7E-4F0B-9C57-40A2E7E1D2A5</string>
    <key>minLength</key><integer>{length}</integer>
  </dict></array>
</dict></plist>
"#
    )
}

fn draft(platform: Platform, payloads: &Value) -> Draft {
    let document = serde_json::from_value(json!({ "payloads": payloads })).unwrap();
    Draft { display_name: format!("Passcode on {platform}"), kind: Kind::Configuration, platform, document }
}

async fn state(house: &House, device: &Device, profile: &ProfileId) -> State {
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item.state
}

/// The profile on the device.
fn installed(device: &Device) -> Option<&Profile> {
    device.profiles.iter().map(|installed| &installed.profile).find(|profile| profile.identifier == IDENTIFIER)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_profile_is_installed_as_it_is_follows_its_content_and_goes_with_its_declaration() {
    let house = house().await;
    let document = made_elsewhere("com.apple.mobiledevice.passwordpolicy", 6);
    let payloads = |content: &str| json!([{ "type": "declared-profile", "name": "passcode", "content": content }]);
    let profile = house.assign(draft(Platform::MacOs, &payloads(&document))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let said: Vec<_> = mac.declarations.held.values().map(|held| &held.status).collect();
    assert_eq!(state(&house, &mac, &profile).await, State::Verified, "{said:?}");
    // To the letter: another server's profile is taken over only so.
    assert_eq!(installed(&mac).unwrap(), &Profile::decode(document.as_bytes()).unwrap());
    assert_eq!(mac.ran.get("InstallProfile"), None);
    let declaration = mac.declarations.held.values().find(|held| held.declaration.kind == "com.apple.configuration.legacy").unwrap();
    if let Some(schema) = schema() {
        let document = serde_json::to_value(&declaration.declaration).unwrap();
        assert_eq!(schema.declaration(&document, Target::mac("15.1")), [""; 0]);
    }
    // Nobody else gets it.
    let url = declaration.declaration.payload["ProfileURL"].as_str().unwrap().to_owned();
    let other = enrolled(&house, Machine::iphone(2)).await;
    assert_eq!(client(&house, &other).get(&url).send().await.unwrap().status(), 404);
    let got = client(&house, &mac).get(&url).send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.headers()["content-type"].to_str().unwrap()), (200, "application/x-apple-aspen-config"));
    // Its content changes, and its device fetches it again.
    let changed = made_elsewhere("com.apple.mobiledevice.passwordpolicy", 8);
    house.assign(draft(Platform::MacOs, &payloads(&changed))).await;
    mac.settle().await.unwrap();
    assert_eq!(installed(&mac).unwrap(), &Profile::decode(changed.as_bytes()).unwrap());
    assert_eq!(state(&house, &mac, &profile).await, State::Verified);
    profile::delete(&house.server.app, &profile, &by()).await.unwrap();
    mac.settle().await.unwrap();
    assert!(installed(&mac).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_people_may_install_is_declared_with_its_name() {
    let house = house().await;
    let content = made_elsewhere("com.apple.mobiledevice.passwordpolicy", 6);
    let payloads = json!([{ "type": "declared-profile", "name": "passcode", "content": content, "visible-name": "A passcode" }]);
    let profile = house.assign(draft(Platform::Ios, &payloads)).await;
    let mut phone = enrolled(&house, Machine::iphone(1)).await;
    phone.settle().await.unwrap();
    assert_eq!(state(&house, &phone, &profile).await, State::Verified);
    let held = phone.declarations.held.values().find(|held| held.declaration.kind == "com.apple.configuration.legacy.interactive");
    let declaration = serde_json::to_value(&held.unwrap().declaration).unwrap();
    assert_eq!(declaration["Payload"]["VisibleName"], "A passcode");
    if let Some(schema) = schema() {
        assert_eq!(schema.declaration(&declaration, Target::iphone("18.1")), [""; 0]);
    }
    // A version without declarations says what it lacks.
    let mut old = enrolled(&house, Machine { os_version: "14.8".into(), ..Machine::iphone(2) }).await;
    old.settle().await.unwrap();
    assert_eq!(state(&house, &old, &profile).await, State::NotApplicable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_declared_profile_may_be_is_refused() {
    let house = house().await;
    let one = |content: String, more: Value| {
        let mut payload = json!({ "type": "declared-profile", "name": "p", "content": content });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        draft(Platform::MacOs, &json!([payload]))
    };
    let good = made_elsewhere("com.apple.mobiledevice.passwordpolicy", 6);
    let of_user = |document: &str| document.replacen("<dict>", "<dict><key>PayloadScope</key><string>User</string>", 1);
    let twice = |name: &str| json!({ "type": "declared-profile", "name": name, "content": good });
    for (draft, why) in [
        (one(made_elsewhere("com.apple.mdm", 6), json!({})), "com.apple.mdm cannot come"),
        (one(made_elsewhere("com.apple.declarations", 6), json!({})), "com.apple.declarations cannot come"),
        (one("no profile".into(), json!({})), "neither XML nor Base64"),
        (one(made_elsewhere("com.apple.mobiledevice.passwordpolicy", 6), json!({ "visible-name": " " })), "visible-name"),
        (one(made_elsewhere("com.apple.mobiledevice.passwordpolicy", 6), json!({ "name-of-it": "x" })), "name-of-it"),
        (one(of_user(&good), json!({})), "PayloadScope"),
        (draft(Platform::MacOs, &json!([twice("a"), twice("b")])), "twice"),
    ] {
        let refused = profile::apply(&house.server.app, draft, &by()).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_profile_takes_over_none_of_this_servers_own() {
    let house = house().await;
    let names = muster::service::apple::names(&house.server.app).await.unwrap();
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    for identifier in [names.enrollment(), names.profile(&ProfileId::new())] {
        let content = made_elsewhere("com.apple.mobiledevice.passwordpolicy", 6).replace(IDENTIFIER, &identifier);
        let payloads = json!([{ "type": "declared-profile", "name": "passcode", "content": content }]);
        let profile = house.assign(draft(Platform::MacOs, &payloads)).await;
        mac.settle().await.unwrap();
        assert_eq!(state(&house, &mac, &profile).await, State::Failed, "{identifier}");
        assert!(!mac.declarations.held.values().any(|held| held.declaration.kind == "com.apple.configuration.legacy"));
    }
}
