//! What devices are given: settings together, by edition, under the name of the enrolment, in parts, and always as described.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::desired::{Lack, Record, State};
use muster::service::device;
use muster::service::profile::{self, Draft};
use muster::sim::windows::enroll::Machine;
use muster::sim::windows::tree::EDITION;
use muster::sim::windows::{Device, Error};
use muster::store::facts;
use muster::wire::locuri::LocUri;
use muster::wire::syncml::{Command, SyncMl, Verb};

use crate::support::ddf::Ddf;
use crate::support::server::{Options, Server};
use crate::support::windows::{House, by, key};
use crate::support::wire::{holds, only_device, sync};

const LAPS: &str = "./Device/Vendor/MSFT/LAPS/Policies";

/// A profile of these settings.
fn settings(name: &str, settings: &[(&str, &str)]) -> Draft {
    let mut text = format!("display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n");
    for (id, value) in settings {
        text += &format!("\"{id}\" = {value}\n");
    }
    Draft::parse(&text).unwrap()
}

fn laps(length: &str) -> Draft {
    settings(
        "laps",
        &[
            ("laps.backup-directory", "2"),
            ("laps.password-length", length),
            ("laps.password-age-days", "10"),
            ("laps.password-complexity", "4"),
        ],
    )
}

/// The records of the first profile, by the last part of their names.
async fn records(house: &House) -> Vec<(String, Record)> {
    let item = house.items(&only_device(house).await).await.remove(0).item;
    item.detail.records.into_iter().collect()
}

async fn states(house: &House) -> Vec<State> {
    records(house).await.into_iter().map(|(_, record)| record.state).collect()
}

/// The verbs of each Atomic that the device heard, and forgets them.
fn atomics(device: &mut Device) -> Vec<Vec<Verb>> {
    let heard = device.heard.replace(Vec::new()).unwrap();
    if let Some(ddf) = Ddf::load() {
        ddf.judge(&heard);
    }
    let all = heard.iter().flat_map(|answer| SyncMl::decode(answer).unwrap().body);
    let verbs = all.filter_map(|command| match command {
        Command::Atomic(group) => Some(group.commands),
        _ => None,
    });
    let verb = |inner: Command| match inner {
        Command::Operation(operation) => operation.verb,
        other => panic!("{other:?}"),
    };
    verbs.map(|commands| commands.into_iter().map(verb).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_belong_together_are_given_in_one_atomic_or_not_at_all() {
    let house = House::new().await;
    let profile = house.assign(laps("20")).await;
    let mut device = house.enroll(1).await;
    let node = |name: &str| format!("{LAPS}/{name}");
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    assert_eq!(states(&house).await, [State::Verified; 4]);
    assert_eq!(atomics(&mut device), [[Verb::Add; 4]]);

    // One that drifted brings the others with it.
    device.tree.set(&node("PasswordLength"), "8");
    house.server.clock.advance(25 * HOUR);
    device.settle().await.unwrap();
    assert_eq!((states(&house).await, device.tree.get(&node("PasswordLength"))), (vec![State::Verified; 4], Some("20")));
    assert_eq!(atomics(&mut device), [[Verb::Replace; 4]]);

    // One that the device does not take makes all of them fail, and each says how.
    device.tree.faults.refuse.push((LocUri::parse(&node("PasswordLength")).unwrap(), Some(Verb::Replace), 400));
    house.assign(laps("24")).await;
    device.settle().await.unwrap();
    let failed = records(&house).await;
    let status = |name: &str| failed.iter().find(|(key, _)| key.contains(name)).map(|(_, record)| (record.state, record.status)).unwrap();
    assert_eq!(status("password-length"), (State::Failed, Some(400)));
    assert_eq!(status("password-age-days"), (State::Failed, Some(216)), "done and taken back");
    assert_eq!(status("backup-directory"), (State::Failed, Some(215)), "not even tried");
    assert_eq!(device.tree.get(&node("PasswordLength")), Some("20"));
    assert_eq!(atomics(&mut device).len(), 1);

    device.tree.faults.refuse.clear();
    house.assign(laps("25")).await;
    device.settle().await.unwrap();
    assert_eq!((states(&house).await, device.tree.get(&node("PasswordLength"))), (vec![State::Verified; 4], Some("25")));
    assert_eq!(atomics(&mut device), [[Verb::Replace; 4]]);

    // They go together, too, and one that is gone already does not hold the others.
    device.tree.unset(&node("PasswordAgeDays"));
    profile::delete(&house.server.app, &profile, &by()).await.unwrap();
    device.settle().await.unwrap();
    assert!(device.tree.leaves(LAPS).is_empty() && house.items(&only_device(&house).await).await.is_empty());
    assert_eq!(atomics(&mut device), [vec![Verb::Delete; 4], vec![Verb::Delete; 3]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_does_not_have_does_not_hold_the_rest_of_its_group() {
    let house = House::new().await;
    house.assign(laps("20")).await;
    let mut device = house.enroll(1).await;
    device.tree.faults.refuse.push((LocUri::parse(&format!("{LAPS}/PasswordLength")).unwrap(), None, 406));
    device.settle().await.unwrap();
    let records = records(&house).await;
    let (lacking, held): (Vec<_>, Vec<_>) = records.into_iter().partition(|(key, _)| key.contains("password-length"));
    assert_eq!((lacking[0].1.state, lacking[0].1.status), (State::NotApplicable, Some(406)));
    assert!(held.len() == 3 && held.iter().all(|(_, record)| record.state == State::Verified), "{held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_session_dies_is_given_again() {
    let house = House::new().await;
    house.assign(laps("20")).await;
    let mut device = house.enroll(1).await;
    device.faults.mute_after = Some(1);
    assert!(matches!(device.session().await, Err(Error::Dropped)));
    device.faults.mute_after = None;
    device.settle().await.unwrap();
    assert_eq!(states(&house).await, [State::Verified; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edition_gets_what_it_has_and_the_rest_after_an_upgrade() {
    let house = House::new().await;
    house
        .assign(settings(
            "web",
            &[("authentication.configure-web-sign-in-allowed-urls", "[\"a.example\"]"), ("laps.password-length", "20")],
        ))
        .await;
    let machine = Machine { os_edition: "101".into(), ..Machine::windows_11(1) };
    let sign_in = house.sign_in().await;
    let mut device = Device::enroll(&house.roots(), &house.discovery(), machine, &sign_in, &key()).await.unwrap();
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    let at = |records: Vec<(String, Record)>| records.into_iter().map(|(_, record)| (record.state, record.lacks)).collect::<Vec<_>>();
    assert_eq!(at(records(&house).await), [(State::NotApplicable, Some(Lack::Edition)), (State::Verified, None)]);
    let heard = device.heard.take().unwrap();
    assert!(!heard.iter().any(|answer| holds(answer, "ConfigureWebSignInAllowedUrls")));
    // Home is not asked for what it cannot say, nor told what it cannot do.
    let (encryption, tpm) = ("DeviceStatus/Compliance/EncryptionCompliance", "DeviceStatus/TPM/SpecificationVersion");
    assert!(!heard.iter().any(|answer| holds(answer, encryption)) && heard.iter().any(|answer| holds(answer, tpm)));
    let id = house.device_ids().await.remove(0);
    let reboot = async || device::command(&house.server.app, &id, device::Order::Known("reboot".into()), true, &by()).await;
    let refused = reboot().await;
    assert!(matches!(&refused, Err(muster::service::Error::Refused(no)) if no.code() == "CMD0003"), "{refused:?}");
    // From Home to Pro.
    device.tree.set(EDITION, "48");
    sync(&house).await;
    device.settle().await.unwrap();
    assert_eq!(at(records(&house).await), [(State::Verified, None); 2]);
    reboot().await.unwrap();
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    let heard = device.heard.take().unwrap();
    assert!(heard.iter().any(|answer| holds(answer, "RebootNow")) && device.ran.contains_key("reboot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_knows_the_server_by_the_name_of_its_enrolment() {
    let house = House::new().await;
    let mut old = house.enroll(1).await;
    old.settle().await.unwrap();
    // The same server, with another name from now on.
    let app = &house.server.app;
    let renamed = Server::with(Options {
        tweak: Box::new(|config| config.windows.provider_id = "Renamed".into()),
        store: Some(app.store.clone()),
        sealer: Some(muster::secret::Sealer::parse(&app.sealer().to_text()).unwrap()),
        authorities: false,
        ..Options::default()
    });
    let renamed = House { server: renamed.await, user: house.user.clone(), kept: tokio::sync::Mutex::default() };
    let mut url = old.identity.management_url().unwrap();
    url.set_port(reqwest::Url::parse(&renamed.server.device).unwrap().port()).unwrap();
    let mut old = Device::with(&renamed.roots(), old.machine.clone(), old.identity.clone()).unwrap();
    old.nodes = vec![url];
    let mut new = renamed.enroll(2).await;
    renamed.assign(settings("refresh", &[("dm-client.config-refresh.cadence", "60")])).await;
    renamed.server.clock.advance(25 * HOUR);
    let provider = |name: &str| format!("./Device/Vendor/MSFT/DMClient/Provider/{name}/ConfigRefresh/Cadence");
    for (device, own, other) in [(&mut old, "Muster", "Renamed"), (&mut new, "Renamed", "Muster")] {
        device.heard = Some(Vec::new());
        device.settle().await.unwrap();
        assert_eq!((device.tree.get(&provider(own)), device.tree.get(&provider(other))), (Some("60"), None), "{own}");
        let heard = device.heard.take().unwrap();
        assert!(!heard.iter().any(|answer| holds(answer, &format!("Provider/{other}"))), "asked for nothing of {other}");
    }
    for id in renamed.device_ids().await {
        let of = id.clone();
        let facts = renamed.server.app.store.read(move |c| facts::list_for_device(c, &of)).await.unwrap();
        assert!(facts["dm-client.channel-uri"].source.contains("/Provider/"), "{facts:?}");
        device::retire(&renamed.server.app, &id, "cli:test", "local").await.unwrap();
    }
    for (device, own) in [(&mut old, "Muster"), (&mut new, "Renamed")] {
        device.heard = Some(Vec::new());
        device.settle().await.unwrap();
        assert!(device.left && device.heard.take().unwrap().iter().any(|answer| holds(answer, &format!("<Data>{own}</Data>"))), "{own}");
    }
}

/// Addresses for web sign-in, more than two messages of a small device hold.
fn long() -> (Draft, String) {
    let urls: Vec<String> = (0..120).map(|n| format!("host-{n:03}.sign-in.identity-provider.example.org")).collect();
    let value = format!("[{}]", urls.iter().map(|url| format!("\"{url}\"")).collect::<Vec<_>>().join(", "));
    let all = [("authentication.configure-web-sign-in-allowed-urls", value.as_str()), ("authentication.enable-web-sign-in", "1")];
    (settings("web", &all), urls.join(";"))
}

const URLS: &str = "./Device/Vendor/MSFT/Policy/Config/Authentication/ConfigureWebSignInAllowedUrls";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_larger_than_a_message_goes_in_chunks_and_again_after_a_lost_session() {
    let house = House::new().await;
    let (draft, value) = long();
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    house.assign(draft).await;
    device.faults.max_message = Some(2500);
    device.faults.drop_after = Some(3);
    assert!(matches!(device.session().await, Err(Error::Dropped)));
    assert_eq!(device.tree.get(URLS), None, "half a value is none");
    device.faults.drop_after = None;
    let report = device.settle().await.unwrap();
    assert!(report.chunks >= 2, "{report:?}");
    assert_eq!((device.tree.get(URLS), states(&house).await), (Some(value.as_str()), vec![State::Verified; 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_longer_than_the_device_takes_is_not_sent_and_says_so() {
    let house = House::new().await;
    house.assign(long().0).await;
    let mut device = house.enroll(1).await;
    device.faults.max_object = Some(2000);
    device.settle().await.unwrap();
    let states: Vec<_> = records(&house).await.into_iter().map(|(_, record)| (record.state, record.status)).collect();
    assert_eq!(states, [(State::Failed, Some(413)), (State::Verified, Some(200))]);
    assert_eq!(device.tree.get(URLS), None);
}

/// A certificate by SCEP for the machine or the user.
fn certificate(scope: &str) -> Draft {
    Draft::parse(&format!(
        "display_name = \"certificate of the {scope}\"\nkind = \"configuration\"\nplatform = \"windows\"\n[[document.payloads]]\n\
         type = \"scep\"\nname = \"one\"\n[document.payloads.template]\nscope = \"{scope}\"\nsubject = \"CN={{{{DeviceId}}}}\"\ndays = 365\n"
    ))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_what_is_sent_in_a_devices_life_is_described_for_machine_and_user() {
    let house = House::new().await;
    let user = settings(
        "user",
        &[
            ("passport-for-work.use-passport-for-work@user", "true"),
            ("passport-for-work.pin-complexity.minimum-pin-length@user", "7"),
            ("authentication.allow-eap-cert-sso", "1"),
        ],
    );
    for draft in [user, certificate("user"), certificate("device"), laps("20")] {
        house.assign(draft).await;
    }
    house.assign_baseline("windows-compliance").await;
    let mut device = house.enroll(1).await;
    device.heard = Some(Vec::new());
    // Its first enrolment fails and is tried again.
    device.faults.no_scep = true;
    device.settle().await.unwrap();
    device.faults.no_scep = false;
    house.server.clock.advance(10 * MINUTE);
    device.settle().await.unwrap();
    // The certificates are renewed, and the first try of that fails.
    house.server.clock.advance(300 * DAY);
    device.faults.no_scep = true;
    device.settle().await.unwrap();
    device.faults.no_scep = false;
    house.server.clock.advance(10 * MINUTE);
    device.settle().await.unwrap();
    let id = only_device(&house).await;
    let items = house.items(&id).await;
    assert!(
        items.iter().all(|l| matches!(l.item.state, State::Verified | State::Assigned)),
        "{:?}",
        items.iter().map(|l| (&l.name, l.item.state)).collect::<Vec<_>>()
    );
    for loaded in items {
        profile::delete(&house.server.app, &loaded.item.profile_id, &by()).await.unwrap();
    }
    for _ in 0..3 {
        device.settle().await.unwrap();
    }
    assert!(house.items(&id).await.is_empty());
    device::retire(&house.server.app, &id, "cli:test", "local").await.unwrap();
    device.settle().await.unwrap();
    let heard = device.heard.take().unwrap();
    let heard_of = |verb: &str, uri: &str| heard.iter().any(|answer| holds(answer, &format!("<{verb}>")) && holds(answer, uri));
    for root in ["./Device", "./User"] {
        let scep = format!("{root}/Vendor/MSFT/ClientCertificateInstall/SCEP/");
        assert!(["Exec", "Get", "Delete"].iter().all(|verb| heard_of(verb, &scep)), "{scep}");
    }
    assert!(heard_of("Delete", "./User/Vendor/MSFT/PassportForWork") && heard_of("Replace", "AllowEAPCertSSO"));
    let Some(ddf) = Ddf::load() else { return };
    let count = ddf.judge(&heard);
    assert!(count > 100, "{count}");
}
