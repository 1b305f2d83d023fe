//! What was held for a destination goes on.

use diesel::prelude::*;

use super::super::schema::{outbox, outbox_lanes};
use super::super::{Result, Tx};
use super::{DONE, QUEUED};
use crate::clock::Time;

/// A lane with position and payload of what waits in it, oldest first.
pub type Crowded = (String, Vec<(i64, String)>);

/// Makes the lanes of a destination due that nobody holds, as if everything in them had just been put in; gives those where more than one
/// row waits.
///
/// # Errors
/// Only the database's own.
pub fn update_resumed(tx: &mut Tx<'_>, of_destination: &str, now: Time) -> Result<Vec<Crowded>> {
    let free: Vec<String> = outbox_lanes::table
        .filter(outbox_lanes::destination.eq(of_destination))
        .filter(outbox_lanes::lease_owner.is_null())
        .order(outbox_lanes::order_key)
        .select(outbox_lanes::order_key)
        .load(tx.conn())?;
    let mut crowded = Vec::new();
    for lane in free {
        // The row lock keeps others from taking the lane, or adding to it, until the commit. One that another node took since it was looked
        // for is left to that.
        let made_due = diesel::update(outbox_lanes::table.find(&lane).filter(outbox_lanes::lease_owner.is_null()))
            .set((outbox_lanes::next_at.eq(now.0), outbox_lanes::set_at.eq(now.0), outbox_lanes::version.eq(outbox_lanes::version + 1)))
            .execute(tx.conn())?;
        if made_due == 0 {
            continue;
        }
        let waiting = outbox::table.filter(outbox::order_key.eq(&lane)).filter(outbox::state.eq(QUEUED));
        diesel::update(waiting).set((outbox::queued_at.eq(now.0), outbox::attempts.eq(0))).execute(tx.conn())?;
        let rows: Vec<(i64, String)> = waiting.order(outbox::seq).select((outbox::seq, outbox::payload)).load(tx.conn())?;
        if rows.len() > 1 {
            crowded.push((lane, rows));
        }
    }
    Ok(crowded)
}

/// Puts another payload into a row of a lane that this transaction has resumed or locked.
///
/// # Errors
/// Only the database's own.
pub fn update_held(tx: &mut Tx<'_>, seq: i64, payload: &str) -> Result<()> {
    diesel::update(outbox::table.find(seq)).set(outbox::payload.eq(payload)).execute(tx.conn())?;
    Ok(())
}

/// Settles rows that are not needed any more, because later ones say it all.
///
/// # Errors
/// Only the database's own.
pub fn update_superseded(tx: &mut Tx<'_>, seqs: &[i64], now: Time) -> Result<()> {
    for some in seqs.chunks(500) {
        diesel::update(outbox::table.filter(outbox::seq.eq_any(some)))
            .set((outbox::state.eq(DONE), outbox::settled_at.eq(Some(now.0)), outbox::last_error.eq(Some("superseded while it was held"))))
            .execute(tx.conn())?;
    }
    Ok(())
}
