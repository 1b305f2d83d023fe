//! Who should have what while several change it at once: nothing is missed, on any number of nodes.

use std::sync::mpsc;
use std::time::Duration;

use muster::clock::Time;
use muster::domain::assignment::{Assignment, Mode, Target};
use muster::domain::device::Platform;
use muster::domain::group::{Group, Member};
use muster::domain::profile::{Document, Kind};
use muster::ids::{AssignmentId, GroupId};
use muster::store::targets::{Turn, take_turn};
use muster::store::{assignments, desired_items, devices, groups, profiles, users};

use crate::both_backends;
use crate::desired::{device, profile, sealer, user};

const NOW: Time = Time(1_790_000_000_000);
/// How long the first transaction stays open after its recomputation, unless the second one is done before.
const OPEN: Duration = Duration::from_millis(300);

both_backends! {
    async fn an_enrolment_beside_an_assignment_and_a_membership_misses_neither(store: Store) {
        let owner = user("ana@example.org");
        let pc = device("PC", Platform::Windows, Some(&owner.id));
        let (all, of_group) = (
            profile("all", Kind::Configuration, Platform::Windows, Document::default()),
            profile("group", Kind::Configuration, Platform::Windows, Document::default()),
        );
        let group = Group { id: GroupId::new(), display_name: "group".into(), description: String::new(), rule: None, external_id: None, mail_nickname: None };
        let (user_row, rows, group_row) = (owner.clone(), [all.clone(), of_group.clone()], group.clone());
        store.write(move |tx| {
            users::insert_user(tx, &user_row, NOW)?;
            groups::insert_group(tx, &group_row, NOW)?;
            rows.iter().try_for_each(|row| profiles::insert_profile(tx, &sealer(), row, NOW))?;
            let target = Target::Group(group_row.id.clone());
            let to_group = Assignment { id: AssignmentId::new(), profile_id: rows[1].id.clone(), mode: Mode::Include, target };
            assignments::insert_assignment(tx, &to_group, NOW)
        }).await.unwrap();

        // The profile is assigned and the user joins the group, both recomputed, and not committed yet.
        let (begun, begins) = mpsc::channel();
        let (done, is_done) = mpsc::channel::<()>();
        let (first, assigned, member) = (store.clone(), all.id.clone(), Member::User(owner.id.clone()));
        let open = tokio::spawn(async move {
            first.write(move |tx| {
                take_turn(tx, Turn::Shared)?;
                let to_all = Assignment { id: AssignmentId::new(), profile_id: assigned.clone(), mode: Mode::Include, target: Target::AllDevices };
                assignments::insert_assignment(tx, &to_all, NOW)?;
                groups::insert_member(tx, &group.id, &member, NOW)?;
                desired_items::recompute_profile(tx, &assigned, NOW)?;
                desired_items::recompute_user(tx, &owner.id, NOW)?;
                let _ = begun.send(());
                let _ = is_done.recv_timeout(OPEN);
                Ok(())
            }).await
        });
        tokio::task::block_in_place(|| begins.recv()).unwrap();
        // Meanwhile a device of the user enrols on another node.
        let id = pc.id.clone();
        store.write(move |tx| {
            take_turn(tx, Turn::Device)?;
            devices::insert_device(tx, &pc, NOW)?;
            desired_items::recompute_device(tx, &pc.id, NOW)
        }).await.unwrap();
        let _ = done.send(());
        open.await.unwrap().unwrap();

        for profile in [all.id, of_group.id] {
            let (device, wanted) = (id.clone(), profile.clone());
            assert!(store.read(move |c| desired_items::is_desired(c, &device, &wanted)).await.unwrap());
            let mended = store.write(move |tx| desired_items::mend_profile(tx, &profile, NOW.plus(1))).await.unwrap();
            assert_eq!(mended, 0);
        }
    }

    async fn what_was_missed_is_found_and_counted(store: Store) {
        let pc = device("PC", Platform::Windows, None);
        let all = profile("all", Kind::Configuration, Platform::Windows, Document::default());
        let to_all = Assignment { id: AssignmentId::new(), profile_id: all.id.clone(), mode: Mode::Include, target: Target::AllDevices };
        let wanted = all.id.clone();
        store.write(move |tx| {
            profiles::insert_profile(tx, &sealer(), &all, NOW)?;
            devices::insert_device(tx, &pc, NOW)?;
            assignments::insert_assignment(tx, &to_all, NOW)
        }).await.unwrap();
        assert_eq!(store.read(|c| desired_items::list_profiles(c, "", 10)).await.unwrap(), std::slice::from_ref(&wanted));
        for expected in [1, 0] {
            let id = wanted.clone();
            assert_eq!(store.write(move |tx| desired_items::mend_profile(tx, &id, NOW)).await.unwrap(), expected);
        }
    }
}
