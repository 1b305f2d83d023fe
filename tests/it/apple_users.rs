//! The users of a Mac: each has a channel of their own, with profiles and declarations that nobody else gets.

use std::collections::BTreeMap;

use muster::clock::{DAY, HOUR};
use muster::config::Config;
use muster::domain::desired::{Record, State};
use muster::ids::{DeviceId, ProfileId};
use muster::service::Error as Failure;
use muster::service::profile::{self as profiles, Draft};
use muster::sim::apple::{Device, Error, Machine};
use muster::store::apple::channels;
use muster::wire::apple::checkin::{CheckIn, DeclarativeManagement, Message};
use muster::wire::apple::ddm::Manifest;
use muster::wire::apple::{CHECKIN, Who};

use crate::apple_enroll::{client, codes, enrolled, live, on, put};
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::Target;
use crate::support::windows::{House, by};

async fn with_users() -> House {
    on(House::tweaked(|config: &mut Config| config.apple.user_channels = true).await).await
}

fn draft(name: &str, scope: &str, payload: &str) -> Draft {
    let scope = if scope.is_empty() { String::new() } else { format!("scope = \"{scope}\"\n") };
    Draft::parse(&format!(
        "display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"macos\"\n[document]\n{scope}[[document.payloads]]\n{payload}"
    ))
    .unwrap()
}

const WIFI: &str = "type = \"com.apple.wifi.managed\"\nname = \"wifi\"\nSSID_STR = \"office\"\nEncryptionType = \"WPA2\"\n";
const PASSCODE: &str = "type = \"com.apple.configuration.passcode.settings\"\nname = \"passcode\"\nMinimumLength = 8\n";

async fn records(house: &House, device: &DeviceId, profile: &ProfileId) -> BTreeMap<String, Record> {
    let items = house.items(device).await;
    items.into_iter().find(|loaded| loaded.item.profile_id == *profile).map(|loaded| loaded.item.detail.records).unwrap_or_default()
}

async fn states(house: &House, device: &DeviceId, profile: &ProfileId) -> Vec<(String, State)> {
    let word = |key: String| key.split_once('@').map_or_else(String::new, |(_, user)| user.to_owned());
    records(house, device, profile).await.into_iter().map(|(key, record)| (word(key), record.state)).collect()
}

fn state(user: &str, state: State) -> (String, State) {
    (user.to_owned(), state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_users_waits_for_them_and_goes_to_each() {
    let house = with_users().await;
    let wifi = house.assign(draft("wifi", "user", WIFI)).await;
    let own = house.assign(draft("own", "", WIFI)).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    let mac_udid = mac.machine.udid.clone();
    let id = live(&house, &mac_udid).await.unwrap().device_id;
    mac.settle().await.unwrap();
    // Nobody has signed in: the device has its own profile and not that of users, and nothing is due for ever.
    assert_eq!(states(&house, &id, &wifi).await, [state("", State::NotApplicable)]);
    assert_eq!(states(&house, &id, &own).await, [state("", State::Verified)]);
    assert!(mac.connect().await.unwrap().commands == 0);

    let version = async || live(&house, &mac_udid).await.unwrap().version;
    let before = version().await;
    mac.sign_in("ANA").await.unwrap();
    assert!(version().await > before, "work that was begun without her is looked at again");
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    assert_eq!(mac.profiles.iter().count(), 1, "{:?} {:?}", mac.refusals, records(&house, &id, &wifi).await);
    assert_eq!(states(&house, &id, &wifi).await, [state("ANA", State::Verified)]);
    judge(&mut mac, Target { user_channel: true, ..Target::mac("15.1") });
    mac.speak_for(None);
    mac.settle().await.unwrap();
    assert_eq!(mac.profiles.iter().count(), 2, "the enrolment's own, and the device's");

    // Another user, who does not come for a while: the channel of the device goes on, and the user is woken.
    mac.sign_in("BEN").await.unwrap();
    mac.speak_for(None);
    mac.settle().await.unwrap();
    assert_eq!(states(&house, &id, &wifi).await, [state("ANA", State::Verified), state("BEN", State::Pending)]);
    assert_eq!(mac.connect().await.unwrap().messages, 1, "nothing for the device");
    mac.speak_for(Some("BEN"));
    mac.settle().await.unwrap();
    assert_eq!(states(&house, &id, &wifi).await, [state("ANA", State::Verified), state("BEN", State::Verified)]);

    // Ana removes it: found at her next look, and given to her again; Ben keeps his.
    mac.speak_for(Some("ANA"));
    mac.profiles = muster::sim::apple::profiles::Store::default();
    house.server.clock.advance(2 * DAY);
    mac.settle().await.unwrap();
    assert_eq!(mac.profiles.iter().count(), 1);

    // Ben's account goes, and with it what he had.
    mac.speak_for(Some("BEN"));
    mac.sign_out().await.unwrap();
    mac.settle().await.unwrap();
    assert_eq!(states(&house, &id, &wifi).await, [state("ANA", State::Verified)]);
    // The profile goes: from Ana as well.
    profiles::delete(&house.server.app, &wifi, &by()).await.unwrap();
    mac.settle().await.unwrap();
    mac.speak_for(Some("ANA"));
    mac.settle().await.unwrap();
    assert_eq!((mac.profiles.iter().count(), records(&house, &id, &wifi).await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_does_not_come_is_woken_again_and_puts_off_what_is_not_for_now() {
    let house = with_users().await;
    let wifi = house.assign(draft("wifi", "user", WIFI)).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    let enrollment = live(&house, &mac.machine.udid).await.unwrap();
    mac.settle().await.unwrap();
    mac.sign_in("ANA").await.unwrap();
    mac.speak_for(None);
    mac.settle().await.unwrap();
    let due = async || records(&house, &enrollment.device_id, &wifi).await.into_values().next().unwrap().due_at.unwrap();
    let first = due().await;
    assert!(first > house.server.app.now());
    house.server.clock.advance(7 * HOUR);
    mac.settle().await.unwrap();
    assert!(due().await > first, "once more");
    // She is there, and her keychain is locked.
    mac.speak_for(Some("ANA"));
    mac.settings.locked = true;
    assert_eq!(mac.connect().await.unwrap().deferred, 1);
    mac.settings.locked = false;
    mac.settle().await.unwrap();
    assert_eq!(states(&house, &enrollment.device_id, &wifi).await, [state("ANA", State::Verified)]);
}

/// Each speaker asks for each declaration: only what is the speaker's own is there, whoever it is and whatever it claims to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_what_is_declared_to_somebody_else() {
    let house = with_users().await;
    house.assign(draft("own", "", &PASSCODE.replace('8', "10"))).await;
    house.assign(draft("theirs", "user", PASSCODE)).await;
    let mut macs = Vec::new();
    for number in [1, 2] {
        let mut mac = enrolled(&house, Machine::mac(number)).await;
        mac.settle().await.unwrap();
        for user in ["ANA", "BEN"] {
            mac.sign_in(user).await.unwrap();
            mac.settle().await.unwrap();
            assert_eq!(mac.declarations.held.len(), 2, "a configuration and its activation");
        }
        mac.speak_for(None);
        macs.push(mac);
    }
    let ask = async |by: &Device, of: &Device, user: Option<&str>, endpoint: &str| {
        let who = Who { user_id: user.map(str::to_owned), ..Who::device(of.machine.udid.as_str()) };
        let message = Message::DeclarativeManagement(DeclarativeManagement { endpoint: endpoint.into(), data: None });
        let body = CheckIn { who, message }.encode().unwrap();
        let url = by.enrollment.mdm.check_in_url.clone().unwrap();
        put(&client(&house, by), &url, body).await
    };
    let speakers = [None, Some("ANA"), Some("BEN"), Some("NOBODY")];
    let mut names = BTreeMap::new();
    for user in &speakers[..3] {
        let (status, body) = ask(&macs[0], &macs[0], *user, "declaration-items").await;
        assert_eq!(status, 200);
        let manifest: Manifest = serde_json::from_slice(&body).unwrap();
        let configurations: Vec<String> = manifest.declarations.configurations.into_iter().map(|item| item.identifier).collect();
        names.insert(user.unwrap_or_default(), configurations);
    }
    assert_eq!(names["ANA"], names["BEN"], "the same profile");
    for user in speakers {
        for (whose, list) in &names {
            for name in list {
                let endpoint = format!("declaration/configuration/{name}");
                let own =
                    user.is_some_and(|user| names.get(user).is_some_and(|own| own.contains(name))) || user.is_none() && whose.is_empty();
                let (status, _) = ask(&macs[0], &macs[0], user, &endpoint).await;
                assert_eq!(status, if own { 200 } else { 404 }, "{user:?} {name}");
                // The identity of one Mac speaks for no user of another.
                assert_eq!(ask(&macs[1], &macs[0], user, &endpoint).await.0, 400);
            }
        }
    }
    assert!(codes(&house).await.contains("MGT0004"));
    let enrollment = live(&house, &macs[0].machine.udid).await.unwrap().id;
    let users = house.server.app.store.read(move |c| channels::list_channels(c, &enrollment)).await.unwrap();
    assert_eq!(users.len(), 3, "who only asks begins no channel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_users_nobody_is_let_in_and_with_them_an_empty_challenge_lets_in() {
    let off = on(House::new().await).await;
    let mut mac = enrolled(&off, Machine::mac(1)).await;
    assert!(matches!(mac.sign_in("ANA").await, Err(Error::Http(410, _))));
    let house = with_users().await;
    let mut mac = enrolled(&house, Machine::mac(2)).await;
    mac.said = Some(Vec::new());
    mac.sign_in("ANA").await.unwrap();
    let said = mac.said.take().unwrap().into_iter().filter(|(media, _)| *media == CHECKIN);
    let names: Vec<&str> = said.map(|(_, body)| CheckIn::decode(&body).unwrap().message.name()).collect();
    assert_eq!(names, ["UserAuthenticate", "UserAuthenticate", "TokenUpdate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_the_device_is_not_for_users() {
    let house = House::new().await;
    let refused = async |draft: Draft| match profiles::apply(&house.server.app, draft, &by()).await {
        Err(Failure::Refused(refusal) | Failure::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{:?}", other.map(|_| ())),
    };
    let filevault = "type = \"com.apple.MCX.FileVault2\"\nname = \"fv\"\nEnable = \"On\"\n";
    assert_eq!(refused(draft("fv", "user", filevault)).await, "PRF0005");
    // Whose login a person's identity would go to nobody here knows.
    let person = "type = \"imported-pfx\"\nname = \"mail\"\npurpose = \"smime-signing\"\n";
    assert_eq!(refused(draft("mail", "user", person)).await, "PRF0005");
    let phone = |text: &str| Draft::parse(&text.replace("\"macos\"", "\"ios\"")).unwrap();
    let text = format!(
        "display_name = \"x\"\nkind = \"configuration\"\nplatform = \"macos\"\n[document]\nscope = \"user\"\n[[document.payloads]]\n{WIFI}"
    );
    assert_eq!(refused(phone(&text)).await, "PRF0006");
}
