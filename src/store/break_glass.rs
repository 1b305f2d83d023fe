//! Accounts that are kept for emergencies.

use diesel::prelude::*;

use super::schema::break_glass;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::ids::UserId;

/// An account that is kept for emergencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub user: UserId,
    /// Since when it is kept so.
    pub named_at: Time,
    /// When it was used last.
    pub last_used_at: Option<Time>,
}

/// Names an account; false when it was named before.
///
/// # Errors
/// Only the database's own.
pub fn insert_account(tx: &mut Tx<'_>, user: &UserId, now: Time) -> Result<bool> {
    if is_named(tx.conn(), user)? {
        return Ok(false);
    }
    diesel::insert_into(break_glass::table)
        .values((break_glass::user_id.eq(user.as_str()), break_glass::named_at.eq(now.0)))
        .execute(tx.conn())?;
    Ok(true)
}

/// Takes an account off the list; whether it was there.
///
/// # Errors
/// Only the database's own.
pub fn delete_account(tx: &mut Tx<'_>, user: &UserId) -> Result<bool> {
    Ok(diesel::delete(break_glass::table.find(user.as_str())).execute(tx.conn())? == 1)
}

/// Whether an account is on the list.
///
/// # Errors
/// Only the database's own.
pub fn is_named(conn: &mut Conn, user: &UserId) -> Result<bool> {
    let found: Option<String> = break_glass::table.find(user.as_str()).select(break_glass::user_id).first(conn).optional()?;
    Ok(found.is_some())
}

/// Notes that an account was used; false when it is not on the list.
///
/// # Errors
/// Only the database's own.
pub fn update_used(tx: &mut Tx<'_>, user: &UserId, now: Time) -> Result<bool> {
    let changed = diesel::update(break_glass::table.find(user.as_str())).set(break_glass::last_used_at.eq(Some(now.0)));
    Ok(changed.execute(tx.conn())? == 1)
}

/// All that are named: a handful, of which the first `limit` come.
///
/// # Errors
/// Only the database's own.
pub fn list_accounts(conn: &mut Conn, limit: i64) -> Result<Vec<Account>> {
    let rows: Vec<(String, i64, Option<i64>)> = break_glass::table
        .order(break_glass::user_id)
        .limit(limit)
        .select((break_glass::user_id, break_glass::named_at, break_glass::last_used_at))
        .load(conn)?;
    let account = |(user, named_at, last_used_at): (String, i64, Option<i64>)| Account {
        user: UserId::from_store(user),
        named_at: Time(named_at),
        last_used_at: last_used_at.map(Time),
    };
    Ok(rows.into_iter().map(account).collect())
}
