//! How destinations fare.

use diesel::prelude::*;

use super::super::schema::outbox;
use super::super::{Conn, Result};
use super::{DEAD, DONE, QUEUED};

/// How a destination has fared, as far as its rows are still kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fortune {
    /// When something was last sent to it, in milliseconds.
    pub last_success: Option<i64>,
    /// Tries that failed of what waits, and rows given up since then.
    pub failed: i64,
    /// Why the newest of these failed.
    pub last_error: Option<String>,
}

/// How a destination has fared.
///
/// # Errors
/// Only the database's own.
pub fn find_fortune(conn: &mut Conn, of_destination: &str) -> Result<Fortune> {
    use diesel::dsl::max;
    let own = outbox::order_key.like(format!("{of_destination}/%"));
    let sent = outbox::table.filter(own.clone()).filter(outbox::state.eq(DONE)).filter(outbox::last_error.is_null());
    let last_success: Option<i64> = sent.select(max(outbox::settled_at)).first(conn)?;
    let rows: Vec<(i64, String)> = outbox::table
        .filter(own)
        .filter(outbox::last_error.is_not_null())
        .filter(outbox::state.eq(QUEUED).or(outbox::state.eq(DEAD).and(outbox::settled_at.gt(last_success.unwrap_or(0)))))
        .order(outbox::seq)
        .limit(10_000)
        .select((outbox::attempts, outbox::last_error.assume_not_null()))
        .load(conn)?;
    let failed = rows.iter().map(|(attempts, _)| (*attempts).max(1)).sum();
    Ok(Fortune { last_success, failed, last_error: rows.into_iter().next_back().map(|(_, error)| error) })
}
