//! Windows management sessions at their limits: too much, too early, too late, taken back; over real TLS.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::command::{State as OrderState, Verb as OrderVerb};
use muster::domain::desired::State;
use muster::domain::device::State as DeviceState;
use muster::domain::fact::Fact;
use muster::service::device;
use muster::service::profile::Draft;
use muster::sim::windows::enroll::Machine;
use muster::sim::windows::{Device, Error};
use muster::store::{audit, devices, enrollments, facts};
use muster::wire::locuri::LocUri;
use muster::wire::syncml::{Address, Alert, Command, Data, Item, Meta, Operation, Status, SyncMl, Verb};

use crate::support::server::Options;
use crate::support::windows::{House, by, key};
use crate::support::wire::{Wire, header_status, only_device, order, rows, sync};

const REBOOT: &str = "./Device/Vendor/MSFT/Reboot/RebootNow";
const READ: &str = "./Vendor/MSFT/DeviceStatus/OS/Mode";

/// A server that puts two commands into a message at most.
async fn narrow() -> House {
    House::with(Options { tweak: Box::new(|config| config.windows.commands_per_message = 2), ..Options::default() }).await
}

async fn fact(house: &House, name: &str) -> Fact {
    let id = only_device(house).await;
    house.server.app.store.read(move |c| facts::list_for_device(c, &id)).await.unwrap().remove(name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_outside_of_the_push_service_is_refused_by_a_code_and_not_kept() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    let provider = house.server.app.config.windows.provider_id.clone();
    for (uri, kept) in [("https://db5p.notify.windows.com/?token=x", true), ("https://evil.example.org/?token=x", false)] {
        assert!(device.tree.set_fact("dm-client.channel-uri", uri, &provider));
        house.server.clock.advance(HOUR);
        device.settle().await.unwrap();
        let id = only_device(&house).await;
        let refused = move |c: &mut muster::store::Conn| {
            let rows = audit::list(c, 0, 10_000)?.into_iter().filter(|row| row.action == "channel.refused");
            Ok((
                enrollments::find_current_enrollment(c, &id)?.and_then(|current| current.channel_uri),
                rows.filter_map(|row| row.after).collect(),
            ))
        };
        let (channel, rows): (Option<String>, Vec<String>) = house.server.app.store.read(refused).await.unwrap();
        assert_eq!(channel.as_deref(), kept.then_some(uri));
        assert_eq!(rows.iter().any(|after| after.contains("SIG0005")), !kept, "{rows:?}");
    }
}

async fn states(house: &House) -> Vec<OrderState> {
    let orders = device::orders(&house.server.app, &only_device(house).await, 100).await.unwrap();
    orders.into_iter().rev().map(|order| order.state).collect()
}

fn setting(name: &str, value: &str) -> Draft {
    let text =
        format!("display_name = \"{name}\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n\"{name}\" = {value}\n");
    Draft::parse(&text).unwrap()
}

/// The numbers of the commands with that name.
fn ids(answer: &SyncMl, name: &str) -> Vec<String> {
    answer.body.iter().filter(|command| command.name() == name).filter_map(|command| Some(command.id()?.to_owned())).collect()
}

/// Says that all those commands of an answer were carried out.
fn done(answer: &SyncMl, name: &'static str) -> Vec<Command> {
    let mut statuses = vec![Status { msg_ref: answer.header.msg_id, cmd_ref: "0".into(), cmd: "SyncHdr".into(), ..Status::default() }];
    statuses.extend(ids(answer, name).into_iter().map(|cmd_ref| Status {
        msg_ref: answer.header.msg_id,
        cmd_ref,
        cmd: name.into(),
        ..Status::default()
    }));
    let numbered = statuses.into_iter().enumerate();
    numbered.map(|(at, status)| Command::Status(Status { id: Some((at + 1).to_string()), code: 200, ..status })).collect()
}

fn generic_alert(kind: &str, data: String) -> Command {
    let item = Item { meta: Meta { kind: Some(kind.to_owned()), ..Meta::default() }, data: Some(Data::Text(data)), ..Item::default() };
    Command::Alert(Alert { id: Some("90".into()), code: 1226, items: vec![item], ..Alert::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_says_at_length_is_not_kept() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let mut wire = Wire::new(&house, &device);
    let mut first = wire.first();
    let items = [("./DevInfo/Man", "m".repeat(100_000)), ("./DevInfo/Mod", "Virtual".to_owned())].map(|(uri, text)| Item {
        source: Some(Address::new(uri)),
        data: Some(Data::Text(text)),
        ..Item::default()
    });
    let replace = Operation { id: Some("2".into()), verb: Verb::Replace, meta: Meta::default(), correlator: None, items: items.into() };
    first.body.push(Command::Operation(replace));
    assert_eq!(header_status(&wire.send(&first).await).0, 200);
    let (long, short) = (fact(&house, "dev-info.manufacturer").await, fact(&house, "dev-info.model").await);
    assert_eq!((long.value, long.status), (None, 413));
    assert_eq!((short.value.as_deref(), short.status), (Some("Virtual"), 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_were_in_no_message_survive_their_session() {
    let house = narrow().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    for _ in 0..5 {
        order(&house, OrderVerb::Exec, REBOOT, None).await;
    }
    device.faults.drop_after = Some(1);
    device.session().await.unwrap_err();
    device.faults.drop_after = None;
    device.settle().await.unwrap();
    use OrderState::{Done, Uncertain};
    assert_eq!(states(&house).await, [Uncertain, Uncertain, Done, Done, Done]);
    assert_eq!(device.ran.get("reboot"), Some(&3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_taken_back_is_not_sent_by_a_session_that_holds_it() {
    let house = narrow().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    for _ in 0..5 {
        order(&house, OrderVerb::Exec, REBOOT, None).await;
    }
    let mut wire = Wire::new(&house, &device);
    let mut answer = wire.send(&wire.first()).await;
    let orders = device::orders(&house.server.app, &only_device(&house).await, 100).await.unwrap();
    // The newest was in no message yet, the oldest was.
    for taken_back in [&orders[0], &orders[4]] {
        device::cancel(&house.server.app, taken_back.id.as_str(), &by()).await.unwrap();
    }
    let mut heard = ids(&answer, "Exec").len();
    assert_eq!(heard, 2);
    for msg_id in 2..6 {
        answer = wire.send(&wire.message(msg_id, done(&answer, "Exec"))).await;
        let new = ids(&answer, "Exec").len();
        heard += new;
        if new == 0 {
            break;
        }
    }
    assert_eq!(heard, 4);
    use OrderState::{Cancelled, Done};
    assert_eq!(states(&house).await, [Cancelled, Done, Done, Done, Cancelled]);
    // That it ran all the same is written down.
    let late = rows(&house, "command.answered-late").await;
    assert!(late.len() == 1 && late[0].contains("\"status\":200"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_package_in_two_messages_that_says_nothing_new_is_taken_to_its_end() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let mut wire = Wire::new(&house, &device);
    let first = SyncMl { last: false, ..wire.first() };
    let answer = wire.send(&first).await;
    assert!(answer.body.iter().any(|command| matches!(command, Command::Alert(alert) if alert.code == 1222)), "{answer:?}");
    let second = wire.message(2, vec![Command::Alert(Alert { id: Some("1".into()), code: 1201, ..Alert::default() })]);
    assert_eq!(header_status(&wire.send(&second).await).0, 200);
    // The first part of a large object.
    wire.session = "78";
    let part = |text: &str, size, more| {
        let item = Item {
            source: Some(Address::new("./DevInfo/Man")),
            meta: Meta { size, ..Meta::default() },
            data: Some(Data::Text(text.into())),
            more,
            ..Item::default()
        };
        Command::Operation(Operation {
            id: Some("2".into()),
            verb: Verb::Replace,
            meta: Meta::default(),
            correlator: None,
            items: vec![item],
        })
    };
    let mut first = wire.first();
    first.body.push(part("Con", Some(6), true));
    wire.send(&first).await;
    assert_eq!(header_status(&wire.send(&wire.message(2, vec![part("oso", None, false)])).await).0, 200);
    assert_eq!(fact(&house, "dev-info.manufacturer").await.value.as_deref(), Some("Conoso"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_the_build_does_not_have_waits_for_an_upgrade() {
    let house = House::new().await;
    house.assign(setting("laps.passphrase-length", "5")).await;
    let machine = Machine { os_version: "10.0.19045.4000".into(), ..Machine::windows_11(1) };
    let sign_in = house.sign_in().await;
    let mut device = Device::enroll(&house.roots(), &house.discovery(), machine, &sign_in, &key()).await.unwrap();
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    let id = only_device(&house).await;
    assert_eq!(house.items(&id).await[0].item.state, State::NotApplicable);
    let named = |answer: &Vec<u8>| String::from_utf8_lossy(answer).contains("PassphraseLength");
    assert!(!device.heard.as_ref().unwrap().iter().any(named));
    device.tree.set("./DevDetail/SwV", "10.0.26100.4349");
    sync(&house).await;
    device.settle().await.unwrap();
    assert_eq!(house.items(&id).await[0].item.state, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_failure_takes_no_fact_back() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let row = muster::catalogue::catalogue().facts().find(|row| row.uri.ends_with("TPM/SpecificationVersion")).unwrap();
    let known = fact(&house, &row.name).await;
    assert!(known.value.is_some());
    let node = LocUri::parse(&known.source).unwrap();
    device.tree.faults.refuse.push((node, None, 500));
    house.server.clock.advance(HOUR);
    sync(&house).await;
    device.settle().await.unwrap();
    let now = fact(&house, &row.name).await;
    assert_eq!((&now.value, now.observed_at), (&known.value, known.observed_at));
    assert_eq!(now.next_at, Some(known.observed_at.plus(HOUR + 15 * MINUTE)), "it is asked again soon");
    // One that fails for ever may hide something.
    house.server.clock.advance(60 * DAY);
    device.settle().await.unwrap();
    let now = fact(&house, &row.name).await;
    assert_eq!((now.value, now.status), (None, 500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_that_mean_nothing_to_us_are_kept_a_few_of_them_and_cut() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let mut wire = Wire::new(&house, &device);
    let mut first = wire.first();
    first.body.extend((0..20).map(|_| generic_alert("com.example:something", "x".repeat(5000))));
    assert_eq!(header_status(&wire.send(&first).await).0, 200);
    let kept = rows(&house, "device.alert").await;
    assert_eq!(kept.len(), 8);
    assert!(kept.iter().all(|row| row.contains("com.example:something") && row.len() < 500), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_beside_a_farewell_count() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    order(&house, OrderVerb::Exec, REBOOT, None).await;
    order(&house, OrderVerb::Get, READ, None).await;
    let mut wire = Wire::new(&house, &device);
    let answer = wire.send(&wire.first()).await;
    let mut body = done(&answer, "Exec");
    body.push(generic_alert("com.microsoft:mdm.unenrollment.userrequest", "1".into()));
    let last = wire.message(2, body).encode();
    let (status, answer) = wire.post(&last).await;
    assert_eq!((status, header_status(&SyncMl::decode(&answer).unwrap()).0), (200, 200));
    assert_eq!(states(&house).await, [OrderState::Done, OrderState::Cancelled]);
    assert_eq!(rows(&house, "enrollment.end-by-user").await.len(), 1);
    assert_eq!(wire.post(&last).await, (200, answer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_says_of_itself_does_not_bring_a_retired_one_back() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let (app, id) = (&house.server.app, only_device(&house).await);
    let of = id.clone();
    let mut before = app.store.read(move |c| devices::load_device(c, &of)).await.unwrap();
    device::retire(app, &id, "cli:test", "local").await.unwrap();
    before.model = Some("Another".into());
    let now = app.now();
    let after = app.store.write(move |tx| {
        devices::update_inventory(tx, &before, now)?;
        devices::load_device(tx.conn(), &before.id)
    });
    let after = after.await.unwrap();
    assert_eq!((after.state, after.model.as_deref()), (DeviceState::Retiring, Some("Another")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_device_gets_and_gives_everything_in_parts() {
    let house = House::new().await;
    let long = "policy-".repeat(600);
    let mut device = house.enroll(1).await;
    device.faults.max_message = Some(2500);
    device.settle().await.unwrap();
    device.tree.set(READ, &long);
    order(&house, OrderVerb::Get, READ, None).await;
    device.settle().await.unwrap();
    let orders = device::orders(&house.server.app, &only_device(&house).await, 10).await.unwrap();
    assert_eq!(orders[0].state, OrderState::Done);
    assert!(orders[0].result.as_ref().unwrap().starts_with("200 policy-policy-"), "{:?}", orders[0].result);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_space_fails_its_profile_and_says_so() {
    let house = House::new().await;
    house.assign(setting("laps.password-length", "20")).await;
    let mut device = house.enroll(1).await;
    device.tree.faults.space = Some(0);
    device.settle().await.unwrap();
    let item = house.items(&only_device(&house).await).await.remove(0).item;
    let record = item.detail.records.values().next().unwrap();
    assert_eq!((item.state, record.status), (State::Failed, Some(420)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_not_quite_there_yet_is_waited_for() {
    let house = House::new().await;
    house.assign(setting("passport-for-work.pin-complexity.minimum-pin-length@user", "7")).await;
    let mut device = house.enroll(1).await;
    device.faults.slow_user = true;
    device.settle().await.unwrap();
    let id = only_device(&house).await;
    assert_eq!(house.items(&id).await[0].item.state, State::Pending);
    device.faults.slow_user = false;
    house.server.clock.advance(2 * HOUR);
    device.settle().await.unwrap();
    assert_eq!(house.items(&id).await[0].item.state, State::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_clock_is_wrong_signs_nothing_that_is_believed() {
    // Everybody here is a proxy that passes no certificate on: the signature has to do.
    let tweak = |config: &mut muster::config::Config| {
        config.proxies = vec!["127.0.0.1".parse().unwrap()];
        config.windows.sign_messages = true;
    };
    let house = House::with(Options { tweak: Box::new(tweak), system_clock: true, ..Options::default() }).await;
    let mut device = house.enroll(1).await;
    device.session().await.unwrap();
    device.faults.clock_skew = 10 * MINUTE;
    assert!(matches!(device.session().await, Err(Error::Http(403, _))));
    device.faults.clock_skew = 0;
    device.session().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_value_that_was_changed_meanwhile_settles_nothing_of_the_new_one() {
    const NODE: &str = "./Device/Vendor/MSFT/Policy/Config/DeviceLock/MinDevicePasswordLength";
    let length = |value: &str| setting("device-lock.min-device-password-length", value);
    let sent = |answer: &SyncMl| {
        let mut found = answer.body.iter().filter_map(|command| match command {
            Command::Operation(Operation { id, verb: Verb::Replace, items, .. }) => {
                let item = items.first().filter(|item| item.target.as_ref().is_some_and(|target| target.uri == NODE))?;
                Some((id.clone().unwrap(), item.data.as_ref().unwrap().as_str().to_owned()))
            }
            _ => None,
        });
        found.next()
    };
    for code in [200, 400, 500] {
        let house = House::new().await;
        let profile = house.assign(length("7")).await;
        let mut device = house.enroll(1).await;
        let mut wire = Wire::new(&house, &device);
        let first = wire.send(&wire.first()).await;
        let (id, value) = sent(&first).unwrap();
        assert_eq!(value, "7");
        muster::service::profile::apply(&house.server.app, length("5"), &by()).await.unwrap();
        let header = Status { msg_ref: 1, cmd_ref: "0".into(), cmd: "SyncHdr".into(), code: 200, ..Status::default() };
        let status = Status { msg_ref: first.header.msg_id, cmd_ref: id, cmd: "Replace".into(), code, ..Status::default() };
        let statuses = [header, status].into_iter().enumerate();
        let body = statuses.map(|(at, status)| Command::Status(Status { id: Some((at + 1).to_string()), ..status })).collect();
        let second = wire.send(&wire.message(2, body)).await;
        assert_eq!(
            sent(&second).map(|(_, value)| value).as_deref(),
            Some("5"),
            "after {code} to the old value the new one is sent at once"
        );
        device.settle().await.unwrap();
        assert_eq!(device.tree.get(NODE), Some("5"), "{code}");
        let item = house.items(&only_device(&house).await).await.into_iter().find(|loaded| loaded.item.profile_id == profile).unwrap().item;
        assert_eq!((item.state, item.detail.records.values().map(|record| record.tries).sum::<u32>()), (State::Verified, 0), "{code}");
    }
}
