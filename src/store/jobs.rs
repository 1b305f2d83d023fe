//! Scheduled jobs and their leases.

use diesel::prelude::*;

use super::schema::jobs;
use super::{Conn, Result, Tx};
use crate::clock::Time;

/// A job's state.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, serde::Serialize)]
#[diesel(table_name = jobs)]
pub struct Row {
    /// The job.
    pub name: String,
    /// When it runs, as a cron expression with seconds, in UTC.
    pub schedule: String,
    /// When it runs next, in milliseconds.
    pub next_at: i64,
    /// The node that runs it.
    pub lease_owner: Option<String>,
    /// Until when, in milliseconds.
    pub lease_until: Option<i64>,
    /// When it last began, in milliseconds.
    pub last_started_at: Option<i64>,
    /// When it last ended, in milliseconds.
    pub last_finished_at: Option<i64>,
    /// Why it last failed.
    pub last_error: Option<String>,
}

/// All jobs, by name. There are few.
///
/// # Errors
/// Only the database's own.
pub fn list_jobs(conn: &mut Conn) -> Result<Vec<Row>> {
    Ok(jobs::table.order(jobs::name).select(Row::as_select()).load(conn)?)
}

/// Makes a job known, or gives it another schedule; its next run is then at `next_at`.
///
/// # Errors
/// Only the database's own.
pub fn upsert_job(tx: &mut Tx<'_>, name: &str, schedule: &str, next_at: Time) -> Result<()> {
    super::dialect::each_backend!(tx.conn(), c => diesel::insert_into(jobs::table)
        .values((jobs::name.eq(name), jobs::schedule.eq(schedule), jobs::next_at.eq(next_at.0)))
        .on_conflict(jobs::name)
        .do_update()
        .set((jobs::schedule.eq(schedule), jobs::next_at.eq(next_at.0)))
        .execute(c))?;
    Ok(())
}

/// Takes a due job for a node; `false` when it is not due or another node has it.
///
/// # Errors
/// Only the database's own.
pub fn claim_job(tx: &mut Tx<'_>, name: &str, node: &str, now: Time, lease_until: Time) -> Result<bool> {
    // A lease that is longer than any was written while the clock was ahead of itself.
    let longest = lease_until.plus(lease_until.since(now));
    let over = jobs::lease_until.le(now.0).or(jobs::lease_until.gt(longest.0)).assume_not_null();
    let free = jobs::lease_until.is_null().or(over);
    let claimed = diesel::update(jobs::table.find(name).filter(jobs::next_at.le(now.0)).filter(free))
        .set((jobs::lease_owner.eq(Some(node)), jobs::lease_until.eq(Some(lease_until.0)), jobs::last_started_at.eq(Some(now.0))))
        .execute(tx.conn())?;
    Ok(claimed > 0)
}

/// Keeps a node's lease longer. One that another node has taken meanwhile is left alone.
///
/// # Errors
/// Only the database's own.
pub fn update_lease(tx: &mut Tx<'_>, name: &str, node: &str, until: Time) -> Result<()> {
    diesel::update(jobs::table.find(name).filter(jobs::lease_owner.eq(node)))
        .set(jobs::lease_until.eq(Some(until.0)))
        .execute(tx.conn())?;
    Ok(())
}

/// Records how a run ended and when the next one is. A job that another node took meanwhile is left alone.
///
/// # Errors
/// Only the database's own.
pub fn update_finished(tx: &mut Tx<'_>, name: &str, node: &str, next_at: Time, now: Time, error: Option<&str>) -> Result<()> {
    diesel::update(jobs::table.find(name).filter(jobs::lease_owner.eq(node)))
        .set((
            jobs::next_at.eq(next_at.0),
            jobs::lease_owner.eq(None::<String>),
            jobs::lease_until.eq(None::<i64>),
            jobs::last_finished_at.eq(Some(now.0)),
            jobs::last_error.eq(error),
        ))
        .execute(tx.conn())?;
    Ok(())
}
