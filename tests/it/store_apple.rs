//! Channels, sessions and escrow of Apple devices on both databases.

use muster::clock::{HOUR, MINUTE, Time};
use muster::domain::apple::escrow::Kind;
use muster::domain::apple::queue::{Planned, Queue};
use muster::domain::device::Platform;
use muster::ids::EnrollmentId;
use muster::store::apple::channels::{self, Channel, DEVICE};
use muster::store::apple::secrets;
use muster::store::apple::sessions::{self, Session};
use muster::store::{Error, Store, devices, enrollments};

use crate::both_backends;
use crate::desired::{device, enrollment};

const NOW: Time = Time(1_790_000_000_000);

async fn enrolled(store: &Store) -> EnrollmentId {
    let mac = device("Mac", Platform::MacOs, None);
    let row = enrollment(&mac, NOW);
    let id = row.id.clone();
    store
        .write(move |tx| {
            devices::insert_device(tx, &mac, NOW)?;
            enrollments::insert_enrollment(tx, &row)
        })
        .await
        .unwrap();
    id
}

both_backends! {
    async fn a_channel_keeps_its_queue_and_its_changes_are_compared(store: Store) {
        let id = enrolled(&store).await;
        let mut queue = Queue::default();
        let planned = Planned { key: "fact|DeviceInformation".into(), uuid: "u1".into(), once: false };
        assert!(queue.enqueue([planned], NOW).is_empty());
        let of_device = Channel {
            sealed_push: Some(vec![1, 2, 3]), token_updated_at: Some(NOW), queue, capabilities: Some("{}".into()),
            awaiting_since: Some(NOW), ..Channel::new(id.clone(), DEVICE, "com.apple.mgmt.x")
        };
        let of_user = Channel { user_short_name: Some("ana".into()), ..Channel::new(id.clone(), "GUID", "com.apple.mgmt.x") };
        let rows = [of_user.clone(), of_device.clone()];
        store.write(move |tx| rows.iter().try_for_each(|row| channels::insert_channel(tx, row))).await.unwrap();
        let all = { let id = id.clone(); store.read(move |c| channels::list_channels(c, &id)).await.unwrap() };
        assert_eq!(all, [of_device.clone(), of_user.clone()]);
        let twin = of_user.clone();
        let refused = store.write(move |tx| channels::insert_channel(tx, &twin)).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");

        let bare = Channel { sealed_push: None, awaiting_since: None, capabilities: None, ..of_device.clone() };
        let row = bare.clone();
        store.write(move |tx| channels::claim_update(tx, &row)).await.unwrap();
        let found = { let id = id.clone(); store.read(move |c| channels::find_channel(c, &id, DEVICE)).await.unwrap().unwrap() };
        assert_eq!(found, Channel { version: 2, ..bare });
        let stale = of_device.clone();
        let refused = store.write(move |tx| channels::claim_update(tx, &stale)).await;
        assert!(matches!(refused, Err(Error::Busy | Error::Unavailable(_))), "{refused:?}");

        let older = Channel { token_updated_at: Some(NOW.plus(-MINUTE)), ..of_device.clone() };
        assert!(!store.write(move |tx| channels::update_push_dead(tx, &older, "410", NOW)).await.unwrap(), "it has a newer token");
        assert!(store.write(move |tx| channels::update_push_dead(tx, &of_device, "410", NOW)).await.unwrap());

        { let id = id.clone(); store.write(move |tx| channels::delete_channels(tx, &id)).await.unwrap() };
        assert_eq!(store.read(move |c| channels::list_channels(c, &id)).await.unwrap(), []);
    }

    async fn a_mac_that_only_checked_in_is_woken(store: Store) {
        let id = enrolled(&store).await;
        let row = Channel { last_seen_at: Some(NOW.plus(-HOUR)), ..Channel::new(id.clone(), DEVICE, "com.apple.mgmt.x") };
        let of_user = Channel { last_seen_at: Some(NOW.plus(2)), ..Channel::new(id.clone(), "GUID", "com.apple.mgmt.x") };
        let of = id.clone();
        store.write(move |tx| {
            channels::insert_channel(tx, &row)?;
            channels::insert_channel(tx, &of_user)?;
            enrollments::update_work_at(tx, &of, Some(NOW))?;
            // It checked in afterwards: nothing is delivered with that.
            enrollments::update_last_seen(tx, &[(of.clone(), NOW.plus(1))]).map(drop)
        }).await.unwrap();
        let woken = async || store.read(|c| enrollments::list_to_wake(c, NOW.plus(-MINUTE), NOW, "", 9)).await.unwrap().len();
        assert_eq!(woken().await, 1);
        let waiting = async || store.read(|c| enrollments::list_waiting(c, NOW.plus(-MINUTE), NOW, "", 9)).await.unwrap();
        assert_eq!(waiting().await, []);
        let of = id.clone();
        store.write(move |tx| {
            // It came, and put off what it was given.
            enrollments::update_work_and_wait(tx, &of, None, Some(NOW))
        }).await.unwrap();
        assert_eq!(woken().await, 0);
        let found = waiting().await;
        assert_eq!((found.len(), &found[0].id, found[0].work_at, found[0].waiting_since), (1, &id, None, Some(NOW)));
    }

    async fn a_session_becomes_one_enrolment_in_its_time(store: Store) {
        let session = |expires_at| Session {
            id: EnrollmentId::new(), user_id: None, platform: Platform::Ios, udid: Some("u".into()), serial: None, management: None,
            method: "link".into(), created_at: NOW, expires_at,
        };
        let (good, late) = (session(NOW.plus(HOUR)), session(NOW));
        let rows = [good.clone(), late.clone()];
        store.write(move |tx| rows.iter().try_for_each(|row| sessions::insert_session(tx, row))).await.unwrap();
        let id = good.id.clone();
        assert_eq!(store.read(move |c| sessions::find_session(c, &id)).await.unwrap(), Some(good.clone()));
        let claims = (0..5).map(|_| { let id = good.id.clone(); store.write(move |tx| sessions::claim_session(tx, &id, NOW)) });
        let won = futures_util::future::join_all(claims).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
        assert_eq!(won, 1);
        let id = late.id.clone();
        assert!(!store.write(move |tx| sessions::claim_session(tx, &id, NOW)).await.unwrap(), "over");
        assert_eq!(store.write(|tx| sessions::purge_sessions(tx, NOW.plus(1), 100)).await.unwrap(), 1);
    }

    async fn what_a_device_entrusts_is_replaced_listed_and_forgotten(store: Store) {
        let id = enrolled(&store).await;
        let keep = async |kind: Kind, value: &'static [u8], at: Time| {
            let id = id.clone();
            store.write(move |tx| secrets::upsert_secret(tx, &id, kind, value, None, at).map(|_| ())).await.unwrap();
        };
        keep(Kind::Bootstrap, b"one", NOW).await;
        keep(Kind::Bootstrap, b"two", NOW.plus(1)).await;
        keep(Kind::Unlock, b"three", NOW).await;
        let find = async |kind: Kind| {
            let id = id.clone();
            store.read(move |c| secrets::find_secret(c, &id, kind)).await.unwrap().map(|found| (found.sealed, found.at))
        };
        assert_eq!(find(Kind::Bootstrap).await, Some((b"two".to_vec(), NOW.plus(1))));
        assert_eq!(find(Kind::FileVault).await, None);
        let kinds = { let id = id.clone(); store.read(move |c| secrets::list_kinds(c, &id)).await.unwrap() };
        assert_eq!(kinds, [(Kind::Bootstrap, NOW.plus(1)), (Kind::Unlock, NOW)]);
        let of = id.clone();
        store.write(move |tx| secrets::delete_secret(tx, &of, Kind::Bootstrap)).await.unwrap();
        assert_eq!(find(Kind::Bootstrap).await, None);
    }
}
