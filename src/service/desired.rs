//! Recomputing what devices should have.

use super::push;
use crate::clock::Time;
use crate::ids::{DeviceId, GroupId, ProfileId, UserId};
use crate::store::{Result, Tx, desired_items};

/// What changed.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// A profile's content or assignments, or it was deleted.
    Profile(&'a ProfileId),
    /// Many members of a group.
    Group(&'a GroupId),
    /// The groups of a user.
    User(&'a UserId),
    /// A device's groups, its user, or where it is in its life.
    Device(&'a DeviceId),
}

/// Recomputes what the devices concerned should have, with a handful of statements whatever their number, in the transaction of the change.
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
