//! Single sign-on by the organisation's build of the extension: the profile, and the token with which a device registers
//! (platform-sso.md, tests 1 to 3, and the token's part of 5 and 6).

use muster::clock::{DAY, HOUR};
use muster::config::Config;
use muster::domain::desired::State;
use muster::domain::registration::Shown;
use muster::ids::ProfileId;
use muster::service::identity::registration::{self, Registration};
use muster::service::profile::{self, Draft};
use muster::service::{Error, Result, device};
use muster::sim::apple::{Device, Machine};
use muster::store::audit;
use muster::wire::apple::command::Command;
use muster::wire::apple::profile::Profile;
use muster::wire::plist::{Dict, Value};
use serde_json::json;

use crate::apple_enroll::{enrolled, house, live, on};
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by};

const MAC: &str = "ABCDE12345.org.example.app.sso";
const SSO: &str = "com.apple.extensiblesso";

fn configure(config: &mut Config) {
    let sso = &mut config.apple.sso;
    (sso.macos_extension, sso.ios_extension) = (MAC.into(), "ABCDE12345.org.example.phone.sso".into());
    sso.apps = vec!["ABCDE12345.org.example.app".into()];
}

async fn prepared() -> House {
    on(House::tweaked(configure).await).await
}

fn draft(platform: &str, more: &serde_json::Value) -> Draft {
    let mut payload = json!({ "type": "single-sign-on", "name": "sso" });
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let draft =
        json!({ "display_name": "Single sign-on", "kind": "configuration", "platform": platform, "document": { "payloads": [payload] } });
    Draft::parse(&draft.to_string()).unwrap()
}

/// Every profile with an extension that the device was told since it was looked at the last time.
fn told(device: &mut Device) -> Vec<Profile> {
    let bodies = device.heard.replace(Vec::new()).unwrap_or_default().into_iter().filter(|body| !body.is_empty());
    let documents = bodies.filter_map(|body| Command::decode(&body).unwrap().body.data("Payload").map(<[u8]>::to_vec));
    let profiles = documents.map(|document| Profile::decode(&document).unwrap());
    profiles.filter(|profile| profile.payloads().iter().any(|payload| payload.kind == SSO)).collect()
}

fn payload(device: &Device) -> Dict {
    device.profiles.payloads(SSO).next().unwrap().body.clone()
}

fn token(device: &Device) -> String {
    payload(device).string("RegistrationToken").unwrap().to_owned()
}

fn shown(device: &Device, key: &str) -> Shown {
    Shown { udid: device.machine.udid.clone(), key: key.into() }
}

async fn redeem(house: &House, text: &str, shown: Shown) -> Result<Registration> {
    registration::redeem(&house.server.app, text.as_bytes(), shown, "192.0.2.1").await
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal) | Error::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

/// Time goes by, in steps in which the device comes.
async fn pass(house: &House, device: &mut Device, days: i64) {
    for _ in 0..days {
        house.server.clock.advance(DAY);
        device.settle().await.unwrap();
    }
}

async fn state(house: &House, device: &Device, profile: &ProfileId) -> State {
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_is_given_platform_sso_with_this_server_in_what_its_version_knows() {
    let house = prepared().await;
    let profile = house.assign_baseline("macos-single-sign-on").await;
    let web = house.server.app.config.web_url();
    let url = format!("{}/.well-known/apple-app-site-association", house.server.web);
    let site: serde_json::Value =
        serde_json::from_slice(&house.server.client().get(&url).send().await.unwrap().bytes().await.unwrap()).unwrap();
    for (number, version) in [(1, "15.1"), (2, "14.6"), (3, "13.6"), (4, "12.6")] {
        let mut mac = enrolled(&house, Machine { os_version: version.into(), ..Machine::mac(number) }).await;
        mac.heard = Some(Vec::new());
        mac.settle().await.unwrap();
        assert_eq!(state(&house, &mac, &profile).await, State::Verified, "{version}: {:?}", mac.refusals);
        for whole in told(&mut mac) {
            let Some(schema) = schema() else { continue };
            let findings = schema.profile(&whole.to_value(), Target::mac(version));
            assert!(findings.is_empty(), "{version}: {findings:#?}");
            assert_eq!(whole.body.string("PayloadScope"), Some("System"));
        }
        let own = payload(&mac);
        let of = |key: &str| own.string(key);
        assert_eq!((of("ExtensionIdentifier"), of("TeamIdentifier")), (Some("org.example.app.sso"), Some("ABCDE12345")));
        assert_eq!((of("Type"), of("ScreenLockedBehavior")), (Some("Redirect"), Some("DoNotHandle")));
        assert_eq!(own.array("URLs").unwrap(), [Value::from(format!("{web}/").as_str())]);
        let base = format!("{web}/{}", house.server.app.tenant);
        assert_eq!(own.dict("ExtensionData").unwrap().string("BaseURL"), Some(base.as_str()));
        let old = version == "12.6";
        assert_eq!(of("AuthenticationMethod"), (!old).then_some("UserSecureEnclaveKey"));
        assert_eq!(of("RegistrationToken").map(str::len), (!old).then_some(64));
        let Some(sso) = own.dict("PlatformSSO").filter(|_| version > "14") else { continue };
        assert_eq!((sso.string("AuthenticationMethod"), sso.boolean("UseSharedDeviceKeys")), (Some("UserSecureEnclaveKey"), Some(true)));
        assert_eq!(sso.string("AccountDisplayName"), Some("Organisation account"));
        let names = sso.dict("TokenToUserMapping").unwrap();
        assert_eq!((names.string("AccountName"), names.string("FullName")), (Some("preferred_username"), Some("name")));
        // The Mac believes the profile only because the host says the same.
        let domains = mac.profiles.payloads("com.apple.associated-domains").next().unwrap().body.clone();
        let entries = domains.array("Configuration").unwrap().iter().map(|entry| entry.as_dict().unwrap());
        let apps: Vec<&str> = entries.clone().map(|entry| entry.string("ApplicationIdentifier").unwrap()).collect();
        assert_eq!(apps, ["ABCDE12345.org.example.app", MAC]);
        let host = format!("authsrv:{}", house.server.app.config.web_host());
        assert!(entries.clone().all(|entry| entry.array("AssociatedDomains").unwrap() == [Value::from(host.as_str())]));
        assert!(apps.iter().all(|app| site["authsrv"]["apps"].as_array().unwrap().contains(&json!(app))), "{site}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_and_smart_card_are_other_profiles_and_an_iphone_has_its_extension() {
    let house = prepared().await;
    let by_method = |method: &str| draft("macos", &json!({ "PlatformSSO": { "AuthenticationMethod": method } }));
    house.assign(by_method("Password")).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    assert_eq!(payload(&mac).string("AuthenticationMethod"), Some("Password"));
    let before = token(&mac);
    profile::apply(&house.server.app, by_method("SmartCard"), &by()).await.unwrap();
    mac.settle().await.unwrap();
    let own = payload(&mac);
    assert_eq!(
        (own.string("AuthenticationMethod"), own.dict("PlatformSSO").unwrap().string("AuthenticationMethod")),
        (None, Some("SmartCard"))
    );
    assert_eq!(token(&mac), before, "another version of the profile, the same token");

    // What is shown of it is all but what may be a secret.
    let whole = json!({ "EnableDirectDownloads": true, "ExtensionData": { "Key": "hunter2" }, "PlatformSSO": { "LoginFrequency": 7200 } });
    let id = profile::apply(&house.server.app, draft("macos", &whole), &by()).await.unwrap().profile.id;
    let body = profile::read(&house.server.app, &id, false, &by()).await.unwrap().document.payloads[0].body.clone();
    assert_eq!(body["EnableDirectDownloads"], json!(true));
    assert_eq!((&body["PlatformSSO"]["LoginFrequency"], &body["ExtensionData"]), (&json!(7200), &json!({ "Key": "(secret)" })));

    house.assign_baseline("ios-single-sign-on").await;
    let mut phone = enrolled(&house, Machine::iphone(2)).await;
    phone.heard = Some(Vec::new());
    phone.settle().await.unwrap();
    let told = told(&mut phone);
    if let Some(schema) = schema() {
        let findings = schema.profile(&told.last().unwrap().to_value(), Target::iphone("18.1"));
        assert!(findings.is_empty(), "{findings:#?}");
    }
    let own = payload(&phone);
    assert_eq!((own.string("ExtensionIdentifier"), own.string("TeamIdentifier")), (Some("org.example.phone.sso"), None));
    assert!(own.dict("PlatformSSO").is_none() && own.string("RegistrationToken").is_none());
    let text = own.dict("ExtensionData").unwrap().string("RegistrationToken").unwrap().to_owned();
    let whose = redeem(&house, &text, shown(&phone, "k")).await.unwrap();
    assert_eq!(whose.enrollment, live(&house, &phone.machine.udid).await.unwrap().id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_is_not_configured_is_refused_and_says_what_to_set() {
    let house = house().await;
    for platform in ["macos", "ios"] {
        let refused = profile::apply(&house.server.app, draft(platform, &json!({})), &by()).await.unwrap_err();
        assert!(refused.to_string().contains("apple.sso.macos_extension"), "{refused}");
        assert_eq!(code::<()>(Err(refused)), "PRF0013");
    }
    let house = prepared().await;
    let user = json!({ "display_name": "x", "kind": "configuration", "platform": "macos",
        "document": { "scope": "user", "payloads": [{ "type": "single-sign-on", "name": "sso" }] } });
    assert_eq!(code(profile::apply(&house.server.app, Draft::parse(&user.to_string()).unwrap(), &by()).await), "PRF0005");
    let fixed = draft("macos", &json!({ "TeamIdentifier": "ABCDE12345" }));
    assert_eq!(code(profile::apply(&house.server.app, fixed, &by()).await), "PRF0005");
    let grace = json!({ "PlatformSSO": { "AuthenticationMethod": "Password", "LoginPolicy": ["AllowOfflineGracePeriod"] } });
    assert_eq!(code(profile::apply(&house.server.app, draft("macos", &grace), &by()).await), "PRF0005");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_gets_what_its_next_version_knows_with_the_next_look() {
    let house = prepared().await;
    let profile = house.assign(draft("macos", &json!({}))).await;
    house.assign_baseline("macos-trusted-root").await;
    let mut mac = enrolled(&house, Machine { os_version: "13.6".into(), ..Machine::mac(1) }).await;
    mac.settle().await.unwrap();
    let (before, first) = (mac.ran["InstallProfile"], token(&mac));
    assert!(payload(&mac).dict("PlatformSSO").is_none());
    mac.machine.os_version = "14.6".into();
    pass(&house, &mut mac, 2).await;
    assert!(payload(&mac).dict("PlatformSSO").is_some());
    assert_eq!((mac.ran["InstallProfile"], token(&mac)), (before + 1, first), "what says the same on both stays");
    assert_eq!(state(&house, &mac, &profile).await, State::Verified);
    mac.machine.os_version = "14.7".into();
    pass(&house, &mut mac, 3).await;
    assert_eq!(mac.ran["InstallProfile"], before + 1);
}

/// What macOS takes and never does, or Apple's schema refuses, with the place that the refusal names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_platform_sso_cannot_do_is_refused_when_the_profile_is_saved() {
    let house = prepared().await;
    let groups: Vec<String> = (0..101).map(|at| format!("g{at}")).collect();
    for (sso, at) in [
        (
            json!({ "EnableCreateUserAtLogin": true, "UseSharedDeviceKeys": false, "AuthenticationMethod": "Password" }),
            "EnableCreateUserAtLogin",
        ),
        (json!({ "EnableAuthorization": true, "UseSharedDeviceKeys": false }), "EnableAuthorization"),
        (json!({ "EnableCreateUserAtLogin": true }), "EnableCreateUserAtLogin"),
        (json!({ "LoginFrequency": 3599 }), "LoginFrequency"),
        (
            json!({ "AuthenticationMethod": "Password", "LoginPolicy": ["AttemptAuthentication", "AllowOfflineGracePeriod"] }),
            "OfflineGracePeriod",
        ),
        (json!({ "LoginPolicy": ["RequireAuthentication"] }), "LoginPolicy"),
        (json!({ "AdministratorGroups": groups }), "AdministratorGroups"),
        (json!({ "AuthenticationMethod": "OpenID" }), "AuthenticationMethod"),
        (json!({ "Nothing": 1 }), "Nothing"),
    ] {
        let refused = profile::apply(&house.server.app, draft("macos", &json!({ "PlatformSSO": sso })), &by()).await.unwrap_err();
        assert!(refused.to_string().contains(&format!("PlatformSSO/{at}: ")), "{at}: {refused}");
        assert_eq!(code::<()>(Err(refused)), "PRF0005");
    }
    for url in ["https://idp.example.org/?q=1", "https://idp.example.org/#f", "idp.example.org"] {
        let payload = json!({ "type": SSO, "name": "sso", "ExtensionIdentifier": "x", "TeamIdentifier": "ABCDE12345", "Type": "Redirect", "URLs": [url] });
        let draft = json!({ "display_name": "x", "kind": "configuration", "platform": "macos", "document": { "payloads": [payload] } });
        let refused = profile::apply(&house.server.app, Draft::parse(&draft.to_string()).unwrap(), &by()).await.unwrap_err();
        assert!(refused.to_string().contains("URLs: "), "{refused}");
        assert_eq!(code::<()>(Err(refused)), "PRF0005");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_device_has_a_token_of_its_own_that_stays_until_it_is_used_or_old() {
    let house = prepared().await;
    let profile = house.assign(draft("macos", &json!({}))).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    let mut other = enrolled(&house, Machine::mac(2)).await;
    for device in [&mut mac, &mut other] {
        device.heard = Some(Vec::new());
        device.settle().await.unwrap();
        assert_eq!(told(device).len(), 1);
    }
    let first = token(&mac);
    assert_ne!(first, token(&other));
    // Nothing is delivered again by coming often, nor by looks at the profile.
    pass(&house, &mut mac, 18).await;
    assert_eq!(told(&mut mac).len(), 0, "it is not old yet");
    // Somebody took the profile away: it comes back with the same token.
    let identifier = mac
        .profiles
        .iter()
        .find(|own| own.profile.payloads().iter().any(|payload| payload.kind == SSO))
        .unwrap()
        .profile
        .identifier
        .clone();
    assert!(mac.profiles.remove(&identifier));
    pass(&house, &mut mac, 1).await;
    assert_eq!((told(&mut mac).len(), token(&mac)), (1, first.clone()));
    // Two thirds of its life are over.
    pass(&house, &mut mac, 2).await;
    assert_eq!(told(&mut mac).len(), 1);
    let second = token(&mac);
    assert_ne!(second, first);
    // It is used: another one follows, once.
    redeem(&house, &second, shown(&mac, "key")).await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(told(&mut mac).len(), 0, "not at once");
    pass(&house, &mut mac, 2).await;
    assert_eq!(told(&mut mac).len(), 1);
    let third = token(&mac);
    assert_ne!(third, second);
    pass(&house, &mut mac, 3).await;
    assert_eq!(told(&mut mac).len(), 0);
    assert_eq!(state(&house, &mac, &profile).await, State::Verified);
    // Who enrols again has another token, and the old one is worth nothing.
    let mut again = enrolled(&house, Machine::mac(1)).await;
    again.settle().await.unwrap();
    assert_ne!(token(&again), third);
    assert_eq!(code(redeem(&house, &third, shown(&again, "key")).await), "REG0005");
    redeem(&house, &token(&again), shown(&again, "key")).await.unwrap();
    // Nobody reads a token anywhere.
    let app = &house.server.app;
    let read = profile::read(app, &profile, true, &by()).await.unwrap();
    assert!(!serde_json::to_string(&read.document).unwrap().contains("RegistrationToken"));
    let rows = app.store.read(|c| audit::list(c, 0, 10_000)).await.unwrap();
    let log: String = rows.iter().flat_map(|row| [row.before.clone(), row.after.clone()]).flatten().collect();
    assert!(rows.iter().any(|row| row.action == "registration.token") && rows.iter().any(|row| row.action == "registration.redeem"));
    for text in [first, second, third] {
        assert!(!log.contains(&text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_once_for_one_device_and_each_refusal_has_its_name() {
    let house = prepared().await;
    let profile = house.assign(draft("macos", &json!({}))).await;
    let mut macs = Vec::new();
    for number in 1..=5 {
        let mut mac = enrolled(&house, Machine::mac(number)).await;
        mac.settle().await.unwrap();
        macs.push(mac);
    }
    let text = token(&macs[0]);
    // Unknown: garbage, another length, a bit less, and what nobody here made.
    let mut altered = text.clone();
    altered.replace_range(40..41, if &text[40..41] == "A" { "B" } else { "A" });
    for wrong in ["", "garbage", &text[..63], &format!("{text}AAAA"), &altered, &"A".repeat(64)] {
        assert_eq!(code(redeem(&house, wrong, shown(&macs[0], "key")).await), "REG0001", "{wrong}");
    }
    // Another device shows it: it stays good for the one that it is for.
    assert_eq!(code(redeem(&house, &text, shown(&macs[1], "key")).await), "REG0004");
    let lower = Shown { udid: macs[0].machine.udid.to_lowercase(), key: "key".into() };
    let whose = redeem(&house, &text, lower).await.unwrap();
    let enrollment = live(&house, &macs[0].machine.udid).await.unwrap();
    let expected = Registration { device: enrollment.device_id, enrollment: enrollment.id, user: Some(house.user.clone()), again: false };
    assert_eq!(whose, expected);
    // The answer got lost, and the device asks once more; another key is another registration.
    assert_eq!(redeem(&house, &text, shown(&macs[0], "key")).await.unwrap(), Registration { again: true, ..expected });
    assert_eq!(code(redeem(&house, &text, shown(&macs[0], "another key")).await), "REG0003");
    // Two come at once: one of them is the first.
    let race = token(&macs[1]);
    let (one, two) = tokio::join!(redeem(&house, &race, shown(&macs[1], "a")), redeem(&house, &race, shown(&macs[1], "b")));
    assert_eq!(code(if one.is_ok() { two } else { one }), "REG0003");
    // Retired: from the order on, not only when the device has left.
    let gone = token(&macs[2]);
    let id = live(&house, &macs[2].machine.udid).await.unwrap().device_id;
    device::retire(&house.server.app, &id, "cli:test", "local").await.unwrap();
    assert_eq!(code(redeem(&house, &gone, shown(&macs[2], "key")).await), "REG0005");
    macs[2].settle().await.unwrap();
    assert_eq!(code(redeem(&house, &gone, shown(&macs[2], "key")).await), "REG0005");
    // Expired, to the moment.
    let late = token(&macs[3]);
    house.server.clock.advance(30 * DAY);
    assert_eq!(code(redeem(&house, &late, shown(&macs[3], "key")).await), "REG0002");
    assert_eq!(code(redeem(&house, &text, shown(&macs[0], "key")).await), "REG0002", "nor once more");
    // The profile is not wanted any more: neither is its token.
    let taken = token(&macs[4]);
    house.server.clock.advance(-29 * DAY);
    profile::delete(&house.server.app, &profile, &by()).await.unwrap();
    macs[4].settle().await.unwrap();
    house.server.clock.advance(HOUR);
    macs[4].settle().await.unwrap();
    assert_eq!(macs[4].profiles.payloads(SSO).count(), 0);
    assert_eq!(code(redeem(&house, &taken, shown(&macs[4], "key")).await), "REG0001");
}
