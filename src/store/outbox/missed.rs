//! What destinations still believe although it is no longer so, because the message that said it was given up.
//!
//! There is a row for a lane only from when a message of it is given up until a later one is delivered, so there are as many rows as lanes
//! whose other end is mistaken, and none where all goes well.

use diesel::prelude::*;

use super::super::dialect::each_backend;
use super::super::schema::missed_signals;
use super::super::{Conn, Result, Tx};
use super::destination;

/// What the other end of a lane does not know.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = missed_signals)]
pub struct Missed {
    /// The order key.
    pub lane: String,
    /// The state that was last delivered; `None` where nobody knows, because a message was given up, or left out, of which a try may have
    /// reached the other end.
    pub heard: Option<String>,
    /// The newest message that was given up since then, as JSON.
    pub payload: String,
}

/// What the other end of a lane does not know; `None` where it knows all that left the lane.
///
/// # Errors
/// Only the database's own.
pub fn find_missed(conn: &mut Conn, lane: &str) -> Result<Option<Missed>> {
    Ok(missed_signals::table.find(lane).select(Missed::as_select()).first(conn).optional()?)
}

/// A page of a destination's, by lane, after the lane `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_missed(conn: &mut Conn, of_destination: &str, after: &str, limit: i64) -> Result<Vec<Missed>> {
    Ok(missed_signals::table
        .filter(missed_signals::destination.eq(of_destination))
        .filter(missed_signals::lane.gt(after))
        .order(missed_signals::lane)
        .limit(limit)
        .select(Missed::as_select())
        .load(conn)?)
}

/// Notes that a message was given up or left out, and what the other end believes now.
///
/// # Errors
/// Only the database's own.
pub fn upsert_missed(tx: &mut Tx<'_>, missed: &Missed) -> Result<()> {
    each_backend!(tx.conn(), c => diesel::insert_into(missed_signals::table)
        .values((
            missed_signals::lane.eq(&missed.lane),
            missed_signals::destination.eq(destination(&missed.lane)),
            missed_signals::heard.eq(&missed.heard),
            missed_signals::payload.eq(&missed.payload),
        ))
        .on_conflict(missed_signals::lane)
        .do_update()
        .set((missed_signals::heard.eq(&missed.heard), missed_signals::payload.eq(&missed.payload)))
        .execute(c))?;
    Ok(())
}

/// Forgets a lane: its other end knows all.
///
/// # Errors
/// Only the database's own.
pub fn delete_missed(tx: &mut Tx<'_>, lane: &str) -> Result<()> {
    diesel::delete(missed_signals::table.find(lane)).execute(tx.conn())?;
    Ok(())
}

/// Forgets a destination that is no more.
///
/// # Errors
/// Only the database's own.
pub fn delete_of_destination(tx: &mut Tx<'_>, of_destination: &str) -> Result<()> {
    diesel::delete(missed_signals::table.filter(missed_signals::destination.eq(of_destination))).execute(tx.conn())?;
    Ok(())
}
