//! Applications of the App Store: licences that Apps and Books gives to devices by their serial numbers, and takes back.

use muster::catalogue::payload::System;
use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::assignment::{Mode, Target};
use muster::domain::desired::{Record, State};
use muster::ids::{DeviceId, ProfileId};
use muster::secret::Secret;
use muster::service::apple::licences;
use muster::service::profile::{self, Draft};
use muster::service::{Error, Result};
use muster::sim::apple::{Device, Machine};
use muster::store::audit;
use serde_json::{Value, json};

use crate::apple_enroll::{enrolled, live, on};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::Target as SchemaTarget;
use crate::support::books::{BUNDLE, Books, STORE_ID, token};
use crate::support::windows::{House, by};

pub async fn house(books: &Books) -> House {
    let root = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(root.path(), &books.root_pem).unwrap();
    let (_, root) = root.keep().unwrap();
    let url = books.url.clone();
    on(House::tweaked(move |config| {
        config.apple.content.service_url = url;
        config.apple.content.service_root_file = Some(root);
    })
    .await)
    .await
}

async fn import(house: &House, token: &str, replace: bool) -> Result<Value> {
    licences::import(&house.server.app, &Secret::new(token.as_bytes().to_vec()), replace, "cli:test", "local").await
}

fn draft(platform: &str, more: &str) -> Draft {
    let text = format!(
        "display_name = \"store\"\nkind = \"configuration\"\nplatform = \"{platform}\"\n[[document.payloads]]\ntype = \"store-app\"\nname = \"app\"\nbundle-id = \"{BUNDLE}\"\nstore-id = {STORE_ID}\n{more}"
    );
    Draft::parse(&text).unwrap()
}

async fn shopper(house: &House, books: &Books, machine: Machine) -> (Device, DeviceId) {
    // Without declarations for applications.
    let machine = if machine.system == System::Ios { Machine { os_version: "17.0".into(), ..machine } } else { machine };
    let mut device = enrolled(house, machine).await;
    device.apps.shop = Some(books.shop.clone());
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    (device, id)
}

async fn record(house: &House, device: &DeviceId, profile: &ProfileId) -> Option<Record> {
    let item = house.items(device).await.into_iter().find(|loaded| loaded.item.profile_id == *profile)?.item;
    item.detail.records.get(&format!("app:{BUNDLE}")).cloned()
}

#[test]
fn the_ready_profiles_of_brokers_are_taken() {
    let ready = profile::ready().unwrap();
    for (file, kind) in
        [("ios-authenticator", "store-app"), ("ios-company-portal", "store-app"), ("macos-company-portal", "enterprise-app")]
    {
        let draft = &ready.iter().find(|(name, _)| name == file).unwrap().1;
        assert_eq!(draft.document.payloads[0].kind, kind);
        let vars = muster::catalogue::Vars { tenant: "t", provider: "p" };
        draft.document.check(draft.kind, draft.platform, muster::catalogue::catalogue(), &vars).unwrap();
    }
}

/// The job runs often enough for Apple to be done.
async fn work(house: &House) {
    for _ in 0..3 {
        licences::work(&house.server.app).await.unwrap();
    }
}

async fn later(house: &House, device: &mut Device, time: i64) {
    house.server.clock.advance(time);
    device.settle().await.unwrap();
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal) | Error::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_get_their_licence_before_the_application_and_give_it_back_after() {
    let books = Books::start(10).await;
    let house = house(&books).await;
    import(&house, &books.token, false).await.unwrap();
    assert_eq!(books.state().owner["name"], "Muster");
    let phones = house.assign(draft("ios", "configuration = { a = 1 }\n")).await;
    let (mut phone, id) = shopper(&house, &books, Machine::iphone(1)).await;
    Account::open(&mut phone);
    phone.settle().await.unwrap();
    assert_eq!(phone.ran.get("InstallApplication"), None, "no licence yet");
    work(&house).await;
    assert_eq!(books.held(), 1);
    later(&house, &mut phone, 3 * MINUTE).await;
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!(record(&house, &id, &phones).await.unwrap().state, State::Verified);
    assert_eq!((phone.apps.installed[BUNDLE].version.as_str(), phone.apps.failures.len()), ("9.1", 0));
    judge(&mut phone, SchemaTarget::iphone("17.0"));

    // Five Macs more, in requests of two.
    let macs = house.assign(Draft { display_name: "macs".into(), ..draft("macos", "") }).await;
    let mut all = Vec::new();
    for number in 1..=5 {
        let (mut mac, id) = shopper(&house, &books, Machine::mac(number)).await;
        mac.settle().await.unwrap();
        all.push((mac, id));
    }
    work(&house).await;
    assert_eq!(books.held(), 6);
    let requests = books.state().seen.iter().filter(|(path, _)| path == "/assets/associate").count();
    assert_eq!(requests, 1 + 3);
    let (mac, id) = &mut all[0];
    Account::open(mac);
    later(&house, mac, 3 * MINUTE).await;
    later(&house, mac, 6 * MINUTE).await;
    assert_eq!(record(&house, id, &macs).await.unwrap().state, State::Verified);
    judge(mac, SchemaTarget::mac("15.1"));

    // One leaves, and the profile of the others is taken away: those that have the application give it up first.
    mac.leave().await.unwrap();
    licences::release_departed(&house.server.app).await.unwrap();
    work(&house).await;
    assert_eq!(books.held(), 5);
    profile::unassign(&house.server.app, &macs, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    for (mac, _) in &mut all[1..] {
        mac.settle().await.unwrap();
    }
    work(&house).await;
    assert_eq!(books.held(), 1, "also those of devices to which the application never came");
    profile::unassign(&house.server.app, &phones, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    phone.settle().await.unwrap();
    assert!(phone.apps.installed.is_empty());
    work(&house).await;
    assert_eq!(books.held(), 0);
    let status = licences::status(&house.server.app, true).await.unwrap();
    assert_eq!((&status["licences"]["held"], &status["assets"][0]["available"]), (&json!(0), &json!(10)));
    let log = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(log.iter().all(|row| row.after.as_deref().is_none_or(|after| !after.contains("secret of the location"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_licence_that_is_not_there_is_said_so_and_asked_for_again() {
    let books = Books::start(0).await;
    let house = house(&books).await;
    let wanted = house.assign(draft("ios", "")).await;
    let (mut phone, id) = shopper(&house, &books, Machine::iphone(1)).await;
    phone.settle().await.unwrap();
    let unconnected = record(&house, &id, &wanted).await.unwrap();
    assert!(unconnected.original_error.unwrap().starts_with("APP0005"));
    import(&house, &books.token, false).await.unwrap();
    later(&house, &mut phone, DAY + HOUR).await;
    work(&house).await;
    later(&house, &mut phone, 3 * MINUTE).await;
    let refused = record(&house, &id, &wanted).await.unwrap();
    assert_eq!((refused.state, refused.original_error.as_deref()), (State::Pending, Some("no licence: 9709 Not enough licences")));
    assert_eq!(phone.ran.get("InstallApplication"), None);
    books.state().total = 1;
    work(&house).await;
    later(&house, &mut phone, HOUR).await;
    later(&house, &mut phone, 6 * MINUTE).await;
    assert_eq!(record(&house, &id, &wanted).await.unwrap().state, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apple_is_left_alone_when_it_asks_for_it_and_a_bad_token_is_an_alarm() {
    let books = Books::start(10).await;
    let house = house(&books).await;
    import(&house, &books.token, false).await.unwrap();
    house.assign(draft("ios", "")).await;
    let (mut phone, _) = shopper(&house, &books, Machine::iphone(1)).await;
    phone.settle().await.unwrap();
    books.state().script.push_back((429, json!({}), Some(("Retry-After".into(), "600".into()))));
    licences::work(&house.server.app).await.unwrap();
    let asked = books.state().seen.len();
    licences::work(&house.server.app).await.unwrap();
    assert_eq!(books.state().seen.len(), asked, "not before the ten minutes are over");
    house.server.clock.advance(11 * MINUTE);
    books.state().script.push_back((400, json!({ "errorNumber": 9625, "errorMessage": "revoked" }), None));
    licences::work(&house.server.app).await.unwrap();
    let status = licences::status(&house.server.app, false).await.unwrap();
    assert!(status["alarm"].as_str().unwrap().starts_with("APP0006"), "{status}");
    work(&house).await;
    assert_eq!((books.held(), &licences::status(&house.server.app, false).await.unwrap()["alarm"]), (1, &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_ours_to_use_are_not_taken() {
    let books = Books::start(1).await;
    let house = house(&books).await;
    assert_eq!(code(licences::status(&house.server.app, false).await), "APP0005");
    for wrong in ["", "nonsense", &token("soon"), &token("2020-01-02T03:04:05+0000"), &token("2198-01-02T03:04:05+0000")] {
        assert_eq!(code(import(&house, wrong, false).await), "APP0006", "{wrong}");
    }
    books.state().owner = json!({ "id": "another", "name": "Other", "metadata": "" });
    assert_eq!(code(import(&house, &books.token, false).await), "APP0007");
    import(&house, &books.token, true).await.unwrap();
    import(&house, &format!("{}\n", books.token), false).await.unwrap();
    books.state().location = "L2".into();
    assert_eq!(code(import(&house, &books.token, false).await), "APP0007");
}
