//! Applications by declaration: where a device has them, what it says of them, how it goes over from commands without installing anything
//! again, and how they go.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::apple::content::app::{MANAGED, PACKAGE};
use muster::domain::assignment::{Mode, Target};
use muster::domain::desired::{Record, State};
use muster::ids::{DeviceId, ProfileId};
use muster::secret::Secret;
use muster::service::apple::licences;
use muster::service::apple::packages::{self, New};
use muster::service::profile::{self, Draft};
use muster::sim::apple::apps::User;
use muster::sim::apple::{Device, Machine};
use muster::wire::apple::ddm::{Kind, Valid};
use serde_json::{Value, json};

use crate::apple_apps::{BUNDLE, add, draft, enrolled, file, later, new, record, state};
use crate::apple_enroll::{live, on};
use crate::support::apple_schema::{Target as SchemaTarget, schema};
use crate::support::books::{self, Books, STORE_ID};
use crate::support::windows::{House, by};

fn of(machine: Machine, version: &str) -> Machine {
    Machine { os_version: version.into(), ..machine }
}

/// The declarations of applications that the device has, held against Apple's schema.
fn declared(device: &Device, target: SchemaTarget) -> Vec<(String, Value)> {
    let kinds = [MANAGED, PACKAGE, "com.apple.asset.data"];
    let held = device.declarations.held.values().filter(|held| kinds.contains(&held.declaration.kind.as_str()));
    held.map(|held| {
        assert_eq!(held.status.valid, Valid::Valid, "{:?}", held.status);
        if let Some(schema) = schema() {
            let findings = schema.declaration(&serde_json::to_value(&held.declaration).unwrap(), target);
            assert!(findings.is_empty(), "{findings:#?}");
        }
        (held.declaration.kind.clone(), Value::Object(held.declaration.payload.clone()))
    })
    .collect()
}

/// What installs and removes by command.
const COMMANDS: [&str; 3] = ["InstallApplication", "InstallEnterpriseApplication", "RemoveApplication"];

fn commands(device: &Device) -> u32 {
    COMMANDS.iter().filter_map(|name| device.ran.get(*name)).sum()
}

async fn unassign(house: &House, profile: &ProfileId) {
    profile::unassign(&house.server.app, profile, Mode::Include, Target::AllDevices, &by()).await.unwrap();
}

/// The device learns which version it has by now.
async fn updated(house: &House, device: &mut Device, version: &str) {
    device.machine.os_version = version.into();
    later(house, device, 9 * HOUR).await;
    later(house, device, MINUTE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_iphone_keeps_what_is_declared_with_its_configuration_and_says_so() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let text = "package = \"broker\"\nbackup = false\nconfiguration = { serial = \"{{SerialNumber}}\" }\n";
    let wanted = house.assign(draft("ios", "broker", text)).await;
    let (mut phone, id) = enrolled(&house, of(Machine::iphone(1), "18.4"), None).await;
    phone.settle().await.unwrap();
    let record = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((record.state, record.tries), (State::Verified, 0), "at once: it tells by itself");
    assert_eq!((commands(&phone), phone.ran.get("ManagedApplicationList"), phone.apps.downloads), (0, None, 1));
    let app = &phone.apps.installed[BUNDLE];
    assert_eq!(app.configuration.as_ref().unwrap().string("serial"), Some(phone.machine.serial.as_str()));
    let all = declared(&phone, SchemaTarget::iphone("18.4"));
    assert_eq!(all.len(), 2);
    let (_, body) = all.iter().find(|(kind, _)| kind == MANAGED).unwrap();
    assert_eq!((&body["IncludeInBackup"], &body["InstallBehavior"]["Install"]), (&json!(false), &json!("Required")));
    assert_eq!(body.get("UpdateBehavior"), None, "this version has no such key");

    // What its user takes away is noticed without a look at it, and comes back.
    phone.apps.uninstall(BUNDLE);
    phone.settle().await.unwrap();
    phone.settle().await.unwrap();
    assert!(phone.apps.installed.contains_key(BUNDLE));
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));

    // Another package: another declaration at the same address.
    packages::add(&house.server.app, file(b"PK\x03\x04", 5000).path(), New { replace: true, ..new("1.1") }, "cli:test", "local")
        .await
        .unwrap();
    phone.settle().await.unwrap();
    assert_eq!(phone.apps.installed[BUNDLE].version, "1.1");
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));

    unassign(&house, &wanted).await;
    phone.settle().await.unwrap();
    assert_eq!((phone.apps.installed.len(), state(&house, &id, &wanted).await, commands(&phone)), (0, None, 0));
    assert!(declared(&phone, SchemaTarget::iphone("18.4")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_says_no_is_asked_again_with_another_declaration_and_not_for_ever() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let wanted = house.assign(draft("ios", "broker", "package = \"broker\"\n")).await;
    let (mut phone, id) = enrolled(&house, Machine::iphone(1), None).await;
    phone.apps.user = User::Waits;
    phone.settle().await.unwrap();
    later(&house, &mut phone, HOUR).await;
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Delivered), "the user is still being asked");
    phone.apps.user = User::Refuses;
    phone.settle().await.unwrap();
    let refused = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((refused.state, refused.original_error.as_deref()), (State::Pending, Some("Error.UserRejected")));
    let token = |phone: &Device| {
        let held = phone.declarations.held.values().find(|held| held.declaration.kind == MANAGED).unwrap();
        held.declaration.server_token.clone()
    };
    let before = token(&phone);
    later(&house, &mut phone, 10 * MINUTE).await;
    assert_ne!(token(&phone), before);
    for _ in 0..20 {
        later(&house, &mut phone, 10 * HOUR).await;
    }
    let given_up = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((given_up.state, given_up.original_error.as_deref()), (State::Failed, Some("Error.UserRejected")));
    phone.apps.user = User::Agrees;
    profile::apply(&house.server.app, draft("ios", "broker", "package = \"broker\"\nbackup = false\n"), &by()).await.unwrap();
    phone.settle().await.unwrap();
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_gets_the_package_and_then_the_application_in_it_to_keep() {
    let house = on(House::new().await).await;
    add(&house, b"xar!", 3000, new("1.0")).await.unwrap();
    let text = "package = \"broker\"\nteam-id = \"ABCDE12345\"\n";
    let wanted = house.assign(draft("macos", "broker", text)).await;
    let (mut mac, id) = enrolled(&house, of(Machine::mac(1), "26.0"), None).await;
    mac.settle().await.unwrap();
    assert_eq!(state(&house, &id, &wanted).await, Some(State::Verified));
    let all = declared(&mac, SchemaTarget::mac("26.0"));
    assert_eq!(all.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), [MANAGED, PACKAGE]);
    assert_eq!(all[0].1["AppComposedIdentifier"], format!("{BUNDLE} (ABCDE12345)"));
    assert_eq!((commands(&mac), mac.apps.downloads, mac.apps.installed[BUNDLE].managed), (0, 1, true));
    unassign(&house, &wanted).await;
    mac.settle().await.unwrap();
    assert_eq!((mac.apps.installed.len(), state(&house, &id, &wanted).await), (0, None));
    // A Mac that is not supervised does not have them: what it says that it can do decides, and commands do.
    let wanted = house.assign(draft("macos", "again", text)).await;
    let machine = Machine { supervised: false, ..of(Machine::mac(2), "26.0") };
    let (mut other, id) = enrolled(&house, machine, None).await;
    other.settle().await.unwrap();
    for _ in 0..3 {
        later(&house, &mut other, 6 * MINUTE).await;
    }
    assert_eq!((state(&house, &id, &wanted).await, other.ran["InstallEnterpriseApplication"]), (Some(State::Verified), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_system_takes_applications_over_without_installing_them_again() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let phones = house.assign(draft("ios", "phones", "package = \"broker\"\n")).await;
    let (mut phone, id) = enrolled(&house, of(Machine::iphone(1), "17.0"), None).await;
    phone.settle().await.unwrap();
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!((state(&house, &id, &phones).await, commands(&phone), phone.apps.downloads), (Some(State::Verified), 1, 1));
    updated(&house, &mut phone, "18.1").await;
    assert_eq!(state(&house, &id, &phones).await, Some(State::Verified));
    assert_eq!(declared(&phone, SchemaTarget::iphone("18.1")).len(), 1);
    assert_eq!((commands(&phone), phone.apps.downloads, phone.apps.installed[BUNDLE].managed), (1, 1, true), "nothing was installed again");
    assert!(phone.refusals.is_empty(), "{:?}", phone.refusals);

    // What only commands can say takes it back to them.
    profile::apply(&house.server.app, draft("ios", "phones", "package = \"broker\"\nkeep = true\n"), &by()).await.unwrap();
    phone.settle().await.unwrap();
    later(&house, &mut phone, 6 * MINUTE).await;
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!((state(&house, &id, &phones).await, commands(&phone)), (Some(State::Verified), 2));
    assert!(declared(&phone, SchemaTarget::iphone("18.1")).is_empty());
    unassign(&house, &phones).await;
    phone.settle().await.unwrap();
    assert_eq!((phone.apps.installed.len(), state(&house, &id, &phones).await), (1, None), "it stays, as the profile said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_is_gone_when_the_newer_system_shows_is_removed_as_it_came() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let wanted = house.assign(draft("ios", "broker", "package = \"broker\"\n")).await;
    let (mut phone, id) = enrolled(&house, of(Machine::iphone(1), "17.0"), None).await;
    phone.settle().await.unwrap();
    phone.machine.os_version = "18.1".into();
    unassign(&house, &wanted).await;
    later(&house, &mut phone, 9 * HOUR).await;
    assert_eq!((phone.apps.installed.len(), state(&house, &id, &wanted).await), (0, None));
    assert_eq!(phone.ran["RemoveApplication"], 1);
}

/// The profile with which devices get the application of the store.
fn store(platform: &str) -> Draft {
    let text = format!(
        "display_name = \"store\"\nkind = \"configuration\"\nplatform = \"{platform}\"\n[[document.payloads]]\ntype = \"store-app\"\nname = \"app\"\nbundle-id = \"{}\"\nstore-id = {STORE_ID}\n",
        books::BUNDLE
    );
    Draft::parse(&text).unwrap()
}

async fn of_store(house: &House, device: &DeviceId, profile: &ProfileId) -> Option<Record> {
    let item = house.items(device).await.into_iter().find(|loaded| loaded.item.profile_id == *profile)?.item;
    item.detail.records.get(&format!("app:{}", books::BUNDLE)).cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_licence_comes_before_the_declaration_and_goes_after_it() {
    let books = Books::start(10).await;
    let house = crate::apple_licences::house(&books).await;
    licences::import(&house.server.app, &Secret::new(books.token.as_bytes().to_vec()), false, "cli:test", "local").await.unwrap();
    for (machine, version, platform, key) in [
        (Machine::iphone(1), "17.4", "ios", "VPPType"),
        (Machine::iphone(2), "18.1", "ios", "Assignment"),
        (Machine::mac(1), "26.0", "macos", "Assignment"),
    ] {
        let target = if platform == "ios" { SchemaTarget::iphone(version) } else { SchemaTarget::mac(version) };
        let wanted = house.assign(store(platform)).await;
        let (mut device, id) = enrolled(&house, of(machine, version), None).await;
        device.apps.shop = Some(books.shop.clone());
        device.settle().await.unwrap();
        assert!(declared(&device, target).is_empty(), "no licence yet");
        for _ in 0..3 {
            licences::work(&house.server.app).await.unwrap();
        }
        assert_eq!(books.held(), 1);
        later(&house, &mut device, 3 * MINUTE).await;
        assert_eq!(of_store(&house, &id, &wanted).await.unwrap().state, State::Verified, "{platform} {version}");
        let all = declared(&device, target);
        assert_eq!(all[0].1["InstallBehavior"]["License"], json!({ key: "Device" }));
        assert_eq!((all[0].1["AppStoreID"].as_str(), commands(&device)), (Some(STORE_ID.to_string().as_str()), 0));
        profile::delete(&house.server.app, &wanted, &by()).await.unwrap();
        device.settle().await.unwrap();
        assert!(device.apps.installed.is_empty() && of_store(&house, &id, &wanted).await.is_none());
        for _ in 0..3 {
            licences::work(&house.server.app).await.unwrap();
        }
        assert_eq!(books.held(), 0);
        device.leave().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_stays_when_another_profile_asks_for_it_or_its_package_is_taken_away() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 3000, new("1.0")).await.unwrap();
    let first = house.assign(draft("ios", "first", "package = \"broker\"\n")).await;
    let second = house.assign(draft("ios", "second", "package = \"broker\"\n")).await;
    let (mut phone, id) = enrolled(&house, Machine::iphone(1), None).await;
    phone.settle().await.unwrap();
    let (one, two) = (state(&house, &id, &first).await, state(&house, &id, &second).await);
    assert_eq!((one, two, phone.apps.downloads), (Some(State::Verified), Some(State::Verified), 1));
    let names = |phone: &Device| -> Vec<String> {
        let held =
            phone.declarations.held.iter().filter(|((kind, _), held)| *kind == Kind::Configuration && held.declaration.kind == MANAGED);
        held.map(|((_, name), held)| format!("{name} {}", held.declaration.server_token)).collect()
    };
    let before = names(&phone);
    profile::delete(&house.server.app, &first, &by()).await.unwrap();
    phone.settle().await.unwrap();
    // Nobody may take it away while a profile names it; it is gone all the same.
    let gone = house.server.app.store.write(|tx| {
        let broker = muster::store::apple::packages::find_package(tx.conn(), "broker")?.unwrap();
        muster::store::apple::packages::delete_package(tx, &broker.id)
    });
    gone.await.unwrap();
    later(&house, &mut phone, 2 * DAY).await;
    assert_eq!((names(&phone), phone.apps.downloads, phone.apps.installed.len()), (before, 1, 1));
    assert_eq!(live(&house, &phone.machine.udid).await.unwrap().device_id, id);
}
