//! Effects that leave after the commit.

use diesel::prelude::*;

use super::schema::outbox;
use super::{Result, Tx};
use crate::clock::Time;

/// An effect on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which deliverer takes it, such as `signal.push` or `wns.wake`.
    pub topic: &'static str,
    /// Messages of one order key leave one after the other.
    pub order_key: String,
    /// A message with a key that is already there is not put in again.
    pub dedup_key: String,
    /// What the deliverer needs, as JSON.
    pub payload: String,
}

/// Puts a message in, in the transaction of the change that causes it. A known dedup key is left as it is.
///
/// # Errors
/// Only the database's own.
pub fn enqueue(tx: &mut Tx<'_>, message: &Message, now: Time) -> Result<()> {
    let known: i64 = outbox::table.filter(outbox::dedup_key.eq(&message.dedup_key)).count().get_result(tx.conn())?;
    if known > 0 {
        return Ok(());
    }
    diesel::insert_into(outbox::table)
        .values((
            outbox::topic.eq(message.topic),
            outbox::order_key.eq(&message.order_key),
            outbox::dedup_key.eq(&message.dedup_key),
            outbox::payload.eq(&message.payload),
            outbox::state.eq("queued"),
            outbox::attempts.eq(0),
            outbox::next_at.eq(now.0),
            outbox::created_at.eq(now.0),
        ))
        .execute(tx.conn())?;
    Ok(())
}
