//! Orders to Apple devices: each is a command of Apple's schema, its answer has an effect once, and a device that cannot do it, or cannot
//! do it now, leaves things as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::catalogue::catalogue;
use muster::clock::{HOUR, MINUTE};
use muster::domain::apple::escrow::Kind;
use muster::domain::command::State;
use muster::domain::device::Platform;
use muster::domain::{Refusal, inventory};
use muster::ids::{DeviceId, EnrollmentId};
use muster::service::device::{self, Order};
use muster::service::{Error, apple};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::apple::channels::{self, Channel, DEVICE};
use muster::store::{audit, devices, enrollments, facts};
use muster::wire::apple::Who;
use muster::wire::apple::command::{Answer, Cause, Command, Status};
use muster::wire::plist::Dict;

use crate::apple_enroll::on;
use crate::apple_escrow::{enrolled, kinds, order, reveal, rows};
use crate::desired as desired_rows;
use crate::support::apple::{Account, judge};
use crate::support::apple_schema::{Target, schema};
use crate::support::windows::{House, by};

fn with(id: &str, values: &[(&str, &str)]) -> Order {
    Order::With(id.into(), values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// The beginning of a picture.
pub const PNG: &str = "iVBORw0KGgo=";

/// A signed file, as far as anybody looks before the device does.
pub fn provisioning_profile() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| STANDARD.encode(muster::wire::cms::degenerate(&[], &[])));
    &TEXT
}

/// Orders with the values that they need.
pub fn examples() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        ("clear-activation-lock-code", vec![]),
        ("clear-passcode", vec![]),
        ("create-administrator", vec![("name", "admin"), ("full-name", "Admin"), ("hidden", "yes"), ("standard", "yes")]),
        ("delete-user", vec![("user", "ben")]),
        ("disable-lost-mode", vec![]),
        ("disable-remote-desktop", vec![]),
        ("enable-lost-mode", vec![("message", "Please call"), ("phone", "+43 1"), ("footnote", "Example")]),
        ("enable-remote-desktop", vec![]),
        ("install-book", vec![("store-id", "42")]),
        ("install-provisioning-profile", vec![("profile", provisioning_profile())]),
        ("keep-activation-lock-code", vec![]),
        ("lights-out", vec![("device", "01900000-0000-7000-8000-000000000000"), ("action", "on"), ("dns-name", "other.example.org")]),
        ("lights-out-setup", vec![]),
        ("list-applications", vec![]),
        ("list-books", vec![]),
        ("list-extensions", vec![]),
        ("list-provisioning-profiles", vec![]),
        ("list-restrictions", vec![("profiles", "yes")]),
        ("list-updates", vec![]),
        ("list-users", vec![]),
        ("locate", vec![]),
        ("lock", vec![("pin", "123456")]),
        ("log-out-user", vec![]),
        ("play-sound", vec![]),
        ("reboot", vec![]),
        ("refresh-cellular-plans", vec![("url", "https://esim.example.org/x")]),
        ("remove-book", vec![("store-id", "42")]),
        ("remove-provisioning-profile", vec![("uuid", "11111111-2222-3333-4444-555555555555")]),
        ("rotate-filevault-key", vec![]),
        ("scan-updates", vec![("force", "yes")]),
        ("schedule-update", vec![("version", "99.0"), ("action", "InstallASAP")]),
        ("set-accessibility", vec![("bold-text", "yes"), ("text-size", "7")]),
        ("set-administrator-password", vec![]),
        (
            "set-application-attributes",
            vec![
                ("application", "org.example.app"),
                ("vpn", "V"),
                ("associated-domains", "a.example.org, b.example.org"),
                ("removable", "no"),
            ],
        ),
        ("set-bluetooth", vec![("bluetooth", "no")]),
        ("set-data-roaming", vec![("data-roaming", "yes")]),
        ("set-diagnostics", vec![("diagnostics", "no"), ("app-analytics", "no")]),
        ("set-device-name", vec![("device-name", "Front desk")]),
        ("set-firmware-password", vec![("allow-oroms", "no")]),
        ("set-host-name", vec![("host-name", "front-desk")]),
        ("set-management-options", vec![("activation-lock", "yes")]),
        ("set-organization", vec![("organization", "Example"), ("organization-short", "Ex"), ("organization-email", "it@example.org")]),
        ("set-personal-hotspot", vec![("personal-hotspot", "no")]),
        ("set-recovery-lock", vec![]),
        ("set-shared-ipad", vec![("quota", "4096"), ("user-timeout", "0"), ("domains", "example.org"), ("await-users", "yes")]),
        ("set-time-zone", vec![("time-zone", "Europe/Vienna")]),
        ("set-wallpaper", vec![("image", PNG), ("screen", "lock")]),
        ("show-content-caching", vec![]),
        ("shut-down", vec![]),
        ("unlock-user", vec![("user", "ana")]),
        ("update-status", vec![]),
        ("validate-applications", vec![("applications", "org.example.app")]),
        ("verify-firmware-password", vec![]),
        ("verify-recovery-lock", vec![]),
        ("wipe", vec![]),
    ]
}

/// A device as far as the command channel sees it: it answers what it is told to answer.
struct Line {
    house: House,
    device: DeviceId,
    enrollment: EnrollmentId,
}

impl Line {
    async fn of(platform: Platform) -> Self {
        let line = Self::on(House::new().await, platform).await;
        // What it is asked about itself is answered once, so that nothing but orders follows.
        line.exchange(|_| (Status::Acknowledged, Dict::new())).await;
        line
    }

    async fn on(house: House, platform: Platform) -> Self {
        let now = house.server.app.now();
        let row = desired_rows::device("Device", platform, None);
        let enrollment = desired_rows::enrollment(&row, now);
        let (device, id) = (row.id.clone(), enrollment.id.clone());
        let channel = Channel { awaiting_since: Some(now), ..Channel::new(id.clone(), DEVICE, "com.apple.mgmt.External.x") };
        let fill = move |tx: &mut muster::store::Tx<'_>| {
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &enrollment)?;
            channels::insert_channel(tx, &channel)
        };
        house.server.app.store.write(fill).await.unwrap();
        Self { house, device, enrollment: id }
    }

    /// Makes it what the orders need.
    async fn is(&self, facts_: &[(&str, &str)]) {
        let (device, now) = (self.device.clone(), self.house.server.app.now());
        let of = |(name, value): &(&str, &str)| muster::domain::fact::Fact {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            status: 200,
            source: "test".into(),
            observed_at: now.plus(1),
            next_at: Some(now.plus(1000 * HOUR)),
        };
        let all: Vec<_> = facts_.iter().map(of).collect();
        self.house.server.app.store.write(move |tx| facts::upsert_facts(tx, &device, &all).map(|_| ())).await.unwrap();
    }

    async fn say(&self, status: Status, uuid: Option<String>, body: Dict) -> Option<Command> {
        let errors = if status == Status::Error { vec![Cause { error_code: 12, ..Cause::default() }] } else { Vec::new() };
        let answer = Answer { who: Who::device("U"), status, command_uuid: uuid, errors, body };
        let bytes = apple::receive(&self.house.server.app, &self.enrollment, DEVICE, &answer, "test").await.unwrap();
        (!bytes.is_empty()).then(|| Command::decode(&bytes).unwrap())
    }

    /// One exchange, each command answered as it says: the commands.
    async fn exchange(&self, mut reply: impl FnMut(&Command) -> (Status, Dict)) -> Vec<Command> {
        let mut all = Vec::new();
        let mut next = self.say(Status::Idle, None, Dict::new()).await;
        while let Some(command) = next {
            assert!(all.len() < 20, "{all:?}");
            let (status, body) = reply(&command);
            next = self.say(status, Some(command.uuid.clone()), body).await;
            all.push(command);
        }
        all
    }

    async fn order(&self, id: &str, values: &[(&str, &str)]) -> Result<String, Error> {
        device::command(&self.house.server.app, &self.device, with(id, values), true, &by()).await.map(|order| order.id.to_string())
    }

    async fn state(&self, id: &str) -> State {
        let all = device::orders(&self.house.server.app, &self.device, 1000).await.unwrap();
        all.into_iter().find(|order| order.id.as_str() == id).unwrap().state
    }
}

/// What orders need a device to be, beside its chip.
const READY: [(&str, &str); 6] = [
    ("apple.supervised", "true"),
    ("ios.shared", "true"),
    ("ios.lost-mode", "true"),
    ("macos.automated", "true"),
    ("macos.administrator", "GUID"),
    ("apple.product-name", "x"),
];

/// Every order on every platform that has it: put off it waits and comes again the same, refused it fails, acknowledged without a word it
/// ends, and a second answer to it changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_is_a_command_of_the_schema_and_ends_once() {
    let examples: BTreeMap<&str, Vec<(&str, &str)>> = examples().into_iter().collect();
    let known: BTreeSet<&str> = catalogue().commands().filter(|row| !row.request.is_empty()).map(|row| row.id.as_str()).collect();
    assert_eq!(known, examples.keys().copied().filter(|id| *id != "unenroll").collect(), "an example for each");
    for platform in [Platform::MacOs, Platform::Ios] {
        let line = Line::of(platform).await;
        line.is(&READY).await;
        let word = platform.as_str();
        for row in catalogue().commands().filter(|row| row.is_of(word) && row.id != "wipe") {
            // These need something that is kept; they have tests of their own.
            let apart = ["clear-passcode", "rotate-filevault-key", "verify-recovery-lock", "verify-firmware-password", "lights-out"];
            let by_user = platform == Platform::MacOs && ["install-book", "list-extensions"].contains(&row.id.as_str());
            if apart.contains(&row.id.as_str()) || by_user {
                continue;
            }
            line.is(&[("apple.apple-silicon", if row.id.contains("firmware") { "false" } else { "true" })]).await;
            let values: Vec<(&str, &str)> =
                examples[row.id.as_str()].iter().copied().filter(|(name, _)| platform == Platform::MacOs || *name != "pin").collect();
            let target =
                if platform == Platform::MacOs { Target::mac("15.1") } else { Target { supervised: true, ..Target::iphone("18.1") } };
            let judged = |command: &Command| {
                assert_eq!(command.request_type, row.request, "{}", row.id);
                let Some(schema) = schema() else { return };
                let findings = schema.command(&command.to_value(), target);
                assert!(findings.is_empty(), "{}: {findings:#?}", row.id);
            };
            // Not now: it waits, and comes again under the same name.
            let id = line.order(&row.id, &values).await.unwrap_or_else(|e| panic!("{} on {word}: {e}", row.id));
            let first = line.exchange(|_| (Status::NotNow, Dict::new())).await;
            first.iter().for_each(judged);
            assert_eq!((first.len(), line.state(&id).await), (1, State::Queued), "{}", row.id);
            // Refused.
            let again = line
                .exchange(|command| {
                    if command.request_type == row.request { (Status::Error, Dict::new()) } else { (Status::Acknowledged, Dict::new()) }
                })
                .await;
            assert_eq!(again[0].uuid, first[0].uuid, "{}", row.id);
            let tried_again = row.request.starts_with("SetRecovery") || row.request.starts_with("SetFirmware");
            assert_eq!(line.state(&id).await, if tried_again { State::Queued } else { State::Failed }, "{}", row.id);
            if tried_again {
                device::cancel(&line.house.server.app, &id, &by()).await.unwrap();
                continue;
            }
            // Acknowledged without a word.
            let id = line.order(&row.id, &values).await.unwrap();
            let mut told = Vec::new();
            let mut next = line.say(Status::Idle, None, Dict::new()).await;
            while let Some(command) = next {
                judged(&command);
                next = line.say(Status::Acknowledged, Some(command.uuid.clone()), Dict::new()).await;
                told.push(command);
            }
            let ended = line.state(&id).await;
            assert!(told.len() == 1 && matches!(ended, State::Done | State::Failed), "{} {ended:?}", row.id);
            // Again, and as an error: nothing moves any more.
            let before = line.house.server.app.store.read(|c| audit::list(c, 0, 100_000)).await.unwrap().len();
            for status in [Status::Acknowledged, Status::Error, Status::NotNow] {
                assert!(line.say(status, Some(told[0].uuid.clone()), Dict::new()).await.is_none(), "{}", row.id);
                assert_eq!(line.state(&id).await, ended, "{}", row.id);
            }
            let after = line.house.server.app.store.read(|c| audit::list(c, 0, 100_000)).await.unwrap().len();
            assert_eq!(before, after, "{}", row.id);
            line.is(&READY).await;
        }
    }
}

/// A device, an order, and values that it does not take.
type Wrong<'a> = (&'a Line, &'a str, &'a [(&'a str, &'a str)]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_an_order_does_not_take_are_refused() {
    let mac = Line::of(Platform::MacOs).await;
    mac.is(&READY).await;
    let phone = Line::of(Platform::Ios).await;
    phone.is(&READY).await;
    let cases: [Wrong<'_>; 48] = [
        (&mac, "reboot", &[("message", "x")]),
        (&mac, "set-recovery-lock", &[("clear", "maybe")]),
        (&mac, "set-device-name", &[]),
        (&mac, "set-device-name", &[("device-name", " ")]),
        (&mac, "set-device-name", &[("device-name", "a\nb")]),
        (&mac, "set-device-name", &[("host-name", "x")]),
        (&mac, "set-organization", &[("organization-email", "x")]),
        (&mac, "set-bluetooth", &[("bluetooth", "on")]),
        (&mac, "unlock-user", &[]),
        (&mac, "delete-user", &[]),
        (&mac, "delete-user", &[("all", "yes")]),
        (&phone, "delete-user", &[("all", "yes"), ("user", "ana")]),
        (&phone, "enable-lost-mode", &[("footnote", "x")]),
        (&phone, "lock", &[("pin", "123456")]),
        (&mac, "lock", &[("pin", "12345")]),
        (&mac, "wipe", &[("pin", "12345x")]),
        (&mac, "wipe", &[("obliteration", "Never")]),
        (&phone, "wipe", &[("obliteration", "Always")]),
        (&mac, "wipe", &[("return-to-service", "yes")]),
        (&phone, "wipe", &[("wifi", "office")]),
        (&phone, "wipe", &[("keep-data-plan", "1")]),
        (&mac, "install-provisioning-profile", &[]),
        (&mac, "install-provisioning-profile", &[("profile", "a.mobileprovision")]),
        (&mac, "install-provisioning-profile", &[("profile", PNG)]),
        (&mac, "remove-provisioning-profile", &[]),
        (&phone, "validate-applications", &[("applications", "a,,b")]),
        (&phone, "install-book", &[]),
        (&phone, "install-book", &[("url", "http://x"), ("id", "a"), ("kind", "pdf")]),
        (&phone, "install-book", &[("url", "https://x"), ("id", "a"), ("kind", "doc")]),
        (&phone, "install-book", &[("url", "https://x"), ("kind", "pdf")]),
        (&phone, "install-book", &[("store-id", "1"), ("title", "x")]),
        (&phone, "remove-book", &[("store-id", "1"), ("id", "x")]),
        (&mac, "lights-out", &[("device", "MAC-1"), ("action", "on"), ("dns-name", "x")]),
        (&mac, "lights-out", &[("device", "01900000-0000-7000-8000-000000000000"), ("action", "up"), ("dns-name", "x")]),
        (&phone, "set-wallpaper", &[("image", "AAAA")]),
        (&phone, "set-wallpaper", &[("image", PNG), ("screen", "all")]),
        (&phone, "set-shared-ipad", &[("user-timeout", "5")]),
        (&phone, "set-accessibility", &[("text-size", "12")]),
        (&phone, "refresh-cellular-plans", &[("url", "http://x")]),
        (&phone, "set-management-options", &[("bootstrap-prompt", "yes")]),
        (&phone, "schedule-update", &[("version", "1"), ("action", "InstallLater")]),
        (&phone, "schedule-update", &[("version", "1"), ("priority", "High")]),
        (&mac, "schedule-update", &[("action", "InstallASAP")]),
        (&mac, "schedule-update", &[("version", "1"), ("deferrals", "3")]),
        (&mac, "schedule-update", &[("version", "1"), ("action", "InstallLater"), ("deferrals", "many")]),
        (&mac, "schedule-update", &[("version", "1"), ("priority", "Highest")]),
        (&mac, "create-administrator", &[("name", "Not A Name")]),
        (&mac, "create-administrator", &[("name", "admin"), ("hidden", "1")]),
    ];
    for (line, id, values) in cases {
        let refused = line.order(id, values).await;
        assert!(matches!(refused, Err(Error::Invalid(Refusal::ProfileValueRefused, _))), "{id} {values:?}: {refused:?}");
    }
    let long = "x".repeat(1025);
    assert!(matches!(mac.order("set-device-name", &[("device-name", &long)]).await, Err(Error::Invalid(Refusal::ProfileValueRefused, _))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_iphone_is_located_sealed_and_only_while_it_is_lost() {
    let house = on(House::new().await).await;
    let (mut phone, id) = enrolled(&house, Machine { supervised: true, ..Machine::iphone(1) }).await;
    Account::open(&mut phone);
    assert_eq!(order(&house, &mut phone, &id, with("enable-lost-mode", &[("message", "Please call")])).await, State::Done);
    assert_eq!(phone.settings.lost.as_deref(), Some("Please call"));
    let notes = device::show(&house.server.app, &id).await.unwrap().notes;
    assert!(notes.concat().contains("marked as lost"), "{notes:?}");
    assert_eq!(order(&house, &mut phone, &id, with("play-sound", &[])).await, State::Done);
    assert_eq!(order(&house, &mut phone, &id, with("locate", &[])).await, State::Done);
    let place = reveal(&house, &id, Kind::Location).await.unwrap();
    assert!(place.contains("48.2") && place.contains("16.37") && place.contains("2026-01-02T03:04:05Z"), "{place}");
    let found = rows(&house).await;
    assert!(found.contains(r#"cli:test escrow.read {"kind":"location""#) && !found.contains("48.2"), "{found}");
    let shown = device::orders(&house.server.app, &id, 100).await.unwrap();
    assert!(shown.iter().all(|order| !order.result.as_deref().unwrap_or_default().contains("48.2")));
    assert_eq!(order(&house, &mut phone, &id, with("disable-lost-mode", &[])).await, State::Done);
    assert_eq!(device::show(&house.server.app, &id).await.unwrap().notes, [""; 0]);
    assert!(!kinds(&house, &id).await.contains(&Kind::Location), "forgotten when it was found");
    judge(&mut phone, Target { supervised: true, ..Target::iphone("18.1") });

    // Somebody else ended the lost mode: what the device says of itself counts.
    order(&house, &mut phone, &id, with("enable-lost-mode", &[("phone", "1")])).await;
    order(&house, &mut phone, &id, with("locate", &[])).await;
    assert!(kinds(&house, &id).await.contains(&Kind::Location));
    phone.settings.lost = None;
    assert_eq!(order(&house, &mut phone, &id, with("locate", &[])).await, State::Failed);
    house.server.clock.advance(25 * HOUR);
    phone.settle().await.unwrap();
    assert!(!kinds(&house, &id).await.contains(&Kind::Location));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_for_activation_lock_is_kept() {
    let house = on(House::new().await).await;
    for machine in [Machine { supervised: true, ..Machine::iphone(2) }, Machine::mac(2)] {
        let (mut device, id) = enrolled(&house, machine).await;
        let code = device.settings.bypass_code.clone().unwrap();
        assert_eq!(order(&house, &mut device, &id, with("keep-activation-lock-code", &[])).await, State::Done);
        assert_eq!(reveal(&house, &id, Kind::ActivationLock).await.unwrap(), code);
        assert_eq!(order(&house, &mut device, &id, with("clear-activation-lock-code", &[])).await, State::Done);
        assert_eq!(device.settings.bypass_code, None);
        assert_eq!(order(&house, &mut device, &id, with("keep-activation-lock-code", &[])).await, State::Failed);
        assert_eq!(reveal(&house, &id, Kind::ActivationLock).await.unwrap(), code, "it may still be the one that Apple knows");
        assert!(!rows(&house).await.contains(&code));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_kept_and_users_and_updates_obey() {
    let house = on(House::new().await).await;
    let list = async |id: &DeviceId, kind| device::inventory(&house.server.app, id, kind).await.map(|(list, _)| list.entries);
    let (mut mac, id) = enrolled(&house, Machine::mac(3)).await;
    Account::open(&mut mac);
    assert!(matches!(list(&id, inventory::Kind::Applications).await, Err(Error::NotFound(_))));
    for ask in ["list-applications", "list-users", "list-updates", "update-status"] {
        assert_eq!(order(&house, &mut mac, &id, with(ask, &[])).await, State::Done, "{ask}");
    }
    assert_eq!(list(&id, inventory::Kind::Applications).await.unwrap()[2]["Identifier"], "org.example.app2");
    assert_eq!(list(&id, inventory::Kind::Users).await.unwrap()[0]["UserName"], "ana");
    assert_eq!(list(&id, inventory::Kind::Updates).await.unwrap()[0]["ProductKey"], "MSU_UPDATE_1");
    assert_eq!(list(&id, inventory::Kind::UpdateStatus).await.unwrap().len(), 0);

    let update = |which: &'static str| with("schedule-update", &[("version", which), ("action", "InstallLater"), ("deferrals", "3")]);
    assert_eq!(order(&house, &mut mac, &id, update("99.0")).await, State::Done);
    assert_eq!(mac.settings.updates, ["99.0 InstallLater"]);
    assert_eq!(order(&house, &mut mac, &id, update("1.0")).await, State::Failed, "acknowledged, and not on offer");
    assert_eq!(order(&house, &mut mac, &id, with("update-status", &[])).await, State::Done);
    assert_eq!(list(&id, inventory::Kind::UpdateStatus).await.unwrap()[0]["Status"], "Installing");

    mac.settings.locked_users = vec!["ana".into()];
    assert_eq!(order(&house, &mut mac, &id, with("unlock-user", &[("user", "ana")])).await, State::Done);
    assert!(mac.settings.locked_users.is_empty());
    assert_eq!(order(&house, &mut mac, &id, with("delete-user", &[("user", "nobody")])).await, State::Failed);
    assert_eq!(order(&house, &mut mac, &id, with("delete-user", &[("user", "ben")])).await, State::Done);
    assert_eq!(mac.settings.users, ["ana"]);
    judge(&mut mac, Target::mac("15.1"));

    let (mut pad, id) = enrolled(&house, Machine { shared: true, supervised: true, ..Machine::iphone(3) }).await;
    assert_eq!(order(&house, &mut pad, &id, with("list-users", &[])).await, State::Done);
    assert_eq!(order(&house, &mut pad, &id, with("log-out-user", &[])).await, State::Done);
    assert_eq!(order(&house, &mut pad, &id, with("delete-user", &[("all", "yes"), ("force", "yes")])).await, State::Done);
    assert!(pad.settings.users.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_reach_the_device_and_each_that_fails_is_said() {
    let house = on(House::new().await).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(4)).await;
    Account::open(&mut mac);
    for (order_, values) in examples().into_iter().filter(|(id, _)| id.starts_with("set-")) {
        let row = catalogue().command(order_).unwrap();
        if row.request != "Settings" || !row.is_of("macos") {
            continue;
        }
        assert_eq!(order(&house, &mut mac, &id, with(order_, &values)).await, State::Done, "{order_}");
    }
    assert_eq!(mac.settings.told.keys().collect::<Vec<_>>(), ["Bluetooth", "DeviceName", "HostName", "MDMOptions", "OrganizationInfo"]);
    assert_eq!(mac.machine.name, "Front desk");
    for (order_, on) in [("enable-remote-desktop", true), ("disable-remote-desktop", false)] {
        assert_eq!(order(&house, &mut mac, &id, with(order_, &[])).await, State::Done);
        assert_eq!(mac.settings.remote_desktop, on);
        let shown = device::show(&house.server.app, &id).await.unwrap();
        let fact = shown.facts.iter().find(|fact| fact.name == "macos.remote-desktop").unwrap();
        assert_eq!(fact.value.as_deref(), Some(if on { "true" } else { "false" }));
    }
    judge(&mut mac, Target::mac("15.1"));

    // Supervision is taken away between the order and its delivery: the answer acknowledges the command, and not the setting.
    let (mut phone, id) = enrolled(&house, Machine { supervised: true, ..Machine::iphone(4) }).await;
    phone.machine.supervised = false;
    assert_eq!(order(&house, &mut phone, &id, with("set-time-zone", &[("time-zone", "Europe/Vienna")])).await, State::Failed);
    assert_eq!(order(&house, &mut phone, &id, with("set-data-roaming", &[("data-roaming", "no")])).await, State::Done);
    assert_eq!(order(&house, &mut phone, &id, with("refresh-cellular-plans", &[("url", "https://esim.example.org/")])).await, State::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_assistant_makes_an_administrator_whose_password_is_kept_and_changed() {
    let tweak = |config: &mut muster::config::Config| {
        config.apple.automated.administrator.name = "it-admin".into();
        config.apple.automated.administrator.full_name = "IT".into();
    };
    let house = on(House::tweaked(tweak).await).await;
    let machine = Machine { awaiting: true, automated: true, ..Machine::mac(5) };
    let profile = crate::apple_enroll::profile(&house).await;
    let mut mac = Device::enroll(&house.roots(), &profile, machine, &crate::support::windows::key()).await.unwrap();
    Account::open(&mut mac);
    // A first answer that gets lost makes no second password.
    mac.faults.mute_after = Some(1);
    assert!(mac.settle().await.is_err());
    mac.faults.mute_after = None;
    mac.settle().await.unwrap();
    let id = crate::apple_enroll::live(&house, &mac.machine.udid).await.unwrap().device_id;
    assert_eq!((mac.ran["AccountConfiguration"], mac.ran["DeviceConfigured"]), (1, 1), "before Setup Assistant goes on");
    let password = reveal(&house, &id, Kind::Admin).await.unwrap();
    let opens = |mac: &Device, password: &str| {
        let (name, hash) = mac.settings.administrator.clone().unwrap();
        assert_eq!(name, "it-admin");
        let outer = muster::wire::plist::decode_dict(&hash, muster::wire::plist::Limits::MESSAGE).unwrap();
        let inner = outer.dict("SALTED-SHA512-PBKDF2").unwrap();
        let rounds = usize::try_from(inner.integer("iterations").unwrap()).unwrap();
        let mut entropy = [0u8; 128];
        let (digest, salt) = (openssl::hash::MessageDigest::sha512(), inner.data("salt").unwrap());
        openssl::pkcs5::pbkdf2_hmac(password.as_bytes(), salt, rounds, digest, &mut entropy).unwrap();
        inner.data("entropy") == Some(&entropy[..])
    };
    assert!(opens(&mac, &password) && !opens(&mac, "wrong"));
    // The account's identifier is asked for once the Mac has said that it was enrolled from Setup Assistant.
    house.server.clock.advance(25 * HOUR);
    mac.settle().await.unwrap();
    assert_eq!(order(&house, &mut mac, &id, with("set-administrator-password", &[])).await, State::Done);
    let second = reveal(&house, &id, Kind::Admin).await.unwrap();
    assert!(second != password && opens(&mac, &second));
    assert!(!kinds(&house, &id).await.contains(&Kind::NextAdmin));
    let found = rows(&house).await;
    assert!(!found.contains(&password) && !found.contains(&second));
    judge(&mut mac, Target::mac("15.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_that_puts_the_administrator_off_is_let_out_of_setup_assistant_all_the_same() {
    let tweak = |config: &mut muster::config::Config| config.apple.automated.administrator.name = "it-admin".into();
    let line = Line::on(House::tweaked(tweak).await, Platform::MacOs).await;
    let puts_off = |command: &Command| {
        let put_off = command.request_type == "AccountConfiguration";
        let body = Dict::new().with("QueryResponses", Dict::new().with("OSVersion", "15.1"));
        (if put_off { Status::NotNow } else { Status::Acknowledged }, body)
    };
    let names = |commands: Vec<Command>| commands.into_iter().map(|command| command.request_type).collect::<Vec<_>>();
    let minutes = i64::from(line.house.server.app.config.apple.automated.await_minutes);
    let mut asked = 0;
    for minute in 0..minutes {
        let asks = names(line.exchange(puts_off).await);
        assert!(!asks.contains(&"DeviceConfigured".to_owned()), "{minute}");
        asked += asks.iter().filter(|name| *name == "AccountConfiguration").count();
        line.house.server.clock.advance(MINUTE);
    }
    assert_eq!(asked, usize::try_from(minutes).unwrap());
    // It is woken for that, whatever else is put off.
    let id = line.enrollment.clone();
    let work_at = line.house.server.app.store.read(move |c| enrollments::load_enrollment(c, &id)).await.unwrap().work_at.unwrap();
    assert!(work_at <= line.house.server.app.now(), "{work_at}");
    assert!(names(line.exchange(puts_off).await).contains(&"DeviceConfigured".to_owned()));
    assert_eq!(names(line.exchange(puts_off).await), [""; 0], "nor is it asked again");
}
