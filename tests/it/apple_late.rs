//! What comes late: results after the device said that it is idle, and devices that were given up and come back.

use diesel::connection::SimpleConnection as _;
use muster::clock::HOUR;
use muster::domain::apple::escrow::Kind;
use muster::domain::command::State as OrderState;
use muster::domain::desired::State as DesiredState;
use muster::domain::device::State as DeviceState;
use muster::ids::DeviceId;
use muster::service::device::{self, Order};
use muster::service::profile::{self, Draft};
use muster::sim::apple::answers::encrypt;
use muster::sim::apple::machine::Machine;
use muster::sim::apple::{Device, Error};
use muster::store::{Conn, Tx};
use muster::wire::apple::Who;
use muster::wire::apple::command::{Answer, Command, Status};
use muster::wire::apple::profile::Profile;
use muster::wire::plist::{Data, Dict};

use crate::apple_enroll::{client, codes, enrolled, house, live, put};
use crate::apple_escrow::reveal;
use crate::support::windows::{House, by, key};

/// Says something by hand on the command channel; the next command.
pub async fn say(house: &House, device: &Device, status: Status, uuid: Option<&str>, body: Dict) -> Option<Command> {
    let who = Who::device(&device.machine.udid);
    let answer = Answer { who, status, command_uuid: uuid.map(str::to_owned), errors: Vec::new(), body };
    let (code, body) = put(&client(house, device), &device.enrollment.mdm.server_url, answer.encode().unwrap()).await;
    assert_eq!(code, 200);
    (!body.is_empty()).then(|| Command::decode(&body).unwrap())
}

pub async fn idle(house: &House, device: &Device) -> Option<Command> {
    say(house, device, Status::Idle, None, Dict::new()).await
}

async fn order(house: &House, id: &DeviceId, order: Order) -> muster::ids::CommandId {
    device::command(&house.server.app, id, order, true, &by()).await.unwrap().id
}

async fn state(house: &House, id: &DeviceId, order: &muster::ids::CommandId) -> OrderState {
    let all = device::orders(&house.server.app, id, 100).await.unwrap();
    all.into_iter().find(|known| known.id == *order).unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_comes_after_an_idle_settles_the_order() {
    let house = house().await;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    device.settle().await.unwrap();
    let id = live(&house, &device.machine.udid).await.unwrap().device_id;
    let lock = || Order::With("lock".into(), [("pin".to_owned(), "123456".to_owned())].into());
    for (status, expected) in [(Status::Acknowledged, OrderState::Done), (Status::Error, OrderState::Failed)] {
        let given = order(&house, &id, lock()).await;
        let command = idle(&house, &device).await.unwrap();
        assert_eq!(command.request_type, "DeviceLock");
        assert!(idle(&house, &device).await.is_none(), "not again");
        assert_eq!(state(&house, &id, &given).await, OrderState::Uncertain);
        for _ in 0..2 {
            assert!(say(&house, &device, status, Some(&command.uuid), Dict::new()).await.is_none());
            assert_eq!(state(&house, &id, &given).await, expected);
        }
    }
    // The audit log says what the device said, in a word.
    let rows = house.server.app.store.read(|c| muster::store::audit::list(c, 0, 1000)).await.unwrap();
    let ended: Vec<_> = rows.iter().filter(|row| row.action == "command.ended").filter_map(|row| row.after.as_deref()).collect();
    for status in ["\"status\":null", "\"status\":\"Acknowledged\"", "\"status\":\"Error\""] {
        assert!(ended.iter().any(|after| after.contains(status)), "{status} in {ended:?}");
    }
    // One that an administrator took back meanwhile stays so.
    let given = order(&house, &id, lock()).await;
    let command = idle(&house, &device).await.unwrap();
    idle(&house, &device).await;
    device::cancel(&house.server.app, given.as_str(), &by()).await.unwrap();
    assert!(say(&house, &device, Status::NotNow, Some(&command.uuid), Dict::new()).await.is_none());
    assert!(idle(&house, &device).await.is_none(), "and is never given");
    assert_eq!(state(&house, &id, &given).await, OrderState::Cancelled);
    // One that it took back after it was given stays so, too; that it ran all the same is written down.
    let given = order(&house, &id, lock()).await;
    let command = idle(&house, &device).await.unwrap();
    device::cancel(&house.server.app, given.as_str(), &by()).await.unwrap();
    for _ in 0..2 {
        assert!(say(&house, &device, Status::Acknowledged, Some(&command.uuid), Dict::new()).await.is_none());
    }
    assert_eq!(state(&house, &id, &given).await, OrderState::Cancelled);
    let rows = house.server.app.store.read(|c| muster::store::audit::list(c, 0, 1000)).await.unwrap();
    let late: Vec<_> = rows.iter().filter(|row| row.action == "command.answered-late").collect();
    assert!(late.len() == 1 && late[0].target.ends_with(given.as_str()), "{late:?}");
    assert!(late[0].after.as_ref().unwrap().contains("\"status\":\"Acknowledged\""), "{late:?}");
}

/// The order's row is the one that knows how far it has got: the channel only has its place in line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_not_answered_waits_is_given_again_and_counts_whenever_it_is_answered() {
    let house = house().await;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    device.settle().await.unwrap();
    let id = live(&house, &device.machine.udid).await.unwrap().device_id;
    let known = async |given: &muster::ids::CommandId| {
        let all = device::orders(&house.server.app, &id, 100).await.unwrap();
        all.into_iter().find(|known| known.id == *given).map(|known| (known.state, known.attempts)).unwrap()
    };
    let (one, two) =
        (order(&house, &id, Order::Known("list-applications".into())).await, order(&house, &id, Order::Known("list-updates".into())).await);
    let first = idle(&house, &device).await.unwrap();
    assert_eq!(first.uuid, one.as_str().to_ascii_uppercase(), "an order is itself on the wire");
    assert_eq!((known(&one).await, known(&two).await), ((OrderState::Sent, 1), (OrderState::Queued, 0)));
    let second = say(&house, &device, Status::NotNow, Some(&first.uuid), Dict::new()).await.unwrap();
    assert_eq!((known(&one).await, known(&two).await), ((OrderState::Queued, 0), (OrderState::Sent, 1)), "it was not begun");
    // The answer to the second was lost: both wait, the first one's turn is first.
    assert_eq!(idle(&house, &device).await.unwrap().uuid, first.uuid);
    assert_eq!((known(&one).await, known(&two).await), ((OrderState::Sent, 1), (OrderState::Queued, 1)));
    // Now it comes, late.
    let again = say(&house, &device, Status::Error, Some(&second.uuid), Dict::new()).await;
    assert_eq!(again.map(|command| command.uuid), Some(first.uuid), "the one under way comes again");
    assert_eq!(known(&two).await.0, OrderState::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_key_whose_rotation_was_lost_is_asked_for_and_a_late_one_is_kept() {
    let house = house().await;
    house.assign_baseline("macos-filevault").await;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    device.scep_key = Some(key());
    device.settle().await.unwrap();
    house.server.clock.advance(9 * HOUR);
    device.settle().await.unwrap();
    let id = live(&house, &device.machine.udid).await.unwrap().device_id;
    let before = reveal(&house, &id, Kind::FileVault).await.unwrap();
    let given = order(&house, &id, Order::Known("rotate-filevault-key".into())).await;
    let rotate = idle(&house, &device).await.unwrap();
    assert_eq!(rotate.request_type, "RotateFileVaultKey");
    let asked = idle(&house, &device).await.unwrap();
    assert_eq!(asked.request_type, "SecurityInfo", "it may have another key now");
    assert_eq!(state(&house, &id, &given).await, OrderState::Uncertain);
    let fresh = encrypt(b"AAAA-BBBB-CCCC-DDDD-EEEE-FFFF", rotate.body.data("ReplyEncryptionCertificate").unwrap()).unwrap();
    let result = Dict::new().with("RotateResult", Dict::new().with("EncryptedNewRecoveryKey", Data(fresh)));
    say(&house, &device, Status::Acknowledged, Some(&rotate.uuid), result).await;
    assert_eq!(state(&house, &id, &given).await, OrderState::Done);
    let after = reveal(&house, &id, Kind::FileVault).await.unwrap();
    assert_eq!(after, "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF");
    assert_ne!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_given_up_and_comes_back_is_told_to_leave() {
    let house = house().await;
    let app = &house.server.app;
    let old = Machine { os_version: "13.6".into(), ..Machine::mac(3) };
    let gone = [(Machine::mac(1), true), (Machine::iphone(2), true), (old, false)];
    for (machine, leaves) in gone {
        let mut device = enrolled(&house, machine).await;
        device.settle().await.unwrap();
        let id = live(&house, &device.machine.udid).await.unwrap().device_id;
        device::retire(app, &id, "cli:test", "local").await.unwrap();
        device::give_up_device(app, &id, &by()).await.unwrap();
        let said = device.connect().await;
        if leaves {
            assert!(matches!(said, Err(Error::Unenrolled)) && device.left, "{said:?}");
            assert!(codes(&house).await.contains("MGT0024"));
        } else {
            // It does not know the answer.
            assert!(matches!(said, Err(Error::Http(400, _))) && !device.left, "{said:?}");
        }
    }
    // Whoever left by itself, or enrolled anew, was not sent away.
    let mut device = enrolled(&house, Machine::mac(4)).await;
    device.settle().await.unwrap();
    let mut again = enrolled(&house, Machine::mac(4)).await;
    assert!(matches!(device.connect().await, Err(Error::Http(400, _))) && !device.left);
    again.settle().await.unwrap();
    let udid = again.machine.udid.clone();
    let id = live(&house, &udid).await.unwrap().device_id;
    let (http, url) = (client(&house, &again), again.enrollment.mdm.server_url.clone());
    again.leave().await.unwrap();
    let answer = Answer { who: Who::device(&udid), status: Status::Idle, command_uuid: None, errors: Vec::new(), body: Dict::new() };
    assert_eq!(put(&http, &url, answer.encode().unwrap()).await.0, 400);
    assert_eq!(device::show(app, &id).await.unwrap().overview.device.state, DeviceState::Retired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_heard_that_it_shall_leave_has_left_when_it_is_silent_for_its_hours() {
    let house = house().await;
    let app = &house.server.app;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    device.settle().await.unwrap();
    let id = live(&house, &device.machine.udid).await.unwrap().device_id;
    device::retire(app, &id, "cli:test", "local").await.unwrap();
    assert_eq!(idle(&house, &device).await.unwrap().request_type, "RemoveProfile");
    house.server.clock.advance(23 * HOUR);
    assert_eq!(device::end_silent(app).await.unwrap(), 0);
    house.server.clock.advance(HOUR);
    assert_eq!(device::end_silent(app).await.unwrap(), 1);
    assert!(matches!(device.connect().await, Err(Error::Unenrolled)));
}

/// Somebody changes the enrolment (retires it, enrols the device anew) between the look at a device and the storing of what came of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_message_is_stored_when_the_enrolment_changes_under_it() {
    let house = house().await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let of_mac = live(&house, &mac.machine.udid).await.unwrap().device_id;
    let mut pc = house.enroll(1).await;
    pc.settle().await.unwrap();
    let of_pc = house.device_ids().await.into_iter().find(|id| *id != of_mac).unwrap();
    let pin = [("pin".to_owned(), "123456".to_owned())].into();
    let given = [
        (of_mac.clone(), order(&house, &of_mac, Order::With("lock".into(), pin)).await),
        (of_pc.clone(), order(&house, &of_pc, Order::Known("reboot".into())).await),
    ];
    let sql = async |text: &'static str| {
        let run = move |tx: &mut Tx<'_>| match tx.conn() {
            Conn::Sqlite(c) => Ok(c.batch_execute(text)?),
            Conn::Postgres(c) => Ok(c.batch_execute(text)?),
        };
        house.server.app.store.write(run).await.unwrap();
    };
    // Whenever a message takes the row, somebody was there before it.
    sql("CREATE TRIGGER bump AFTER UPDATE OF work_at ON enrollments \
         BEGIN UPDATE enrollments SET version = version + 1 WHERE id = NEW.id; END")
    .await;
    let who = Who::device(&mac.machine.udid);
    let asks = Answer { who, status: Status::Idle, command_uuid: None, errors: Vec::new(), body: Dict::new() }.encode().unwrap();
    assert_eq!(put(&client(&house, &mac), &mac.enrollment.mdm.server_url, asks).await.0, 503);
    pc.session().await.unwrap_err();
    for (device, id) in &given {
        assert_eq!(state(&house, device, id).await, OrderState::Queued);
    }
    sql("DROP TRIGGER bump").await;
    assert_eq!(idle(&house, &mac).await.unwrap().request_type, "DeviceLock");
    assert_eq!(state(&house, &of_mac, &given[0].1).await, OrderState::Sent);
    pc.session().await.unwrap();
    assert_eq!(state(&house, &of_pc, &given[1].1).await, OrderState::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_profile_that_was_changed_meanwhile_settles_nothing_of_the_new_one() {
    const KIND: &str = "com.apple.mobiledevice.passwordpolicy";
    let draft = |length: u32| {
        let payload = format!("type = \"{KIND}\"\nname = \"passcode\"\nminLength = {length}\n");
        let head = "display_name = \"passcode\"\nkind = \"configuration\"\nplatform = \"macos\"\n[[document.payloads]]\n";
        Draft::parse(&format!("{head}{payload}")).unwrap()
    };
    let length = |command: &Command| {
        let profile = Profile::decode(command.body.data("Payload").unwrap()).unwrap();
        profile.payloads().iter().find(|payload| payload.kind == KIND).and_then(|payload| payload.body.integer("minLength"))
    };
    for status in [Status::Acknowledged, Status::Error, Status::CommandFormatError] {
        let house = house().await;
        let mut device = enrolled(&house, Machine::mac(1)).await;
        device.settle().await.unwrap();
        let profile = house.assign(draft(8)).await;
        let first = idle(&house, &device).await.unwrap();
        assert_eq!((first.request_type.as_str(), length(&first)), ("InstallProfile", Some(8)));
        profile::apply(&house.server.app, draft(12), &by()).await.unwrap();
        let mut next = say(&house, &device, status, Some(&first.uuid), Dict::new()).await;
        while next.as_ref().is_some_and(|command| command.request_type != "InstallProfile") {
            next = say(&house, &device, Status::NotNow, Some(&next.unwrap().uuid), Dict::new()).await;
        }
        assert_eq!(length(&next.unwrap()), Some(12), "after {status:?} to the old one the new one is given");
        device.settle().await.unwrap();
        device.settle().await.unwrap();
        assert_eq!(device.profiles.payloads(KIND).next().unwrap().body.integer("minLength"), Some(12));
        let id = live(&house, &device.machine.udid).await.unwrap().device_id;
        let item = house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == profile).unwrap().item;
        assert_eq!(item.state, DesiredState::Verified, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_work_is_due_from_now_on_whatever_the_device_puts_off() {
    let house = house().await;
    let mut device = enrolled(&house, Machine::mac(1)).await;
    device.settle().await.unwrap();
    let enrollment = live(&house, &device.machine.udid).await.unwrap();
    let id = enrollment.device_id;
    let due = async || live(&house, &device.machine.udid).await.unwrap().work_at;
    let waiting = async || live(&house, &device.machine.udid).await.unwrap().waiting_since;
    let lock = || Order::With("lock".into(), [("pin".to_owned(), "123456".to_owned())].into());
    order(&house, &id, lock()).await;
    let first = idle(&house, &device).await.unwrap();
    assert!(say(&house, &device, Status::NotNow, Some(&first.uuid), Dict::new()).await.is_none());
    let put_off = waiting().await;
    assert_eq!(put_off, Some(house.server.app.now()));
    assert!(due().await.unwrap() > house.server.app.now(), "what is due later counts beside it");
    house.server.clock.advance(2 * HOUR);
    let again = idle(&house, &device).await.unwrap();
    assert!(say(&house, &device, Status::NotNow, Some(&again.uuid), Dict::new()).await.is_none());
    assert_eq!(waiting().await, put_off, "it is woken ever more rarely for that");
    order(&house, &id, lock()).await;
    assert_eq!(due().await, Some(house.server.app.now()), "but not for what is new");
    house.server.clock.advance(2 * HOUR);
    device::sync(&house.server.app, &id, &by()).await.unwrap();
    assert_eq!(due().await, Some(house.server.app.now()));
}
