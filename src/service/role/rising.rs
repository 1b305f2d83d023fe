//! Those who get a role while they have a pass. A pass may have been made by somebody who may not give the role, and who knows it: it would be
//! a way to the role. So it ends, with the sessions and grants that began with it, in the transaction that gives the role.
//!
//! A passkey that was registered in such a session stays: it is not known apart from the person's own, and everybody's first passkey begins
//! with a pass. Whoever gives a role looks at the passkeys first (docs/sign-in.md).

use std::collections::BTreeSet;

use serde_json::json;

use crate::clock::Time;
use crate::domain::access::{Principal, Reach, Role, rises};
use crate::ids::UserId;
use crate::service::directory::By;
use crate::store::{self, Tx, audit, provision, roles, taps, users};

/// People with passes, and what they may do before roles change.
#[derive(Debug, Default)]
pub(in crate::service) struct Rising(Vec<(UserId, Vec<(Role, Reach)>)>);

/// Whose passes were ended.
#[derive(Debug)]
pub(in crate::service) struct Ended {
    user: UserId,
    open: usize,
}

impl Rising {
    /// Before the change, those of the people who have passes.
    pub(in crate::service) fn of(tx: &mut Tx<'_>, people: &BTreeSet<UserId>, now: Time) -> store::Result<Self> {
        let mut before = Vec::new();
        for user in taps::list_holders(tx.conn(), people, now)? {
            // Locked, so that no pass is made meanwhile.
            match users::lock_user(tx, &user) {
                Err(store::Error::NotFound) => continue,
                other => drop(other?),
            }
            let held = roles::list_roles_of_user(tx.conn(), &user)?;
            before.push((user, held));
        }
        Ok(Self(before))
    }

    /// The same of everybody among these, and in the groups among them.
    pub(super) fn of_principals<'a>(tx: &mut Tx<'_>, all: impl Iterator<Item = &'a Principal>, now: Time) -> store::Result<Self> {
        let mut people = BTreeSet::new();
        for principal in all {
            match principal {
                Principal::User(id) => drop(people.insert(id.clone())),
                Principal::Group(id) => people.extend(provision::list_people(tx, id)?),
                Principal::Application(_) => {}
            }
        }
        Self::of(tx, &people, now)
    }

    /// After the change, ends the passes of those who may do more than before. [`note`] is left to do.
    pub(in crate::service) fn end(self, tx: &mut Tx<'_>, now: Time) -> store::Result<Vec<Ended>> {
        let mut ended = Vec::new();
        for (user, before) in self.0 {
            if rises(&before, &roles::list_roles_of_user(tx.conn(), &user)?) {
                let open = taps::delete_taps(tx, &user, now)?;
                ended.push(Ended { user, open });
            }
        }
        Ok(ended)
    }
}

/// Notes it in the audit log.
pub(in crate::service) fn note(tx: &mut Tx<'_>, ended: &[Ended], by: &By, now: Time) -> store::Result<()> {
    for Ended { user, open } in ended {
        let state = json!({ "open": open, "because": "the person got a role" });
        audit::append(tx, &by.entry("tap.delete", format!("user:{user}")).before(&state), now)?;
    }
    Ok(())
}
