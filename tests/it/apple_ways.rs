//! What is written as a declaration reaches devices that have none, and goes over to declarations with the device; and what two profiles
//! cannot both say.

use muster::clock::{DAY, HOUR};
use muster::domain::Refusal;
use muster::domain::desired::State;
use muster::domain::device::Platform;
use muster::ids::{DeviceId, ProfileId};
use muster::service::Error;
use muster::service::profile::{self, Draft};
use muster::sim::apple::{Device, Machine};
use muster::wire::apple::command::Command;
use muster::wire::apple::ddm::Kind;
use muster::wire::apple::profile::Profile;
use muster::wire::plist::Value;

use crate::apple_enroll::{enrolled, house, live, on};
use crate::support::apple::Account;
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by};

const UPDATE: &str = "com.apple.configuration.softwareupdate.enforcement.specific";

fn draft(name: &str, payload: &str) -> Draft {
    let text = format!("display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"macos\"\n[[document.payloads]]\n{payload}");
    Draft::parse(&text).unwrap()
}

async fn records(house: &House, device: &DeviceId, profile: &ProfileId) -> Vec<(String, State)> {
    let item = house.items(device).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item;
    let word = |key: &String| key.split(':').next().unwrap().to_owned();
    item.detail.records.iter().map(|(key, record)| (word(key), record.state)).collect()
}

/// Holds the commands of that type against Apple's schema, and the profiles in them.
fn judge(device: &mut Device, request: &str, target: Target) {
    let heard = device.heard.replace(Vec::new()).unwrap();
    let commands: Vec<Command> = heard.iter().filter(|heard| !heard.is_empty()).map(|heard| Command::decode(heard).unwrap()).collect();
    let mut judged = 0;
    for command in commands.iter().filter(|command| command.request_type == request) {
        judged += 1;
        let Some(schema) = schema() else { continue };
        let mut findings = schema.command(&command.to_value(), target);
        if let Some(document) = command.body.data("Payload") {
            findings.extend(schema.profile(&Profile::decode(document).unwrap().to_value(), target));
        }
        assert!(findings.is_empty(), "{findings:#?}");
    }
    assert!(judged > 0, "{request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_passcode_is_a_profile_until_the_mac_knows_declarations() {
    let house = on(House::new().await).await;
    let passcode = "type = \"com.apple.configuration.passcode.settings\"\nname = \"passcode\"\nMinimumLength = 8\nRequirePasscode = true\n";
    let profile = house.assign(draft("passcode", passcode)).await;
    let mut mac = enrolled(&house, Machine { os_version: "12.6".into(), ..Machine::mac(1) }).await;
    let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    judge(&mut mac, "InstallProfile", Target::mac("12.6"));
    assert_eq!(mac.profiles.payloads("com.apple.mobiledevice.passwordpolicy").count(), 1);
    assert_eq!(mac.ran.get("DeclarativeManagement"), None);
    assert_eq!(records(&house, &id, &profile).await, [("profile".to_owned(), State::Verified)]);

    mac.machine.os_version = "15.1".into();
    house.server.clock.advance(9 * HOUR);
    mac.settle().await.unwrap();
    house.server.clock.advance(DAY);
    mac.settle().await.unwrap();
    assert_eq!(mac.profiles.payloads("com.apple.mobiledevice.passwordpolicy").count(), 0);
    let declared = mac.declarations.held.values().any(|held| held.declaration.kind == "com.apple.configuration.passcode.settings");
    assert!(declared && mac.declarations.held.keys().any(|(kind, _)| *kind == Kind::Activation));
    assert_eq!(records(&house, &id, &profile).await, [("declarations".to_owned(), State::Verified)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enforced_update_is_ordered_where_it_cannot_be_declared() {
    let house = on(House::new().await).await;
    let moment = house.server.app.now().plus(2 * DAY).to_string();
    let moment = moment.split(['.', 'Z']).next().unwrap().to_owned();
    let update = format!(
        "type = \"com.apple.configuration.softwareupdate.enforcement.specific\"\nname = \"update\"\nTargetOSVersion = \"60.0\"\nTargetLocalDateTime = \"{moment}\"\n"
    );
    let profile = house.assign(draft("update", &update)).await;
    let mut mac = enrolled(&house, Machine { os_version: "13.6".into(), ..Machine::mac(1) }).await;
    let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    assert_eq!(mac.settings.updates, ["60.0 InstallLater"]);
    assert_eq!(records(&house, &id, &profile).await, [("update".to_owned(), State::Delivered)]);
    mac.settle().await.unwrap();
    assert_eq!(mac.settings.updates.len(), 1, "not again and again");
    house.server.clock.advance(3 * DAY);
    mac.settle().await.unwrap();
    assert_eq!(mac.settings.updates[1], "60.0 InstallForceRestart");
    judge(&mut mac, "ScheduleOSUpdate", Target::mac("13.6"));

    // A Mac that knows the declaration gets that and no command.
    let mut newer = enrolled(&house, Machine::mac(2)).await;
    newer.settle().await.unwrap();
    assert_eq!(newer.ran.get("ScheduleOSUpdate"), None);
    let kinds: Vec<&str> = newer.declarations.held.values().map(|held| held.declaration.kind.as_str()).collect();
    assert!(kinds.contains(&"com.apple.configuration.softwareupdate.enforcement.specific"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_enforced_updates_the_first_holds_and_the_other_is_said_to_be_in_conflict() {
    let house = on(House::new().await).await;
    let moment = house.server.app.now().plus(2 * DAY).to_string();
    let moment = moment.split(['.', 'Z']).next().unwrap().to_owned();
    let update = |version: &str, moment: &str| {
        format!("type = \"{UPDATE}\"\nname = \"update\"\nTargetOSVersion = \"{version}\"\nTargetLocalDateTime = \"{moment}\"\n")
    };
    let first = house.assign(draft("first", &update("16.1", &moment))).await;
    let second = house.assign(draft("second", &update("16.2", &moment))).await;
    for (n, os) in [(1, "13.6"), (2, "15.1")] {
        let mut mac = enrolled(&house, Machine { os_version: os.into(), ..Machine::mac(n) }).await;
        mac.settle().await.unwrap();
        let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
        let told: Vec<String> =
            mac.declarations.held.values().filter_map(|held| Some(held.declaration.payload.get("TargetOSVersion")?.to_string())).collect();
        assert_eq!((told.len(), mac.settings.updates.len()), if os == "15.1" { (1, 0) } else { (0, 1) });
        assert!(told.iter().chain(&mac.settings.updates).all(|told| told.contains("16.1")), "{told:?}");
        assert!(records(&house, &id, &first).await.iter().all(|(_, state)| matches!(state, State::Verified | State::Delivered)));
        assert_eq!(records(&house, &id, &second).await, [("update".to_owned(), State::Conflict)]);
    }
    // A moment that is past is taken, and said.
    let past = profile::apply(&house.server.app, draft("third", &update("16.3", "2020-12-24T20:00:00")), &by()).await.unwrap();
    assert!(past.remarks.len() == 1 && past.remarks[0].contains("TargetLocalDateTime"), "{:?}", past.remarks);
    for (version, at) in
        [("soon", &*moment), ("fifteen", &*moment), ("99.0", &*moment), ("15", &*moment), ("15.2.1.1.1", &*moment)].into_iter().chain(
            ["tomorrow", "2026-13-01T00:00:00", "24.12.2026", "2026-12-24T20:00:00Z", "2026-12-24T20:00:00+01:00", "2026-12-24"]
                .map(|at| ("16.1", at)),
        )
    {
        match profile::apply(&house.server.app, draft("wrong", &update(version, at)), &by()).await {
            Err(Error::Invalid(Refusal::ProfilePayloadRefused, why)) => {
                let format = if at == moment { "a version of two or three numbers" } else { "yyyy-mm-ddThh:mm:ss" };
                assert!(why.contains(format), "{why}");
            }
            other => panic!("{version} {at}: {other:?}"),
        }
    }
}

fn sso(name: &str, url: &str, more: &serde_json::Value) -> Draft {
    let mut payload = serde_json::json!({ "type": "com.apple.extensiblesso", "name": "sso", "ExtensionIdentifier": "org.example.sso",
        "TeamIdentifier": "ABCDE12345", "Type": "Redirect", "URLs": [url] });
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let document = serde_json::from_value(serde_json::json!({ "payloads": [payload] })).unwrap();
    Draft { display_name: name.into(), kind: muster::domain::profile::Kind::Configuration, platform: Platform::MacOs, document }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_sign_on_profile_keeps_places_and_types_and_no_address_has_two_extensions() {
    let house = house().await;
    let platform = serde_json::json!({
        "RegistrationToken": "{{DEVICEREGISTRATION}}",
        "ExtensionData": { "browser_sso_interaction_enabled": 1, "enable_se_key_biometric_policy": true },
        "PlatformSSO": { "AuthenticationMethod": "UserSecureEnclaveKey", "UseSharedDeviceKeys": true },
    });
    let first = house.assign(sso("first", "HTTPS://IDP.example.org/", &platform)).await;
    let second = house.assign(sso("second", "https://idp.example.org", &serde_json::json!({}))).await;
    let mut mac = enrolled(&house, Machine { os_version: "14.6".into(), ..Machine::mac(1) }).await;
    mac.settle().await.unwrap();
    let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
    let item = async |profile: &ProfileId| {
        let profile = profile.clone();
        house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == profile).unwrap().item
    };
    assert_eq!(item(&first).await.state, State::Verified);
    let payload = mac.profiles.payloads("com.apple.extensiblesso").next().unwrap().body.clone();
    assert_eq!(payload.string("RegistrationToken"), Some("{{DEVICEREGISTRATION}}"));
    let own = payload.dict("PlatformSSO").unwrap();
    assert_eq!((own.string("AuthenticationMethod"), own.boolean("UseSharedDeviceKeys")), (Some("UserSecureEnclaveKey"), Some(true)));
    let data = payload.dict("ExtensionData").unwrap();
    assert_eq!(data.get("browser_sso_interaction_enabled"), Some(&Value::Integer(1)));
    assert_eq!(data.get("enable_se_key_biometric_policy"), Some(&Value::Boolean(true)));
    let whole = mac.profiles.iter().find(|installed| installed.profile.payloads()[0].kind == "com.apple.extensiblesso").unwrap();
    assert_eq!(whole.profile.body.string("PayloadScope"), Some("System"));
    // The other one waits for the first to go.
    let waits = item(&second).await;
    let why = waits.detail.records.values().next().unwrap().original_error.clone().unwrap();
    assert_eq!(waits.state, State::Failed);
    assert!(why.contains("the profile first answers for https://idp.example.org/ already"), "{why}");
    assert!(mac.refusals.is_empty(), "it was not even tried: {:?}", mac.refusals);
    profile::delete(&house.server.app, &first, &by()).await.unwrap();
    mac.settle().await.unwrap();
    house.server.clock.advance(25 * HOUR);
    mac.settle().await.unwrap();
    assert_eq!(item(&second).await.state, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_extension_reaches_systems_that_have_the_declaration_and_holds_its_addresses() {
    const KIND: &str = "com.apple.configuration.extensible-sso";
    let house = house().await;
    let declared = |identifier: &str, policy: &str| {
        let payload = serde_json::json!({
            "type": KIND, "name": "sso", "ExtensionComposedIdentifier": identifier, "Type": "Redirect", "URLs": ["https://idp.example.org/"],
            "PlatformSSO": {
                "AuthenticationMethod": "Password", "RegistrationToken": "{{DEVICEREGISTRATION}}", "UseSharedDeviceKeys": true,
                "Account": { "DisplayName": "Organisation" }, "Policies": { "Login": [policy] },
                "UserCreation": { "EnableAtLogin": true, "TokenToUserMapping": { "AccountName": "preferred_username" } },
            },
        });
        let document = serde_json::from_value(serde_json::json!({ "payloads": [payload] })).unwrap();
        Draft { display_name: "declared".into(), kind: muster::domain::profile::Kind::Configuration, platform: Platform::MacOs, document }
    };
    let first = house.assign(declared("org.example.sso (ABCDE12345)", "AttemptAuthentication")).await;
    let second = house.assign(sso("second", "https://IDP.example.org", &serde_json::json!({}))).await;
    let mut mac = enrolled(&house, Machine { os_version: "27.0".into(), ..Machine::mac(1) }).await;
    mac.settle().await.unwrap();
    let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
    assert_eq!(records(&house, &id, &first).await, [("declarations".to_owned(), State::Verified)]);
    let held = mac.declarations.held.values().find(|held| held.declaration.kind == KIND).unwrap();
    assert_eq!(held.declaration.payload["PlatformSSO"]["Policies"]["Login"][0], "AttemptAuthentication");
    if let Some(schema) = schema() {
        assert_eq!(schema.declaration(&serde_json::to_value(&held.declaration).unwrap(), Target::mac("27.0")), [""; 0]);
    }
    assert_eq!(records(&house, &id, &second).await, [("profile".to_owned(), State::Failed)], "one address, two extensions");
    assert_eq!(mac.profiles.payloads("com.apple.extensiblesso").count(), 0);

    let mut older = enrolled(&house, Machine { os_version: "26.1".into(), ..Machine::mac(2) }).await;
    older.settle().await.unwrap();
    let id = live(&house, &older.machine.udid).await.unwrap().device_id;
    assert_eq!(records(&house, &id, &first).await, [("declarations".to_owned(), State::NotApplicable)]);
    assert!(older.declarations.held.values().all(|held| held.declaration.kind != KIND));

    let app = &house.server.app;
    match profile::apply(app, declared("org.example.sso", "AttemptAuthentication"), &by()).await {
        Err(Error::Invalid(Refusal::ProfilePayloadRefused, why)) => assert!(why.contains("ExtensionComposedIdentifier"), "{why}"),
        other => panic!("{other:?}"),
    }
    let risky = profile::apply(app, declared("org.example.sso (ABCDE12345)", "RequireAuthentication"), &by()).await.unwrap();
    assert!(risky.remarks.len() == 1 && risky.remarks[0].contains("NonPlatformSSOAccounts"), "{:?}", risky.remarks);
}
