//! Signatures of messages that stood for a client certificate: each is good once, on whatever node.

use diesel::prelude::*;

use super::dialect::{delete_some, each_backend};
use super::schema::message_signatures;
use super::{Result, Tx};
use crate::clock::Time;

/// Takes a signature, named by its hash, which nobody takes any more after `expires`. Returns `false` when it was taken before.
///
/// # Errors
/// Only the database's own.
pub fn claim_signature(tx: &mut Tx<'_>, hash: &[u8], expires: Time) -> Result<bool> {
    let row = (message_signatures::hash.eq(hash), message_signatures::expires_at.eq(expires.0));
    let inserted = each_backend!(tx.conn(), c => diesel::insert_into(message_signatures::table)
        .values(row)
        .on_conflict(message_signatures::hash)
        .do_nothing()
        .execute(c))?;
    Ok(inserted == 1)
}

/// Removes what nobody would take any more, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_signatures(tx: &mut Tx<'_>, now: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, message_signatures, hash: Vec<u8>, message_signatures::expires_at.lt(now.0), limit))
}
