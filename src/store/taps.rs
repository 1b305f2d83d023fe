//! Temporary Access Passes.

use std::collections::BTreeSet;

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::taps;
use super::{Conn, Error, Result, Tx, web_sessions};
use crate::clock::Time;
use crate::domain::tap::Tap;
use crate::ids::{TapId, UserId};

/// How many people a statement names at most.
const CHUNK: usize = 500;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = taps)]
struct Row {
    id: String,
    user_id: String,
    mac: Vec<u8>,
    one_time: bool,
    starts_at: i64,
    expires_at: i64,
    used_at: Option<i64>,
}

impl From<Row> for Tap {
    fn from(row: Row) -> Self {
        Self {
            id: TapId::from_store(row.id),
            user_id: UserId::from_store(row.user_id),
            mac: row.mac,
            one_time: row.one_time,
            starts_at: Time(row.starts_at),
            expires_at: Time(row.expires_at),
            used_at: row.used_at.map(Time),
        }
    }
}

/// Inserts a pass.
///
/// # Errors
/// Only the database's own.
pub fn insert_tap(tx: &mut Tx<'_>, tap: &Tap, now: Time) -> Result<()> {
    let row = Row {
        id: tap.id.to_string(),
        user_id: tap.user_id.to_string(),
        mac: tap.mac.clone(),
        one_time: tap.one_time,
        starts_at: tap.starts_at.0,
        expires_at: tap.expires_at.0,
        used_at: tap.used_at.map(|t| t.0),
    };
    diesel::insert_into(taps::table).values((row, taps::created_at.eq(now.0))).execute(tx.conn())?;
    Ok(())
}

/// The passes of a user that have not expired and are not used up, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_taps(conn: &mut Conn, user: &UserId, now: Time, limit: i64) -> Result<Vec<Tap>> {
    let rows: Vec<Row> = taps::table
        .filter(taps::user_id.eq(user.as_str()))
        .filter(taps::expires_at.gt(now.0))
        .filter(taps::one_time.eq(false).or(taps::used_at.is_null()))
        .order(taps::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(Tap::from).collect())
}

/// Removes the passes of a user that have not expired and are not used up, and says how many. What began with them ends, and so does what
/// began with one that is used up: whoever asks for another one may have lost it to a thief.
///
/// # Errors
/// Only the database's own.
pub fn delete_taps(tx: &mut Tx<'_>, user: &UserId, now: Time) -> Result<usize> {
    let open = taps::table
        .filter(taps::user_id.eq(user.as_str()))
        .filter(taps::expires_at.gt(now.0))
        .filter(taps::one_time.eq(false).or(taps::used_at.is_null()));
    let lasting = taps::table.filter(taps::user_id.eq(user.as_str())).filter(taps::expires_at.gt(now.0));
    let lasting: Vec<String> = lasting.select(taps::id).load(tx.conn())?;
    // The passes first: whoever uses one in this moment has committed then, or is too late.
    let ended = diesel::delete(open).execute(tx.conn())?;
    for id in lasting {
        web_sessions::delete_of_method(tx, &id)?;
    }
    Ok(ended)
}

/// Those of the people who have a pass that lasts, or has let them in and would last: sessions by a pass end with it.
///
/// # Errors
/// Only the database's own.
pub fn list_holders(conn: &mut Conn, people: &BTreeSet<UserId>, now: Time) -> Result<BTreeSet<UserId>> {
    let people: Vec<&str> = people.iter().map(UserId::as_str).collect();
    let mut found = BTreeSet::new();
    for piece in people.chunks(CHUNK) {
        let theirs = taps::table.filter(taps::user_id.eq_any(piece)).filter(taps::expires_at.gt(now.0));
        let ids: Vec<String> = theirs.select(taps::user_id).distinct().load(conn)?;
        found.extend(ids.into_iter().map(UserId::from_store));
    }
    Ok(found)
}

/// Removes a pass of a user.
///
/// # Errors
/// [`Error::NotFound`] when the user has no such one.
pub fn delete_tap(tx: &mut Tx<'_>, user: &UserId, id: &TapId) -> Result<()> {
    let own = taps::table.find(id.as_str()).filter(taps::user_id.eq(user.as_str()));
    web_sessions::delete_of_method(tx, id.as_str())?;
    if diesel::delete(own).execute(tx.conn())? == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Uses a pass; `false` when it is one-time and somebody was faster, or when it is gone.
///
/// # Errors
/// Only the database's own.
pub fn claim_tap(tx: &mut Tx<'_>, id: &TapId, now: Time) -> Result<bool> {
    let usable = taps::table
        .find(id.as_str())
        .filter(taps::starts_at.le(now.0))
        .filter(taps::expires_at.gt(now.0))
        .filter(taps::one_time.eq(false).or(taps::used_at.is_null()));
    Ok(diesel::update(usable).set(taps::used_at.eq(Some(now.0))).execute(tx.conn())? == 1)
}

/// Removes passes that expired before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_taps(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, taps, id: String, taps::expires_at.lt(before.0), limit))
}

/// Removes all passes; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(taps::table).execute(tx.conn())?)
}
