//! Recomputing what devices should have.

use serde_json::json;

use super::push;
use crate::app::App;
use crate::clock::Time;
use crate::domain::audit::Entry;
use crate::domain::desired::{self, Item};
use crate::domain::enrollment::Enrollment;
use crate::ids::{DeviceId, GroupId, ProfileId, UserId};
use crate::store::targets::{Turn, take_turn};
use crate::store::{Result, Tx, audit, desired_items, enrollments};

/// How many profiles are looked up together.
const PAGE: i64 = 100;

/// What changed.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// A profile's content or assignments, or it was deleted.
    Profile(&'a ProfileId),
    /// Many members of a group.
    Group(&'a GroupId),
    /// The groups of a user, or what rules of groups ask of users.
    User(&'a UserId),
    /// A device's groups, its user, or where it is in its life.
    Device(&'a DeviceId),
}

/// Recomputes what the devices concerned should have, with a handful of statements whatever their number, in the transaction of the change,
/// which has taken its [turn](take_turn) before the change.
/// Those that have something to do are woken where that is set up (`push`: [for Windows](push::wns::enabled)): ring `app.outbox` after the
/// commit.
///
/// # Errors
/// Only the database's own.
pub fn recompute_in(tx: &mut Tx<'_>, changed: Changed<'_>, push: bool, now: Time) -> Result<()> {
    match changed {
        Changed::Profile(id) => desired_items::recompute_profile(tx, id, now)?,
        Changed::Group(id) => desired_items::recompute_group(tx, id, now)?,
        Changed::User(id) => desired_items::recompute_user(tx, id, now)?,
        Changed::Device(id) => desired_items::recompute_device(tx, id, now)?,
    }
    push::due::enqueue(tx, push, now)
}

/// Changes how far a device has got with what it should have, beside its messages: in the caller's transaction, which holds the enrolment
/// ([`enrollments::hold_current`]). A session or exchange that has read it looks again. `change` moves the items and says whether that gives
/// the device something to do: then it is due and woken at once, whatever it puts off. Ring `app.outbox` after the commit.
///
/// # Errors
/// [`Busy`](crate::store::Error::Busy) when somebody changed the enrolment meanwhile; else only the database's own.
pub fn change_in(tx: &mut Tx<'_>, enrollment: &Enrollment, now: Time, change: impl FnOnce(&mut [Item]) -> bool) -> Result<()> {
    let before: Vec<Item> = desired_items::list_items(tx.conn(), &enrollment.device_id)?.into_iter().map(|(item, _)| item).collect();
    let mut items = before.clone();
    let due = change(&mut items);
    let (items, _) = desired::settle(items);
    let changed: Vec<_> = items.iter().filter(|item| !before.contains(item)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    for item in changed {
        desired_items::update_item(tx, item, now)?;
    }
    enrollments::claim_update(tx, enrollment)?;
    if !due {
        return Ok(());
    }
    enrollments::update_work_at(tx, &enrollment.id, Some(now))?;
    // Rare enough to be put in without asking which push services there are.
    push::due::enqueue(tx, true, now)
}

/// Recomputes every profile, one transaction each, and returns how many rows were not as they should be: none, unless a change went without
/// its recomputation. What had to be mended is audited.
///
/// # Errors
/// [`super::Error::Unavailable`].
pub async fn mend(app: &App) -> super::Result<usize> {
    let push = push::wns::enabled(&app.config);
    let (mut mended, mut after) = (0, String::new());
    loop {
        let page = app.store.read(move |conn| desired_items::list_profiles(conn, &after, PAGE)).await?;
        let Some(last) = page.last() else { break };
        after = last.to_string();
        for profile in page {
            let now = app.now();
            mended += app
                .store
                .write(move |tx| {
                    take_turn(tx, Turn::Shared)?;
                    let rows = desired_items::mend_profile(tx, &profile, now)?;
                    if rows > 0 {
                        tracing::warn!(%profile, rows, "devices did not have what they should have");
                        push::due::enqueue(tx, push, now)?;
                        audit::append(
                            tx,
                            &Entry::new("system", "desired.mend", format!("profile:{profile}"), "job").after(&json!(rows)),
                            now,
                        )?;
                    }
                    Ok(rows)
                })
                .await?;
        }
    }
    if mended > 0 {
        metrics::counter!("muster_desired_mended_total").increment(mended as u64);
        app.outbox.notify_waiters();
    }
    Ok(mended)
}
