//! What Macs entrust to the server: recovery keys that come encrypted, and passwords that nobody knows to be in force until the Mac says so.

use muster::clock::HOUR;
use muster::domain::apple::escrow::Kind;
use muster::domain::command::State;
use muster::ids::DeviceId;
use muster::service::Error;
use muster::service::device::{self, Order};
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use muster::store::audit;

use crate::apple_enroll::{live, on, profile};
use crate::support::windows::{House, by, key};

async fn enrolled(house: &House, machine: Machine) -> (Device, DeviceId) {
    let mut device = Device::enroll(&house.roots(), &profile(house).await, machine.clone(), &key()).await.unwrap();
    device.settle().await.unwrap();
    let id = live(house, &machine.udid).await.unwrap().device_id;
    (device, id)
}

async fn kinds(house: &House, device: &DeviceId) -> Vec<Kind> {
    device::secrets(&house.server.app, device).await.unwrap().into_iter().map(|kept| kept.kind).collect()
}

async fn reveal(house: &House, device: &DeviceId, kind: Kind) -> Result<String, Error> {
    let secret = device::reveal(&house.server.app, device, kind, &by()).await?;
    Ok(String::from_utf8(secret.expose().to_vec()).unwrap())
}

/// Gives an order and lets the device carry it out.
async fn order(house: &House, mac: &mut Device, id: &DeviceId, order: Order) -> State {
    let given = device::command(&house.server.app, id, order, true, &by()).await.unwrap().id;
    mac.settle().await.unwrap();
    let all = device::orders(&house.server.app, id, 100).await.unwrap();
    all.into_iter().find(|order| order.id == given).unwrap().state
}

async fn rows(house: &House) -> String {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| format!("{} {} {}\n", row.actor, row.action, row.after.unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_key_is_kept_once_read_by_name_and_rotated() {
    let house = on(House::new().await).await;
    house.assign_baseline("macos-filevault").await;
    let (mut mac, id) = enrolled(&house, Machine::mac(1)).await;
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

    // Somebody changed it at the Mac: it does not take another one, and both are kept.
    mac.settings.recovery_lock = Some("changed-by-hand".into());
    assert_eq!(order(&house, &mut mac, &id, set()).await, State::Failed);
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
    let (_, phone) = enrolled(&house, Machine::iphone(5)).await;
    assert_eq!(refused(&phone, "shut-down").await, "CMD0007");
}
