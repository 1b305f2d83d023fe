//! Erased devices: the PIN of a Mac is kept, and an iPhone or iPad comes back by itself with what it took along.

use muster::domain::apple::escrow::Kind;
use muster::domain::command::State;
use muster::domain::device::State as DeviceState;
use muster::ids::DeviceId;
use muster::service::device::{self, Order};
use muster::service::profile::Draft;
use muster::sim::apple::machine::Machine;
use muster::sim::apple::{Device, Error};
use muster::wire::plist::Data;

use crate::apple_enroll::{live, on};
use crate::apple_escrow::{enrolled, kinds, order, reveal, rows};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by, key};

fn with(id: &str, values: &[(&str, &str)]) -> Order {
    Order::With(id.into(), values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn wifi(more: &str) -> Draft {
    let text = format!(
        "display_name = \"Office\"\nkind = \"configuration\"\nplatform = \"ios\"\n[[document.payloads]]\ntype = \"com.apple.wifi.managed\"\nname = \"w\"\nSSID_STR = \"office\"\nEncryptionType = \"WPA2\"\nPassword = \"correct horse\"\n{more}"
    );
    Draft::parse(&text).unwrap()
}

async fn why(house: &House, id: &DeviceId) -> String {
    device::orders(&house.server.app, id, 1).await.unwrap().remove(0).result.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pin_of_a_mac_is_kept_sealed_whoever_chose_it() {
    let house = on(House::new().await).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1)).await;
    assert_eq!(order(&house, &mut mac, &id, with("lock", &[("pin", "123456")])).await, State::Done);
    assert_eq!(reveal(&house, &id, Kind::Pin).await.unwrap(), "123456");
    assert!(rows(&house).await.contains(r#"cli:test escrow.read {"kind":"pin""#));
    // None was given: one is made. The Mac is silent after it; the PIN may be in force, and is kept beside the old one.
    mac.faults.drop_answers = true;
    device::command(&house.server.app, &id, Order::Known("lock".into()), true, &by()).await.unwrap();
    assert!(mac.settle().await.is_err());
    let told = mac.settings.pin.clone().unwrap();
    assert!(told.len() == 6 && told.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(
        (reveal(&house, &id, Kind::Pin).await.unwrap(), reveal(&house, &id, Kind::NextPin).await.unwrap()),
        ("123456".into(), told.clone())
    );
    mac.faults.drop_answers = false;
    mac.settle().await.unwrap();
    // The PIN of an erased Mac outlives its enrolment.
    let wipe = with("wipe", &[("obliteration", "DoNotObliterate")]);
    Account::open(&mut mac);
    assert_eq!(order(&house, &mut mac, &id, wipe).await, State::Done);
    judge(&mut mac, Target::mac("15.1"));
    let last = mac.settings.pin.clone().unwrap();
    assert_ne!(last, told);
    assert_eq!(reveal(&house, &id, Kind::Pin).await.unwrap(), last);
    let found = rows(&house).await;
    assert!(!found.contains(&last) && !found.contains(&told));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_iphone_that_is_wiped_comes_back_by_itself_as_itself_and_nobody_else_does() {
    let house = on(House::new().await).await;
    house.assign(wifi("")).await;
    let (mut phone, id) = enrolled(&house, Machine::iphone(1)).await;
    let before = live(&house, &phone.machine.udid).await.unwrap();
    // What cannot be taken along is said, and nothing is erased.
    assert_eq!(order(&house, &mut phone, &id, with("wipe", &[("return-to-service", "yes"), ("wifi", "Elsewhere")])).await, State::Failed);
    assert!(why(&house, &id).await.contains("Elsewhere") && !phone.left);

    let wipe = with("wipe", &[("return-to-service", "yes"), ("wifi", "Office"), ("keep-data-plan", "yes"), ("no-proximity-setup", "no")]);
    Account::open(&mut phone);
    assert_eq!(order(&house, &mut phone, &id, wipe).await, State::Done);
    judge(&mut phone, Target::iphone("18.1"));
    assert!(phone.left, "{:?}", phone.refusals);
    assert_eq!(device::show(&house.server.app, &id).await.unwrap().overview.device.state, DeviceState::Retired);
    let back = phone.returns.take().unwrap();
    assert!(back.enabled && back.wifi_profile.is_some());
    let Data(profile) = back.mdm_profile.unwrap();
    let machine = phone.machine.clone();
    let mut again = Device::enroll(&house.roots(), &profile, machine.clone(), &key()).await.unwrap();
    again.settle().await.unwrap();
    let now = live(&house, &machine.udid).await.unwrap();
    assert_eq!((&now.device_id, &now.user_id), (&id, &before.user_id));
    assert_ne!(now.id, before.id);
    assert_eq!(device::show(&house.server.app, &id).await.unwrap().overview.device.state, DeviceState::Managed);

    // The profile is for this hardware alone.
    assert_eq!(order(&house, &mut again, &id, with("wipe", &[("return-to-service", "yes")])).await, State::Done);
    let Data(profile) = again.returns.take().unwrap().mdm_profile.unwrap();
    let other = Device::enroll(&house.roots(), &profile, Machine::iphone(2), &key()).await;
    assert!(matches!(other, Err(Error::Http(_, _))), "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_needs_an_enrolled_device_is_not_taken_along() {
    let house = on(House::new().await).await;
    house.assign(wifi("[[document.payloads]]\ntype = \"scep\"\nname = \"s\"\ntemplate = { subject = \"CN=x\" }\n")).await;
    let (mut phone, id) = enrolled(&house, Machine::iphone(1)).await;
    assert_eq!(order(&house, &mut phone, &id, with("wipe", &[("return-to-service", "yes"), ("wifi", "Office")])).await, State::Failed);
    assert!(why(&house, &id).await.contains("scep"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_iphone_of_setup_assistant_asks_how_to_come_back() {
    let machine = || Machine { supervised: true, automated: true, os_version: "26.0".into(), ..Machine::iphone(1) };
    let house = on(House::new().await).await;
    let (mut phone, _) = enrolled(&house, machine()).await;
    assert!(!phone.return_to_service().await.unwrap(), "it is not configured");

    let tweak = |config: &mut muster::config::Config| {
        config.apple.automated.profile.return_to_service = true;
        config.apple.automated.return_to_service_wifi = "Office".into();
    };
    let house = on(House::tweaked(tweak).await).await;
    let (mut phone, id) = enrolled(&house, machine()).await;
    assert!(!phone.return_to_service().await.unwrap(), "the Wi-Fi is not there: better not at all than without network");
    house.assign(wifi("")).await;
    assert!(phone.return_to_service().await.unwrap());
    let back = phone.returns.take().unwrap();
    assert!(rows(&house).await.contains(r#"enrollment.return {"wifi":"Office","profile":true,"bootstrap_token":false}"#));
    // It may ask as often as it likes, and fills no audit log with that.
    assert!(phone.return_to_service().await.unwrap() && phone.returns.take().is_some());
    assert_eq!(rows(&house).await.matches("enrollment.return").count(), 1);
    if let Some(schema) = schema() {
        let answer = muster::wire::apple::checkin::Answer::ReturnToService(back.clone()).to_value().unwrap();
        let target = Target { supervised: true, automated: true, ..Target::iphone("26.0") };
        assert_eq!(schema.check_in_answer("ReturnToService", &answer, target), [""; 0]);
    }
    let mut again = Device::enroll(&house.roots(), &back.mdm_profile.unwrap().0, machine(), &key()).await.unwrap();
    again.settle().await.unwrap();
    assert_eq!(live(&house, &again.machine.udid).await.unwrap().device_id, id);
    assert!(!kinds(&house, &id).await.contains(&Kind::Pin));
}
