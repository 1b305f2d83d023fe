//! What an administrator gives an Apple device, or asks of it, beside profiles and applications: provisioning profiles, books, restrictions,
//! caches, other Macs, and what is a user's affair.

use muster::clock::MINUTE;
use muster::domain::command::State;
use muster::domain::{Refusal, inventory};
use muster::ids::DeviceId;
use muster::service::Error;
use muster::service::device::{self, Order};
use muster::sim::apple::machine::Machine;

use crate::apple_enroll::on;
use crate::apple_escrow::{enrolled, order, rows};
use crate::apple_orders::{PNG, provisioning_profile};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::Target;
use crate::support::windows::{House, by};

fn with(id: &str, values: &[(&str, &str)]) -> Order {
    Order::With(id.into(), values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

async fn list(house: &House, id: &DeviceId, kind: inventory::Kind) -> Vec<serde_json::Map<String, serde_json::Value>> {
    device::inventory(&house.server.app, id, kind).await.unwrap().0.entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioning_profiles_books_and_restrictions_are_given_listed_and_taken_back() {
    let house = on(House::new().await).await;
    let (mut phone, id) = enrolled(&house, Machine { supervised: true, ..Machine::iphone(1) }).await;
    Account::open(&mut phone);
    assert_eq!(order(&house, &mut phone, &id, with("list-provisioning-profiles", &[])).await, State::Done);
    let kept = list(&house, &id, inventory::Kind::ProvisioningProfiles).await;
    let uuid = kept[0]["UUID"].as_str().unwrap().to_owned();
    assert_eq!(order(&house, &mut phone, &id, with("remove-provisioning-profile", &[("uuid", &uuid)])).await, State::Done);
    assert_eq!(order(&house, &mut phone, &id, with("remove-provisioning-profile", &[("uuid", &uuid)])).await, State::Failed);
    let install = with("install-provisioning-profile", &[("profile", provisioning_profile())]);
    assert_eq!(order(&house, &mut phone, &id, install).await, State::Done);
    assert_eq!(phone.settings.provisioning[0].0, "Installed");
    assert_eq!(order(&house, &mut phone, &id, with("validate-applications", &[])).await, State::Done);

    assert_eq!(order(&house, &mut phone, &id, with("install-book", &[("store-id", "42")])).await, State::Done);
    let book = [("url", "https://example.org/m.pdf"), ("id", "org.example.manual"), ("kind", "pdf"), ("title", "Manual")];
    assert_eq!(order(&house, &mut phone, &id, with("install-book", &book)).await, State::Done);
    assert_eq!(order(&house, &mut phone, &id, with("list-books", &[])).await, State::Done);
    assert_eq!(list(&house, &id, inventory::Kind::Books).await[1]["PersistentID"], "org.example.manual");
    assert_eq!(order(&house, &mut phone, &id, with("remove-book", &[("store-id", "42")])).await, State::Done);
    assert_eq!(phone.settings.books, ["org.example.manual"]);

    assert_eq!(order(&house, &mut phone, &id, with("list-restrictions", &[("profiles", "yes")])).await, State::Done);
    let restrictions = list(&house, &id, inventory::Kind::Restrictions).await;
    let camera = restrictions.iter().find(|row| row["Restriction"] == "allowCamera").unwrap();
    assert_eq!((camera["Value"].as_str(), camera.get("Profile")), (Some("false"), None));
    assert!(restrictions.iter().any(|row| row.get("Profile").is_some_and(|profile| profile == "org.example.p")));

    judge(&mut phone, Target { supervised: true, ..Target::iphone("18.1") });
    // Phones answer to settings in another form than the schema has; the commands themselves are judged where all orders are.
    assert_eq!(order(&house, &mut phone, &id, with("set-wallpaper", &[("image", PNG), ("screen", "home")])).await, State::Done);
    let attributes = [("application", "org.example.app"), ("vpn", "V"), ("associated-domains", "a.org,b.org"), ("removable", "no")];
    assert_eq!(order(&house, &mut phone, &id, with("set-application-attributes", &attributes)).await, State::Done);
    assert_eq!(order(&house, &mut phone, &id, with("set-accessibility", &[("voice-over", "yes")])).await, State::Done);
    assert_eq!(order(&house, &mut phone, &id, with("set-personal-hotspot", &[("personal-hotspot", "no")])).await, State::Done);
    let told: Vec<&str> = phone.settings.told.keys().map(String::as_str).collect();
    assert_eq!(told, ["AccessibilitySettings", "ApplicationAttributes", "PersonalHotspot", "Wallpaper"]);
    assert!(phone.settings.told["ApplicationAttributes"].contains("b.org"));
    // Values that only later systems know.
    let hideable = with("set-application-attributes", &[("application", "x"), ("hideable", "no")]);
    assert!(device::command(&house.server.app, &id, hideable.clone(), true, &by()).await.is_ok());
    let (_, old) = enrolled(&house, Machine { os_version: "17.6".into(), ..Machine::iphone(2) }).await;
    let refused = device::command(&house.server.app, &old, hideable, true, &by()).await;
    assert!(matches!(&refused, Err(Error::Invalid(Refusal::OrderUnsupported, why)) if why.contains("hideable")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn macs_look_for_updates_tell_of_their_cache_and_switch_each_other() {
    let house = on(House::new().await).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1)).await;
    let (mut other, other_id) = enrolled(&house, Machine::mac(2)).await;
    Account::open(&mut mac);
    assert_eq!(order(&house, &mut mac, &id, with("scan-updates", &[("force", "yes")])).await, State::Done);
    assert_eq!(order(&house, &mut mac, &id, with("show-content-caching", &[])).await, State::Done);
    let cache = list(&house, &id, inventory::Kind::ContentCaching).await;
    assert!(cache.iter().any(|row| row["Name"] == "CacheUsed" && row["Value"] == "4096"), "{cache:?}");

    let switch = |action: &'static str, name: &'static str| {
        with("lights-out", &[("device", other_id.as_str()), ("action", action), ("dns-name", name)])
    };
    assert_eq!(order(&house, &mut mac, &id, switch("on", "other.example.org")).await, State::Failed, "its addresses are not known");
    assert_eq!(mac.ran.get("LOMDeviceRequest"), None);
    assert_eq!(order(&house, &mut other, &other_id, with("lights-out-setup", &[])).await, State::Done);
    assert_eq!(list(&house, &other_id, inventory::Kind::LightsOut).await.len(), 2);
    assert_eq!(order(&house, &mut mac, &id, switch("on", "other.example.org")).await, State::Done);
    assert_eq!(
        order(&house, &mut mac, &id, switch("reset", "elsewhere.example.org")).await,
        State::Failed,
        "acknowledged, and not reached"
    );
    judge(&mut mac, Target::mac("15.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_a_users_affair_goes_to_the_user_and_waits_for_them() {
    let house = on(House::tweaked(|config| config.apple.user_channels = true).await).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1)).await;
    let give = async |order: Order| device::command(&house.server.app, &id, order, true, &by()).await;
    let needs_user = |given: Result<_, Error>| matches!(given, Err(Error::Refused(refusal)) if refusal.code() == "CMD0015");
    assert!(needs_user(give(with("list-extensions", &[])).await), "nobody is there");
    mac.sign_in("ANA").await.unwrap();
    mac.settle().await.unwrap();
    let given = give(with("list-extensions", &[])).await.unwrap();
    let state = async |wanted: &muster::ids::CommandId| {
        let all = device::orders(&house.server.app, &id, 100).await.unwrap();
        all.into_iter().find(|order| order.id == *wanted).unwrap().state
    };
    // The device does not do it for her, and is not woken for it again and again.
    mac.speak_for(None);
    mac.settle().await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(state(&given.id).await, State::Queued);
    let enrollment = crate::apple_enroll::live(&house, &mac.machine.udid).await.unwrap();
    assert!(enrollment.work_at.is_none_or(|at| at > house.server.app.now()), "{:?}", enrollment.work_at);
    mac.speak_for(Some("ANA"));
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    assert_eq!(state(&given.id).await, State::Done);
    assert_eq!(list(&house, &id, inventory::Kind::Extensions).await[0]["Identifier"], "org.example.share");
    judge(&mut mac, Target { user_channel: true, ..Target::mac("15.1") });

    // Of several the one who is named; who is deleted takes her orders along.
    mac.sign_in("BEN").await.unwrap();
    assert!(needs_user(give(with("install-book", &[("store-id", "7")])).await));
    assert!(needs_user(give(with("install-book", &[("store-id", "7"), ("user", "EVE")])).await));
    let book = give(with("install-book", &[("store-id", "7"), ("user", "BEN")])).await.unwrap();
    let lost = give(with("install-book", &[("store-id", "8"), ("user", "ANA")])).await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!((state(&book.id).await, state(&lost.id).await), (State::Done, State::Queued));
    assert_eq!(mac.settings.books, ["7"]);
    mac.speak_for(Some("ANA"));
    mac.sign_out().await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(state(&lost.id).await, State::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_shared_ipad_wait_in_setup_assistant_and_are_let_out() {
    let house = on(House::tweaked(|config| config.apple.user_channels = true).await).await;
    let machine = Machine { shared: true, supervised: true, automated: true, ..Machine::iphone(1) };
    let (mut pad, id) = enrolled(&house, machine).await;
    let shared = [("quota", "4096"), ("users", "5"), ("user-timeout", "0"), ("domains", "example.org"), ("await-users", "yes")];
    assert_eq!(order(&house, &mut pad, &id, with("set-shared-ipad", &shared)).await, State::Done);
    assert_eq!(order(&house, &mut pad, &id, with("set-diagnostics", &[("diagnostics", "no")])).await, State::Done);
    pad.sign_in("ANA").await.unwrap();
    assert_eq!(pad.settings.waiting_users, ["ANA"]);
    Account::open(&mut pad);
    pad.settle().await.unwrap();
    assert!(pad.settings.waiting_users.is_empty());
    judge(&mut pad, Target { supervised: true, automated: true, user_channel: true, ..Target::iphone("18.1") });
    assert!(rows(&house).await.contains("enrollment.release-user"));

    // One whose screen is locked is let out as soon as it is open.
    pad.sign_in("BEN").await.unwrap();
    pad.settings.locked = true;
    pad.settle().await.unwrap();
    assert_eq!(pad.settings.waiting_users, ["BEN"]);
    house.server.clock.advance(i64::from(house.server.app.config.apple.automated.await_minutes) * MINUTE);
    pad.settings.locked = false;
    pad.settle().await.unwrap();
    assert!(pad.settings.waiting_users.is_empty());
}
