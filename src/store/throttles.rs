//! Failed sign-ins per key, shared by all nodes.

use diesel::prelude::*;

use super::dialect::{delete_some, each_backend};
use super::schema::throttles;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::domain::throttle::{Limit, Throttle};

type Columns = (i64, i64, i64);

fn of((failures, window_started_at, blocked_until): Columns) -> Throttle {
    Throttle { failures, window_started_at: Time(window_started_at), blocked_until: Time(blocked_until) }
}

/// What is counted under `key`.
///
/// # Errors
/// Only the database's own.
pub fn find_throttle(conn: &mut Conn, key: &str) -> Result<Option<Throttle>> {
    let row: Option<Columns> = throttles::table
        .find(key)
        .select((throttles::failures, throttles::window_started_at, throttles::blocked_until))
        .first(conn)
        .optional()?;
    Ok(row.map(of))
}

/// The state under `key`, whose row is locked until the commit so that tries at the same moment, on whatever node, come one after the other.
///
/// # Errors
/// Only the database's own.
pub fn claim_throttle(tx: &mut Tx<'_>, key: &str, now: Time) -> Result<Throttle> {
    each_backend!(tx.conn(), c => diesel::insert_into(throttles::table)
        .values((
            throttles::key.eq(key),
            throttles::failures.eq(0),
            throttles::window_started_at.eq(now.0),
            throttles::blocked_until.eq(0),
        ))
        .on_conflict(throttles::key)
        .do_update()
        .set(throttles::failures.eq(throttles::failures))
        .execute(c))?;
    Ok(find_throttle(tx.conn(), key)?.unwrap_or_default())
}

/// Counts a failure under `key` and returns the state after it.
///
/// # Errors
/// Only the database's own.
pub fn update_after_failure(tx: &mut Tx<'_>, key: &str, limit: &Limit, now: Time) -> Result<Throttle> {
    let next = claim_throttle(tx, key, now)?.after_failure(now, limit);
    diesel::update(throttles::table.find(key))
        .set((
            throttles::failures.eq(next.failures),
            throttles::window_started_at.eq(next.window_started_at.0),
            throttles::blocked_until.eq(next.blocked_until.0),
        ))
        .execute(tx.conn())?;
    Ok(next)
}

/// Forgets what is counted under `key`.
///
/// # Errors
/// Only the database's own.
pub fn delete_throttle(tx: &mut Tx<'_>, key: &str) -> Result<()> {
    diesel::delete(throttles::table.find(key)).execute(tx.conn())?;
    Ok(())
}

/// Removes rows whose window began before `before` and whose pause is over, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_throttles(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    let old = throttles::window_started_at.lt(before.0).and(throttles::blocked_until.lt(before.0));
    Ok(delete_some!(tx, throttles, key: String, old, limit))
}
