//! People who are signed in at a browser.

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::web_sessions;
use super::{Conn, Error, Result, Tx, grants};
use crate::clock::Time;
use crate::domain::session::{Method, Session};
use crate::ids::UserId;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = web_sessions)]
struct Row {
    token_hash: String,
    user_id: String,
    method: String,
    method_id: String,
    authenticated_at: i64,
    last_seen_at: i64,
    fresh_until: i64,
    ends_at: i64,
}

impl TryFrom<Row> for Session {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            hash: row.token_hash,
            user_id: UserId::from_store(row.user_id),
            method: Method::parse(&row.method).ok_or_else(|| Error::corrupt("web_sessions.method"))?,
            method_id: row.method_id,
            authenticated_at: Time(row.authenticated_at),
            last_seen_at: Time(row.last_seen_at),
            fresh_until: Time(row.fresh_until),
            ends_at: Time(row.ends_at),
        })
    }
}

/// Inserts a session.
///
/// # Errors
/// Only the database's own.
pub fn insert_session(tx: &mut Tx<'_>, session: &Session) -> Result<()> {
    let row = Row {
        token_hash: session.hash.clone(),
        user_id: session.user_id.to_string(),
        method: session.method.to_string(),
        method_id: session.method_id.clone(),
        authenticated_at: session.authenticated_at.0,
        last_seen_at: session.last_seen_at.0,
        fresh_until: session.fresh_until.0,
        ends_at: session.ends_at.0,
    };
    diesel::insert_into(web_sessions::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// The session of that token, over or not.
///
/// # Errors
/// Only the database's own.
pub fn find_session(conn: &mut Conn, hash: &str) -> Result<Option<Session>> {
    let row: Option<Row> = web_sessions::table.find(hash).select(Row::as_select()).first(conn).optional()?;
    row.map(Session::try_from).transpose()
}

/// Notes that the session was used.
///
/// # Errors
/// Only the database's own.
pub fn update_seen(tx: &mut Tx<'_>, hash: &str, now: Time) -> Result<()> {
    diesel::update(web_sessions::table.find(hash)).set(web_sessions::last_seen_at.eq(now.0)).execute(tx.conn())?;
    Ok(())
}

/// Ends the session of that token; whether there was one.
///
/// # Errors
/// Only the database's own.
pub fn delete_session(tx: &mut Tx<'_>, hash: &str) -> Result<bool> {
    Ok(diesel::delete(web_sessions::table.find(hash)).execute(tx.conn())? == 1)
}

/// Ends the sessions that began with that pass or passkey, and says how many; what was given to applications in them is taken back.
///
/// # Errors
/// Only the database's own.
pub fn delete_of_method(tx: &mut Tx<'_>, method: &str) -> Result<usize> {
    grants::delete_of_method(tx, method)?;
    Ok(diesel::delete(web_sessions::table.filter(web_sessions::method_id.eq(method))).execute(tx.conn())?)
}

/// Ends the sessions of a user, and says how many; what they gave applications is taken back.
///
/// # Errors
/// Only the database's own.
pub fn delete_of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<usize> {
    grants::delete_of_user(tx, user)?;
    Ok(diesel::delete(web_sessions::table.filter(web_sessions::user_id.eq(user.as_str()))).execute(tx.conn())?)
}

/// Removes sessions that ended before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_sessions(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, web_sessions, token_hash: String, web_sessions::ends_at.lt(before.0), limit))
}

/// Removes all sessions; says how many there were. For a database that was restored.
///
/// # Errors
/// Only the database's own.
pub fn delete_all(tx: &mut Tx<'_>) -> Result<usize> {
    Ok(diesel::delete(web_sessions::table).execute(tx.conn())?)
}
