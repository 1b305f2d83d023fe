//! What Macs entrust to the server: recovery keys that come encrypted, and passwords that nobody knows to be in force until the Mac says so.

use muster::clock::HOUR;
use muster::domain::apple::escrow::Kind;
use muster::domain::command::State;
use muster::ids::{CommandId, DeviceId};
use muster::service::Error;
use muster::service::device::{self, Order};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::audit;

use crate::apple_enroll::{live, on, profile};
use crate::support::windows::{House, by, key};

pub async fn enrolled(house: &House, machine: Machine) -> (Device, DeviceId) {
    let mut device = Device::enroll(&house.roots(), &profile(house).await, machine.clone(), &key()).await.unwrap();
    device.settle().await.unwrap();
    let id = live(house, &machine.udid).await.unwrap().device_id;
    (device, id)
}

pub async fn kinds(house: &House, device: &DeviceId) -> Vec<Kind> {
    device::secrets(&house.server.app, device).await.unwrap().into_iter().map(|kept| kept.kind).collect()
}

pub async fn reveal(house: &House, device: &DeviceId, kind: Kind) -> Result<String, Error> {
    let secret = device::reveal(&house.server.app, device, kind, &by()).await?;
    Ok(String::from_utf8(secret.expose().to_vec()).unwrap())
}

/// Gives an order and lets the device carry it out.
pub async fn order(house: &House, mac: &mut Device, id: &DeviceId, order: Order) -> State {
    let given = device::command(&house.server.app, id, order, true, &by()).await.unwrap().id;
    mac.settle().await.unwrap();
    state(house, id, &given).await
}

async fn state(house: &House, id: &DeviceId, given: &CommandId) -> State {
    let all = device::orders(&house.server.app, id, 100).await.unwrap();
    all.into_iter().find(|order| order.id == *given).unwrap().state
}

pub async fn rows(house: &House) -> String {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| format!("{} {} {}\n", row.actor, row.action, row.after.unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_key_is_kept_once_read_by_name_and_rotated() {
    let house = on(House::new().await).await;
    house.assign_baseline("macos-filevault").await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1)).await;
    assert!(kinds(&house, &id).await.contains(&Kind::FileVault), "the Mac was asked for it as soon as the profile was in place");
    // Security is reported every eight hours, with the key encrypted anew or not.
    for _ in 0..3 {
        house.server.clock.advance(9 * HOUR);
        mac.settle().await.unwrap();
    }
    let first = mac.settings.recovery_key.clone().unwrap();
    assert!(kinds(&house, &id).await.contains(&Kind::FileVault));
    assert_eq!(reveal(&house, &id, Kind::FileVault).await.unwrap(), first);
    for kind in [Kind::Bootstrap, Kind::Unlock, Kind::RecoveryLock] {
        assert!(matches!(reveal(&house, &id, kind).await, Err(Error::NotFound(_))), "{kind}");
    }

    assert_eq!(order(&house, &mut mac, &id, Order::Known("rotate-filevault-key".into())).await, State::Done);
    let second = mac.settings.recovery_key.clone().unwrap();
    assert_ne!(first, second);
    assert_eq!(reveal(&house, &id, Kind::FileVault).await.unwrap(), second);
    let found = rows(&house).await;
    assert!(found.contains(r#"cli:test escrow.read {"kind":"fv-prk""#), "{found}");
    assert!(found.contains(r#"escrow.read {"kind":"fv-prk","for":"RotateFileVaultKey"}"#), "{found}");
    assert!(!found.contains(&first) && !found.contains(&second), "keys are not in the audit log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_lock_is_kept_beside_the_old_one_until_the_mac_has_taken_it() {
    let house = on(House::new().await).await;
    let (mut mac, id) = enrolled(&house, Machine::mac(2)).await;
    let set = || Order::Known("set-recovery-lock".into());
    assert_eq!(order(&house, &mut mac, &id, set()).await, State::Done);
    let first = mac.settings.recovery_lock.clone().unwrap();
    assert_eq!(reveal(&house, &id, Kind::RecoveryLock).await.unwrap(), first);
    assert!(!kinds(&house, &id).await.contains(&Kind::NextRecoveryLock));
    assert_eq!(order(&house, &mut mac, &id, set()).await, State::Done);
    let second = mac.settings.recovery_lock.clone().unwrap();
    assert_ne!(first, second);
    assert_eq!(reveal(&house, &id, Kind::RecoveryLock).await.unwrap(), second);

    // Somebody changed it at the Mac: it does not take another one, neither of the two is in force, and both are kept.
    mac.settings.recovery_lock = Some("changed-by-hand".into());
    let given = device::command(&house.server.app, &id, set(), true, &by()).await.unwrap().id;
    for expected in [State::Queued, State::Queued, State::Failed] {
        mac.settle().await.unwrap();
        assert_eq!(state(&house, &id, &given).await, expected);
        house.server.clock.advance(HOUR);
    }
    assert_eq!(mac.ran["VerifyRecoveryLock"], 6, "both, after each refusal");
    assert!(rows(&house).await.contains(r#"escrow.lost {"kind":"recovery-lock"}"#));
    assert_eq!(reveal(&house, &id, Kind::RecoveryLock).await.unwrap(), second);
    let next = reveal(&house, &id, Kind::NextRecoveryLock).await.unwrap();
    assert_ne!(next, second);
    // It may be the one in force: it is not thrown away to clear the lock.
    let clear = || Order::With("set-recovery-lock".into(), [("clear".to_owned(), "yes".to_owned())].into());
    assert_eq!(order(&house, &mut mac, &id, clear()).await, State::Failed);
    assert_eq!(reveal(&house, &id, Kind::NextRecoveryLock).await.unwrap(), next);
    // The next try takes the same one.
    mac.settings.recovery_lock = Some(second.clone());
    assert_eq!(order(&house, &mut mac, &id, set()).await, State::Done);
    assert_eq!(reveal(&house, &id, Kind::RecoveryLock).await.unwrap(), next);

    assert_eq!(order(&house, &mut mac, &id, clear()).await, State::Done);
    assert_eq!(mac.settings.recovery_lock, None);
    assert!(matches!(reveal(&house, &id, Kind::RecoveryLock).await, Err(Error::NotFound(_))));
    let found = rows(&house).await;
    for secret in [first, second, next] {
        assert!(!found.contains(&secret));
    }
}

/// The Mac took the password, and its answer got lost with a restored copy of it, or the server's memory of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_passwords_the_one_in_force_is_found_out() {
    let house = on(House::new().await).await;
    let cases = [
        (Machine::mac(6), "set-recovery-lock", [Kind::RecoveryLock, Kind::NextRecoveryLock], "VerifyRecoveryLock"),
        (
            Machine { product: "MacBookPro16,1".into(), ..Machine::mac(7) },
            "set-firmware-password",
            [Kind::Firmware, Kind::NextFirmware],
            "VerifyFirmwarePassword",
        ),
    ];
    for (machine, set, [current, next], verify) in cases {
        let recovery = current == Kind::RecoveryLock;
        let (mut mac, id) = enrolled(&house, machine).await;
        let set = || Order::Known(set.into());
        assert_eq!(order(&house, &mut mac, &id, set()).await, State::Done);
        let lock = |mac: &Device| if recovery { mac.settings.recovery_lock.clone() } else { mac.settings.firmware.clone() };
        let first = lock(&mac).unwrap();
        // It carries the command out, and the answer never arrives: the device forgets that it has one.
        let given = device::command(&house.server.app, &id, set(), true, &by()).await.unwrap().id;
        mac.faults.drop_answers = true;
        assert!(mac.connect().await.is_err());
        mac.faults.drop_answers = false;
        let second = lock(&mac).unwrap();
        assert_ne!(first, second);
        assert_eq!(reveal(&house, &id, current).await.unwrap(), first);
        assert_eq!(reveal(&house, &id, next).await.unwrap(), second);
        // The command comes again and is refused; the Mac is asked, and says that the second one holds.
        mac.settle().await.unwrap();
        assert_eq!(mac.ran[verify], 2);
        assert_eq!(reveal(&house, &id, current).await.unwrap(), second);
        assert!(!kinds(&house, &id).await.contains(&next));
        // The order is tried again from there.
        house.server.clock.advance(HOUR);
        mac.settle().await.unwrap();
        assert_eq!(state(&house, &id, &given).await, State::Done);
        let third = lock(&mac).unwrap();
        assert!(third != second && reveal(&house, &id, current).await.unwrap() == third);
        let clear = Order::With(set_name(recovery).into(), [("clear".to_owned(), "yes".to_owned())].into());
        assert_eq!(order(&house, &mut mac, &id, clear).await, State::Done);
        assert_eq!(lock(&mac), None);
        assert!(!kinds(&house, &id).await.contains(&current));
        let found = rows(&house).await;
        for secret in [first, second, third] {
            assert!(!found.contains(&secret));
        }
    }
}

fn set_name(recovery: bool) -> &'static str {
    if recovery { "set-recovery-lock" } else { "set-firmware-password" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_a_device_cannot_obey_are_refused_before_they_are_sent() {
    let house = on(House::new().await).await;
    let refused =
        async |id: &DeviceId, order: &str| match device::command(&house.server.app, id, Order::Known(order.into()), true, &by()).await {
            Err(Error::Refused(refusal)) => refusal.code(),
            other => panic!("{other:?}"),
        };
    let (_, old) = enrolled(&house, Machine { os_version: "11.4".into(), ..Machine::mac(3) }).await;
    assert_eq!(refused(&old, "set-recovery-lock").await, "CMD0003");
    let (_, intel) = enrolled(&house, Machine { product: "MacBookPro16,1".into(), ..Machine::mac(4) }).await;
    assert_eq!(refused(&intel, "set-recovery-lock").await, "CMD0006");
    assert_eq!(refused(&old, "verify-recovery-lock").await, "CMD0003");
    let (_, silicon) = enrolled(&house, Machine::mac(8)).await;
    assert_eq!(refused(&silicon, "set-firmware-password").await, "CMD0008");
    assert_eq!(refused(&silicon, "verify-firmware-password").await, "CMD0008");
    assert_eq!(refused(&silicon, "set-administrator-password").await, "CMD0011");
    let (_, newest) = enrolled(&house, Machine { os_version: "27.0".into(), ..Machine::mac(9) }).await;
    for update in ["list-updates", "update-status"] {
        assert_eq!(refused(&newest, update).await, "CMD0003");
    }
    let (_, phone) = enrolled(&house, Machine::iphone(5)).await;
    for supervised in ["shut-down", "reboot", "disable-lost-mode", "locate", "play-sound", "keep-activation-lock-code", "list-updates"] {
        assert_eq!(refused(&phone, supervised).await, "CMD0007", "{supervised}");
    }
    for shared in ["list-users", "log-out-user"] {
        assert_eq!(refused(&phone, shared).await, "CMD0010", "{shared}");
    }
    let (_, found) = enrolled(&house, Machine { supervised: true, ..Machine::iphone(6) }).await;
    for lost in ["locate", "play-sound"] {
        assert_eq!(refused(&found, lost).await, "CMD0009", "{lost}");
    }
    let account = Order::With("create-administrator".into(), [("name".to_owned(), "admin".to_owned())].into());
    match device::command(&house.server.app, &silicon, account, true, &by()).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "CMD0012"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_key_that_is_not_kept_yet_is_said_so_and_comes_when_filevault_is_on() {
    let house = on(House::new().await).await;
    house.assign_baseline("macos-filevault").await;
    let mut mac = crate::apple_enroll::enrolled(&house, Machine::mac(1)).await;
    mac.settings.obeys_filevault = false;
    mac.settle().await.unwrap();
    mac.settle().await.unwrap();
    let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
    let shown = async || device::show(&house.server.app, &id).await.unwrap().recovery_key;
    assert!(shown().await.is_some_and(|text| text.starts_with("none kept yet")));
    match device::command(&house.server.app, &id, Order::Known("rotate-filevault-key".into()), true, &by()).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "CMD0014"),
        other => panic!("{other:?}"),
    }
    // The user signs out, and the Mac encrypts: it says so by itself.
    (mac.settings.filevault, mac.settings.recovery_key) = (true, Some("AAAA-BBBB-CCCC-DDDD-EEEE-FFFF".into()));
    mac.work().await.unwrap();
    mac.settle().await.unwrap();
    assert!(shown().await.is_some_and(|text| text.starts_with("kept")));
    assert_eq!(reveal(&house, &id, Kind::FileVault).await.unwrap(), "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF");
    assert_eq!(order(&house, &mut mac, &id, Order::Known("rotate-filevault-key".into())).await, State::Done);
    let (_, other) = enrolled(&house, Machine::iphone(2)).await;
    assert_eq!(device::show(&house.server.app, &other).await.unwrap().recovery_key, None);
}
