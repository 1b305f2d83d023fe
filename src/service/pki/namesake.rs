//! Whose name a certificate carries: nobody has one made in the name of somebody whose role allows more than their own, or certificates would
//! be a way to that role.

use std::collections::BTreeSet;

use crate::domain::Refusal;
use crate::domain::access::{Caller, may_give};
use crate::domain::certificate::Grant;
use crate::store::{self, Tx, roles, users};

/// Whether `giver` may have a certificate made in these names; `None` is somebody at the server's own machine.
///
/// # Errors
/// `ACC0013`.
pub(in crate::service) fn check_giver(tx: &mut Tx<'_>, giver: Option<&Caller>, grant: &Grant) -> store::Result<()> {
    let Some(giver) = giver else { return Ok(()) };
    let mut people = BTreeSet::from_iter(grant.user_id.clone());
    people.extend(users::list_named(tx.conn(), &grant.names(), &grant.sids())?);
    for person in people.iter().filter(|person| giver.person() != Some(*person)) {
        if !roles::list_roles_of_user(tx.conn(), person)?.iter().all(|(role, _)| may_give(giver, role)) {
            return Err(Refusal::MethodsOfSuperior.into());
        }
    }
    Ok(())
}
