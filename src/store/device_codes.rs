//! Programs that wait until somebody types their code elsewhere (RFC 8628).

use diesel::prelude::*;

use super::dialect::delete_some;
use super::schema::device_codes;
use super::{Conn, Result, Tx};
use crate::clock::Time;
use crate::ids::ApplicationId;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = device_codes)]
struct Row {
    code_hash: String,
    user_code: String,
    application_id: String,
    scopes: String,
    origin: String,
    created_at: i64,
    ends_at: i64,
    asked_at: i64,
    wait_seconds: i64,
    declined: bool,
}

/// A program that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Hash of the code by which it asks.
    pub code_hash: String,
    /// The code that people type.
    pub user_code: String,
    /// The program.
    pub application: ApplicationId,
    /// What it asks for, in words.
    pub scopes: String,
    /// From which address.
    pub origin: String,
    /// Since when.
    pub created_at: Time,
    /// Until when.
    pub ends_at: Time,
    /// When it asked last.
    pub asked_at: Time,
    /// How many seconds it has to wait between two questions.
    pub wait_seconds: i64,
    /// The person said no.
    pub declined: bool,
}

impl From<Row> for Waiting {
    fn from(row: Row) -> Self {
        Self {
            code_hash: row.code_hash,
            user_code: row.user_code,
            application: ApplicationId::from_store(row.application_id),
            scopes: row.scopes,
            origin: row.origin,
            created_at: Time(row.created_at),
            ends_at: Time(row.ends_at),
            asked_at: Time(row.asked_at),
            wait_seconds: row.wait_seconds,
            declined: row.declined,
        }
    }
}

/// Inserts one.
///
/// # Errors
/// [`Error::Conflict`](super::Error::Conflict) when one of these codes is taken.
pub fn insert_waiting(tx: &mut Tx<'_>, waiting: &Waiting) -> Result<()> {
    let row = Row {
        code_hash: waiting.code_hash.clone(),
        user_code: waiting.user_code.clone(),
        application_id: waiting.application.to_string(),
        scopes: waiting.scopes.clone(),
        origin: waiting.origin.clone(),
        created_at: waiting.created_at.0,
        ends_at: waiting.ends_at.0,
        asked_at: waiting.asked_at.0,
        wait_seconds: waiting.wait_seconds,
        declined: waiting.declined,
    };
    diesel::insert_into(device_codes::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// Leaves of those that wait for a program at an address the newest `most`, and says how many went.
///
/// # Errors
/// Only the database's own.
pub fn delete_oldest(tx: &mut Tx<'_>, origin: &str, application: &ApplicationId, most: i64, now: Time) -> Result<usize> {
    let open = device_codes::table
        .filter(device_codes::origin.eq(origin))
        .filter(device_codes::ends_at.gt(now.0))
        .filter(device_codes::application_id.eq(application.as_str()));
    let newest_first = open.order((device_codes::created_at.desc(), device_codes::code_hash.desc()));
    // They are few: the bound is held with each that comes.
    let mut old: Vec<String> = newest_first.select(device_codes::code_hash).load(tx.conn())?;
    let old = old.split_off(old.len().min(usize::try_from(most).unwrap_or_default()));
    if old.is_empty() {
        return Ok(0);
    }
    Ok(diesel::delete(device_codes::table.filter(device_codes::code_hash.eq_any(old))).execute(tx.conn())?)
}

/// The one that asks by that code.
///
/// # Errors
/// Only the database's own.
pub fn find_by_code(conn: &mut Conn, code_hash: &str) -> Result<Option<Waiting>> {
    let row: Option<Row> = device_codes::table.find(code_hash).select(Row::as_select()).first(conn).optional()?;
    Ok(row.map(Waiting::from))
}

/// The one whose code people type.
///
/// # Errors
/// Only the database's own.
pub fn find_by_user_code(conn: &mut Conn, user_code: &str) -> Result<Option<Waiting>> {
    let rows = device_codes::table.filter(device_codes::user_code.eq(user_code));
    let row: Option<Row> = rows.select(Row::as_select()).first(conn).optional()?;
    Ok(row.map(Waiting::from))
}

/// Notes that it asked, and how long it has to wait from now on.
///
/// # Errors
/// Only the database's own.
pub fn update_asked(tx: &mut Tx<'_>, code_hash: &str, wait_seconds: i64, now: Time) -> Result<()> {
    let set = (device_codes::asked_at.eq(now.0), device_codes::wait_seconds.eq(wait_seconds));
    diesel::update(device_codes::table.find(code_hash)).set(set).execute(tx.conn())?;
    Ok(())
}

/// Notes that the person said no.
///
/// # Errors
/// Only the database's own.
pub fn update_declined(tx: &mut Tx<'_>, code_hash: &str) -> Result<()> {
    diesel::update(device_codes::table.find(code_hash)).set(device_codes::declined.eq(true)).execute(tx.conn())?;
    Ok(())
}

/// Takes one away; whether it was there.
///
/// # Errors
/// Only the database's own.
pub fn delete_waiting(tx: &mut Tx<'_>, code_hash: &str) -> Result<bool> {
    Ok(diesel::delete(device_codes::table.find(code_hash)).execute(tx.conn())? == 1)
}

/// Removes those that waited until before `before`, at most `limit`, and says how many.
///
/// # Errors
/// Only the database's own.
pub fn purge_waiting(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    Ok(delete_some!(tx, device_codes, code_hash: String, device_codes::ends_at.lt(before.0), limit))
}
