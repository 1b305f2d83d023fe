//! Rows of the Windows and compliance notes that are about whole sessions, end to end.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::certificate::{CertificateStatus, Purpose};
use muster::domain::command::{State as OrderState, Verb as OrderVerb};
use muster::domain::compliance::State as Verdict;
use muster::domain::desired::{Record, State};
use muster::domain::device::State as DeviceState;
use muster::domain::enrollment::State as EnrollmentState;
use muster::ids::DeviceId;
use muster::service::device::{self, Custom, Order};
use muster::service::profile::{self, Draft};
use muster::sim::windows::Device;
use muster::sim::windows::enroll::Machine;
use muster::store::certificates::{self, Search};
use muster::store::{compliance, devices, enrollments, outbox};
use muster::wire::locuri::Scope;
use muster::wire::syncml::{Command, Operation, SyncMl, Verb};

use crate::support::windows::{House, by, key};
use crate::support::wire::{only_device, sync};

/// What the device was told, in order, with those inside of an Atomic; and forgets it.
fn told(device: &mut Device) -> Vec<Operation> {
    let heard = device.heard.replace(Vec::new()).unwrap();
    let mut all = Vec::new();
    for command in heard.iter().flat_map(|answer| SyncMl::decode(answer).unwrap().body) {
        match command {
            Command::Operation(operation) => all.push(operation),
            Command::Atomic(group) => all.extend(group.commands.into_iter().filter_map(|inner| match inner {
                Command::Operation(operation) => Some(operation),
                _ => None,
            })),
            _ => {}
        }
    }
    all
}

fn uri(operation: &Operation) -> &str {
    &operation.items[0].target.as_ref().unwrap().uri
}

async fn record(house: &House) -> Record {
    let item = house.items(&only_device(house).await).await.remove(0).item;
    item.detail.records.into_values().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_hello_is_turned_on_last_read_back_and_taken_away() {
    let house = House::new().await;
    let profile = house.assign_baseline("windows-hello-for-business").await;
    let mut device = house.enroll(1).await;
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    let root = "./Device/Vendor/MSFT/PassportForWork/";
    let told_of_hello = |device: &mut Device| -> Vec<(Verb, String)> {
        let all = told(device).into_iter().map(|operation| (operation.verb, uri(&operation).to_owned()));
        all.filter(|(_, uri)| uri.starts_with(root)).collect()
    };
    let all = told_of_hello(&mut device);
    assert!(all.iter().all(|(_, uri)| !uri.contains(['{', '}']) && !uri.contains("%7B")), "{all:?}");
    let first = |name: &str| all.iter().position(|(verb, uri)| *verb != Verb::Get && uri.ends_with(name)).unwrap();
    let writes = all.iter().take_while(|(verb, _)| *verb == Verb::Replace).count();
    assert!(writes > 9 && first("/UsePassportForWork") == writes - 1, "{all:?}");
    assert!(first("/MaximumPINLength") < first("/MinimumPINLength"), "the greatest is raised before the least");
    let asked = |uri: &String| all.iter().any(|(verb, other)| *verb == Verb::Get && other == uri);
    assert!(all.iter().filter(|(verb, _)| *verb == Verb::Replace).all(|(_, uri)| asked(uri)), "each is read back");
    profile::delete(&house.server.app, &profile, &by()).await.unwrap();
    device.settle().await.unwrap();
    let gone = told_of_hello(&mut device);
    assert!(gone.iter().filter(|(verb, _)| *verb == Verb::Delete).count() == writes, "{gone:?}");
    assert!(device.tree.leaves(root.trim_end_matches('/')).is_empty());
}

fn certificate() -> Draft {
    Draft::parse(
        "display_name = \"certificate\"\nkind = \"configuration\"\nplatform = \"windows\"\n[[document.payloads]]\ntype = \"scep\"\n\
         name = \"one\"\n[document.payloads.template]\nsubject = \"CN={{DeviceId}}\"\ndays = 365\n",
    )
    .unwrap()
}

/// The name of the device's only request.
fn request(device: &Device) -> String {
    let leaves = device.tree.leaves("./Device/Vendor/MSFT/ClientCertificateInstall/SCEP");
    let status = leaves.keys().find(|uri| uri.ends_with("/Status")).expect("a request");
    status.rsplit('/').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_request_is_one_atomic_and_only_our_certificate_verifies_it() {
    let house = House::new().await;
    house.assign(certificate()).await;
    let mut device = house.enroll(1).await;
    device.heard = Some(Vec::new());
    device.session().await.unwrap();
    let all = told(&mut device);
    let install: Vec<&Operation> =
        all.iter().filter(|operation| uri(operation).contains("/SCEP/") && operation.verb != Verb::Get).collect();
    let (last, adds) = install.split_last().unwrap();
    assert!(last.verb == Verb::Exec && uri(last).ends_with("/Install/Enroll") && adds.iter().all(|add| add.verb == Verb::Add));
    let usage = adds.iter().find(|add| uri(add).ends_with("/KeyUsage")).unwrap();
    assert_eq!(usage.items[0].data.as_ref().unwrap().as_str(), "160");

    // A certificate of somebody else.
    device.tree.scep_done(Scope::Device, &request(&device), &"AB".repeat(20), "https://elsewhere.example");
    house.server.clock.advance(MINUTE);
    sync(&house).await;
    device.session().await.unwrap();
    let foreign = record(&house).await;
    assert_ne!(foreign.state, State::Verified);
    assert_eq!(foreign.original_error, Some(format!("unknown certificate {}", "AB".repeat(20))));

    // The device fails, and says why.
    house.server.clock.advance(10 * MINUTE);
    device.session().await.unwrap();
    device.tree.scep_failed(Scope::Device, &request(&device), 0x8018_0004_u32.cast_signed());
    house.server.clock.advance(HOUR);
    sync(&house).await;
    device.session().await.unwrap();
    let failed = record(&house).await;
    assert_eq!((failed.status, failed.original_error), (Some(16), Some(0x8018_0004_u32.cast_signed().to_string())));
    assert_ne!(failed.state, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_a_wiped_device_is_as_good_as_gone_and_the_one_that_enrols_after_it_is_not_wiped() {
    let house = House::new().await;
    let app = &house.server.app;
    let known = || Order::Known("wipe".into());
    let node =
        |verb| Custom { verb, uri: "./Vendor/MSFT/RemoteWipe/doWipeProtected".into(), format: Some("chr".into()), data: Some("1".into()) };
    // Once the wipe is acknowledged, once its answer is lost, once it is ordered by its address.
    let by_hand = Order::Custom(node(OrderVerb::Exec));
    let cases = [(known(), "wipe", true), (known(), "wipe", false), (by_hand, "wipe-protected", true)];
    for (number, (order, ran, acknowledged)) in (1..).zip(cases) {
        let mut device = house.enroll(number).await;
        device.settle().await.unwrap();
        let id = house.device_ids().await.pop().unwrap();
        let order = device::command(app, &id, order, true, &by()).await.unwrap().id;
        device.faults.mute_after = (!acknowledged).then_some(1);
        assert_eq!(device.session().await.is_ok(), acknowledged);
        assert_eq!((device.ran.get(ran), device.left), (Some(&1), true));
        let orders = device::orders(app, &id, 10).await.unwrap();
        let state = orders.into_iter().find(|one| one.id == order).map(|one| one.state);
        assert_eq!(state == Some(OrderState::Done), acknowledged, "{state:?}");
        assert_eq!(states(&house, &id).await.0 == DeviceState::Retiring, acknowledged);
        let sign_in = house.sign_in().await;
        let machine = Machine::windows_11(number);
        let mut again = Device::enroll(&house.roots(), &house.discovery(), machine, &sign_in, &key()).await.unwrap();
        again.settle().await.unwrap();
        assert_eq!(again.ran.get(ran), None);
        assert_eq!(states(&house, &id).await, (DeviceState::Managed, Some(EnrollmentState::Active)));
        assert_eq!(house.device_ids().await.len(), usize::try_from(number).unwrap());
    }
}

/// The states of a device and of its enrolment that has not ended.
async fn states(house: &House, id: &DeviceId) -> (DeviceState, Option<EnrollmentState>) {
    let of = id.clone();
    let read =
        house.server.app.store.read(move |c| Ok((devices::load_device(c, &of)?.state, enrollments::find_current_enrollment(c, &of)?)));
    let (state, current) = read.await.unwrap();
    (state, current.map(|current| current.state))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pc_that_acknowledged_a_wipe_ends_by_its_silence_and_is_told_to_leave_when_it_comes_after_all() {
    for comes in [false, true] {
        let house = House::new().await;
        let app = &house.server.app;
        house.assign_baseline("scep-device-certificate").await;
        let mut device = house.enroll(1).await;
        device.settle().await.unwrap();
        let id = only_device(&house).await;
        device::command(app, &id, Order::Known("wipe".into()), true, &by()).await.unwrap();
        device.session().await.unwrap();
        assert_eq!(states(&house, &id).await, (DeviceState::Retiring, Some(EnrollmentState::Unenrolling)));
        // What it had is good for nothing; only its identity is, in case it comes.
        let of = id.clone();
        let search = Search { device: Some(of), ..Search::default() };
        let all = app.store.read(move |c| certificates::list_certificates(c, &search, 10)).await.unwrap();
        let good: Vec<_> = all.iter().filter(|c| c.status == CertificateStatus::Active).map(|c| c.grant.purpose).collect();
        assert_eq!((all.len(), good), (2, vec![Purpose::MdmIdentity]));
        assert!(!verdict(&house).await.1, "it is not compliant any more");
        if comes {
            // Its power was cut, and it is as it was.
            device.left = false;
            device.settle().await.unwrap();
            assert_eq!(device.ran.get("unenroll"), Some(&1));
        } else {
            device::end_silent(app).await.unwrap();
            assert_eq!(states(&house, &id).await.1, Some(EnrollmentState::Unenrolling), "not at once");
            house.server.clock.advance(DAY);
            device::end_silent(app).await.unwrap();
        }
        assert_eq!(states(&house, &id).await, (DeviceState::Retired, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_cut_off_who_was_only_asked_about_a_wipe_or_who_keeps_the_enrolment() {
    let house = House::new().await;
    let app = &house.server.app;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let id = only_device(&house).await;
    let ask = |uri: &str| Order::Custom(Custom { verb: OrderVerb::Get, uri: uri.into(), format: None, data: None });
    for order in [
        ask("./Device/Vendor/MSFT/RemoteWipe/doWipe"),
        ask("./Device/Vendor/MSFT/RemoteWipe/doWipeNothing/doWipe"),
        Order::Known("wipe-keep-user-data".into()),
        Order::Known("wipe-keep-provisioning".into()),
        Order::Known("autopilot-reset".into()),
    ] {
        device::command(app, &id, order, true, &by()).await.unwrap();
        device.settle().await.unwrap();
        assert_eq!(states(&house, &id).await, (DeviceState::Managed, Some(EnrollmentState::Active)));
    }
    assert!(device.ran.contains_key("wipe-keep-user-data") && device.ran.contains_key("autopilot-reset"));
}

/// State and what consumers see, and how many signals wait.
async fn verdict(house: &House) -> (Verdict, bool) {
    let id = only_device(house).await;
    let stored = house.server.app.store.read(move |c| compliance::find_verdict(c, &id)).await.unwrap().unwrap();
    (stored.verdict.state, stored.verdict.compliant)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_bitlocker_and_a_firewall_that_starts_are_judged_by_what_the_device_says() {
    let house = House::new().await;
    house.assign_baseline("windows-compliance").await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    assert_eq!(verdict(&house).await, (Verdict::Compliant, true));
    let says = async |device: &mut Device, name: &str, value: &str| {
        assert!(device.tree.set_fact(name, value, "Muster"));
        sync(&house).await;
        house.server.clock.advance(MINUTE);
        device.settle().await.unwrap();
    };
    says(&mut device, "device-status.firewall-status", "3").await;
    assert_eq!(verdict(&house).await, (Verdict::Error, true), "right after the start it says nothing");
    says(&mut device, "device-status.firewall-status", "0").await;
    assert_eq!(verdict(&house).await, (Verdict::Compliant, true));
    device.tree.switch_bitlocker(false);
    sync(&house).await;
    device.settle().await.unwrap();
    assert_eq!(verdict(&house).await, (Verdict::Noncompliant, false));
    device.tree.switch_bitlocker(true);
    sync(&house).await;
    device.settle().await.unwrap();
    assert_eq!(verdict(&house).await, (Verdict::Compliant, true));
    let rows = house.server.app.store.read(|c| outbox::list_rows(c, "queued", 0, 10)).await.unwrap();
    assert!(rows.is_empty(), "nobody receives signals here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_policies_the_stricter_holds_and_a_pin_that_cannot_be_is_not_asked_for() {
    let house = House::new().await;
    let policy = |name: &str, length: u32| {
        Draft::parse(&format!(
            "display_name = \"{name}\"\nkind = \"compliance\"\nplatform = \"windows\"\n[document.compliance]\ngrace_hours = 0\n\
             [document.compliance.rules]\npasswordRequired = true\npasswordMinimumLength = {length}\n"
        ))
        .unwrap()
    };
    house.assign(policy("loose", 8)).await;
    house.assign(policy("strict", 12)).await;
    let pin = |name: &str, id: &str, value: u32| {
        Draft::parse(&format!(
            "display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n\
             \"passport-for-work.pin-complexity.{id}-pin-length\" = {value}\n"
        ))
        .unwrap()
    };
    house.assign(pin("long", "minimum", 10)).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    house.assign(pin("short", "maximum", 8)).await;
    device.settle().await.unwrap();
    let lock = "./Device/Vendor/MSFT/Policy/Config/DeviceLock/MinDevicePasswordLength";
    assert_eq!(device.tree.get(lock), Some("12"));
    let pins = format!("./Device/Vendor/MSFT/PassportForWork/{}/Policies/PINComplexity", house.server.app.tenant);
    let held: Vec<_> = device.tree.leaves(&pins).into_values().collect();
    assert_eq!(held, ["10"]);
    let items = house.items(&only_device(&house).await).await;
    let of = |name: &str| items.iter().find(|loaded| loaded.name == name).unwrap().item.state;
    assert_eq!((of("long"), of("short")), (State::Verified, State::Conflict));
    assert_eq!((of("strict"), of("loose")), (State::Verified, State::Conflict));
    assert_eq!(verdict(&house).await, (Verdict::Compliant, true));
}
