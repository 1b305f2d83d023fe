//! Whose rows of the audit log are found.

use muster::clock::Time;
use muster::domain::audit::Entry;
use muster::domain::device::Platform;
use muster::service::{self, profile};
use muster::store::audit::{self, Party, Search};
use muster::store::{devices, enrollments, users};

use crate::both_backends;
use crate::desired::{device, enrollment, user};
use crate::support::db;
use crate::support::windows::{House, by};

both_backends! {
    async fn what_was_done_to_an_enrolment_is_found_by_its_device_and_its_user(store: Store) {
        db::begin_audit(&store).await;
        let (now, ana, ben) = (Time(1), user("ana@example.org"), user("ben@example.org"));
        let (pc, other) = (device("PC-1", Platform::Windows, Some(&ana.id)), device("PC-2", Platform::Windows, Some(&ben.id)));
        let (mine, theirs) = (enrollment(&pc, now), enrollment(&other, now));
        let (of_device, of_user) = (Party::Device(pc.id.clone()), Party::User(ana.id.clone()));
        let expected_user = mine.user_id.is_some();
        store
            .write(move |tx| {
                for user in [&ana, &ben] {
                    users::insert_user(tx, user, now)?;
                }
                for (pc, enrollment) in [(&pc, &mine), (&other, &theirs)] {
                    devices::insert_device(tx, pc, now)?;
                    enrollments::insert_enrollment(tx, enrollment)?;
                    audit::append(tx, &Entry::new("system", "enrollment.create", format!("enrollment:{}", enrollment.id), "test"), now)?;
                    audit::append(tx, &Entry::new(format!("device:{}", pc.id), "device.check", "tenant:self", "test"), now)?;
                    audit::append(tx, &Entry::new("cli:test", "device.update", format!("device:{}", pc.id), "test"), now)?;
                }
                audit::append(tx, &Entry::new("cli:test", "user.update", format!("user:{}", ana.id), "test"), now)
            })
            .await
            .unwrap();
        let found = async |of: Party| {
            let search = Search { of: Some(of), ..Search::default() };
            let rows = store.read(move |c| audit::search(c, &search, 100)).await.unwrap();
            rows.into_iter().map(|row| row.action).collect::<Vec<_>>()
        };
        assert_eq!(found(of_device).await, ["device.update", "device.check", "enrollment.create"]);
        let by_user = found(of_user).await;
        assert_eq!(by_user.first().map(String::as_str), Some("user.update"));
        assert_eq!(by_user.contains(&"enrollment.create".to_owned()), expected_user);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_was_deleted_keeps_its_name_for_people() {
    let house = House::new().await;
    let id = house.assign_baseline("bitlocker").await;
    let mut pc = house.enroll(1).await;
    pc.settle().await.unwrap();
    let app = &house.server.app;
    profile::delete(app, &id, &by()).await.unwrap();
    let device = house.device_ids().await.remove(0);
    let shown = service::device::show(app, &device).await.unwrap();
    assert_eq!(shown.profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>(), ["deleted profile BitLocker"]);
    let search = Search { action: Some("profile.delete".into()), ..Search::default() };
    let (rows, _) = service::audit::search(app, search, 10).await.unwrap();
    let names = service::audit::names(app, &rows).await.unwrap();
    assert_eq!(names.get(&format!("profile:{id}")).map(String::as_str), Some("BitLocker (deleted)"));
}
