//! Registrations and sign-ins by passkey that have begun. Whoever finishes one takes it: it is good once, on any node.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::ceremonies;
use super::{Result, Tx};
use crate::clock::Time;
use crate::ids::UserId;

/// What a ceremony is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new passkey of a person who is signed in.
    Registration,
    /// A new passkey whose maker must be proved.
    AttestedRegistration,
    /// A sign-in.
    SignIn,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::AttestedRegistration => "attested-registration",
            Self::SignIn => "sign-in",
        }
    }
}

/// Inserts a ceremony.
///
/// # Errors
/// Only the database's own.
pub fn insert_ceremony(tx: &mut Tx<'_>, hash: &str, kind: Kind, user: Option<&UserId>, state: &str, expires_at: Time) -> Result<()> {
    diesel::insert_into(ceremonies::table)
        .values((
            ceremonies::token_hash.eq(hash),
            ceremonies::kind.eq(kind.as_str()),
            ceremonies::user_id.eq(user.map(UserId::as_str)),
            ceremonies::state.eq(state),
            ceremonies::expires_at.eq(expires_at.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}

/// Takes the ceremony of that kind and user away and returns its state; `None` when it is unknown, over, or was taken.
///
/// # Errors
/// Only the database's own.
pub fn take_ceremony(tx: &mut Tx<'_>, hash: &str, kind: Kind, user: Option<&UserId>, now: Time) -> Result<Option<String>> {
    let row: Option<(String, Option<String>, String, i64)> = ceremonies::table
        .find(hash)
        .select((ceremonies::kind, ceremonies::user_id, ceremonies::state, ceremonies::expires_at))
        .first(tx.conn())
        .optional()?;
    let Some((known, owner, state, expires_at)) = row else { return Ok(None) };
    if known != kind.as_str() || owner.as_deref() != user.map(UserId::as_str) {
        return Ok(None);
    }
    let taken = diesel::delete(ceremonies::table.find(hash)).execute(tx.conn())? == 1;
    Ok(Some(state).filter(|_| taken && now.0 < expires_at))
}

/// Removes ceremonies that expired before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_ceremonies(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, ceremonies, token_hash: String, ceremonies::expires_at.lt(before.0), limit))
}

/// Removes all ceremonies; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(ceremonies::table).execute(tx.conn())?)
}
